# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""How far estimates are from figures that the fit has not seen, in each situation."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgeopt.estimate.prediction import CALIBRATED, Error, Fit, shift
from tools.estimate_error.fit import Row, fit, residual

CENTRAL = 0.8
_FEWEST_ROWS = 10  # to fit to
_FEWEST_UNITS = 3
_MANY = 20  # units, of which two lie beyond each bound


@dataclass(frozen=True, kw_only=True, slots=True)
class Held:
    """A row and the logarithm of measured over estimated, by a fit without it."""

    row: Row
    off: float


class HeldOut:
    """Fits without some of ``rows``, each made once."""

    def __init__(
        self, rows: Sequence[Row], whole: Mapping[str, float], others: HeldOut | None = None
    ) -> None:
        """Take all rows, and what was fitted to them, where each search begins.

        ``others`` are networks of another kind that they are drawn to: without the same device and
        engine, if these are left out.
        """
        self.rows, self.whole, self.others = rows, whole, others
        self._fits: dict[tuple[str, str, str], tuple[list[Row], dict[str, float] | None]] = {}

    def without(
        self, *, family: str = "", profile: str = "", kernels: str = ""
    ) -> tuple[list[Row], dict[str, float] | None]:
        """Return the rows of no such family, device or engine, and the fit to them, if enough."""
        key = (family, profile, kernels)
        if key not in self._fits:
            left = [
                r
                for r in self.rows
                if r.family != family and r.machine.profile != profile and r.kernels != kernels
            ]
            known = None
            if self.others:
                _, known = self.others.without(profile=profile, kernels=kernels)
            enough = len(left) >= _FEWEST_ROWS
            found = fit(left, self.whole, known or {}) if enough else None
            self._fits[key] = (left, found)
        return self._fits[key]

    def situation(self, name: str) -> list[Held]:
        """Return the rows whose estimate can be tried in the situation ``name``."""
        held = []
        for row in self.rows:
            profile, kernels = row.machine.profile, row.kernels
            left, parameters = self.without(
                family=row.family,
                profile=profile if name in ("device", "both") else "",
                kernels=kernels if name in ("engine", "both") else "",
            )
            known = {
                "family": any(r.kernels == kernels and r.machine.profile == profile for r in left),
                "device": any(r.kernels == kernels for r in left),
                "engine": any(r.machine.profile == profile for r in left),
                "both": True,
            }[name]
            if known and parameters:
                held.append(Held(row=row, off=residual(row, parameters)))
        return held


UNITS: dict[str, tuple[str, Callable[[Row], str]]] = {
    "family": ("families", lambda row: row.family),
    "device": ("devices", lambda row: row.machine.profile),
    "engine": ("engines", lambda row: row.kernels),
    "both": ("engines", lambda row: row.kernels),
}


def interval(groups: Iterable[Sequence[float]]) -> tuple[float, float]:
    """Return between which bounds four of five new values lie, of groups that are units.

    Values of a unit share an effect, and units weigh alike. Of many units the bounds are quantiles.
    With few, what units have in common is what is known least: the bounds are Student's t with a
    degree of freedom for each unit but one.
    """
    from scipy.stats import t as student

    groups = [np.array(group) for group in groups]
    if len(groups) >= _MANY:
        values = np.concatenate(groups)
        weights = np.concatenate([np.full(len(g), 1 / len(g)) for g in groups])
        tail = (1 - CENTRAL) / 2
        return quantile(values, weights, tail), quantile(values, weights, 1 - tail)
    means = np.array([group.mean() for group in groups])
    count = len(groups)
    within = sum(float(((g - g.mean()) ** 2).sum()) for g in groups)
    freedom = sum(len(g) for g in groups) - count
    noise = within / freedom if freedom else 0.0
    spread = math.sqrt(float(means.var(ddof=1)) * (1 + 1 / count) + noise)
    reach = float(student.ppf(0.5 + CENTRAL / 2, count - 1)) * spread
    return float(means.mean()) - reach, float(means.mean()) + reach


_NETWORKS: tuple[str, Callable[[Row], str]] = ("networks", lambda row: row.network.name)


