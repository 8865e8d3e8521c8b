# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Export a module once more by torch.export, for converters that take an ExportedProgram."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgeopt.backends import traced_length
from edgeopt.errors import CompileError
from edgeopt.extras import require
from edgeopt.model import Model, TextInput, TorchSource
from edgeopt.model.onnx_versions import lowered
from edgeopt.quiet import quiet

_LOWEST = 18  # what torch's exporter of programs writes without a conversion that may fail


def is_exported(model: Model) -> bool:
    """Tell whether the tracer of TorchScript would fail on ``model``."""
    source = model.main.source
    return isinstance(source, TorchSource) and source.exported


def program_of(model: Model) -> Any:
    """Return ``model.module`` as an ExportedProgram with the signature's free sizes."""
    torch: Any = require("torch", "torch")
    fixed = model.input.seq_lens if isinstance(model.input, TextInput) else ()
    sizes = {"batch": 2, "seq": fixed[0] if fixed else traced_length(model)}
    inputs = model.main.signature.inputs
    example = tuple(torch.ones(t.shape(**sizes), dtype=getattr(torch, t.dtype)) for t in inputs)
    auto = torch.export.Dim.AUTO
    free = tuple(
        {i: auto for i, d in enumerate(t.dims) if d == "batch" or (d == "seq" and not fixed)}
        for t in inputs
    )
    with torch.no_grad():
        return torch.export.export(model.module, example, dynamic_shapes=(free,))


def write_onnx(model: Model, path: Path, opset: int, ir_version: int) -> None:
    """Write an ONNX file with the model's signature. Raises CompileError.

    An opset below that of torch's exporter of programs comes by lowering its own.
    """
    torch: Any = require("torch", "torch")
    onnx: Any = require("onnx", "onnx")
    signature = model.main.signature
    try:
        with quiet():
            made = torch.onnx.export(
                program_of(model),
                dynamo=True,
                verbose=False,
                optimize=True,
                opset_version=max(opset, _LOWEST),
                input_names=[t.name for t in signature.inputs],
                output_names=[t.name for t in signature.outputs],
            )
            proto = made.model_proto
    # The exporter lets through whatever the traced code raises.
    except Exception as exc:
        lines = str(exc).strip().splitlines() or [type(exc).__name__]
        raise CompileError(f"torch.onnx.export failed ({lines[0]})", where=model.name) from exc
    onnx.save(lowered(proto, opset, ir_version, model.name), str(path))
