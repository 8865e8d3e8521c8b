# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""How the published figures scatter by themselves, whatever is known of a network and a board.

Told twice. A network has one cost and a setting (a board, its engine, precision and threads) one
speed: each figure is estimated by all others of its network and of its setting, which no estimate
of a network that was never measured has. And one chip was measured on two boards: whoever knows
the chip, and not which of the two it is, is off by half of what lies between them.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, median

import numpy as np

from edgeopt.estimate.published import Latency


@dataclass(frozen=True, kw_only=True, slots=True)
class Scatter:
    """The median and the 80th percentile of |estimate / measured - 1| over ``figures``.

    They are of so many ``networks`` and ``settings``.
    """

    median: float
    most: float
    figures: int
    networks: int
    settings: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Twice:
    """One chip on two boards: ``ratio`` is the median of the second's time over the first's.

    ``half`` is the median error of what lies in the middle of both, in logarithms, and ``rest``
    that which is left of it if the median ratio is known.
    """

    boards: tuple[str, str]
    kernels: str
    precision: str
    networks: int
    ratio: float
    half: float
    rest: float


def _setting(row: Latency) -> tuple[str, str, str, int]:
    return row.board, row.kernels, row.precision, row.threads


def additive(rows: Sequence[Latency]) -> Scatter:
    """Return the error of each figure by a cost of its network and a speed of its setting.

    Both are of all other figures, in logarithms by least squares. What is the only one of its
    network, or of its setting, is left out.
    """
    settings = {one: i for i, one in enumerate(dict.fromkeys(map(_setting, rows)))}
    networks = {one: i for i, one in enumerate(dict.fromkeys(row.network for row in rows))}
    design = np.zeros((len(rows), len(settings) + len(networks)))
    for i, row in enumerate(rows):
        design[i, settings[_setting(row)]] = 1
        design[i, len(settings) + networks[row.network]] = 1
    logs = np.log([row.ms for row in rows])
    # One cost may go up where all speeds go down: of that direction only rounding is left.
    hat = design @ np.linalg.pinv(design, rcond=1e-9)
    left = 1 - np.diag(hat)
    # Without a row its residual is the one with it over 1 less its leverage.
    off = [r / free for r, free in zip(logs - hat @ logs, left, strict=True) if free > 1e-6]
    errors = sorted(abs(math.expm1(-one)) for one in off)
    return Scatter(
        median=median(errors),
        most=errors[int(0.8 * len(errors))],
        figures=len(errors),
        networks=len(networks),
        settings=len(settings),
    )


def twice(rows: Sequence[Latency], fewest: int = 5) -> list[Twice]:
    """Return each chip, engine and precision that two boards, or two sources, measured.

    Compared are figures of one network and as many threads; ``fewest`` is how many there have to
    be.
    """
    found: dict[tuple[str, str, int, str, str], dict[str, list[float]]] = defaultdict(dict)
    for row in rows:
        key = (row.profile, row.kernels, row.threads, row.precision, row.network)
        found[key].setdefault(row.board, []).append(row.ms)
    logs: dict[tuple[str, str, str, str], list[float]] = defaultdict(list)
    for (_, kernels, _, precision, _), boards in found.items():
        for a, b in itertools.combinations(sorted(boards), 2):
            logs[a, b, kernels, precision].append(math.log(mean(boards[b]) / mean(boards[a])))
    return [
        Twice(
            boards=(a, b),
            kernels=kernels,
            precision=precision,
            networks=len(of),
            ratio=math.exp(median(of)),
            half=median(math.expm1(abs(one) / 2) for one in of),
            rest=median(abs(math.expm1(one - median(of))) for one in of),
        )
        for (a, b, kernels, precision), of in sorted(logs.items())
        if len(of) >= fewest
    ]
