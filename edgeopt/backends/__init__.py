# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Backends lower a Model to one engine's artifact, and run that artifact on the host.

A backend is a module of this package with three functions, found by the engine's name:

    lower(model, target, spec, precision, calibration, directory, quantize) -> Artifact
    host_options(artifact, directory) -> Mapping[str, str]
    open_on_host(artifact, directory, threads) -> Session

One that makes artifacts of ``.onnx`` files as well has a fourth, which ``edgeopt inspect`` asks
what its engine runs:

    open_onnx(file, inputs, spec, directory) -> Run

One that compiles long may have a fifth, which begins with that in another process, so that
``lower`` finds it in the cache or waits for it there:

    ahead(model, target, spec, precisions) -> ContextManager

Third parties add one through the entry point group ``edgeopt.backends``.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol, cast

import numpy as np

from edgeopt import cache, closure
from edgeopt.errors import CompileError, EdgeoptError, InputError
from edgeopt.model import Model, TextInput, TorchSource
from edgeopt.model.signature import NO_LENGTH, Signature
from edgeopt.quantize import Quantize
from edgeopt.target import ENGINES, EngineSpec, Target
from edgeopt.values import Ascending, Check, Range, outside

if TYPE_CHECKING:
    import torch

Batch = Mapping[str, np.ndarray]
"""One call's inputs by the *model's* input names, as its signature has them, batch 1."""

Outputs = dict[str, np.ndarray]
"""One call's outputs by the *model's* output names, float32."""

Run = Callable[[Mapping[str, Any]], list[Any]]
"""Any ONNX file opened in an engine: inputs by the file's names to outputs in the file's order.

Values are numpy arrays, or lists of them for sequences."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ArtifactGraph:
    """One graph of a model as an engine has it.

    ``files`` are names relative to the artifact's directory; the first is the one that the engine
    opens. ``signature`` has the tensor names and dtypes as this engine's file has them, in the
    model's order; ``names`` has the model's for those that the file calls otherwise. ``seq_lens``
    are the lengths that it takes, () for any length, and if nothing runs along a sequence.
    """

    files: tuple[Annotated[str, Check(outside)], ...]
    signature: Signature
    seq_lens: Annotated[tuple[Annotated[int, Range(1, 1 << 20, "tokens")], ...], Ascending()]
    names: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Artifact:
    """One engine's files for one target and precision.

    ``graphs`` are the model's, by name. ``options`` is what a runtime must know to run it as it
    was checked (OpenVINO: ``INFERENCE_PRECISION_HINT``), ``{seq_len}`` in a value standing for
    the length of the call (0 for an image). ``route`` says in a line how it was made. ``tools``
    maps each package that made it to its version.
    """

    engine: str
    precision: str
    graphs: Mapping[str, ArtifactGraph]
    route: str
    options: Mapping[str, str]
    tools: Mapping[str, str]

    @property
    def main(self) -> ArtifactGraph:
        """The one graph. Raises CompileError for an artifact that has others."""
        if len(self.graphs) != 1:
            raise CompileError(f"has the graphs {', '.join(self.graphs)}, expected one")
        (graph,) = self.graphs.values()
        return graph

    @property
    def files(self) -> tuple[str, ...]:
        """The files of all graphs, each once."""
        return tuple(dict.fromkeys(name for graph in self.graphs.values() for name in graph.files))


class OtherMachineError(CompileError):
    """An artifact is code for another CPU than this host's."""


class Session(Protocol):
    """An artifact opened on the host."""

    def run(self, batch: Batch) -> Outputs:
        """Run one batch of a length that the artifact takes."""


