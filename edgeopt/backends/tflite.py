# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""TFLite for LiteRT: one file with a signature for each length, which share their weights."""

from __future__ import annotations

import contextlib
import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeopt import progress
from edgeopt.backends import (
    Artifact,
    ArtifactGraph,
    Batch,
    Outputs,
    converted,
    few_lengths,
    only_lengths,
    static_lengths,
    tflite_lengths,
    tflite_versions,
    traceable,
)
from edgeopt.backends.tensorflow_convert import write_tflite
from edgeopt.backends.tflite_quantize import quantize as quantize_file
from edgeopt.errors import CompileError
from edgeopt.extras import require
from edgeopt.model import MAIN, Model, OnnxSource, TextInput, tflite_file
from edgeopt.model.network_call import TFLITE, FileSource, NetworkFile
from edgeopt.model.signature import NO_LENGTH, Signature, TensorSpec
from edgeopt.model.tasks import INPUTS, PIXELS
from edgeopt.model.tflite_file import TfliteNetwork
from edgeopt.quantize import PLAIN, Quantize
from edgeopt.quiet import quiet
from edgeopt.target import EngineSpec, Target

if TYPE_CHECKING:
    import torch

_FILE = "model.tflite"
_PROBE = 19
"""A length, tokens, that no other size of a network is: converters make equal constants one."""


def lower(
    model: Model,
    target: Target,
    spec: EngineSpec,
    precision: str,
    calibration: Sequence[Batch],
    directory: Path,
    quantize: Quantize = PLAIN,
) -> Artifact:
    """Write ``model.tflite`` with the signatures ``seq_N`` of the target's lengths, batch 1.

    A model without a sequence has the one signature ``seq_0``.

    Inputs are int32; names are the model's (LiteRT itself lists them by the alphabet, so they go
    by name). FP16 keeps weights in half precision and leaves activations to the engine; INT8 has
    int8 weights by channel
    (the embeddings as well) and quantises activations call by call, unless ``quantize`` says
    otherwise; ``calibration`` is not used. What the target's ``min_runtime`` has no kernel for is
    written otherwise: GELU by its terms, products of INT8 weights as of floating point. A model
    that came as a .tflite file is that file, byte for byte, under its own names. Raises
    CompileError for a model that came as an .onnx file, for a precision that a .tflite file is not
    in, and with operator and layer if ``min_runtime`` does not run the file.
    """
    del calibration
    oldest = spec.min_runtime
    source = model.main.source
    if isinstance(source, OnnxSource):
        raise CompileError(
            "TFLite is lowered from a PyTorch module or TensorFlow, and this model came as an "
            ".onnx file",
            where=model.name,
            hint="Import the checkpoint itself.",
        )
    lengths = static_lengths(model, target)
    path = directory / _FILE
    if isinstance(source, FileSource) and source.given.kind == TFLITE:
        if oldest is not None:
            tflite_versions.check(source.given.path, oldest, model.name)
        return _packed(model, source.given, precision, quantize, path)

    def write(seq_lens: Sequence[int]) -> str:
        return _written(model, seq_lens, path, precision, quantize, oldest)

    route, lengths = _ladder(write, lengths, few_lengths(model, target), path, oldest, model.name)
    if oldest is not None:
        tflite_versions.check(path, oldest, model.name)
        route += f", for TensorFlow Lite {oldest}"
    packages = ["torch", "litert-torch"] if model.main.is_torch else [_tensorflow_package()]
    packages += [] if precision == "fp32" else ["ai-edge-quantizer"]
    return Artifact(
        engine="tflite",
        precision=precision,
        graphs={
            MAIN: ArtifactGraph(
                files=(_FILE,),
                signature=_signature(model.main.signature),
                seq_lens=tuple(n for n in lengths if n != NO_LENGTH),
            )
        },
        route=route,
        options={},
        tools={name: version(name) for name in packages},
    )


