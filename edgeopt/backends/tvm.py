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

import contextlib
import json
import platform
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

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
    tvm_library,
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
from edgeopt.backends.tvm_int8_kernels import kernel_for
from edgeopt.backends.tvm_library import (
    HOST_CHECK,
    LIBRARY,
    Graph,
    Order,
    build,
    computes_halves,
    host_cpu,
    registers_of,
    scheduled,
)
from edgeopt.backends.tvm_link import host_linker, linker
from edgeopt.backends.tvm_quantize import ABILITIES
from edgeopt.beside import beside, cores
from edgeopt.errors import CompileError, InputError, MissingDependencyError
from edgeopt.extras import require
from edgeopt.model import MAIN, Model, OnnxSource
from edgeopt.model.onnx_adapt import rename
from edgeopt.model.onnx_versions import lowered
from edgeopt.model.signature import NO_LENGTH, Signature, TensorSpec
from edgeopt.quantize import PLAIN, Quantize, plan
from edgeopt.quiet import environment, quiet
from edgeopt.target import EngineSpec, Target

KEPT = "kept.json"
"""Names of the modules that an INT8 artifact has in FP32, beside it."""

_OPSET = 17  # the first with LayerNormalization
_IR_VERSION = 8
_WORTH_A_PROCESS = 8 << 20  # bytes of an ONNX file
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
    lengths = _lengths(model, target, precision, quantize)
    order = _order(model, target, spec, precision, lengths, quantize)
    with tempfile.TemporaryDirectory() as folder:
        source = source_graph(model, Path(folder) / "model.onnx")
        made = tvm_library.made(order, Graph(source))
    tvm_library.placed(made, directory)
    signature = _signature(model, made.inputs)
    mcpu = str(order.cpu().attrs["mcpu"])
    route = f"ONNX -> Relax -> scheduled TIR -> LLVM for {mcpu}"
    same = "schedule"
    if precision == "int8":
        (directory / KEPT).write_text(json.dumps(quantize.keep))
        by = _kernel_name(order.cpu()) + (" and attention in FP16" if order.halves else "")
        route = route.replace("Relax", f"Relax, INT8 by {by}")
        same = "graph"
    if not order.is_host:
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


@contextlib.contextmanager
def ahead(
    model: Model, target: Target, spec: EngineSpec, precisions: Sequence[str]
) -> Iterator[None]:
    """Have processes compile what ``lower`` will ask for, while the block runs.

    On two cores it is one, which imports the graph once; on more it is one for each precision.

    What ``lower`` would refuse is left to it, and so are small graphs: most of their time is that
    in which a process starts.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(CompileError, MissingDependencyError):
            orders = [
                _order(model, target, spec, p, _lengths(model, target, p, PLAIN), PLAIN)
                for p in precisions
            ]
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            source = source_graph(model, folder / "model.onnx")
            count = max(1, min(len(orders), cores() - 1))
            if source.stat().st_size >= _WORTH_A_PROCESS:
                for i in range(count):
                    work = source, orders[i::count]
                    stack.enter_context(beside("edgeopt.backends.tvm_ahead", work))
        yield


def _lengths(model: Model, target: Target, precision: str, quantize: Quantize) -> tuple[int, ...]:
    """Return the lengths to compile for. Raises CompileError for what is not taken."""
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
    return lengths


def _order(
    model: Model,
    target: Target,
    spec: EngineSpec,
    precision: str,
    lengths: tuple[int, ...],
    quantize: Quantize,
) -> Order:
    """Return what is to be compiled. Raises as ``lower``."""
    require("tvm", "tvm")
    require("onnxruntime", "onnx")
    kept = Kept(model, quantize.keep if precision == "int8" else ())
    inputs = tuple(model.main.signature.inputs)
    if target.is_host:
        host_linker()
        return Order(
            name=model.name,
            inputs=inputs,
            lengths=lengths,
            precision=precision,
            kept=kept,
            halves=computes_halves(str(host_cpu().attrs["mcpu"])),
        )
    arch = target.device.arch
    linker(arch)
    mcpu = _mcpu(arch, spec.options.get("mcpu"), target)
    return Order(
        name=model.name,
        inputs=inputs,
        lengths=lengths,
        precision=precision,
        arch=arch,
        mcpu=mcpu,
        kept=kept,
        halves=computes_halves(mcpu),
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
    order = Order(
        name=model.name,
        inputs=tuple(model.main.signature.inputs),
        lengths=(seq_len,),
        precision=precision,
        kept=Kept(model, keep),
        halves=halves,
    )
    cpu = order.cpu()
    build(scheduled(order, Graph(source), cpu), cpu, host_linker(), folder / LIBRARY)
    return _machine(folder / LIBRARY, threads=1)


def _kernel_name(cpu: Any) -> str:
    kernel = kernel_for(cpu)
    return "plain loops" if kernel is None else kernel.name


def host_options(artifact: Artifact, directory: Path) -> dict[str, str]:
    """Return nothing: this host computes as the device does."""
    return {}


def open_on_host(artifact: Artifact, directory: Path, threads: int) -> Session:
    """Open the library, or the build for this host beside it if it is another CPU's.

    TVM's thread pool belongs to the process: ``threads`` holds for every open TVM artifact, and
    cannot be more than for the first.
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

    _start_pool(threads)
    return relax.VirtualMachine(tvm.runtime.load_module(str(library.resolve())), tvm.cpu())