def quantile(values: np.ndarray, weights: np.ndarray, share: float) -> float:
    """Return the least of ``values`` that, with those below, has ``share`` of all weight."""
    order = np.argsort(values, kind="stable")
    run = np.cumsum(weights[order]) / weights.sum()
    return float(values[order][np.searchsorted(run, share - 1e-12)])


def error(
    held: Sequence[Held],
    situation: str,
    unit: str,
    of: Callable[[Row], str],
    kernels: str,
    mode: str,
) -> Error | None:
    """Return the error over ``held``, None if they are of fewer than three units."""
    groups: dict[str, list[float]] = defaultdict(list)
    for h in held:
        groups[of(h.row)].append(h.off)
    if len(groups) < _FEWEST_UNITS:
        return None
    low, high = interval(groups.values())
    away = [(abs(math.expm1(-off)), 1 / len(g)) for g in groups.values() for off in g]
    median = quantile(*map(np.array, zip(*away, strict=True)), 0.5)
    return Error(
        situation=situation,
        kernels=kernels,
        mode=mode,
        median=round(median, 4),
        low=round(math.exp(low), 4),
        high=round(math.exp(high), 4),
        covered=round(sum(low <= h.off <= high for h in held) / len(held), 3),
        rows=len(held),
        networks=len({h.row.network.name for h in held}),
        families=len({h.row.family for h in held}),
        units=len(groups),
        unit=unit,
    )


def errors(held: Sequence[Held], situation: str) -> list[Error]:
    """Return the error over all of ``held``, and over those of some kernels or precision."""
    unit, of = UNITS[situation]
    keys = {("", "")}
    if situation == "family":  # elsewhere there are too few units to cut them
        for h in held:
            mode = h.row.machine.mode
            keys |= {(h.row.kernels, mode), (h.row.kernels, ""), ("", mode)}
    found = []
    for kernels, mode in sorted(keys):
        some = [
            h for h in held if kernels in ("", h.row.kernels) and mode in ("", h.row.machine.mode)
        ]
        if one := error(some, situation, unit, of, kernels, mode):
            found.append(one)
    return found


def spreads(held: Sequence[Held]) -> tuple[float, float]:
    """Return the spread of a board's scale, and of a network's latency around that."""
    cells: dict[object, list[float]] = defaultdict(list)
    for h in held:
        cells[h.row.cell].append(h.off)
    several = [np.array(v) for v in cells.values() if len(v) > 1]
    noise = math.sqrt(
        sum(float(((v - v.mean()) ** 2).sum()) for v in several) / sum(len(v) - 1 for v in several)
    )
    means = [float(np.mean(v)) for v in cells.values()]
    return round(math.sqrt(float(np.mean(np.square(means)))), 4), round(noise, 4)


def calibrated(tried: HeldOut, base: Fit) -> list[Error]:
    """Return the errors with some networks measured on a board that the fit has not seen.

    Each network of a cell (a board, an engine, a precision, a number of threads) is estimated by
    the next ones of the same cell, in the order of their names: of other families, but where the
    cell has only one.
    """
    cells: dict[object, dict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in tried.rows:
        cells[row.cell][row.network.name].append(row)
    found = []
    for number in CALIBRATED:
        held = [h for cell in cells.values() for h in _calibrated(tried, base, cell, number)]
        several = len({h.row.cell for h in held}) >= _FEWEST_UNITS
        unit = ("settings", lambda r: repr(r.cell)) if several else _NETWORKS
        if one := error(held, f"yours {number}", *unit, "", ""):
            found.append(one)
    return found


def _calibrated(
    tried: HeldOut, base: Fit, cell: Mapping[str, Sequence[Row]], number: int
) -> Iterator[Held]:
    names = sorted(cell)
    for i, name in enumerate(names):
        row = cell[name][0]
        following = [*names[i + 1 :], *names[:i]]
        others = [n for n in following if cell[n][0].family != row.family]
        if not others:
            others = following
        _, parameters = tried.without(family=row.family, profile=row.machine.profile)
        if parameters is None or len(others) < number:
            continue
        known = [
            float(np.mean([residual(r, parameters) for r in cell[other]]))
            for other in others[:number]
        ]
        moved = shift(known, base)
        for one in cell[name]:
            yield Held(row=one, off=residual(one, parameters) - moved)
