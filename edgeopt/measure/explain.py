# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Which layers cost the difference of two artifacts, and what their operators show of why.

Both are compared over layers of the original model. If an operator of either spans several layers,
these are one group on both sides: nothing is split. A group's difference is of the rounds' means.
Two artifacts of one session took turns, so that their rounds are pairs. Its interval is Student's t
over the rounds, all groups together being wrong in 5 % of cases (Bonferroni). It is wider by what
the engines cut off their times, and by what is not joined: that could be any layer's.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Any

from edgeopt.errors import InputError
from edgeopt.measure import measurement
from edgeopt.measure.distributions import student_quantile
from edgeopt.measure.explain_int8 import int8_reasons
from edgeopt.measure.measurement import Measurement, Run
from edgeopt.measure.operator_times import Operator, Operators, layers_text
from edgeopt.measure.statistics import CONFIDENCE

COSTS, SAVES, SAME = "costs", "saves", "cannot tell"

_FEWEST_ROUNDS = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """One side as it is asked for: a measurement's file, and which artifact of it."""

    path: Path
    engine: str | None = None
    precision: str | None = None
    graph: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """What a group of layers takes more in B than in A, in one inference, ns.

    ``low`` and ``high`` are the ends of its interval. ``first`` and ``second`` are the operators'
    kinds on either side.
    """

    layers: tuple[str, ...]
    a_ns: float
    b_ns: float
    low: float
    high: float
    first: tuple[str, ...]
    second: tuple[str, ...]

    @property
    def name(self) -> str:
        """What the group is called."""
        return layers_text(self.layers)

    @property
    def center(self) -> float:
        """The difference of the means, ns."""
        return self.b_ns - self.a_ns

    @property
    def verdict(self) -> str:
        """``COSTS`` or ``SAVES`` if the interval leaves out 0."""
        if self.low > 0:
            return COSTS
        return SAVES if self.high < 0 else SAME


@dataclass(frozen=True, kw_only=True, slots=True)
class Explanation:
    """What was found of A and B.

    ``groups`` are ranked: those that are told apart, the largest first. ``unknown`` are the others,
    in the order of execution, and ``whole`` is of all operators. ``timed_ns`` and ``profiled_ns``
    are medians of whole inferences without and with the profiler. ``reasons`` are what the
    operators and the board show of INT8 beside floating point. ``ship`` is "A", "B" or None, and
    ``advice`` says why.
    """

    names: tuple[str, str]
    files: tuple[str, str]
    board_names: tuple[str, str]
    emulated: bool
    paired: bool
    rounds: tuple[int, int]
    timed_ns: tuple[float, float]
    profiled_ns: tuple[float, float]
    joined: tuple[float, float]
    whole: Difference
    groups: tuple[Difference, ...]
    unknown: tuple[Difference, ...]
    reasons: tuple[str, ...]
    notes: tuple[str, ...]
    ship: str | None
    advice: str

    def document(self) -> dict[str, Any]:
        """Return what ``explain --json`` prints."""
        found = asdict(self)
        for name in ("groups", "unknown"):
            found[name] = [_document(one) for one in getattr(self, name)]
        return found | {"whole": _document(self.whole), "confidence": CONFIDENCE}


def _document(one: Difference) -> dict[str, Any]:
    return asdict(one) | {"difference_ns": one.center, "verdict": one.verdict}


@dataclass(frozen=True, kw_only=True, slots=True)
class Side:
    """One side as it was found."""

    source: Source
    measurement: Measurement
    run: Run
    operators: Operators


def explain(first: Source, second: Source) -> Explanation:
    """Return which layers cost the difference of two artifacts, and which to ship.

    Raises MeasurementError for a damaged file, InputError if an artifact is not there or has no
    times of operators, if lengths differ, or if one is emulated and the other is not.
    """
    a, b = _side(first), _side(second)
    _check(a, b)
    paired = a.source.path == b.source.path and len(a.operators.wall_ns) == len(b.operators.wall_ns)
    grouped = _groups(a.operators.operators, b.operators.operators)
    error = (1 - CONFIDENCE) / len(grouped)
    hidden = _hidden(a, b)
    found = [
        _wider(_difference(a, b, *group, paired, error), hidden)
        if group[0]
        else _difference(a, b, *group, paired, error)
        for group in grouped
    ]
    whole = _difference(
        a, b, (), a.operators.operators, b.operators.operators, paired, 1 - CONFIDENCE
    )
    told = [one for one in found if one.verdict != SAME]
    ship, advice = _ship(a, b, whole)
    return Explanation(
        names=(a.run.name, b.run.name),
        files=(str(first.path), str(second.path)),
        board_names=(a.measurement.board_name, b.measurement.board_name),
        emulated=a.measurement.emulated,
        paired=paired,
        rounds=(len(a.operators.wall_ns), len(b.operators.wall_ns)),
        timed_ns=(median(a.run.wall_ns), median(b.run.wall_ns)),
        profiled_ns=(a.operators.profiled_ns, b.operators.profiled_ns),
        joined=(a.operators.joined_share, b.operators.joined_share),
        whole=whole,
        groups=tuple(sorted(told, key=lambda one: -abs(one.center))),
        unknown=tuple(one for one in found if one.verdict == SAME),
        reasons=int8_reasons((a.run, b.run), (a.measurement.board, b.measurement.board)),
        notes=_notes(a, b),
        ship=ship,
        advice=advice,
    )


