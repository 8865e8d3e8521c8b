# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""How long each operator of an artifact takes, as its engine's own profiler tells it.

Rounds are processes of their own, those of all artifacts of a session in turns: what a process
gets by chance is in all of its calls. A round's time of an operator is the mean over its calls.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Annotated, Any

from edgeopt.fields import Table
from edgeopt.values import Range

NOT_JOINED = "not joined"
"""The row of what no layer of the model is known for."""

_MOST_NS = 1 << 62


@dataclass(frozen=True, kw_only=True, slots=True)
class Operator:
    """One operator of the engine's graph, in the order of execution.

    ``total_ns`` has its time in all inferences of each round; below zero if the engine cuts its
    figures and too little was left. ``layers`` are the modules of the original model that it
    computes, all of those that it spans, none if that is not known. ``added`` says that
    quantisation put it there: it computes nothing of the original.
    """

    name: str
    type: str
    kernel: str
    total_ns: tuple[Annotated[int, Range(-_MOST_NS, _MOST_NS)], ...]
    layers: tuple[str, ...] = ()
    added: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Operators:
    """An artifact's operators. ``wall_ns`` are the whole inferences of each round, profiled.

    ``resolution_ns`` is how far a call's time may be off by how the engine keeps it, and ``how``
    says what tells the times. ``unjoined`` says why operators have no layers, if it is known, and
    ``unknown`` what is not known of those that have.
    ``below`` is how many have no time in any round: they did not run, or always took less than the
    engine tells; they are not in ``operators``.
    """

    how: str
    resolution_ns: int
    wall_ns: tuple[tuple[int, ...], ...]
    operators: tuple[Operator, ...]
    unjoined: str = ""
    unknown: str = ""
    below: int = 0

    def check(self, table: Table) -> None:
        """Raise InputError if an operator has not as many times as there are rounds."""
        rounds = len(self.wall_ns)
        if not rounds or not all(self.wall_ns):
            raise table.wrong("wall_ns", "expected rounds of inferences")
        if any(len(one.total_ns) != rounds for one in self.operators):
            raise table.wrong("operators", "the times are not of the same rounds")

    def round_ns(self, operators: Iterable[Operator]) -> tuple[float, ...]:
        """Return what ``operators`` took together in an inference, a mean for each round, ns."""
        sums = [0] * len(self.wall_ns)
        for one in operators:
            for i, value in enumerate(one.total_ns):
                sums[i] += value
        return tuple(s / len(w) for s, w in zip(sums, self.wall_ns, strict=True))

    def median_ns(self, operators: Iterable[Operator]) -> float:
        """Return what ``operators`` took together in an inference: the median round's."""
        return median(self.round_ns(operators))

    @property
    def profiled_ns(self) -> float:
        """A whole inference while it was profiled: the median of all, ns."""
        return median(value for one in self.wall_ns for value in one)

    @property
    def joined_share(self) -> float:
        """The share of the operators' time whose layers are known."""
        return self.share(one for one in self.operators if one.layers)

    def share(self, operators: Iterable[Operator]) -> float:
        """Return the share that ``operators`` have of the time of all: the median round's."""
        wholes = self.round_ns(self.operators)
        parts = self.round_ns(operators)
        return median(p / w if w > 0 else 0.0 for p, w in zip(parts, wholes, strict=True))


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """Operators that stand in one row of a table, which share name and kind, or their layers."""

    name: str
    operators: tuple[Operator, ...]
    median_ns: float
    share: float


def by_layer(found: Operators) -> list[Row]:
    """Return the rows by layers, in the order of execution; what is not joined comes last."""
    groups: dict[str, list[Operator]] = {}
    for one in found.operators:
        groups.setdefault(layers_text(one.layers), []).append(one)
    if NOT_JOINED in groups:
        groups[NOT_JOINED] = groups.pop(NOT_JOINED)
    return _rows(found, groups.items())


def by_operator(found: Operators) -> list[Row]:
    """Return a row for each operator, the longest first."""
    rows = _rows(found, ((one.name, [one]) for one in found.operators))
    return sorted(rows, key=lambda row: -row.median_ns)


def layers_text(layers: Sequence[str]) -> str:
    """Return what a set of layers is called."""
    return " + ".join(layers) or NOT_JOINED


def _rows(found: Operators, groups: Iterable[tuple[str, list[Operator]]]) -> list[Row]:
    return [
        Row(
            name=name,
            operators=tuple(group),
            median_ns=found.median_ns(group),
            share=found.share(group),
        )
        for name, group in groups
    ]


def document(found: Operators, timed_ns: float | None) -> dict[str, Any]:
    """Return what ``profile --json`` prints; ``timed_ns`` is an inference without the profiler."""
    return {
        "how": found.how,
        "resolution_ns": found.resolution_ns,
        "rounds": len(found.wall_ns),
        "inferences": sum(map(len, found.wall_ns)),
        "operators_ns": found.median_ns(found.operators),
        "profiled_ns": found.profiled_ns,
        "timed_ns": timed_ns,
        "joined_share": found.joined_share,
        "unjoined": found.unjoined,
        "unknown": found.unknown,
        "below": found.below,
        "layers": [
            {"layers": list(row.operators[0].layers), "median_ns": row.median_ns}
            | {"share": row.share, "operators": len(row.operators)}
            for row in by_layer(found)
        ],
        "operators": [
            {
                "name": one.name,
                "type": one.type,
                "kernel": one.kernel,
                "layers": list(one.layers),
                "added": one.added,
                "calls": sum(map(len, found.wall_ns)),
                "median_ns": found.median_ns([one]),
                "share": found.share([one]),
            }
            for one in found.operators
        ],
    }
