# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The energy of an inference: what the rails gave over the timed calls, idle power taken off."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgeopt.errors import MeasurementError
from edgeopt.measure.measurement import Run
from edgeopt.measure.trace import Metered, Reads, Trace
from edgeopt.power import energy
from edgeopt.power.clock import offset
from edgeopt.power.energy import COVERAGE, Energy, Series
from edgeopt.power.rail import Rail, Term

METER = "meter"
"""What an external meter's rail is called."""

_J_PER_KWH = 3.6e6


@dataclass(frozen=True, kw_only=True, slots=True)
class PerInference:
    """Joules of one inference, and half the width of their 95 % interval."""

    joules: float
    uncertainty: float


@dataclass(frozen=True, kw_only=True, slots=True)
class RailEnergy:
    """What one rail, or a sum of them, gave for one inference.

    ``net`` is without what the board takes when it idles, ``gross`` with it; ``run_w`` and
    ``idle_w`` are mean powers. ``causes`` are the standard uncertainties of ``net``, joules, by
    what they come from; ``unknown`` is what is in none of them because nobody publishes it.
    """

    rails: tuple[str, ...]
    net: PerInference
    gross: PerInference
    run_w: float
    idle_w: float
    samples: int
    causes: Mapping[str, float]
    unknown: tuple[str, ...]
    sources: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class EnergyReport:
    """The energy of a run. ``total`` is the rails that add up to what ``covers`` tells.

    It is None if which do is not known: ``rails``, each by itself, is then all there is.
    ``synthetic`` is true if no hardware stands behind a sensor: the figure is then of no board.
    ``score`` is the artifact's accuracy by the bundle, ``score_per_joule`` that by ``total``'s net,
    and ``carbon_g`` the grams of CO2 equivalent of a thousand inferences, gross.
    """

    total: RailEnergy | None
    rails: tuple[RailEnergy, ...]
    covers: str
    leaves_out: str
    synthetic: bool
    score: float | None = None
    score_per_joule: float | None = None
    carbon_g: float | None = None


def derive(run: Run, grid_g_per_kwh: float | None = None) -> EnergyReport | None:
    """Return the energy of an inference of ``run``; None if no rail was read, or nothing timed.

    Raises MeasurementError if a rail that is asked for has no samples, or too few.
    """
    trace = run.trace
    if trace is None or not run.wall_ns or not (trace.rails or trace.metered):
        return None
    calls = len(run.wall_ns)
    taken = {rail.name: (rail, series(trace, rail), 0) for rail in trace.rails}
    names, covers, leaves_out = trace.total, trace.covers, trace.leaves_out
    if trace.metered is not None:
        taken[METER] = _metered(trace, trace.metered)
        names, covers, leaves_out = (METER,), "all that the meter feeds", ""
    if missing := [name for name in names if name not in taken]:
        raise MeasurementError(f"has no rail {missing[0]}", where=run.name)
    each = {name: _energies(trace, *one[1:]) for name, one in taken.items()}
    rails = tuple(_rail((one[0],), [each[name]], calls) for name, one in taken.items())
    total = _rail([taken[n][0] for n in names], [each[n] for n in names], calls) if names else None
    score = run.accuracy.get("score") if run.accuracy else None
    net = total.net if total else None
    return EnergyReport(
        total=total,
        rails=rails,
        covers=covers,
        leaves_out=leaves_out,
        synthetic=any(rail.synthetic for rail in trace.rails),
        score=score,
        # Of a net that may be nothing the quotient is anything.
        score_per_joule=score / net.joules
        if score is not None and net is not None and net.joules > net.uncertainty
        else None,
        carbon_g=1000 * total.gross.joules / _J_PER_KWH * grid_g_per_kwh
        if total and grid_g_per_kwh is not None
        else None,
    )


def series(trace: Trace, rail: Rail) -> Series:
    """Return the samples of ``rail`` in watts, or joules of a counter that never wraps.

    Raises MeasurementError if a file of it was not read, or tells no number.
    """
    columns = []
    for term in rail.terms:
        reads = trace.of(term.what)
        if reads is None or not reads.text:
            said = f" ({reads.failure})" if reads is not None and reads.failure else ""
            raise MeasurementError(f"{term.what} could not be read{said}", where=rail.name)
        if reads.failures:
            raise MeasurementError(
                f"{term.what} could not be read {reads.failures} times ({reads.failure})",
                where=rail.name,
            )
        columns.append((reads, [term.value(text) for text in reads.text]))
    count = min(len(values) for _, values in columns)
    begin = [min(reads.begin_ns[i] for reads, _ in columns) for i in range(count)]
    end = [max(_end(reads, i) for reads, _ in columns) for i in range(count)]
    values = [_product([v[i] for _, v in columns]) for i in range(count)]
    step, gain, offset, unknown = _errors(
        rail, [v for _, v in columns], [reads.text for reads, _ in columns], count
    )
    if rail.quantity == "energy":
        values = energy.unwrapped(values, rail.wraps_j)
    return Series(
        name=rail.name, quantity=rail.quantity, begin_ns=begin, end_ns=end, values=values,
        step=step, gain=gain, offset=offset, unknown=unknown,
    )  # fmt: skip