def _start_pool(threads: int) -> None:
    """Start the pool of this thread's kernels with ``threads``, or have it use that many.

    A thread more than needed yields its core 300,000 times before it sleeps, and ends no sooner:
    beside busy processes, each of which then has its turn, this process took minutes to exit.
    """
    import tvm

    # Read when the pool starts: its size, and that it must not pin this process.
    with environment({"TVM_NUM_THREADS": str(threads), "TVM_BIND_THREADS": "0"}):
        tvm.get_global_func("runtime.config_threadpool")(_ALL_CORES_ALIKE, threads)


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
    cpu = host_cpu()
    with quiet():
        module = import_onnx(source, specs, (NO_LENGTH,))
        with mapped_errors("compile it", file.name):
            module = schedule_module(module, registers_of(cpu))
            with cpu:
                executable = tvm.compile(module, target=cpu, tir_pipeline=tvm_stack.register())
            machine = relax.VirtualMachine(executable, tvm.cpu())
    _start_pool(1)
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


def _mcpu(arch: str, mcpu: str | None, target: Target) -> str:
    """Return LLVM's name of the core. Raises CompileError if LLVM does not know it."""
    from tvm.target import codegen

    triple = f"{arch}-linux-gnu"
    if mcpu is None or not codegen.llvm_is_valid_cpu(mcpu, triple):
        what = "is not set" if mcpu is None else f"is {mcpu!r}, which LLVM does not know"
        raise CompileError(
            f"the engine tvm's option mcpu {what} for {triple}",
            where=target.path,
            hint="Give LLVM's name of the core, such as cortex-a72 or gracemont.",
        )
    return mcpu


def _signature(model: Model, inputs: Sequence[tuple[str, str]]) -> Signature:
    """Return the library's signature: the model's with batch 1 and the graph's input dtypes."""
    return Signature(
        inputs=tuple(
            replace(t, dtype=dtype, dims=_one_batch(t))
            for t, (_, dtype) in zip(model.main.signature.inputs, inputs, strict=True)
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
    host = host_cpu()
    wanted = type(host)({"kind": "llvm", "mtriple": str(host.attrs["mtriple"]), "mcpu": mcpu})
    here = set(codegen.llvm_get_cpu_features(host))
    lacking = sorted(set(codegen.llvm_get_cpu_features(wanted)) - here)
    return ", ".join(lacking) or None
