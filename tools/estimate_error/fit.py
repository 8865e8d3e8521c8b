# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Fit the parameters of ``edgeopt.estimate.roofline`` to measured latencies, in their logarithm.

The estimate is the most probable one: residuals of a spread ``NOISE`` whose tails weigh as Huber
says, and a normal prior on each parameter, which is all that holds one that few rows speak of. So a
board is drawn to what its kind of core has in common, and that to all boards.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from edgeopt.estimate.operators import PRODUCTS, Network
from edgeopt.estimate.roofline import Machine, factors

NOISE, HUBER = 0.2, 1.5

# Parameter -> mean and spread, in logarithms; a product costs some FP32 multiply-accumulates of
# the peak, an element some, an operator some ten thousand. The rest are offsets of these.
_PRIORS = {
    "conv": (0.0, 1.0),
    "pointwise": (0.4, 1.0),
    "depthwise": (1.4, 1.0),
    "linear": (0.4, 1.0),
    "matmul": (0.7, 1.0),
    "elements": (2.5, 1.0),
    "operators": (10.0, 2.0),
    "several": (0.0, 1.0),
    "threads": (0.3, 0.3),
}
_OFFSETS = {
    "operators": 1.0,
    "mode": 0.5,
    "core": 0.4,
    "board": 0.25,
    "kernels": 0.5,
    "threads": 0.2,
}
_OTHER = 0.3  # a class in a mode, kernels on a board, kernels in a mode


def prior(name: str, drawn_to: Mapping[str, float] = MappingProxyType({})) -> tuple[float, float]:
    """Return the mean and spread of what a parameter may be before any row is seen.

    ``drawn_to`` are parameters of other networks: what they say of devices, engines and threads
    holds here as well, as far as rows do not say otherwise; what of classes of operators does not.
    """
    first = name.split()[0]
    mean, spread = _PRIORS.get(
        name, (0.0, _OTHER if " on " in name else _OFFSETS.get(first, _OTHER))
    )
    if _is_shared(name):
        mean = drawn_to.get(name, mean)
    return mean, spread


def _is_shared(name: str) -> bool:
    """Return whether a parameter is of devices, engines or threads, not of a class of operators."""
    return name.split()[0] not in (*PRODUCTS, "elements")


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One measured latency. ``board`` is the very board, of which others may have the profile."""

    board: str
    kernels: str
    network: Network
    machine: Machine
    seconds: float

    @property
    def family(self) -> str:
        """What is left out together: networks of one design tell of each other."""
        return self.network.family or self.network.name

    @property
    def cell(self) -> tuple[str, str, str, int]:
        """What one scale calibrates: a board, an engine, a precision, a number of threads."""
        return (self.board, self.kernels, self.machine.mode, self.machine.threads)


class Problem:
    """Rows as arrays: the operators of all rows in a line, so that one pass computes them all."""

    def __init__(self, rows: Sequence[Row], drawn_to: Mapping[str, float]) -> None:
        """Take ``rows``, in order, and what their parameters are drawn to."""
        self.rows = rows
        needed = [factors(row.machine, row.kernels) for row in rows]
        groups = [(f.call, f.elements, f.operators, *f.products.values()) for f in needed]
        self.names = sorted({n for group in groups for names in group for n in names})
        index = {name: i for i, name in enumerate(self.names)}
        # (rows, 3 + classes, parameters): of what each factor is made
        self.design = np.zeros((len(rows), 3 + len(PRODUCTS), len(self.names)))
        for i, group in enumerate(groups):
            for j, names in enumerate(group):
                for name, times in names.items():
                    self.design[i, j, index[name]] = times
        self.prior = np.array([prior(name, drawn_to) for name in self.names])
        self.log_seconds = np.log([row.seconds for row in rows])
        self._lay_out()

    def _lay_out(self) -> None:
        counts = [len(row.network.operators) for row in self.rows]
        self.starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
        self.of_row = np.repeat(np.arange(len(self.rows)), counts)
        operators = [o for row in self.rows for o in row.network.operators]
        kinds = {kind: j for j, kind in enumerate(PRODUCTS)}
        self.kind = np.array([kinds.get(o.kind, 0) for o in operators])
        peak = np.array([r.machine.macs_per_s * r.machine.threads for r in self.rows])
        one = np.array([r.machine.macs_per_s for r in self.rows])
        byte = np.array([r.machine.weight_bytes / r.machine.bytes_per_s for r in self.rows])
        self.macs = np.array([float(o.macs) for o in operators]) / peak[self.of_row]
        weights = np.array([float(o.weights) if o.macs else 0.0 for o in operators])
        self.reading = weights * byte[self.of_row]
        moved = np.array([float(o.elements) for o in operators])
        self.moved = np.add.reduceat(moved, self.starts) / peak
        self.calls = np.array(counts) / one

    def predict(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the logarithms of the times, (rows,), and their derivatives by parameter."""
        logs = self.design @ values  # (rows, factors)
        scale = np.exp(logs)
        computing = self.macs * scale[:, 3:][self.of_row, self.kind]
        bound = computing >= self.reading
        total = np.add.reduceat(np.maximum(computing, self.reading), self.starts)
        moving, calling = self.moved * scale[:, 1], self.calls * scale[:, 2]
        total = total + moving + calling
        shares = np.zeros_like(scale)
        shares[:, 0] = 1.0
        shares[:, 1], shares[:, 2] = moving / total, calling / total
        for j in range(len(PRODUCTS)):
            held = np.where(bound & (self.kind == j), computing, 0.0)
            shares[:, 3 + j] = np.add.reduceat(held, self.starts) / total
        return np.log(total) + logs[:, 0], np.einsum("rf,rfp->rp", shares, self.design)


def fit(
    rows: Sequence[Row],
    start: Mapping[str, float] = MappingProxyType({}),
    drawn_to: Mapping[str, float] = MappingProxyType({}),
) -> dict[str, float]:
    """Return the parameters by name, fitted to ``rows``.

    ``start`` is where the search begins, ``drawn_to`` as in ``prior``; what no row speaks of stays
    what it was drawn to.
    """
    from scipy.optimize import least_squares

    problem = Problem(rows, drawn_to)
    mean, spread = problem.prior.T
    first = np.array([start.get(n, m) for n, m in zip(problem.names, mean, strict=True)])
    last: dict[bytes, tuple[np.ndarray, np.ndarray]] = {}

    def predict(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        key = values.tobytes()
        if key not in last:
            last.clear()
            last[key] = problem.predict(values)
        return last[key]

    found = least_squares(
        lambda v: np.concatenate(
            [(predict(v)[0] - problem.log_seconds) / NOISE, (v - mean) / spread]
        ),
        first,
        jac=lambda v: np.vstack([predict(v)[1] / NOISE, np.diag(1 / spread)]),
        loss="huber",
        f_scale=HUBER,
        xtol=1e-6,
        ftol=1e-6,
        max_nfev=60,
    )
    of_no_row = {name: value for name, value in drawn_to.items() if _is_shared(name)}
    return of_no_row | dict(zip(problem.names, map(float, found.x), strict=True))


def residual(row: Row, parameters: Mapping[str, float]) -> float:
    """Return the logarithm of measured over estimated."""
    from edgeopt.estimate.roofline import seconds

    return math.log(row.seconds / seconds(row.network, row.machine, row.kernels, parameters))
