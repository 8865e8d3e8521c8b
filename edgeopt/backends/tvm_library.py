# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""From an ONNX file to TVM's libraries, kept by content: for the device, and for this host.

Nothing here needs torch or the checkpoint, so that a process of its own can do it
(``edgeopt.backends.tvm_ahead``).
"""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgeopt import cache, closure, progress
from edgeopt.backends import tvm_stack
from edgeopt.backends.fp32_layers import Kept
from edgeopt.backends.tvm_graph import (
    function_name,
    fused,
    imported,
    mapped_errors,
    schedule_module,
)
from edgeopt.backends.tvm_int8 import Int8
from edgeopt.backends.tvm_int8_kernels import kernel_for
from edgeopt.backends.tvm_link import host_linker, link, linker
from edgeopt.backends.tvm_schedule import (
    AVX2,
    AVX512,
    NEON,
    SSE,
    Registers,
)
from edgeopt.errors import CompileError
from edgeopt.model.signature import TensorSpec
from edgeopt.quiet import quiet

LIBRARY = "model.so"
HOST_CHECK = "host-check"
"""Folder of the same module built for this host, beside an artifact that cannot run here."""

_MADE = "made.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """What is made of an ONNX file that takes ``inputs`` of any length, or of the only one.

    The library is for the CPU ``mcpu`` (LLVM's name) of ``arch``, or for this host if these are
    "". ``name`` is the model's, for messages. In INT8 the weights ``kept`` stay in FP32, and
    ``halves`` is as in Int8.
    """

    name: str
    inputs: tuple[TensorSpec, ...]
    lengths: tuple[int, ...]
    precision: str
    arch: str = ""
    mcpu: str = ""
    kept: Kept
    halves: bool

    @property
    def is_host(self) -> bool:
        """Tell whether the library is for this host."""
        return not self.arch

    def cpu(self) -> Any:
        """Return TVM's target."""
        return host_cpu() if self.is_host else cpu_of(self.arch, self.mcpu)


@dataclass(frozen=True, kw_only=True, slots=True)
class Made:
    """The folder of the libraries, and the library's inputs: (name, dtype) in its order."""

    directory: Path
    inputs: tuple[tuple[str, str], ...]


class Graph:
    """An ONNX file, which TVM imports once for all that is made of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.sha256 = cache.file_sha256(path)
        self._imported: dict[Any, Any] = {}

    def imported(self, inputs: Sequence[TensorSpec], lengths: Sequence[int]) -> Any:
        """Return its IRModules by the functions' names (``tvm_graph.imported``)."""
        key = tuple(inputs), tuple(lengths)
        if key not in self._imported:
            with quiet():
                self._imported = {key: imported(self.path, inputs, lengths)}
        return self._imported[key]


def made(order: Order, graph: Graph) -> Made:
    """Return the libraries of ``order``, which are compiled if the cache has them not.

    What TVM could not do well is noted each time. Raises CompileError, and MissingDependencyError
    if TVM or a linker is not installed.
    """

    def build(directory: Path) -> None:
        with progress.noted() as notes:
            inputs = _make(order, graph, directory)
        (directory / _MADE).write_text(json.dumps({"inputs": inputs, "notes": notes}))

    directory = cache.entry("tvm", key_of(order, graph), build)
    found = json.loads((directory / _MADE).read_text())
    for text in found["notes"]:
        progress.note(text)
    return Made(directory=directory, inputs=tuple((n, d) for n, d in found["inputs"]))


def key_of(order: Order, graph: Graph) -> str:
    """Return the key that the libraries of ``order`` have in the cache."""
    return cache.key(
        source=graph.sha256,
        inputs=[asdict(spec) for spec in order.inputs],
        lengths=list(order.lengths),
        precision=order.precision,
        cpu=[order.arch, order.mcpu],
        host=str(host_cpu()),
        kept=order.kept.prints,
        halves=order.halves,
        linkers=[host_linker()[1:], [] if order.is_host else linker(order.arch)[1:]],
        code=closure.code(__name__),
    )


def _make(order: Order, graph: Graph, directory: Path) -> list[tuple[str, str]]:
    """Write the libraries and return the library's inputs, by name and dtype."""
    cpu = order.cpu()
    command = host_linker() if order.is_host else linker(order.arch)
    module = scheduled(order, graph, cpu)
    order.kept.check("tvm")
    parameters = module[function_name(order.lengths[0])].params
    names, expected = [p.name for p in parameters], [spec.name for spec in order.inputs]
    if names != expected:
        raise CompileError(
            f"the ONNX graph takes {', '.join(names)}, but the model's signature has "
            f"{', '.join(expected)}",
            where=order.name,
            hint="Export the model with its inputs in the signature's order.",
        )
    # An INT8 kernel is written for one kind of core: this host has another one.
    here = None
    if order.precision == "int8" and not order.is_host:
        here = scheduled(order, graph, host_cpu())
    with progress.step(f"Compiling for {cpu.attrs['mcpu']}"):
        build(module, cpu, command, directory / LIBRARY)
    if not order.is_host:
        (directory / HOST_CHECK).mkdir()
        same = "schedule" if here is None else "graph"
        with progress.step(f"Compiling the same {same} for this host, to check it"):
            build(here or module, host_cpu(), host_linker(), directory / HOST_CHECK / LIBRARY)
    return [(p.name, str(p.ty.dtype)) for p in parameters]


def placed(made: Made, directory: Path) -> None:
    """Put the libraries into ``directory``; they take no room of their own if that can be."""
    for name in (LIBRARY, f"{HOST_CHECK}/{LIBRARY}"):
        if (made.directory / name).is_file():
            (directory / name).parent.mkdir(exist_ok=True)
            try:
                os.link(made.directory / name, directory / name)
            except OSError:  # another file system, or one without links
                shutil.copyfile(made.directory / name, directory / name)


def scheduled(order: Order, graph: Graph, cpu: Any) -> Any:
    """Return the module of the ONNX file at the order's lengths, scheduled for ``cpu``."""
    registers = registers_of(cpu)
    int8 = None
    if order.precision == "int8":
        int8 = Int8(
            kernel=kernel_for(cpu), lanes=registers.lanes, kept=order.kept, halves=order.halves
        )
    modules = graph.imported(order.inputs, order.lengths)
    with quiet():
        module = fused(modules, graph.path.name, int8)
    with mapped_errors("schedule it", order.name):
        return schedule_module(module, registers, int8)


def build(module: Any, cpu: Any, command: Sequence[str], library: Path) -> None:
    """Compile the scheduled ``module`` and link it. Raises CompileError."""
    import tvm

    def link_objects(output: str, objects: Sequence[str], **_: Any) -> None:
        link(command, objects, Path(output))

    with mapped_errors("compile it", str(cpu.attrs["mcpu"])):
        with cpu:
            executable = tvm.compile(module, target=cpu, tir_pipeline=tvm_stack.register())
        executable.export_library(str(library), fcompile=link_objects)


def cpu_of(arch: str, mcpu: str) -> Any:
    """Return TVM's target for LLVM's CPU ``mcpu``."""
    from tvm.target import Target as CompilerTarget

    return CompilerTarget({"kind": "llvm", "mtriple": f"{arch}-linux-gnu", "mcpu": mcpu})


def host_cpu() -> Any:
    """Return TVM's target for this host."""
    from tvm.target import codegen

    return cpu_of(platform.machine(), codegen.llvm_get_system_cpu())


def registers_of(cpu: Any) -> Registers:
    """Return the vector registers of TVM's target."""
    from tvm.target import codegen

    if str(cpu.attrs["mtriple"]).startswith("aarch64"):
        return NEON
    if codegen.llvm_cpu_has_features(["avx512f"], cpu):
        return AVX512
    return AVX2 if codegen.llvm_cpu_has_features(["avx2"], cpu) else SSE


def computes_halves(mcpu: str) -> bool:
    """Tell whether Arm's core ``mcpu``, in LLVM's spelling, multiplies vectors of FP16."""
    from tvm.target import codegen

    if not codegen.llvm_is_valid_cpu(mcpu, "aarch64-linux-gnu"):
        return False
    return bool(codegen.llvm_cpu_has_features(["fullfp16"], cpu_of("aarch64", mcpu)))