class Backend(Protocol):
    """What a backend module has."""

    def lower(
        self,
        model: Model,
        target: Target,
        spec: EngineSpec,
        precision: str,
        calibration: Sequence[Batch],
        directory: Path,
        quantize: Quantize = ...,
    ) -> Artifact:
        """Write the artifact's files into the empty ``directory`` and describe them.

        ``calibration`` are real inputs, padded to one of the target's lengths; only INT8 routes
        that calibrate use them. ``quantize`` has the recipe's options for INT8 and INT4; one that
        this engine has not is a CompileError, never left out. Raises CompileError (this format is
        then skipped, the others go on) or MissingDependencyError.
        """

    def host_options(self, artifact: Artifact, directory: Path) -> Mapping[str, str]:
        """Return what else than its ``options`` this host needs to compute as the device does."""

    def open_on_host(self, artifact: Artifact, directory: Path, threads: int) -> Session:
        """Open the artifact with this host's engine; the same graph and kernels if possible."""


def backend(engine: str) -> Backend:
    """Return the backend of ``engine``. Raises InputError for an unknown one."""
    if engine in ENGINES:
        module: Any = importlib.import_module(f"edgeopt.backends.{engine}")
        return cast(Backend, module)
    for point in entry_points(group="edgeopt.backends", name=engine):
        return cast(Backend, point.load())
    raise _unknown(engine)


def takes_onnx(engine: str) -> bool:
    """Tell whether artifacts of ``engine`` are made of ``.onnx`` files as well."""
    return hasattr(backend(engine), "open_onnx")


def open_onnx(
    engine: str, file: Path, inputs: Mapping[str, Any], spec: EngineSpec, directory: Path
) -> Run:
    """Open any ONNX file in ``engine`` on this host, in FP32, as its backend would lower it.

    ``file`` holds its weights itself; ``inputs`` are of a call that it is to run; ``directory`` is
    for what is written on the way. Raises CompileError if the engine does not take it, or its
    backend no ONNX file, and what the engine itself raises.
    """
    module: Any = backend(engine)
    if not takes_onnx(engine):
        raise CompileError(
            f"{engine} artifacts are made of a checkpoint, not of an .onnx file",
            hint="Compile the checkpoint that the file was exported from.",
        )
    opened: Run = module.open_onnx(file, inputs, spec, directory)
    return opened


def ahead(
    model: Model, target: Target, spec: EngineSpec, precisions: Sequence[str]
) -> contextlib.AbstractContextManager[None]:
    """Have an engine begin beside the block with what it will be asked to lower, if it can."""
    module: Any = backend(spec.engine)
    begin = getattr(module, "ahead", None)
    if begin is None:
        return contextlib.nullcontext()
    begun: contextlib.AbstractContextManager[None] = begin(model, target, spec, precisions)
    return begun


def code(engine: str) -> str:
    """Return a hash of the code that lowers for ``engine`` and runs it here, with its packages."""
    if engine in ENGINES:
        return closure.code(f"edgeopt.backends.{engine}", f"edgeopt.backends.{engine}_inside")
    for point in entry_points(group="edgeopt.backends", name=engine):
        found = find_spec(point.module)
        file = found.origin if found else None
        return cache.key(
            module=point.value,
            version=point.dist.version if point.dist else None,
            file=cache.file_sha256(Path(file)) if file else None,
        )
    raise _unknown(engine)


def _unknown(engine: str) -> InputError:
    return InputError(f"unknown engine {engine!r}, expected one of {', '.join(ENGINES)}")


def static_lengths(model: Model, target: Target) -> tuple[int, ...]:
    """Return the target's lengths that ``model`` takes, ``(NO_LENGTH,)`` for one of images."""
    if not isinstance(model.input, TextInput):
        return (NO_LENGTH,)
    most = model.input.max_seq_len
    lengths = target.ladder or target.seq_lens
    return model.input.seq_lens or tuple(n for n in lengths if n <= most)


def few_lengths(model: Model, target: Target) -> tuple[int, ...]:
    """Return what ``static_lengths`` does, but of a ladder the target's own and the longest.

    They are for what takes its time for each length.
    """
    lengths = static_lengths(model, target)
    return tuple(n for n in lengths if not target.ladder or n in (*target.seq_lens, lengths[-1]))


