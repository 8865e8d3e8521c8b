# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What an evaluation found: figures with intervals, differences, slices, and the worst answers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgeopt.evaluate import interval
from edgeopt.evaluate.interval import At
from edgeopt.evaluate.measured import LESS_IS_BETTER, Measured, Scored, finite
from edgeopt.evaluate.problems.problem import Problem

SAME, BETTER, WORSE = "cannot tell apart", "better", "worse"

_QUARTERS = 4
_FEWEST = 2  # units of a slice
_MOST_LABELS = 50  # that have a slice of their own, the most frequent ones


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """A figure minus the original's, on the same units, with its interval of 95 %.

    ``verdict`` is "better" or "worse" if the interval leaves out 0, else "cannot tell apart". The
    ends are None if the figure is not defined.
    """

    value: float | None
    low: float | None
    high: float | None
    verdict: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """A figure with its interval of 95 %. ``difference`` is None for the original, and without it.

    ``value`` is None if it is not defined, as the correlation with a constant.
    """

    value: float | None
    low: float | None
    high: float | None
    difference: Difference | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Mistake:
    """A unit that was answered wrongly. ``original`` is what the original said, None without."""

    where: str
    text: str
    expected: str
    got: str
    original: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class System:
    """An artifact, or the original: ``engine`` and ``precision`` are "" for that.

    ``cut`` are the inputs of which it did not read all. ``worst`` are its worst answers, worst
    first. ``note`` is what else a reader of the figures has to know.
    """

    name: str
    engine: str
    precision: str
    figures: Mapping[str, Figure]
    cut: int
    worst: tuple[Mistake, ...]
    note: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Slice:
    """Some of the units: of like length, of one label, or of like margin (``family``).

    Of entities, those of one type: ``units`` are how many are expected.
    ``figures`` is the main figure of each system, the original's first if there is one. They have
    no differences: of so many, one in twenty would be told apart by chance.
    """

    family: str
    name: str
    units: int
    figures: tuple[Figure, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class NotRun:
    """An artifact that could not be run there, and why."""

    engine: str
    precision: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """What systems are worth on the user's labelled data.

    ``board`` is None for this machine. ``noun`` is what ``units`` are called. ``main`` names the
    figure by which they are held against each other. ``original`` is the user's own tool, None if
    it was not asked. ``left_out`` are units that the original's tool does not take. ``digest`` is
    the bundle's, "" of a model alone.
    """

    name: str
    task: str
    data: str
    noun: str
    units: int
    left_out: int
    main: str
    board: str | None
    emulated: bool
    original: System | None
    artifacts: tuple[System, ...]
    not_run: tuple[NotRun, ...]
    slices: tuple[Slice, ...]
    digest: str = ""

    @property
    def systems(self) -> tuple[System, ...]:
        """All of them, the original first."""
        return (*((self.original,) if self.original else ()), *self.artifacts)


def figures(
    scored: Sequence[Scored], units: int, *, against_first: bool
) -> list[dict[str, Figure]]:
    """Return the figures of each system, with ``against_first`` held against the first one's."""
    names = tuple(scored[0].figures)
    by_name = {name: [one.figures[name] for one in scored] for name in names}
    found = _intervals(by_name, units, units)
    return [
        {
            name: _figure(
                by_name[name],
                found[name],
                i,
                against=against_first and i > 0,
                less=name in LESS_IS_BETTER,
            )
            for name in names
        }
        for i in range(len(scored))
    ]


Ends = list[list[interval.Interval]]


def _intervals(
    by_name: Mapping[str, Sequence[Measured]], units: int, width: int
) -> dict[str, Ends]:
    """Return for each figure and system its interval, and that of its difference from the first."""
    found: dict[str, Ends] = {}
    drawn: dict[str, list[At]] = {}
    around: dict[str, list[float | None]] = {}
    for name, all_measured in by_name.items():
        hits = [one.hits for one in all_measured if one.hits is not None]
        if len(hits) == len(all_measured):
            found[name] = [
                [interval.share(one), interval.share_difference(one, hits[0])] for one in hits
            ]
        else:
            drawn[name] = [one.at for one in all_measured]
            if all(one.centred for one in all_measured):
                around[name] = [one.value for one in all_measured]
    return found | (interval.bootstrap(drawn, units, width, around) if drawn else {})


def _figure(
    measured: Sequence[Measured], ends: Ends, i: int, *, against: bool, less: bool = False
) -> Figure:
    """Return one system's figure, with its difference from the first's if ``against``.

    ``less`` says that less of it is better.
    """
    value, first = measured[i].value, measured[0].value
    low, high = map(finite, ends[i][0])
    difference = None
    if against:
        under, over = map(finite, ends[i][1])
        verdict = SAME
        if under is not None and over is not None and (under > 0 or over < 0):
            verdict = BETTER if (under > 0) != less else WORSE
        difference = Difference(
            value=None if value is None or first is None else value - first,
            low=under,
            high=over,
            verdict=verdict,
        )
    return Figure(value=value, low=low, high=high, difference=difference)


def slices(
    problem: Problem,
    scored: Sequence[Scored],
    main: str,
    *,
    lengths: np.ndarray | None,
    unit: str,
) -> tuple[Slice, ...]:
    """Return slices by length, by label, and by the margin of the first system.

    They are of the units, or of their parts (``Scored.by_label``), such as entities.
    ``lengths`` (inputs,) are in ``unit``, None if there are none.
    """
    found: list[Slice] = []

    def add(
        family: str, name: str, units: int, of: Sequence[Measured], kept: np.ndarray | None = None
    ) -> None:
        if units >= _FEWEST:
            drawn = len(problem) if kept is None else units
            ends = _intervals({main: of}, drawn, len(problem))[main]
            parts = tuple(_figure(of, ends, i, against=False) for i in range(len(of)))
            found.append(Slice(family=family, name=name, units=units, figures=parts))

    def part(family: str, name: str, kept: np.ndarray) -> None:
        of = [_part(one.figures[main], kept) for one in scored]
        add(family, name, int(kept.sum()), of, kept)

    if lengths is not None:
        for name, kept in _quarters(problem.lengths(lengths), lambda n: f"{n:.0f}"):
            part("length", f"{name} {unit}", kept)
    if problem.labels is not None:
        labels = np.array(problem.labels, dtype=object)
        most = [label for label, _ in Counter(problem.labels).most_common(_MOST_LABELS)]
        for label in sorted(most):
            part("label", label, labels == label)
    # What is expected is so of all systems.
    for label, (units, _) in sorted(scored[0].by_label.items()):
        if units:
            add("label", label, units, [one.by_label[label][1][main] for one in scored])
    margin = scored[0].margin
    if margin is not None:
        for name, kept in _quarters(margin, lambda x: f"{x:.2g}"):
            part("margin", name, kept)
    return tuple(found)


def _part(measured: Measured, kept: np.ndarray) -> Measured:
    """Return a figure of the units ``kept`` (bool) alone."""

    def at(counts: np.ndarray) -> np.ndarray:
        whole = np.zeros((len(counts), len(kept)))
        whole[:, kept] = counts
        return measured.at(whole)

    value = float(at(np.ones((1, int(kept.sum()))))[0])
    return Measured(
        value=value if math.isfinite(value) else None,
        at=at,
        hits=None if measured.hits is None else measured.hits[kept],
        centred=measured.centred,
    )


def _quarters(values: np.ndarray, told: Callable[[float], str]) -> list[tuple[str, np.ndarray]]:
    """Return the quarters of the units by ``values`` ("3 to 12"), fewer if some are equal."""
    edges = np.unique(np.quantile(values, np.arange(1, _QUARTERS) / _QUARTERS, method="lower"))
    places = np.searchsorted(edges, values, side="left")
    found = []
    for place in range(len(edges) + 1):
        kept = places == place
        if kept.any():
            low, high = told(values[kept].min()), told(values[kept].max())
            found.append((low if low == high else f"{low} to {high}", kept))
    return found


def worst(
    problem: Problem, scored: Scored, original: Scored | None, count: int
) -> tuple[Mistake, ...]:
    """Return the ``count`` worst answers, worst first."""
    order = np.argsort(-scored.loss, kind="stable")[:count]
    mistakes = []
    for i in map(int, order):
        if scored.loss[i] <= 0:
            break
        where, text, expected = problem.unit(i)
        mistakes.append(
            Mistake(
                where=where,
                text=text,
                expected=expected,
                got=scored.got[i],
                original=None if original is None else original.got[i],
            )
        )
    return tuple(mistakes)
