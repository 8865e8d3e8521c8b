# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""How many instructions an inference takes on an emulated core. That is no time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edgeopt.errors import MeasurementError
from edgeopt.fields import Table

CLASSES = (
    *("integer", "branch", "load", "store", "vector_load", "vector_store"),
    *("vector", "multiply_add", "dot"),
)
"""Of A64, in the order of enum eo_class (boards/emulated/counting/classes.h)."""

REPEATABLE = 0.001
"""How far inferences may be apart before it is told."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Counters:
    """The instructions of single inferences in a row, by one thread of an emulated core.

    ``classes`` has as many numbers of each class, which add up to ``instructions``. It is empty
    for cores whose instructions are not told apart (ARMv7).
    """

    instructions: tuple[int, ...]
    classes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def check(self, table: Table) -> None:
        """Raise InputError if the numbers are not of the same inferences, or of none."""
        lengths = {len(self.instructions), *map(len, self.classes.values())}
        if len(lengths) != 1 or not self.instructions or min(self.instructions) <= 0:
            raise table.wrong("instructions", "counts are not of the same inferences")

    @property
    def per_inference(self) -> int:
        """The instructions of the median inference (the lower one of two)."""
        return self.instructions[self._median]

    @property
    def by_class(self) -> dict[str, int]:
        """The instructions of that inference, by class."""
        return {name: counts[self._median] for name, counts in self.classes.items()}

    @property
    def spread(self) -> float:
        """The largest difference of two inferences, as a share of the median one."""
        return (max(self.instructions) - min(self.instructions)) / self.per_inference

    @property
    def _median(self) -> int:
        order = sorted(range(len(self.instructions)), key=self.instructions.__getitem__)
        return order[(len(order) - 1) // 2]

    def document(self) -> dict[str, Any]:
        """Return what ``profile --json`` prints."""
        return {
            "emulated": True,
            "threads": 1,
            "inferences": len(self.instructions),
            "instructions": self.per_inference,
            "spread": self.spread,
            "classes": self.by_class,
        }


def of_lines(text: str, *, warmup: int, runs: int, where: str) -> Counters:
    """Return the counts of ``runs`` inferences after ``warmup`` of them.

    ``text`` is what the plugin wrote: before and after each inference a line of the instructions
    until then, and of each class if it tells them apart. Raises MeasurementError, naming ``where``,
    if it is anything else.
    """
    try:
        rows = [tuple(map(int, line.split())) for line in text.splitlines()]
    except ValueError as exc:
        raise MeasurementError(f"the count cannot be read: {exc}", where=where) from exc
    wanted = 2 * (warmup + runs)
    if len(rows) != wanted or {len(row) for row in rows} not in ({1}, {1 + len(CLASSES)}):
        raise MeasurementError(
            f"the count has {len(rows)} lines, and {wanted} were expected", where=where
        )
    counted = [_difference(*rows[i : i + 2]) for i in range(2 * warmup, wanted, 2)]
    total, *classes = zip(*counted, strict=True)
    if min(total) <= 0 or (classes and any(sum(row[1:]) != row[0] for row in counted)):
        raise MeasurementError("the count contradicts itself", where=where)
    return Counters(
        instructions=total,
        classes=dict(zip(CLASSES, classes, strict=True)) if classes else {},
    )


def _difference(before: Sequence[int], after: Sequence[int]) -> tuple[int, ...]:
    return tuple(b - a for a, b in zip(before, after, strict=True))
