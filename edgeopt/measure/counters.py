# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""How many instructions an inference takes on an emulated core. That is no time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edgeopt.boards.emulated.caches import LINE_BYTES, Level
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
class CacheLevel:
    """A level of the modelled data caches, and the lines that it took in, of each inference."""

    name: str
    kib: int
    ways: int
    refills: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class CacheCounts:
    """Lines of ``line_bytes`` that moved in a model of the device's data caches.

    ``levels`` begins with the nearest; what the last one took in came from memory.
    ``write_backs`` are the lines that it gave back to memory, of each inference.
    """

    line_bytes: int
    levels: tuple[CacheLevel, ...]
    write_backs: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Counters:
    """The instructions of single inferences in a row, by one thread of an emulated core.

    ``classes`` has as many numbers of each class, which add up to ``instructions``. It is empty
    for cores whose instructions are not told apart (ARMv7). ``caches`` is of the same inferences,
    and None if they were not modelled.
    """

    instructions: tuple[int, ...]
    classes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    caches: CacheCounts | None = None

    def check(self, table: Table) -> None:
        """Raise InputError if the numbers are not of the same inferences, or of none."""
        lengths = {len(self.instructions), *map(len, self.classes.values())}
        if (caches := self.caches) is not None:
            lengths |= {len(caches.write_backs), *(len(level.refills) for level in caches.levels)}
            if not caches.levels:
                raise table.wrong("caches", "has no level")
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
    def refills(self) -> dict[str, int]:
        """The lines that each level of the caches took in, in that inference."""
        levels = self.caches.levels if self.caches is not None else ()
        return {level.name: level.refills[self._median] for level in levels}

    @property
    def memory_bytes(self) -> tuple[int, int] | None:
        """What that inference took from memory and gave back to it; None without caches."""
        if self.caches is None:
            return None
        taken = self.caches.levels[-1].refills[self._median]
        given = self.caches.write_backs[self._median]
        return taken * self.caches.line_bytes, given * self.caches.line_bytes

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
        found: dict[str, Any] = {
            "emulated": True,
            "threads": 1,
            "inferences": len(self.instructions),
            "instructions": self.per_inference,
            "spread": self.spread,
            "classes": self.by_class,
        }
        if self.caches is not None and self.memory_bytes is not None:
            read, written = self.memory_bytes
            found["caches"] = {
                "levels": [
                    {"name": x.name, "kib": x.kib, "ways": x.ways, "refills": self.refills[x.name]}
                    for x in self.caches.levels
                ],
                "memory_read_bytes": read,
                "memory_written_bytes": written,
            }
        return found


def of_lines(
    text: str, *, warmup: int, runs: int, where: str, levels: Sequence[Level] = ()
) -> Counters:
    """Return the counts of ``runs`` inferences after ``warmup`` of them.

    ``text`` is what the plugin wrote: before and after each inference a line of the instructions
    until then, of each class if it tells them apart, and of the refills of each of ``levels`` and
    the last one's write-backs. Raises MeasurementError, naming ``where``, if it is anything else.
    """
    try:
        rows = [tuple(map(int, line.split())) for line in text.splitlines()]
    except ValueError as exc:
        raise MeasurementError(f"the count cannot be read: {exc}", where=where) from exc
    wanted = 2 * (warmup + runs)
    lines = len(levels) + 1 if levels else 0
    if len(rows) != wanted or {len(row) - lines for row in rows} not in ({1}, {1 + len(CLASSES)}):
        raise MeasurementError(
            f"the count has {len(rows)} lines, and {wanted} were expected", where=where
        )
    counted = [_difference(*rows[i : i + 2]) for i in range(2 * warmup, wanted, 2)]
    total, *others = zip(*counted, strict=True)
    classes, moved = others[: len(others) - lines], others[len(others) - lines :]
    if (
        min(total) <= 0
        or (classes and [sum(one) for one in zip(*classes, strict=True)] != [*total])
        or any(min(counts) < 0 for counts in moved)
    ):
        raise MeasurementError("the count contradicts itself", where=where)
    caches = None
    if levels:
        caches = CacheCounts(
            line_bytes=LINE_BYTES,
            levels=tuple(
                CacheLevel(name=level.name, kib=level.kib, ways=level.ways, refills=refills)
                for level, refills in zip(levels, moved[:-1], strict=True)
            ),
            write_backs=moved[-1],
        )
    return Counters(
        instructions=total,
        classes=dict(zip(CLASSES, classes, strict=True)) if classes else {},
        caches=caches,
    )


def _difference(before: Sequence[int], after: Sequence[int]) -> tuple[int, ...]:
    return tuple(b - a for a, b in zip(before, after, strict=True))
