# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""ONNX for onnxruntime: FP32 by the TorchScript exporter, INT8 and INT4 by its own quantisers.

The dynamo exporter gives opset 18 whatever it is asked for, and IR 10, which onnxruntime before
1.18 cannot read; the TorchScript exporter keeps to the target's.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgeopt.backends import (
    Artifact,
    ArtifactGraph,
    Batch,
    Outputs,
    Run,
    converted,
    only_lengths,
    traceable,
    traced_length,
)
from edgeopt.backends.onnx_quantize import quantize as quantize_graph
from edgeopt.backends.onnx_quantize import shared, unshare, widen
from edgeopt.backends.tensorflow_convert import file_of, write_onnx
from edgeopt.backends.torch_program import is_exported
from edgeopt.backends.torch_program import write_onnx as write_program
from edgeopt.errors import CompileError
from edgeopt.extras import require
from edgeopt.host import overflows_int8
from edgeopt.model import MAIN, Model, OnnxSource
from edgeopt.model.onnx_versions import lowered, opset_of
from edgeopt.quantize import PLAIN, QUANTIZED, Quantize
from edgeopt.quiet import quiet
from edgeopt.target import EngineSpec, Target

_FILE = "model.onnx"

_WIDER = {"session.x64quantprecision": "1"}
"""Session configuration of an INT8 file for an x86 CPU without VNNI.

Such a CPU adds two products of uint8 and int8 in 16 bits, and onnxruntime lets them overflow there
(cosines down to -.47 on random networks, .976 on a MiniLM that is .988 elsewhere). With the key it
computes in wider steps. On any x86 CPU onnxruntime 1.31 then opens no file in which two products
share a weight, as ALBERT's layers do.
"""

_INT8_OPTIONS = {"optimization.disable_specified_optimizers": "SkipLayerNormFusion"}
"""Session configuration of any INT8 file. Versions that do not know a key ignore it.

onnxruntime 1.31's fused Add and LayerNormalization takes 0.25 ms (128 tokens of 384, an x86 core),
the two apart 0.1 ms."""


def lower(
    model: Model,
    target: Target,
    spec: EngineSpec,
    precision: str,
    calibration: Sequence[Batch],
    directory: Path,
    quantize: Quantize = PLAIN,
) -> Artifact:
    """Write ``model.onnx`` (any batch, any length) within the target's opset and IR version.

    FP32 is the exported graph; INT8 has 8-bit weights by output channel and activations quantised
    call by call, unless ``quantize`` says otherwise; only static activations use ``calibration``.
    Raises CompileError for another precision, and if opset or IR version cannot be had.
    """
    if precision not in ("fp32", *QUANTIZED):
        raise CompileError(f"onnxruntime has no {precision} CPU kernels", where=f"onnx {precision}")
    if spec.opset is None or spec.ir_version is None:
        raise CompileError("the target names no opset and ir_version", where=target.path)
    path = directory / _FILE
    if isinstance(model.main.source, OnnxSource):
        route = _ship(model.main.source.path, path, spec.opset, spec.ir_version)
    elif (given := file_of(model, "onnxruntime")) is not None:
        write_onnx(model, given, path, spec.opset, spec.ir_version)
        _check_versions(path, spec.opset, spec.ir_version, "Build for a target")
        route = f"tf2onnx (opset {spec.opset})"
    else:
        export_free(model, path, spec.opset, spec.ir_version)
        exporter = "torch.export" if is_exported(model) else "TorchScript"
        route = f"torch.onnx.export ({exporter}, opset {spec.opset})"
    if precision in QUANTIZED:
        route += " -> " + quantize_graph(
            model, path, precision, quantize, calibration, spec.version
        )
        _check_versions(path, spec.opset, spec.ir_version, "Quantising raised it; choose")
    options = dict(_INT8_OPTIONS) if precision in QUANTIZED else {}
    if options and target.device.overflows_int8:
        options |= _WIDER
        unshare(path)
    return Artifact(
        engine="onnx",
        precision=precision,
        graphs={
            MAIN: ArtifactGraph(
                files=(_FILE,),
                signature=model.main.signature,
                seq_lens=only_lengths(model),
            )
        },
        route=route,
        options=options,
        tools={n: require(n, "onnx").__version__ for n in ("onnx", "onnxruntime")}
        | ({"torch": require("torch", "torch").__version__} if model.main.is_torch else {}),
    )