def only_lengths(model: Model) -> tuple[int, ...]:
    """Return the only lengths that ``model`` takes, () for any, and for a model of images."""
    return model.input.seq_lens if isinstance(model.input, TextInput) else ()


def converted(
    model: Model, path: Path, convert: Callable[[Path], None], converter: str, **how: Any
) -> None:
    """Have ``convert`` write the FP32 file ``path`` of ``model``, or copy what it wrote before.

    Every precision of an engine starts from that file, and so does another recipe. ``converter``
    is the module that ``convert`` is of, and ``how`` are all its options (plain JSON values). A
    module that is not known by what it was made of (``TorchSource.identity``) is converted each
    time.
    """
    source = model.main.source
    if not isinstance(source, TorchSource) or not source.identity:
        convert(path)
        return
    key = cache.key(model=source.identity, code=closure.code(converter), how=how)
    kept = cache.entry("conversion", key, lambda folder: convert(folder / path.name))
    shutil.copyfile(kept / path.name, path)


def traceable(model: Model) -> torch.nn.Module:
    """Return the model's module for an exporter to call: a copy that shares its tensors.

    Some networks write down what they were called with, and under a tracer that is a tensor (the
    windows of Swin), with which the next exporter cannot do anything.
    """
    module = model.module
    shared = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
    return copy.deepcopy(module, shared)


def traced_length(model: Model) -> int:
    """Return a length to trace ``model`` with that no weight has: none is taken for a constant."""
    return min(19, model.input.max_seq_len) if isinstance(model.input, TextInput) else NO_LENGTH


def run_on_host(artifact: Artifact, directory: Path, batches: Sequence[Batch]) -> list[Outputs]:
    """Open the artifact here with one thread and run ``batches``.

    Raises MissingDependencyError, OtherMachineError, InputError for inputs that the artifact does
    not take, and CompileError if its engine fails: engines raise exceptions of many kinds
    without a common base.
    """
    ours = artifact.main.names
    theirs = {name: own for own, name in ours.items()}
    batches = [{theirs.get(n, n): value for n, value in batch.items()} for batch in batches]
    for batch in batches:
        _check_input(artifact, batch)
    try:
        session = backend(artifact.engine).open_on_host(artifact, directory, threads=1)
        return [{ours.get(n, n): v for n, v in session.run(b).items()} for b in batches]
    except EdgeoptError:
        raise
    except Exception as exc:
        text = (str(exc).strip().splitlines() or [type(exc).__name__])[0]
        raise CompileError(
            f"{artifact.engine} cannot run this artifact on this host ({text})",
            where=artifact.main.files[0],
        ) from exc


def _check_input(artifact: Artifact, batch: Batch) -> None:
    """Raise InputError for what no engine should be asked.

    Ids beyond a table are an error in one engine, zeros in another, and a read past the table in a
    third; sizes that differ from input to input may give the answer of the call before.
    """
    sizes: dict[str, int] = {}
    for spec in artifact.main.signature.inputs:
        shape = batch[spec.name].shape
        known = [dim if isinstance(dim, int) else sizes.get(dim) for dim in spec.dims]
        fits = len(shape) == len(known)
        if not fits or any(n not in (None, m) for n, m in zip(known, shape, strict=True)):
            raise InputError(f"has the shape {shape}, expected {spec.dims}", where=spec.name)
        sizes |= {d: n for d, n in zip(spec.dims, shape, strict=True) if isinstance(d, str)}
        if spec.limit is not None:
            wrong = batch[spec.name][(batch[spec.name] < 0) | (batch[spec.name] >= spec.limit)]
            if wrong.size:
                raise InputError(
                    f"holds {wrong[0]}, expected 0 to {spec.limit - 1}", where=spec.name
                )
