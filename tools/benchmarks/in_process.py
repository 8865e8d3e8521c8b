# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Variants that are timed in turns in one process, on tensors, and what users pick among them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from edgeopt import cache
from edgeopt.backends import Batch, Outputs
from edgeopt.backends.onnx import export_fp32
from edgeopt.measure import timing
from edgeopt.model import Model

BASE, INCUMBENT, TORCH = "onnxruntime FP32", "Optimum INT8", "PyTorch FP32"

Call = Callable[[Batch], Outputs]
T = TypeVar("T")


def onnxruntime_fp32(model: Model) -> Call:
    """Return plain FP32 ONNX, as ``torch.onnx.export`` gives it, in onnxruntime."""

    def build(directory: Path) -> None:
        path = directory / "model.onnx"
        export_fp32(model, path, opset=17, ir_version=8, batch=None, seq_len=None)

    directory = cache.entry("bench-onnx", cache.key(model=model.digest), build)
    return onnx_file(model, directory / "model.onnx")


def onnx_file(model: Model, path: Path) -> Call:
    """Return a call of an ONNX file in onnxruntime with one thread."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    wanted = [i.name for i in session.get_inputs()]
    names = [spec.name for spec in model.main.signature.outputs]
    own = [o.name for o in session.get_outputs()][: len(names)]

    def call(batch: Batch) -> Outputs:
        values = session.run(own, {name: batch[name] for name in wanted})
        return dict(zip(names, values, strict=True))

    return call


def time_all(
    variants: Mapping[str, Callable[[T], Outputs]], calls: Sequence[T], rounds: int
) -> dict[str, list[float]]:
    """Return ``rounds`` CPU times (s) of each variant, all on the same one of ``calls`` in each
    round."""
    timed = {name: lambda i, run=run: run(calls[i % len(calls)]) for name, run in variants.items()}
    found = timing.interleaved(timed, rounds, f"Timing {len(timed)} variants, {rounds} rounds")
    return {name: [ns / 1e9 for ns in samples] for name, samples in found.samples.items()}


def speed_ups(name: str, samples: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Return the times of one variant, and how many times faster it is than what users pick."""
    own = samples[name]
    ratios = {}
    for base in (TORCH, BASE, INCUMBENT):
        if base in samples:
            pairs = sorted(b / a for a, b in zip(own, samples[base], strict=True))
            tenth = len(pairs) // 10
            ratios[base] = {
                "median": statistics.median(pairs),
                "p10": pairs[tenth],
                "p90": pairs[-1 - tenth],
                "of_minima": min(samples[base]) / min(own),
            }
    return {
        "cpu_ms": {"median": 1e3 * statistics.median(own), "min": 1e3 * min(own)},
        "times_faster_than": ratios,
    }


def ratio_text(ratio: Mapping[str, float]) -> str:
    """Return how many times faster, with ``~`` if the two cannot be told apart."""
    mark = "~" if ratio["p10"] <= 1 <= ratio["p90"] else " "
    return f"{ratio['median']:.2f}{mark}"