def _metered(trace: Trace, metered: Metered) -> tuple[Rail, Series, int]:
    """Return the meter as a rail, its samples on the board's clock, and how far that may be off."""
    if metered.failure:
        raise MeasurementError(metered.failure, where=METER)
    term = Term(what=metered.meter, scale=metered.scale_w, gain=metered.gain)
    source = "by --meter-error" if metered.gain is not None else "no error was given"
    rail = Rail(name=METER, sensor=METER, terms=(term,), source=source)
    low, high = offset(trace.clock, trace.run_begin_ns, utc=metered.utc)
    shift, half = (low + high) // 2, (high - low + 1) // 2
    values = [term.value(text) for text in metered.text]
    step, gain, error, unknown = _errors(rail, [values], [metered.text], len(values))
    begin = [at + shift for at in metered.begin_ns]
    end = [at + took for at, took in zip(begin, metered.took_ns, strict=True)]
    samples = Series(
        name=METER, quantity="power", begin_ns=begin, end_ns=end, values=values,
        step=step, gain=gain, offset=error, unknown=unknown,
    )  # fmt: skip
    return rail, samples, half + metered.apart_ns


def _energies(
    trace: Trace, samples: Series, clock_ns: int
) -> tuple[Energy, Energy, tuple[str, ...]]:
    """Return the energy of the run, that of idling, and what is not known of their errors."""
    if trace.idle_end_ns <= trace.idle_begin_ns:
        raise MeasurementError("the board's idle power was not measured", where=samples.name)
    run = energy.over(samples, trace.run_begin_ns, trace.run_end_ns, clock_ns)
    first_ns = (samples.begin_ns[0] + samples.end_ns[0] + 1) // 2
    idle = energy.over(samples, max(trace.idle_begin_ns, first_ns), trace.idle_end_ns)
    return run, idle, samples.unknown


def _rail(
    rails: Sequence[Rail], parts: Sequence[tuple[Energy, Energy, tuple[str, ...]]], calls: int
) -> RailEnergy:
    gross = energy.added([run for run, _, _ in parts])
    net = energy.added([energy.above(run, idle) for run, idle, _ in parts])
    return RailEnergy(
        rails=tuple(rail.name for rail in rails),
        net=_per_inference(net, calls),
        gross=_per_inference(gross, calls),
        run_w=gross.watts,
        idle_w=sum(idle.watts for _, idle, _ in parts),
        samples=gross.samples,
        causes={cause: value / calls for cause, value in sorted(net.causes.items()) if value},
        unknown=tuple(sorted({what for _, _, unknown in parts for what in unknown})),
        sources=tuple(dict.fromkeys(rail.source for rail in rails)),
    )


def _per_inference(total: Energy, calls: int) -> PerInference:
    return PerInference(
        joules=total.joules / calls, uncertainty=COVERAGE * total.uncertainty / calls
    )


def _end(reads: Reads, i: int) -> int:
    return reads.begin_ns[i] + reads.took_ns[i]


def _product(values: Sequence[float]) -> float:
    found = 1.0
    for value in values:
        found *= value
    return found


def _errors(
    rail: Rail, columns: Sequence[Sequence[float]], texts: Sequence[Sequence[str]], count: int
) -> tuple[float, float, float, tuple[str, ...]]:
    """Return step, gain and offset of the product of ``columns``, and which are not published.

    Of a product each factor's step and offset count by the mean of the others. ``texts`` are what
    the values were read from, which shows a step that is not published.
    """
    means = [sum(abs(v) for v in values[:count]) / count for values in columns]
    step = offset = gain = 0.0
    unknown = set()
    for i, term in enumerate(rail.terms):
        others = _product([mean for j, mean in enumerate(means) if j != i])
        if term.step is not None:
            step += others * term.step
        elif rail.quantity == "power":  # the least difference of a counter is no step, but its rate
            step += others * _seen_step(columns[i], texts[i], term)
        offset += others * (term.offset or 0.0)
        gain += term.gain or 0.0
        unknown |= {
            name for name, value in (("gain", term.gain), ("step", term.step)) if value is None
        }
    return step, gain, offset, tuple(sorted(unknown))


_ENOUGH_LEVELS = 8


def _seen_step(values: Sequence[float], texts: Sequence[str], term: Term) -> float:
    """Return the step that the samples show: the least difference between many of them.

    Of few different ones, as of a power that hardly changes, it is that of the last digit.
    """
    levels = sorted(set(values))
    if len(levels) >= _ENOUGH_LEVELS:
        return min(b - a for a, b in itertools.pairwise(levels))
    decimals = [
        len(found[1].partition(".")[2]) for t in texts if (found := re.search(term.pattern, t))
    ]
    return float(10.0 ** -max(decimals, default=0) * abs(term.scale))
