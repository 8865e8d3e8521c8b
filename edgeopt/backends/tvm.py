# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""TVM: one shared library with the model compiled for the target's CPU, FP32 or INT8.

The library holds a Relax executable with a function a length, ``main_<tokens>``, which takes the
signature's inputs by position and returns one tensor, or an array of them in the signature's
order; the functions share one copy of the weights. Its one undefined symbol is TVM FFI's, so
libtvm_ffi and libtvm_runtime (opened with RTLD_GLOBAL) are all that a device needs. A C program
calls ``ffi.ModuleLoadFromFile``, then the module's ``vm_load_executable()``, then that one's
``vm_initialization(1, 0, 2)`` (CPU 0, pooled memory), then ``main_<tokens>``.
"""

from __future__ import annotations

import json
import os
import platform
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from edgeopt import progress
from edgeopt.architectures import ELF_MACHINES, elf_machine, of_machine
from edgeopt.backends import (
    Artifact,
    ArtifactGraph,
    Batch,
    OtherMachineError,
    Outputs,
    Run,
    Session,
    few_lengths,
    tvm_stack,
)
from edgeopt.backends.fp32_layers import Kept
from edgeopt.backends.onnx import export_free
from edgeopt.backends.tensorflow_convert import file_of, write_onnx
from edgeopt.backends.tvm_graph import (
    function_name,
    import_onnx,
    mapped_errors,
    schedule_module,
)
from edgeopt.backends.tvm_int8 import Int8
from edgeopt.backends.tvm_int8_kernels import kernel_for
from edgeopt.backends.tvm_link import host_linker, link, linker
from edgeopt.backends.tvm_quantize import ABILITIES
from edgeopt.backends.tvm_schedule import (
    AVX2,
    AVX512,
    NEON,
    SSE,
    Registers,
)
from edgeopt.errors import CompileError, InputError
from edgeopt.extras import require
from edgeopt.model import MAIN, Model, OnnxSource
from edgeopt.model.onnx_adapt import rename
from edgeopt.model.onnx_versions import lowered
from edgeopt.model.signature import NO_LENGTH, Signature, TensorSpec
from edgeopt.quantize import PLAIN, Quantize, plan
from edgeopt.quiet import environment, quiet
from edgeopt.target import EngineSpec, Target

LIBRARY = "model.so"
HOST_CHECK = "host-check"
"""Folder of the same module built for this host, beside an artifact that cannot run here."""
KEPT = "kept.json"
"""Names of the modules that an INT8 artifact has in FP32, beside it."""

_OPSET = 17  # the first with LayerNormalization
_IR_VERSION = 8
_TOOLS = ("apache-tvm", "apache-tvm-ffi", "onnx", "onnxruntime")
_ALL_CORES_ALIKE = 0  # a mode of runtime.config_threadpool: no affinity to big or little cores


def lower(
    model: Model,
    target: Target,
    spec: EngineSpec,
    precision: str,
    calibration: Sequence[Batch],
    directory: Path,
    quantize: Quantize = PLAIN,
) -> Artifact:
    """Compile ``model`` for the CPU ``spec.options["mcpu"]`` (LLVM's name; the host has its own).

    Raises CompileError for a precision, CPU or model that this backend does not take, and
    MissingDependencyError if TVM or a linker for the target is not installed.
    """
    del calibration
    if precision not in ("fp32", "int8"):
        raise CompileError(
            f"TVM is built in fp32 and int8 only, not {precision}: its loops for other precisions "
            "run slower than those for FP32",
            hint="Take ONNX, TFLite or OpenVINO for this precision.",
        )
    if precision == "int8":
        plan("tvm", precision, quantize, ABILITIES)
    device = target.device
    if device.arch not in ("aarch64", "x86_64") or device.os.libc != "glibc":
        raise CompileError(
            "TVM's runtime is published for aarch64 and x86_64 Linux with glibc, "
            f"not for {device.arch} with {device.os.libc}",
            where=f"device profile {device.id}",
            hint="Leave tvm out of the target's engines.",
        )
    lengths = few_lengths(model, target)
    if not lengths:
        raise CompileError(
            f"TVM compiles static lengths, and none of the target's is within the model's "
            f"{model.text.max_seq_len} tokens",
            where=f"{target.path}: seq_lens",
        )
    require("tvm", "tvm")
    require("onnxruntime", "onnx")
    command = host_linker() if target.is_host else linker(device.arch)
    cpu = _host_cpu() if target.is_host else _cpu(device.arch, spec.options.get("mcpu"), target)
    kept = Kept(model, quantize.keep if precision == "int8" else ())
    mcpu = str(cpu.attrs["mcpu"])
    halves = computes_halves(mcpu)
    with tempfile.TemporaryDirectory() as folder:
        source = source_graph(model, Path(folder) / "model.onnx")
        module = _scheduled(model, source, lengths, cpu, precision, kept, halves=halves)
        kept.check("tvm")
        # An INT8 kernel is written for one kind of core: this host has another one.
        here = None
        if precision == "int8" and not target.is_host:
            here = _scheduled(model, source, lengths, _host_cpu(), precision, kept, halves=halves)
    signature = _signature(model, module, lengths[0])
    route = f"ONNX -> Relax -> scheduled TIR -> LLVM for {mcpu}"
    if precision == "int8":
        (directory / KEPT).write_text(json.dumps(quantize.keep))
        by = _kernel_name(cpu) + (" and attention in FP16" if halves else "")
        route = route.replace("Relax", f"Relax, INT8 by {by}")
    with progress.step(f"Compiling for {mcpu}"):
        _build(module, cpu, command, directory / LIBRARY)
    if not target.is_host:
        (directory / HOST_CHECK).mkdir()
        same = "schedule" if here is None else "graph"
        with progress.step(f"Compiling the same {same} for this host, to check it"):
            _build(here or module, _host_cpu(), host_linker(), directory / HOST_CHECK / LIBRARY)
        route += f"; checked here as a build of the same {same} for the host, itself on the board"
    return Artifact(
        engine="tvm",
        precision=precision,
        graphs={
            MAIN: ArtifactGraph(
                files=(LIBRARY,),
                signature=signature,
                seq_lens=tuple(n for n in lengths if n != NO_LENGTH),
            )
        },
        route=route,
        options={
            "mcpu": mcpu,
            "function": "main_{seq_len}",
            "inputs": ",".join(f"{t.name}:{t.dtype}" for t in signature.inputs),
            "outputs": ",".join(t.name for t in signature.outputs),
        },
        tools={name: version(name) for name in _TOOLS},
    )


def source_graph(model: Model, path: Path) -> Path:
    """Return the ONNX file that ``model`` is compiled from: ``path``, or the user's own."""
    if isinstance(model.main.source, OnnxSource):
        return _lowered(model.main.source.path, path)
    if (given := file_of(model, "TVM")) is not None:
        write_onnx(model, given, path, _OPSET, _IR_VERSION)
        return path
    export_free(model, path, _OPSET, _IR_VERSION)
    return path


def compile_for_host(
    model: Model,
    source: Path,
    seq_len: int,
    folder: Path,
    precision: str,
    keep: Sequence[str],
    *,
    halves: bool,
) -> Any:
    """Return a machine that runs the ONNX file ``source``, compiled for this host in ``folder``.

    It takes the inputs of ``model`` at the length ``seq_len`` and gives the file's outputs. In INT8
    the modules ``keep`` stay in FP32, and ``halves`` is as in Int8.
    """
    cpu = _host_cpu()
    kept = Kept(model, keep)
    module = _scheduled(model, source, [seq_len], cpu, precision, kept, halves=halves)
    _build(module, cpu, host_linker(), folder / LIBRARY)
    return _machine(folder / LIBRARY, threads=1)


def _scheduled(
    model: Model,
    source: Path,
    lengths: Sequence[int],
    cpu: Any,
    precision: str,
    kept: Kept,
    *,
    halves: bool,
) -> Any:
    """Return the module of the ONNX file ``source`` at ``lengths``, scheduled for ``cpu``.

    ``halves`` is as in Int8.
    """
    registers = _registers(cpu)
    int8 = None
    if precision == "int8":
        int8 = Int8(kernel=kernel_for(cpu), lanes=registers.lanes, kept=kept, halves=halves)
    with quiet():
        module = import_onnx(source, model.main.signature.inputs, lengths, int8)
    with mapped_errors("schedule it", model.name):
        return schedule_module(module, registers, int8)


def _kernel_name(cpu: Any) -> str:
    kernel = kernel_for(cpu)
    return "plain loops" if kernel is None else kernel.name


def host_options(artifact: Artifact, directory: Path) -> dict[str, str]:
    """Return nothing: this host computes as the device does."""
    return {}


def open_on_host(artifact: Artifact, directory: Path, threads: int) -> Session:
    """Open the library, or the build for this host beside it if it is another CPU's.

    TVM's thread pool belongs to the process: ``threads`` holds for every open TVM artifact.
    Raises OtherMachineError if neither can run here.
    """
    require("tvm", "tvm")
    library = directory / artifact.main.files[0]
    beside = library.parent / HOST_CHECK / LIBRARY
    if beside.is_file():
        library = beside
    elif missing := _missing_here(library, artifact.options["mcpu"]):
        raise OtherMachineError(
            f"this library is for {artifact.options['mcpu']}, and this host has no {missing}",
            where=str(library),
            hint="It was checked when it was made, as a build of the same schedule for that host.",
        )
    return _Session(machine=_machine(library, threads), artifact=artifact)


def _machine(library: Path, threads: int) -> Any:
    """Load a library and return the virtual machine that runs its functions."""
    import tvm
    from tvm import relax

    # Read when the pool starts: how far it can grow, and that it must not pin this process.
    with environment({"TVM_NUM_THREADS": str(os.cpu_count()), "TVM_BIND_THREADS": "0"}):
        tvm.get_global_func("runtime.config_threadpool")(_ALL_CORES_ALIKE, threads)
    return relax.VirtualMachine(tvm.runtime.load_module(str(library.resolve())), tvm.cpu())


def open_onnx(file: Path, inputs: Mapping[str, Any], spec: EngineSpec, directory: Path) -> Run:
    """Compile ``file`` for this host's CPU and the shapes of ``inputs``; no library is linked.

    Raises CompileError for what TVM does not take.
    """
    del spec
    require("tvm", "tvm")
    onnx = require("onnx", "onnx")
    import tvm
    from tvm import relax

    if strange := [name for name, value in inputs.items() if not isinstance(value, np.ndarray)]:
        raise CompileError(f"input {', '.join(strange)} is no tensor", where=file.name)
    proto = onnx.load(str(_lowered(file, directory / "lowered.onnx")))
    # TVM has letters of its own for names.
    names = {name: f"edgeopt_input_{i}" for i, name in enumerate(inputs)}
    rename(proto.graph, names)
    for value in proto.graph.input:
        if value.name in inputs:
            sizes = value.type.tensor_type.shape
            del sizes.dim[:]
            for size in inputs[value.name].shape:
                sizes.dim.add().dim_value = size
            value.name = names[value.name]
    source = directory / "sized.onnx"
    onnx.save(proto, str(source))
    specs = [
        TensorSpec(name=names[name], dtype=str(value.dtype), dims=value.shape)
        for name, value in inputs.items()
    ]
    cpu = _host_cpu()
    with quiet():
        module = import_onnx(source, specs, (NO_LENGTH,))
        with mapped_errors("compile it", file.name):
            module = schedule_module(module, _registers(cpu))
            with cpu:
                executable = tvm.compile(module, target=cpu, tir_pipeline=tvm_stack.register())
            machine = relax.VirtualMachine(executable, tvm.cpu())
    function = function_name(NO_LENGTH)
    order = [parameter.name for parameter in module[function].params]

    def run(given: Mapping[str, Any]) -> list[Any]:
        values = {names[name]: tvm.runtime.tensor(value) for name, value in given.items()}
        made = machine[function](*(values[name] for name in order))
        return [tensor.numpy() for tensor in ([made] if hasattr(made, "numpy") else made)]

    return run


@dataclass(frozen=True, kw_only=True, slots=True)
class _Session:
    machine: Any
    artifact: Artifact

    def run(self, batch: Batch) -> Outputs:
        import tvm

        signature = self.artifact.main.signature
        inputs = [np.ascontiguousarray(batch[t.name], dtype=t.dtype) for t in signature.inputs]
        seq_len = signature.seq_len({name: value.shape for name, value in batch.items()})
        if seq_len not in (self.artifact.main.seq_lens or (NO_LENGTH,)):
            lengths = ", ".join(map(str, self.artifact.main.seq_lens))
            raise InputError(f"{seq_len} tokens, and this library takes {lengths}")
        outputs = self.machine[function_name(seq_len)](*map(tvm.runtime.tensor, inputs))
        if len(signature.outputs) == 1:
            outputs = [outputs]
        return {t.name: o.numpy() for t, o in zip(signature.outputs, outputs, strict=True)}


def _cpu(arch: str, mcpu: str | None, target: Target) -> Any:
    """Return TVM's target for the CPU ``mcpu``. Raises CompileError if LLVM does not know it."""
    from tvm.target import Target as CompilerTarget
    from tvm.target import codegen

    triple = f"{arch}-linux-gnu"
    if mcpu is None or not codegen.llvm_is_valid_cpu(mcpu, triple):
        what = "is not set" if mcpu is None else f"is {mcpu!r}, which LLVM does not know"
        raise CompileError(
            f"the engine tvm's option mcpu {what} for {triple}",
            where=target.path,
            hint="Give LLVM's name of the core, such as cortex-a72 or gracemont.",
        )
    return CompilerTarget({"kind": "llvm", "mtriple": triple, "mcpu": mcpu})


def _host_cpu() -> Any:
    from tvm.target import Target as CompilerTarget
    from tvm.target import codegen

    triple = f"{platform.machine()}-linux-gnu"
    return CompilerTarget(
        {"kind": "llvm", "mtriple": triple, "mcpu": codegen.llvm_get_system_cpu()}
    )


def _registers(cpu: Any) -> Registers:
    from tvm.target import codegen

    if str(cpu.attrs["mtriple"]).startswith("aarch64"):
        return NEON
    if codegen.llvm_cpu_has_features(["avx512f"], cpu):
        return AVX512
    return AVX2 if codegen.llvm_cpu_has_features(["avx2"], cpu) else SSE


def computes_halves(mcpu: str) -> bool:
    """Tell whether Arm's core ``mcpu``, in LLVM's spelling, multiplies vectors of FP16."""
    from tvm.target import Target as CompilerTarget
    from tvm.target import codegen

    triple = "aarch64-linux-gnu"
    if not codegen.llvm_is_valid_cpu(mcpu, triple):
        return False
    core = CompilerTarget({"kind": "llvm", "mtriple": triple, "mcpu": mcpu})
    return bool(codegen.llvm_cpu_has_features(["fullfp16"], core))


def _signature(model: Model, module: Any, seq_len: int) -> Signature:
    """Return the library's signature: the model's with batch 1 and the graph's input dtypes."""
    parameters = module[function_name(seq_len)].params
    names = [p.name for p in parameters]
    if names != [t.name for t in model.main.signature.inputs]:
        raise CompileError(
            f"the ONNX graph takes {', '.join(names)}, but the model's signature has "
            f"{', '.join(t.name for t in model.main.signature.inputs)}",
            where=model.name,
            hint="Export the model with its inputs in the signature's order.",
        )
    return Signature(
        inputs=tuple(
            replace(t, dtype=str(p.ty.dtype), dims=_one_batch(t))
            for t, p in zip(model.main.signature.inputs, parameters, strict=True)
        ),
        outputs=tuple(replace(t, dims=_one_batch(t)) for t in model.main.signature.outputs),
    )


def _lowered(file: Path, path: Path) -> Path:
    """Return ``file``, or ``path`` with it rewritten if it is newer than TVM is used with."""
    onnx = require("onnx", "onnx")
    proto = onnx.load(str(file))
    made = lowered(proto, _OPSET, _IR_VERSION, file.name)
    if made is proto:
        return file
    onnx.save(made, str(path))
    return path


def _one_batch(tensor: TensorSpec) -> tuple[int | str, ...]:
    return tuple(1 if d == "batch" else d for d in tensor.dims)


def _build(module: Any, cpu: Any, command: Sequence[str], library: Path) -> None:
    """Compile the scheduled ``module`` and link it. Raises CompileError."""
    import tvm

    def link_objects(output: str, objects: Sequence[str], **_: Any) -> None:
        link(command, objects, Path(output))

    with mapped_errors("compile it", str(cpu.attrs["mcpu"])):
        with cpu:
            executable = tvm.compile(module, target=cpu, tir_pipeline=tvm_stack.register())
        executable.export_library(str(library), fcompile=link_objects)


def architecture_of(library: Path) -> str | None:
    """Return the architecture that an ELF file is for, None for another file or architecture."""
    with library.open("rb") as file:
        machine = elf_machine(file.read(20))
    return None if machine is None else ELF_MACHINES.get(machine)


def _missing_here(library: Path, mcpu: str) -> str | None:
    """Return what ``library``, compiled for ``mcpu``, needs and this host does not have."""
    from tvm.target import codegen

    if (arch := architecture_of(library)) is None:
        raise CompileError("is no library for a CPU that edgeopt knows", where=str(library))
    if arch != of_machine(platform.machine()):
        return f"{arch} CPU"
    host = _host_cpu()
    wanted = type(host)({"kind": "llvm", "mtriple": str(host.attrs["mtriple"]), "mcpu": mcpu})
    here = set(codegen.llvm_get_cpu_features(host))
    lacking = sorted(set(codegen.llvm_get_cpu_features(wanted)) - here)
    return ", ".join(lacking) or None