def _ladder(
    write: Callable[[Sequence[int]], str],
    lengths: Sequence[int],
    few: Sequence[int],
    path: Path,
    oldest: str | None,
    name: str,
) -> tuple[str, tuple[int, ...]]:
    """Have ``write`` make the file for two lengths, and derive all ``lengths`` from these.

    If they cannot be derived, ``write`` makes ``few`` of them, as each takes seconds. Return how
    the file was made, and its lengths.
    """
    ends = _PROBE, lengths[-1]
    if len(lengths) <= len(ends) or ends[0] >= ends[1]:
        return write(lengths), tuple(lengths)
    route = write(ends)
    try:
        tflite_lengths.derive(path, ends, lengths, signature_name, inside=oldest is not None)
    except tflite_lengths.UnderivableError as exc:
        progress.note(f"{name}: has fewer lengths, each converted by itself ({exc})")
        return write(few), tuple(few)
    derived = ", ".join(signature_name(n) for n in lengths if n not in ends)
    return f"{route} -> {derived} derived", tuple(lengths)


def _written(
    model: Model,
    lengths: Sequence[int],
    path: Path,
    precision: str,
    quantize: Quantize,
    oldest: str | None,
) -> str:
    """Write a file with a signature for each of ``lengths``; return how."""
    source = model.main.source
    if isinstance(source, FileSource):
        write_tflite(model, source.given, {n: signature_name(n) for n in lengths}, path)
    else:
        spelled = tflite_versions.lacks(oldest, tflite_versions.GELU)
        convert = partial(_convert, model, lengths, spelled=spelled)
        converted(model, path, convert, __name__, lengths=list(lengths), spelled=spelled)
    converter = "tf.lite" if isinstance(source, FileSource) else "litert-torch"
    route = f"{converter}, signatures {', '.join(signature_name(n) for n in lengths)}"
    if precision != "fp32":
        route += " -> ai-edge-quantizer "
        route += quantize_file(model, path, precision, quantize, oldest)
    return route


def _packed(
    model: Model, given: NetworkFile, precision: str, quantize: Quantize, path: Path
) -> Artifact:
    """Return the artifact that is the file as it came."""
    if precision != given.precision:
        raise CompileError(
            f"the .tflite file is in {given.precision} and is packed as it is",
            where=model.name,
            hint="Take a recipe that asks for int4, or compile what it was converted from."
            if given.precision == "int4"
            else "Leave --precision out, or compile what it was converted from.",
        )
    if not quantize.is_plain and precision != "int4":  # which a recipe has to ask for
        raise CompileError(
            "the .tflite file is packed as it is, and the recipe asks for another quantisation",
            where=model.name,
            hint="Take a recipe without [quantize].",
        )
    shutil.copyfile(given.path, path)
    signature = model.main.signature
    inputs = [
        replace(t, name=feed.name, dtype=feed.dtype, dims=(1, *t.dims[1:]))
        for t, feed in zip(signature.inputs, given.feeds, strict=True)
    ]
    outputs = [
        replace(t, name=name, dims=(1, *t.dims[1:]))
        for t, name in zip(signature.outputs, given.outputs, strict=True)
    ]
    pairs = zip((*signature.inputs, *signature.outputs), (*inputs, *outputs), strict=True)
    return Artifact(
        engine="tflite",
        precision=precision,
        graphs={
            MAIN: ArtifactGraph(
                files=(_FILE,),
                signature=Signature(inputs=tuple(inputs), outputs=tuple(outputs)),
                seq_lens=only_lengths(model),
                names={own.name: ours.name for ours, own in pairs if own.name != ours.name},
            )
        },
        route="the imported file, byte for byte",
        options={},
        tools={"ai-edge-litert": version("ai-edge-litert")},
    )