def _side(source: Source) -> Side:
    found = measurement.read(source.path)
    runs = [
        run
        for run in found.runs
        if (source.engine is None or run.engine == source.engine)
        and (source.precision is None or run.precision == source.precision)
        and (source.graph is None or run.graph == source.graph)
    ]
    if len(runs) != 1:
        held = ", ".join(run.name for run in found.runs)
        raise InputError(
            f"holds {held}: "
            + (f"{len(runs)} are meant, and a side is one" if runs else "none is what is meant"),
            where=str(source.path),
            hint=f"Name one: {source.path}@{found.runs[0].engine},{found.runs[0].precision}"
            if found.runs
            else None,
        )
    run = runs[0]
    if run.operators is None or not run.operators.operators:
        why = f": {run.no_operators}" if run.no_operators else ""
        raise InputError(
            f"holds no times of the operators of {run.name}{why}",
            where=str(source.path),
            hint=None if why else "Take them with edgeopt profile --operators.",
        )
    if len(run.operators.wall_ns) < _FEWEST_ROUNDS:
        raise InputError(f"holds but one round of {run.name}", where=str(source.path))
    return Side(source=source, measurement=found, run=run, operators=run.operators)


def _check(a: Side, b: Side) -> None:
    if a.measurement.emulated != b.measurement.emulated:
        emulated = a if a.measurement.emulated else b
        raise InputError(
            f"{emulated.source.path} is of an emulated board and the other is not: an emulated "
            "time is no device's",
            where="explain",
        )
    if a.run.seq_len != b.run.seq_len:
        raise InputError(
            f"{a.run.name} ran on {a.run.seq_len} tokens there, and {b.run.name} on "
            f"{b.run.seq_len} in {b.source.path}: other work takes another time",
            where=str(a.source.path),
            hint="Profile both with the same --seq-len.",
        )
    if a.source.path == b.source.path and a.run.name == b.run.name:
        raise InputError(f"{a.run.name} is on both sides", where=str(a.source.path))


Group = tuple[tuple[str, ...], tuple[Operator, ...], tuple[Operator, ...]]


def _groups(first: Sequence[Operator], second: Sequence[Operator]) -> list[Group]:
    """Return layers with the operators of both sides, as few layers together as no operator spans
    two groups, in the order of execution of the first; what is not joined comes last."""
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent.setdefault(name, name) != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    for one in (*first, *second):
        for name in one.layers:
            parent[root(name)] = root(one.layers[0])
    members: dict[str, list[str]] = {}
    for name in parent:
        members.setdefault(root(name), []).append(name)

    def of(operators: Iterable[Operator]) -> dict[str, list[Operator]]:
        found: dict[str, list[Operator]] = {}
        for one in operators:
            found.setdefault(root(one.layers[0]) if one.layers else "", []).append(one)
        return found

    ours, theirs = of(first), of(second)
    keys = [key for key in dict.fromkeys((*ours, *theirs)) if key] + [""]
    return [
        (tuple(members.get(key, ())), tuple(ours.get(key, ())), tuple(theirs.get(key, ())))
        for key in keys
        if key in ours or key in theirs
    ]


def _difference(
    a: Side,
    b: Side,
    layers: tuple[str, ...],
    first: Sequence[Operator],
    second: Sequence[Operator],
    paired: bool,
    error: float,
) -> Difference:
    ours, theirs = a.operators.round_ns(first), b.operators.round_ns(second)
    if paired:
        values = [t - o for o, t in zip(ours, theirs, strict=True)]
        spread, freedom = stdev(values) / math.sqrt(len(values)), float(len(values) - 1)
    else:  # Welch's t
        parts = [stdev(one) ** 2 / len(one) for one in (ours, theirs)]
        spread = math.sqrt(sum(parts))
        below = sum(p**2 / (len(o) - 1) for p, o in zip(parts, (ours, theirs), strict=True))
        freedom = sum(parts) ** 2 / below if below else len(ours) + len(theirs) - 2.0
    half = student_quantile(1 - error / 2, freedom) * spread
    half += a.operators.resolution_ns * len(first) + b.operators.resolution_ns * len(second)
    center = fmean(theirs) - fmean(ours)
    return Difference(
        layers=layers,
        a_ns=fmean(ours),
        b_ns=fmean(theirs),
        low=center - half,
        high=center + half,
        first=tuple(dict.fromkeys(one.type or one.name for one in first)),
        second=tuple(dict.fromkeys(one.type or one.name for one in second)),
    )


