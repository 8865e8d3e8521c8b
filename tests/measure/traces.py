# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Runs with what was read beside them, made by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgeopt.measure.measurement import Run
from edgeopt.measure.trace import Reads, Trace

S = 10**9
BEGIN_S, END_S = 10, 20
"""When the timed calls of a run begin and end; the board idled from 1 s to 9 s."""


def reads(what: str, texts: Sequence[str], every_s: float = 0.5, begin_s: float = 0) -> Reads:
    begin = tuple(int((begin_s + i * every_s) * S) for i in range(len(texts)))
    return Reads(
        what=what, every_ms=int(every_s * 1000), begin_ns=begin, took_ns=(1000,) * len(texts),
        text=tuple(texts),
    )  # fmt: skip


def trace(*columns: Reads, **more: Any) -> Trace:
    return Trace(
        reads=columns, run_begin_ns=BEGIN_S * S, run_end_ns=END_S * S, idle_begin_ns=1 * S,
        idle_end_ns=9 * S, sampler_cpu_ns=S // 100, sampler_ns=30 * S, **more,
    )  # fmt: skip


def run(found: Trace | None, accuracy: Mapping[str, Any] | None = None, cores: float = 1.0) -> Run:
    """Return a run of a hundred calls in ten seconds that took so many cores."""
    return Run(
        engine="onnx", engine_version="1", precision="fp32", threads=1, seq_len=8, load_ns=1,
        warmup_ns=(), wall_ns=(S // 10,) * 100, cpu_ns=(int(cores * S / 10),) * 100,
        rss_before_bytes=1, rss_loaded_bytes=2, peak_memory_bytes=3, artifact_bytes=4, golden=(),
        outputs_agree=True, bound=0.99, state_before={}, state_after={}, accuracy=accuracy,
        trace=found,
    )  # fmt: skip