def _tensorflow_package() -> str:
    """Return the package that TensorFlow is from: it has one for CPUs and one for GPUs too."""
    known = ("tensorflow-cpu", "tensorflow")
    return next((n for n in known if _is_installed(n)), known[-1])


def _is_installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


def signature_name(seq_len: int) -> str:
    """Return the name of the signature for texts of ``seq_len`` tokens, 0 for images."""
    return f"seq_{seq_len}"


def _signature(signature: Signature) -> Signature:
    """Return the model's signature at batch 1 with int32 for int64 inputs."""
    return Signature(
        inputs=tuple(replace(t, dtype=_dtype(t), dims=(1, *t.dims[1:])) for t in signature.inputs),
        outputs=tuple(replace(t, dims=(1, *t.dims[1:])) for t in signature.outputs),
    )


def _dtype(tensor: TensorSpec) -> str:
    """Return the dtype of an input in the file: LiteRT's embedding lookup takes int32."""
    return "int32" if tensor.dtype == "int64" else tensor.dtype


def _convert(model: Model, seq_lens: Sequence[int], path: Path, *, spelled: bool = False) -> None:
    """Write the file in FP32; ``spelled``: with GELU by its terms."""
    torch = require("torch", "torch")
    with quiet():
        litert_torch = require("litert_torch", "tflite")
        module = _named(model)
        conversion: Any = litert_torch
        try:
            for n in seq_lens:
                example = {
                    spec.name: torch.ones(
                        spec.shape(batch=1, seq=n), dtype=getattr(torch, _dtype(spec))
                    )
                    for spec in model.main.signature.inputs
                }
                conversion = conversion.signature(signature_name(n), module, (), example)
            by_terms = _gelu_by_terms() if spelled else contextlib.nullcontext()
            with by_terms, _decomposed_once(model):
                conversion.convert().export(str(path))
        # torch.export, MLIR and the converter each raise their own kinds.
        except Exception as exc:
            text = (str(exc).strip().splitlines() or [type(exc).__name__])[0]
            raise CompileError(f"litert-torch failed ({text})", where=model.name) from exc


@contextlib.contextmanager
def _decomposed_once(model: Model) -> Iterator[None]:
    """Have the graph of a network of texts decomposed as it is lowered, and not before as well.

    litert-torch 0.10 traces a graph again for each of the two, which is a quarter of the time of a
    conversion. Its passes between them look for convolutions, which only networks of images have:
    the files are the same, byte for byte (tests/backends/test_tflite_decomposition.py).
    """
    from litert_torch._convert import core

    if not isinstance(model.input, TextInput):
        yield
        return
    whole = core.fx_infra
    core.fx_infra = SimpleNamespace(
        **vars(whole) | {"safe_run_decompositions": lambda program, *_, **__: program}
    )
    try:
        yield
    finally:
        core.fx_infra = whole


def _gelu_by_terms() -> contextlib.AbstractContextManager[object]:
    """Have GELU traced as the terms of its definition, which need no kernel of its own."""
    import torch
    from torch.overrides import TorchFunctionMode

    class Spelled(TorchFunctionMode):
        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if func is not torch.nn.functional.gelu:
                return func(*args, **(kwargs or {}))
            return _gelu(*args, **(kwargs or {}))

    return Spelled()


def _gelu(input: torch.Tensor, approximate: str = "none") -> torch.Tensor:
    """GELU (Hendrycks and Gimpel 2016, section 2), exact or by tanh, in the input's shape."""
    import torch

    if approximate == "tanh":
        inner = math.sqrt(2 / math.pi) * (input + 0.044715 * input * input * input)
        return 0.5 * input * (1 + torch.tanh(inner))
    return 0.5 * input * (1 + torch.erf(input / math.sqrt(2)))


