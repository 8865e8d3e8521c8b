# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The energy of a span of time out of a rail's samples, with what it is uncertain by.

Power is integrated by the trapezoid rule between samples; a counter is read off by interpolation.
Uncertainties are standard ones by their causes, added in quadrature (JCGM 100:2008, 4.3.7 for a
bound whose distribution is not known: half its width by the root of three). The errors of gain
and offset are the same in every sample and do not average out.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from edgeopt.errors import MeasurementError

COVERAGE = 2.0
"""The factor of the printed uncertainty: about 95 % of a normal distribution (JCGM 100, 6.2)."""

_ROOT3 = math.sqrt(3)


@dataclass(frozen=True, kw_only=True, slots=True)
class Series:
    """A rail's samples in time order: when each was taken, and watts, or joules of a counter.

    A sample was taken at some time between ``begin_ns`` and ``end_ns`` of the board's clock.
    ``step``, ``gain`` and ``offset`` bound the error of one: least difference told, relative, and
    constant, of watts or joules; ``unknown`` names those of them that nobody publishes.
    """

    name: str
    quantity: str
    begin_ns: Sequence[int]
    end_ns: Sequence[int]
    values: Sequence[float]
    step: float = 0.0
    gain: float = 0.0
    offset: float = 0.0
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Energy:
    """Joules over a span of ``seconds``, and the standard uncertainty of each cause.

    ``samples`` lie within the span.
    """

    joules: float
    seconds: float
    samples: int
    causes: Mapping[str, float] = field(default_factory=dict)

    @property
    def uncertainty(self) -> float:
        """The combined standard uncertainty, joules."""
        return math.hypot(*self.causes.values())

    @property
    def watts(self) -> float:
        """The mean power."""
        return self.joules / self.seconds


def over(series: Series, begin_ns: int, end_ns: int, clock_ns: int = 0) -> Energy:
    """Return the energy of ``series`` from ``begin_ns`` to ``end_ns`` of the board's clock.

    ``clock_ns`` is how far the samples' clock may be off, each way. Raises MeasurementError if no
    sample lies within, or none before and after: nothing is extrapolated.
    """
    times = [(a + b) / 2 for a, b in zip(series.begin_ns, series.end_ns, strict=True)]
    if end_ns <= begin_ns:
        raise MeasurementError("no time passed between begin and end", where=series.name)
    if any(b < a for a, b in itertools.pairwise(times)):
        raise MeasurementError("its samples are not in the order of time", where=series.name)
    inside = [i for i, t in enumerate(times) if begin_ns <= t <= end_ns]
    if not inside or times[0] > begin_ns or times[-1] < end_ns:
        raise MeasurementError(
            f"has {len(inside)} samples within {(end_ns - begin_ns) / 1e9:.3f} s, and needs one "
            "there and one on each side",
            where=series.name,
            hint="Measure for longer (--runs), or with a sensor that is read more often.",
        )
    seconds = (end_ns - begin_ns) / 1e9
    integral = _counted if series.quantity == "energy" else _integral
    joules = integral(times, series.values, begin_ns, end_ns)
    causes = {"gain": abs(joules) * series.gain / _ROOT3}
    if series.quantity == "energy":
        causes["step"] = series.step / 2 / _ROOT3 * math.sqrt(2)  # of both ends
    else:
        causes["step"] = series.step / 2 / _ROOT3 * seconds
        causes["offset"] = series.offset / _ROOT3 * seconds
        causes["sampling"] = _scatter([series.values[i] for i in inside]) * seconds
    causes["edges"] = _edges(series, times, (begin_ns, end_ns))
    if clock_ns:
        moved = [
            integral(times, series.values, begin_ns + d, end_ns + d)
            for d in (-clock_ns, clock_ns)
            if times[0] <= begin_ns + d and end_ns + d <= times[-1]
        ]
        if len(moved) < 2:
            raise MeasurementError(
                f"its clock is known to ±{clock_ns / 1e6:.1f} ms, and it was not read for so much "
                "longer than the run",
                where=series.name,
            )
        causes["clock"] = max(abs(m - joules) for m in moved) / _ROOT3
    return Energy(joules=joules, seconds=seconds, samples=len(inside), causes=causes)


