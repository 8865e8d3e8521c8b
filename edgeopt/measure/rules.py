# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Rules of benchmarks by which ``edgeopt profile --rules`` can measure: how long, and what counts.

A score here is not an MLPerf result: their load generator did not run, their models and data were
not used, and nobody reviewed it. It follows how they time, so that figures are taken alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgeopt.errors import InputError
from edgeopt.fields import nearest
from edgeopt.measure.statistics import early_stopping


@dataclass(frozen=True, kw_only=True, slots=True)
class Rules:
    """How long runs go on, seconds and runs at least, and in words what the score is."""

    name: str
    duration_s: float
    min_runs: int
    score: str
    source: str


_OFFLINE = "mlperf-offline"

RULES = {
    rules.name: rules
    for rules in (
        Rules(
            name="mlperf-single-stream",
            duration_s=600.0,
            min_runs=64,
            score="90th percentile by early stopping",
            source="mlcommons/inference, loadgen/mlperf.conf (SingleStream: min_duration 600 s, "
            "target_latency_percentile 90) and loadgen/early_stopping.cc, whose p90 takes 64",
        ),
        Rules(
            name=_OFFLINE,
            duration_s=600.0,
            min_runs=24576,
            score="samples per second, one at a time",
            source="mlcommons/inference, loadgen/mlperf.conf (Offline: min_duration 600 s, 24,576 "
            "samples, or the whole of a smaller data set)",
        ),
        Rules(
            name="mlperf-tiny",
            duration_s=50.0,
            min_runs=50,
            score="inferences per second, the median of five parts",
            source="Banbury et al., MLPerf Tiny Benchmark, arXiv:2106.07597: five times ten "
            "seconds and ten inferences at least, each time on another input (here all on one)",
        ),
    )
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """What a run is worth by ``rules``: a latency, ns, or a rate, 1/s, whichever it is."""

    rules: str
    text: str
    latency_ns: int | None
    per_s: float | None


_PARTS = 5


def find(name: str) -> Rules:
    """Return the rules of that name. Raises InputError for one that is not known."""
    if name not in RULES:
        raise InputError(
            f"unknown rules {name!r}{nearest(name, tuple(RULES))} (known: {', '.join(RULES)})"
        )
    return RULES[name]


def batch_score(name: str, wall_ns: Sequence[int], batch: int) -> Score | None:
    """Return the score of calls of ``batch`` samples each; None if the rules know of none such."""
    rules = RULES.get(name)
    if rules is None or name != _OFFLINE or len(wall_ns) * batch < rules.min_runs:
        return None
    text = f"samples per second, {batch} at a time"
    return Score(rules=name, text=text, latency_ns=None, per_s=batch * _rate(wall_ns))


def score(name: str, wall_ns: Sequence[int]) -> Score | None:
    """Return the score of all samples of a run; None if they are fewer than the rules ask for."""
    rules = RULES.get(name)
    if rules is None or len(wall_ns) < rules.min_runs:
        return None
    latency_ns, per_s = None, None
    if name == "mlperf-single-stream":
        latency_ns = early_stopping(wall_ns, 0.90)
    elif name == _OFFLINE:
        per_s = _rate(wall_ns)
    else:
        size = len(wall_ns) // _PARTS
        rates = [_rate(wall_ns[i * size : (i + 1) * size]) for i in range(_PARTS)]
        per_s = sorted(rates)[_PARTS // 2]
    return Score(rules=name, text=rules.score, latency_ns=latency_ns, per_s=per_s)


def _rate(wall_ns: Sequence[int]) -> float:
    return 1e9 * len(wall_ns) / sum(wall_ns)
