# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""An answer depends on its own text or image alone: not on the padding, not on the batch."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeopt.backends import Batch, Outputs, Session, backend
from edgeopt.model import Model, samples, texts
from edgeopt.model.signature import NO_LENGTH
from edgeopt.quantize import PLAIN, Quantize
from edgeopt.target import Target

pytestmark = pytest.mark.heavy

LENGTHS = (12, 17, 24, 38)  # 38 is the longest
SHORT = "a tool"
TEXTS = (
    "the library for python text and data",
    SHORT,
    "zz 9 qq . , xj w 0 the 7 k v b u in of to a tool and text 1 2 3 4 5 6 7 8 9 end",
    "naïve of data",
    "tool tool tool tool tool tool tool tool",
)
PACKAGES = {"onnx": "onnxruntime", "openvino": "openvino", "tflite": "litert_torch", "tvm": "tvm"}


def needs(engine: str) -> None:
    if importlib.util.find_spec(PACKAGES[engine]) is None:
        pytest.skip(f"needs edgeopt[{engine}]")


def own_length(call: Batch) -> int:
    return int(call["attention_mask"].sum())


def trimmed(call: Batch) -> Batch:
    return {name: value[:, : own_length(call)] for name, value in call.items()}


def joined(calls: Sequence[Batch]) -> Batch:
    return {name: np.concatenate([call[name] for call in calls]) for name in calls[0]}


def answers(session: Session, call: Batch) -> list[Outputs]:
    """Return the outputs row by row, those of a token without the padding's."""
    outputs = session.run(call)
    rows = []
    for i in range(len(next(iter(call.values())))):
        row = {name: value[i] for name, value in outputs.items()}
        if "attention_mask" in call:
            mask = call["attention_mask"][i].astype(bool)
            row = {n: v[mask] if v.shape[:1] == mask.shape else v for n, v in row.items()}
        rows.append(row)
    return rows


def assert_same(got: Outputs, expected: Outputs, what: str, most: float = 2e-5) -> None:
    """``most`` is for the rounding of float32 sums; a step of 8 bits is some hundred times that."""
    for name, value in expected.items():
        np.testing.assert_allclose(got[name], value, atol=most, err_msg=f"{name}, {what}")


def rounding(engine: str, precision: str, quantize: Quantize = PLAIN) -> float:
    """Return by how much shapes alone change an answer, through the last bits of float32 sums.

    OpenVINO's sums do by shape, and a value at the edge of a static range's step then falls on the
    other side of it; the ranges themselves know nothing of the call.
    """
    static = engine == "openvino" and precision == "int8" and quantize == PLAIN
    return 0.02 if static else 2e-5


@pytest.mark.parametrize(
    ("engine", "precision", "quantize", "architecture"),
    [
        ("onnx", "fp32", PLAIN, "BertForSequenceClassification"),
        ("onnx", "int8", PLAIN, "BertForSequenceClassification"),
        ("onnx", "int8", PLAIN, "BertForTokenClassification"),
        ("onnx", "int8", Quantize(keep=("classifier.dense",)), "RobertaForSequenceClassification"),
        ("onnx", "int8", Quantize(activations="static"), "BertForSequenceClassification"),
        ("onnx", "int8", Quantize(activations="none"), "BertForSequenceClassification"),
        ("onnx", "int4", Quantize(weights="int4"), "BertForSequenceClassification"),
        (
            "onnx",
            "int4",
            Quantize(weights="int4", activations="dynamic"),
            "BertForSequenceClassification",
        ),
        ("openvino", "fp32", PLAIN, "BertForSequenceClassification"),
        ("openvino", "fp16", PLAIN, "BertForSequenceClassification"),
        ("openvino", "int8", PLAIN, "BertForSequenceClassification"),
        ("openvino", "int8", Quantize(activations="none"), "BertForSequenceClassification"),
        ("openvino", "int4", Quantize(weights="int4"), "BertForSequenceClassification"),
    ],
    ids=lambda value: (
        "-".join(map(str, value.options().values())) if isinstance(value, Quantize) else str(value)
    ),
)
def test_neither_padding_nor_neighbours_enter_an_answer(
    engine: str,
    precision: str,
    quantize: Quantize,
    architecture: str,
    tiny: Callable[[str], Model],
    lower: Callable,
) -> None:
    needs(engine)
    model = tiny(architecture)
    artifact, directory = lower(model, engine, precision, quantize)
    session = backend(engine).open_on_host(artifact, directory, 1)
    longest = texts.tokenize(model, TEXTS, max(LENGTHS))
    alone = [answers(session, trimmed(call))[0] for call in longest]
    most = rounding(engine, precision, quantize)
    for seq_len in LENGTHS:
        for call, expected in zip(texts.tokenize(model, TEXTS, seq_len), alone, strict=True):
            if own_length(call) < seq_len:
                assert_same(answers(session, call)[0], expected, f"padded to {seq_len}", most)
    for rows in ((0, 1), (1, 2), (3, 1, 2, 0), (4, 1, 0, 3), (1, 1, 1)):
        batch = joined([longest[row] for row in rows])
        width = int(batch["attention_mask"].sum(1).max())
        for call in (batch, {name: value[:, :width] for name, value in batch.items()}):
            for row, got in zip(rows, answers(session, call), strict=True):
                assert_same(got, alone[row], f"row {row} of {rows}", most)


@pytest.mark.parametrize(("engine", "precision"), [("tflite", "int8")])
def test_padding_does_not_enter_an_answer_of_a_fixed_length(
    engine: str, precision: str, tiny: Callable[[str], Model], target: Target, tmp_path: Path
) -> None:
    needs(engine)
    model = tiny("BertForSequenceClassification")
    fixed = replace(target, seq_lens=(12, 38))
    spec = next(s for s in fixed.engines if s.engine == engine)
    artifact = backend(engine).lower(model, fixed, spec, precision, [], tmp_path)
    session = backend(engine).open_on_host(artifact, tmp_path, 1)
    for short, long in zip(
        texts.tokenize(model, TEXTS, 12), texts.tokenize(model, TEXTS, 38), strict=True
    ):
        if own_length(long) <= 12:
            assert_same(answers(session, long)[0], answers(session, short)[0], "padded to 38")


@pytest.mark.parametrize(
    ("engine", "precision"), [("onnx", "fp32"), ("onnx", "int8"), ("openvino", "int8")]
)
def test_an_image_is_read_alone(
    engine: str, precision: str, tiny: Callable[[str], Model], lower: Callable
) -> None:
    needs(engine)
    model = tiny("ViTForImageClassification")
    artifact, directory = lower(model, engine, precision)
    session = backend(engine).open_on_host(artifact, directory, 1)
    calls = samples.calls(model, samples.shipped(model, 4), NO_LENGTH)
    calls.append({"pixel_values": np.full_like(calls[0]["pixel_values"], 9.0)})  # a loud one
    alone = [answers(session, call)[0] for call in calls]
    for rows in ((0, 4), (4, 1, 2), (3, 2, 1, 4)):
        for row, got in zip(
            rows, answers(session, joined([calls[row] for row in rows])), strict=True
        ):
            assert_same(got, alone[row], f"row {row} of {rows}", rounding(engine, precision))