def export_free(model: Model, path: Path, opset: int, ir_version: int) -> None:
    """``export_fp32`` with free dimensions; what was exported before is not exported again."""

    def export(path: Path) -> None:
        export_fp32(model, path, opset=opset, ir_version=ir_version, batch=None, seq_len=None)

    converted(model, path, export, __name__, opset=opset, ir_version=ir_version)


def export_fp32(
    model: Model,
    path: Path,
    *,
    opset: int,
    ir_version: int,
    batch: int | None,
    seq_len: int | None,
) -> None:
    """Write ``model.module`` to ``path`` in FP32, with the signature's names.

    ``batch`` and ``seq_len`` fix these dimensions; None leaves them free. Raises CompileError
    if the exporter fails, or if opset or IR version came out above what was asked for.
    """
    if not model.main.is_torch:
        raise CompileError(
            "is an .onnx file already; a static shape is lowered from a PyTorch module",
            where=model.name,
            hint="Import the checkpoint itself.",
        )
    torch = require("torch", "torch")
    require("onnx", "onnx")
    if is_exported(model):
        write_program(model, path, opset, ir_version)
        _check_versions(path, opset, ir_version, "Give the target a higher one")
        _check_inputs(model, path)
        return
    inputs = [spec.name for spec in model.main.signature.inputs]
    outputs = [spec.name for spec in model.main.signature.outputs]
    # Free dimensions get sizes that no weight has, so that the tracer takes none for a constant.
    sizes = {"batch": batch or 2, "seq": seq_len or traced_length(model)}
    example = {
        spec.name: torch.zeros(spec.shape(**sizes), dtype=getattr(torch, spec.dtype))
        for spec in model.main.signature.inputs
    }
    if "attention_mask" in example:
        example["attention_mask"] += 1
    free = [name for name, size in (("batch", batch), ("seq", seq_len)) if size is None]
    axes = {
        spec.name: {i: d for i, d in enumerate(spec.dims) if d in free}
        for spec in (*model.main.signature.inputs, *model.main.signature.outputs)
    }
    try:
        with quiet(), torch.inference_mode():
            torch.onnx.export(
                traceable(model),
                tuple(example.values()),
                str(path),
                dynamo=False,
                opset_version=opset,
                input_names=inputs,
                output_names=outputs,
                dynamic_axes={name: kept for name, kept in axes.items() if kept},
                do_constant_folding=True,
            )
    # The exporter lets through whatever the traced code raises.
    except Exception as exc:
        raise CompileError(f"torch.onnx.export failed ({exc})", where=model.name) from exc
    _check_versions(path, opset, ir_version, "Give the target a higher one")
    _check_inputs(model, path)


def _ship(source: Path, path: Path, opset: int, ir_version: int) -> str:
    """Write ``source`` to ``path`` within opset and IR version, and return how, in a line."""
    onnx = require("onnx", "onnx")
    proto = onnx.load(str(source))
    made = lowered(proto, opset, ir_version, source.name)
    if made is proto:
        shutil.copy(source, path)
        return "the imported file"
    onnx.save(made, str(path))
    _check_versions(path, opset, ir_version, "Export it again")
    found = [f"opset {opset_of(proto)} as {opset_of(made)}"] * (opset_of(proto) > opset)
    found += [f"IR version {proto.ir_version} as {ir_version}"] * (proto.ir_version > ir_version)
    return f"the imported file, {', '.join(found)}"