def _named(model: Model) -> torch.nn.Module:
    """Return the module with the file's dtypes and names; LiteRT takes the names from here."""
    import torch

    inputs = model.main.signature.inputs
    outputs = [spec.name for spec in model.main.signature.outputs]
    module: Any = traceable(model)

    class Named(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = module

        def forward(
            self,
            input_ids: torch.Tensor | None = None,
            attention_mask: torch.Tensor | None = None,
            token_type_ids: torch.Tensor | None = None,
            pixel_values: torch.Tensor | None = None,
        ) -> dict[str, torch.Tensor]:
            values = (input_ids, attention_mask, token_type_ids, pixel_values)
            given: Any = dict(zip((*INPUTS, PIXELS), values, strict=True))
            tensors = [given[spec.name].to(getattr(torch, spec.dtype)) for spec in inputs]
            return dict(zip(outputs, self.module(*tensors), strict=True))

    return Named().eval()


class _Packed:
    """A file that came as it is, by its own names."""

    def __init__(self, network: TfliteNetwork, artifact: Artifact) -> None:
        self._network = network
        self._signature = artifact.main.signature

    def run(self, batch: Batch) -> Outputs:
        """Run one batch of one of the file's shapes."""
        given = {t.name: batch[t.name].astype(t.dtype) for t in self._signature.inputs}
        found = self._network.run(given)
        return {t.name: np.asarray(found[t.name], np.float32) for t in self._signature.outputs}


class _Session:
    """A LiteRT interpreter that takes and gives the model's names."""

    def __init__(self, interpreter: Any, artifact: Artifact) -> None:
        self._interpreter = interpreter
        self._signature = artifact.main.signature
        self._outputs = [spec.name for spec in artifact.main.signature.outputs]
        self._seq_lens = artifact.main.seq_lens
        self._runners: dict[int, Any] = {}

    def run(self, batch: Batch) -> Outputs:
        """Run one batch of one of the artifact's lengths; ValueError for another length."""
        seq_len = self._signature.seq_len({name: value.shape for name, value in batch.items()})
        if seq_len not in (self._seq_lens or (NO_LENGTH,)):
            raise ValueError(f"length {seq_len}, but the artifact takes {self._seq_lens}")
        tensors = {t.name: batch[t.name].astype(t.dtype) for t in self._signature.inputs}
        if seq_len not in self._runners:
            with quiet():  # XNNPACK announces itself when a graph is first prepared
                runner = self._interpreter.get_signature_runner(signature_name(seq_len))
                runner(**tensors)
            self._runners[seq_len] = runner
        results = self._runners[seq_len](**tensors)
        return {name: np.asarray(results[name], dtype=np.float32) for name in self._outputs}


def host_options(artifact: Artifact, directory: Path) -> dict[str, str]:
    """Return nothing: this host computes as the device does."""
    return {}


def open_on_host(artifact: Artifact, directory: Path, threads: int) -> _Session | _Packed:
    """Open the artifact in LiteRT (XNNPACK kernels) with ``threads`` threads."""
    path = directory / artifact.main.files[0]
    if artifact.tools.get("ai-edge-litert"):  # which converts nothing: the file is as it came
        functions = tflite_file.functions(tflite_file.read(path), str(path))
        return _Packed(TfliteNetwork(path, functions, threads), artifact)
    with quiet():
        interpreter = require("ai_edge_litert.interpreter", "tflite").Interpreter(
            model_path=str(path), num_threads=threads
        )
    return _Session(interpreter, artifact)


def run_plain(artifact: Artifact, directory: Path, batch: Batch) -> tuple[Any, Outputs]:
    """Run one call with LiteRT's plain kernels instead of XNNPACK's.

    Return the interpreter, which still holds every tensor, and the outputs.
    """
    with quiet():
        litert = require("ai_edge_litert.interpreter", "tflite")
        interpreter = litert.Interpreter(
            model_path=str(directory / artifact.main.files[0]),
            num_threads=1,
            experimental_op_resolver_type=litert.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            experimental_preserve_all_tensors=True,
        )
        return interpreter, _Session(interpreter, artifact).run(batch)