def _hidden(a: Side, b: Side) -> tuple[float, float]:
    """Return the time on either side that could be any layer's, ns: what is not joined, but for
    operators that both graphs of one engine have by the same path."""

    def unjoined(side: Side) -> dict[tuple[str, str], Operator]:
        return {(o.name, o.type): o for o in side.operators.operators if not o.layers}

    ours, theirs = unjoined(a), unjoined(b)
    same = {key for key in ours.keys() & theirs.keys() if "/" in key[0]}
    if a.run.engine != b.run.engine:
        same = set()

    def mean(side: Side) -> float:
        left = [
            o for o in side.operators.operators if not o.layers and (o.name, o.type) not in same
        ]
        return max(0.0, fmean(side.operators.round_ns(left)))

    return mean(a), mean(b)


def _wider(one: Difference, hidden: tuple[float, float]) -> Difference:
    return replace(one, low=one.low - hidden[0], high=one.high + hidden[1])


def _notes(a: Side, b: Side) -> tuple[str, ...]:
    found = []
    if a.measurement.bundle_digest != b.measurement.bundle_digest:
        found.append(
            f"the bundles differ: {a.measurement.bundle_name} {a.measurement.bundle_digest[:8]} "
            f"and {b.measurement.bundle_name} {b.measurement.bundle_digest[:8]}"
        )
    if a.run.threads != b.run.threads:
        found.append(f"the threads differ: {a.run.threads} and {b.run.threads}")
    if a.measurement.board_name != b.measurement.board_name:
        found.append(
            f"the boards differ: {a.measurement.board_name} and {b.measurement.board_name}"
        )
    for side in (a, b):
        if side.operators.unknown:
            found.append(f"not known of {side.run.name}: {side.operators.unknown}")
        if side.operators.unjoined:
            found.append(
                f"no operator of {side.run.name} is joined, so that no layer can be told apart: "
                f"{side.operators.unjoined}"
            )
    return tuple(dict.fromkeys(found))


def _ship(a: Side, b: Side, whole: Difference) -> tuple[str | None, str]:
    """Return which to ship if that can be told, and why."""
    if a.measurement.emulated:
        return None, (
            "cannot tell: the board is emulated, and its times say nothing of which is faster on a "
            "device"
        )
    if a.measurement.board_name != b.measurement.board_name:
        return None, "cannot tell: they ran on two boards"
    if a.source.path != b.source.path:
        return None, (
            "cannot tell: two sessions differ by more than the artifacts; profile both in one, or "
            "time them in turns: edgeopt compare"
        )
    if whole.verdict == SAME:
        return None, "cannot tell: the interval of all operators together holds 0"
    is_b = whole.verdict == SAVES
    timed = median(b.run.wall_ns) - median(a.run.wall_ns)
    if (timed < 0) != is_b:
        return None, (
            "cannot tell: the profiled operators say one thing, and the runs that were timed "
            "without a profiler the other; time them in turns: edgeopt compare"
        )
    faster, other = (b, a) if is_b else (a, b)
    letter = "B" if is_b else "A"
    if not (a.run.outputs_agree and b.run.outputs_agree):
        return None, "cannot tell: outputs disagreed on the board"
    if faster.run.precision in ("fp32", other.run.precision):
        return letter, f"{letter}, {faster.run.name}: it is faster, and no less precise"
    accuracy = faster.run.accuracy
    if accuracy is None:
        return None, (
            f"cannot tell: {letter}, {faster.run.name}, is faster, and what {faster.run.precision} "
            "costs in accuracy was not measured: edgeopt evaluate"
        )
    drop, error = float(accuracy["drop"]), float(accuracy["drop_se"])
    if drop - 2 * error > 0:
        return None, (
            f"cannot tell: {letter}, {faster.run.name}, is faster, and loses {drop:.4f} of "
            f"{accuracy['measure']} (standard error {error:.4f}); what that is worth is yours to "
            "say"
        )
    return letter, (
        f"{letter}, {faster.run.name}: it is faster, and no loss of {accuracy['measure']} is seen "
        f"({drop:.4f}, standard error {error:.4f}, {accuracy['texts']} texts)"
    )
