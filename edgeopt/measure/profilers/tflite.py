# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""LiteRT: the summary that its profiler writes, operator by operator.

XNNPACK names its operators by what they compute, not by tensors. They come in the order of the
file, so that the n-th of a kind is the n-th of that kind in the file that XNNPACK took, as long as
there are as many of either; else that kind is not joined.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from edgeopt.backends.tflite import signature_name
from edgeopt.backends.tflite_inside import scope_of
from edgeopt.extras import require
from edgeopt.measure.profilers import Call, Join, Joined, Told
from edgeopt.measure.profilers.names import Layers
from edgeopt.quiet import quiet

HOW = "LiteRT's profiler; whole microseconds of each call"
RESOLUTION_NS = 1000
ELSEWHERE = ""

_ROW = re.compile(
    r"^\s*(?P<type>\S.*?)\s+(?:[\d.]+\s+){3}(?P<share>[\d.]+)%\s+[\d.]+%\s+[\d.]+\s+(?P<calls>\d+)"
    r"\s+\[(?P<whose>Builtin|Delegate)\]:(?P<index>\d+)\s*$"
)
_WHOLE = re.compile(r"^Timings \(microseconds\): count=\d+ (?:first=\d+ )?curr=(\d+)", re.MULTILINE)
_ORDER = "= Run Order ="

_KINDS = {
    "Fully Connected": "FULLY_CONNECTED",
    "Batch Matrix Multiply": "BATCH_MATMUL",
    "Convolution": "CONV_2D",
    "Softmax": "SOFTMAX",
    "Add": "ADD",
    "Subtract": "SUB",
    "Multiply": "MUL",
    "Divide": "DIV",
    "Mean": "MEAN",
    "Squared Difference": "SQUARED_DIFFERENCE",
    "Reciprocal Square Root": "RSQRT",
    "GELU": "GELU",
    "TanH": "TANH",
    "Sigmoid": "LOGISTIC",
    "Transpose": "TRANSPOSE",
    "Static Reshape": "RESHAPE",
    "Slice": "SLICE",
}
"""XNNPACK's names, up to the bracket, and TFLite's."""

_QUANTISING = ("QUANTIZE", "DEQUANTIZE", "Convert")
_DELEGATE = "Delegate/"


def options(prefix: str, *, first: bool) -> list[str]:
    """Return what has LiteRT keep its profile."""
    del prefix, first
    return ["operators=1"]


def calls(told: Told, runs: int) -> list[Call]:
    """Return the operators in the order of the run; the shares are of a sum in microseconds."""
    whole = _WHOLE.search(told.report)
    lines = told.report.splitlines()
    begins = [i for i, line in enumerate(lines) if _ORDER in line]
    if whole is None or not begins:
        raise ValueError("LiteRT's summary has no order of the run, or no sum")
    found = []
    for line in lines[begins[0] + 1 :]:
        if not line.strip():
            break
        if (row := _ROW.match(line)) is None:
            continue  # the head
        if int(row["calls"]) != runs:
            raise ValueError(f"LiteRT's summary has {row['calls']} calls of {row['type']}")
        us = round(float(row["share"]) / 100 * int(whole[1]))
        found.append(
            Call(
                name=f"{row['type'].removeprefix(_DELEGATE)} {row['whose'].lower()} {row['index']}",
                type=row["type"].removeprefix(_DELEGATE).partition(" (")[0],
                kernel="XNNPACK" if row["whose"] == "Delegate" else "TFLite",
                total_ns=1000 * us,
            )
        )
    if not found:
        raise ValueError("LiteRT's summary has no operators")
    return found


def layers(join: Join, calls: Sequence[Call]) -> list[Joined]:
    """Return the modules that the tensors of each operator are named after."""
    operators = _operators(join)
    classes: dict[tuple[str, ...], set[str]] = {}
    for _, scope, path in operators:
        classes.setdefault(scope, set()).add(path)
    known = Layers.of(
        join, classes, unsure=[scope for scope, paths in classes.items() if len(paths) > 1]
    )
    place = {
        i: int(call.name.rpartition(" ")[2])
        for i, call in enumerate(calls)
        if call.kernel != "XNNPACK"
    }
    place = {i: at for i, at in place.items() if at < len(operators)}
    left = [i for i in range(len(operators)) if i not in set(place.values())]
    for theirs, ours in _KINDS.items():
        ran = [i for i, c in enumerate(calls) if c.kernel == "XNNPACK" and c.type == theirs]
        there = [i for i in left if operators[i][0] == ours]
        if len(ran) == len(there):
            place |= dict(zip(ran, there, strict=True))
    return [
        Joined(
            layers=known.owners([operators[place[i]][1]]) if i in place else (),
            added=call.type in _QUANTISING,
        )
        for i, call in enumerate(calls)
    ]


def _operators(join: Join) -> list[tuple[str, tuple[str, ...], str]]:
    """Return each operator of the graph that ran: its kind, the modules that it is named after,
    and the same with their classes, which tell modules apart whose names are alike."""
    with quiet():
        require("ai_edge_quantizer", "tflite")
        from ai_edge_quantizer.utils import tfl_flatbuffer_utils as flatbuffer

        file: Any = flatbuffer.read_model(str(join.folder / join.artifact.artifact.main.files[0]))
    wanted = signature_name(join.seq_len).encode()
    graph = next(
        (s.subgraphIndex for s in file.signatureDefs if bytes(s.signatureKey) == wanted), 0
    )
    kinds = {code: name for name, code in flatbuffer.TFL_OP_NAME_TO_CODE.items()}
    found = []
    for operator in file.subgraphs[graph].operators:
        code = file.operatorCodes[operator.opcodeIndex].builtinCode
        kind = str(getattr(kinds.get(code), "value", f"operator {code}"))
        tensors = [file.subgraphs[graph].tensors[int(i)].name.decode() for i in operator.outputs]
        name = tensors[0] if tensors else ""
        found.append((kind, scope_of(name), name.rpartition(";")[0].rpartition(";")[2]))
    return found