def above(run: Energy, idle: Energy) -> Energy:
    """Return the energy of ``run`` without what the idle board takes in as much time.

    An offset is the same in both and goes.
    """
    share = run.seconds / idle.seconds
    joules = run.joules - idle.joules * share
    causes = {}
    for cause in {**run.causes, **idle.causes}:
        own, other = run.causes.get(cause, 0.0), idle.causes.get(cause, 0.0) * share
        causes[cause] = math.hypot(own, other)
    if run.joules:
        causes["gain"] = run.causes.get("gain", 0.0) * abs(joules / run.joules)
    causes["offset"] = 0.0
    return Energy(joules=joules, seconds=run.seconds, samples=run.samples, causes=causes)


def added(parts: Sequence[Energy]) -> Energy:
    """Return the sum of energies of the same span.

    The errors of one kind of chip tend to go the same way, so those of gain and offset are added
    plainly, the others in quadrature.
    """
    causes = {}
    for cause in {cause for part in parts for cause in part.causes}:
        each = [part.causes.get(cause, 0.0) for part in parts]
        causes[cause] = sum(each) if cause in ("gain", "offset", "clock") else math.hypot(*each)
    return Energy(
        joules=sum(part.joules for part in parts),
        seconds=parts[0].seconds,
        samples=min(part.samples for part in parts),
        causes=causes,
    )


def unwrapped(values: Sequence[float], wraps_at: float) -> list[float]:
    """Return the values of a counter as if it never began anew at ``wraps_at``.

    Raises MeasurementError if it went back and does not wrap.
    """
    found: list[float] = []
    turns = 0
    for i, value in enumerate(values):
        if i and value < values[i - 1]:
            if not wraps_at:
                raise MeasurementError(f"a counter went back from {values[i - 1]} to {value} J")
            turns += 1
        found.append(value + turns * wraps_at)
    return found


def _at(times: Sequence[float], values: Sequence[float], t: float) -> float:
    """Interpolate at ``t``, which lies between the first and the last time."""
    i = min(max(bisect.bisect_right(times, t), 1), len(times) - 1)
    (t0, t1), (v0, v1) = times[i - 1 : i + 1], values[i - 1 : i + 1]
    return v1 if t1 == t0 else v0 + (v1 - v0) * (t - t0) / (t1 - t0)


def _integral(times: Sequence[float], values: Sequence[float], begin: float, end: float) -> float:
    inner = [(t, v) for t, v in zip(times, values, strict=True) if begin < t < end]
    points = [(begin, _at(times, values, begin)), *inner, (end, _at(times, values, end))]
    return sum((b - a) * (u + v) / 2 for (a, u), (b, v) in itertools.pairwise(points)) / 1e9


def _counted(times: Sequence[float], values: Sequence[float], begin: float, end: float) -> float:
    return _at(times, values, end) - _at(times, values, begin)


def _scatter(values: Sequence[float]) -> float:
    """Return the standard error of the mean of ``values`` by successive differences.

    Half the mean square of the differences of neighbours is the variance without what drifts
    slowly, which the trapezoid rule follows (von Neumann 1941). A value that stays is one reading
    of a sensor that is slower than we are: it counts once.
    """
    kept = [v for i, v in enumerate(values) if i == 0 or v != values[i - 1]]
    if len(kept) < 2:
        return 0.0
    variance = sum((b - a) ** 2 for a, b in itertools.pairwise(kept)) / (2 * (len(kept) - 1))
    return math.sqrt(variance / len(kept))


def _edges(series: Series, times: Sequence[float], span: tuple[int, int]) -> float:
    """Return the uncertainty of the sample intervals that begin and end are in.

    When in them the power changed is not known: it may be by the whole interval off.
    """
    found = []
    for t in span:
        i = min(max(bisect.bisect_right(times, t), 1), len(times) - 1)
        v0, v1 = series.values[i - 1], series.values[i]
        seconds = (series.end_ns[i] - series.begin_ns[i - 1]) / 1e9
        change = abs(v1 - v0) if series.quantity == "energy" else abs(v1 - v0) * seconds
        found.append(change / 2 / _ROOT3)
    return math.hypot(*found)