def _check_versions(path: Path, opset: int, ir_version: int, advice: str) -> None:
    """Raise CompileError if the file needs more than the target's engine reads."""
    onnx = require("onnx", "onnx")
    proto = onnx.load(str(path), load_external_data=False)
    found = {item.domain or "ai.onnx": item.version for item in proto.opset_import}
    if found.get("ai.onnx", 1) > opset or proto.ir_version > ir_version:
        raise CompileError(
            f"opset {found.get('ai.onnx', 1)} and IR version {proto.ir_version}, but the target's "
            f"engine is promised opset {opset} and IR version {ir_version} at most",
            where=str(path.name),
            hint=f"{advice} at opset <= {opset}, IR version <= {ir_version}.",
        )


def _check_inputs(model: Model, path: Path) -> None:
    """Raise CompileError if the exporter dropped an input that the module does not use."""
    onnx = require("onnx", "onnx")
    proto = onnx.load(str(path))
    onnx.checker.check_model(proto)
    kept = [value.name for value in proto.graph.input]
    wanted = [spec.name for spec in model.main.signature.inputs]
    if kept != wanted:
        unused = [n for n in wanted if n not in kept]
        raise CompileError(f"the network does not use {', '.join(unused)}", where=model.name)


class _Session:
    """An onnxruntime session that takes and gives the model's names."""

    def __init__(self, session: Any, outputs: Sequence[str]) -> None:
        self._session = session
        self._outputs = list(outputs)

    def run(self, batch: Batch) -> Outputs:
        """Run one batch of any length."""
        values = self._session.run(self._outputs, dict(batch))
        return {
            name: np.asarray(value, dtype=np.float32)
            for name, value in zip(self._outputs, values, strict=True)
        }


def host_options(artifact: Artifact, directory: Path) -> dict[str, str]:
    """Return what else this host needs so as to compute as the artifact's device does.

    If this host's INT8 kernels overflow and the device's do not, it computes in wider steps, unless
    products share a weight: such a file is then not opened.
    """
    if artifact.precision not in QUANTIZED or not overflows_int8():
        return {}
    return {} if shared(directory / artifact.main.files[0]) else dict(_WIDER)


def session_options(artifact: Artifact, directory: Path, threads: int) -> Any:
    """Return onnxruntime's options for an artifact on this host."""
    ort = require("onnxruntime", "onnx")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors
    for key, value in _settings(artifact, directory).items():
        options.add_session_config_entry(key, value)
    return options


def _settings(artifact: Artifact, directory: Path) -> dict[str, str]:
    return dict(artifact.options) | host_options(artifact, directory)


def computes_wider(artifact: Artifact, directory: Path) -> bool:
    """Return whether onnxruntime is asked for INT8 products in steps that do not overflow."""
    return _WIDER.items() <= _settings(artifact, directory).items()


def open_on_host(artifact: Artifact, directory: Path, threads: int) -> _Session:
    """Open the artifact in onnxruntime on the CPU with ``threads`` threads.

    If this host's INT8 kernels overflow, and no option of the engine helps a file whose products
    share weights, the weights are made unsigned here, as that option would.
    """
    onnx, ort = require("onnx", "onnx"), require("onnxruntime", "onnx")
    options = session_options(artifact, directory, threads)
    file = directory / artifact.main.files[0]
    given: str | bytes = str(file)
    if artifact.precision in QUANTIZED and overflows_int8() and shared(file):
        proto = onnx.load(given)
        widen(proto)
        given = proto.SerializeToString()
    session = ort.InferenceSession(given, options, providers=["CPUExecutionProvider"])
    return _Session(session, [spec.name for spec in artifact.main.signature.outputs])


def open_onnx(file: Path, inputs: Mapping[str, Any], spec: EngineSpec, directory: Path) -> Run:
    """Open ``file`` within the opset and IR version of ``spec``, if it has these.

    Raises CompileError if it cannot be brought there.
    """
    del inputs
    ort = require("onnxruntime", "onnx")
    path = file
    if spec.opset is not None and spec.ir_version is not None:
        path = directory / _FILE
        _ship(file, path, spec.opset, spec.ir_version)
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4  # fatal: what goes wrong is raised as well
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda given: list(session.run(None, dict(given)))
