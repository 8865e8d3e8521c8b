"""The options of letting fewer tokens through."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import ClassVar, Literal

from edgeopt.fields import Table
from edgeopt.steps.limits import MOST, read_max_drop

METHODS = ("pool", "prune")
_FINEST = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class Tokens:
    """Let fewer tokens through: ``keep[i]`` of those that reach layer ``layers[i]`` (from 0).

    "pool" takes the mean of neighbours, "prune" drops those that get the least attention.
    """

    aims: ClassVar[Literal["latency", "size", "accuracy"]] = "latency"
    technique: str = field(default="tokens", init=False)
    method: str = "pool"
    layers: tuple[int, ...]
    keep: tuple[float, ...]
    max_drop: float = 0.01

    @classmethod
    def read(cls, table: Table) -> Tokens:
        """Read a step. Raises InputError where a share is missing, or none that can be pooled."""
        method = table.choice("method", METHODS, "pool")
        layers = table.ascending("layers", low=0, high=MOST)
        return cls(
            method=method,
            layers=layers,
            keep=read_keep(table, method, len(layers)),
            max_drop=read_max_drop(table),
        )


def read_keep(table: Table, method: str, count: int) -> tuple[float, ...]:
    """Return the ``count`` shares of ``keep``. Raises InputError where they are not shares."""
    values = table.array("keep", float)
    if len(values) != count:
        raise table.wrong("keep", f"expected {count} shares, one a layer, found {len(values)}")
    for i, value in enumerate(values):
        if not 0.01 <= value <= 0.99:
            raise table.wrong(f"keep[{i}]", f"expected 0.01 to 0.99, found {value!r}")
        if method == "pool" and share(value).numerator != 1:
            raise table.wrong(
                f"keep[{i}]",
                f"expected a half, a third (0.3333), a quarter and so on, as neighbours are "
                f"pooled in groups; found {value!r}",
            )
    return values


def share(value: float) -> Fraction:
    """Return ``value`` as a fraction of whole numbers up to 100, which every engine counts alike.

    >>> share(0.3333)
    Fraction(1, 3)
    """
    return Fraction(value).limit_denominator(_FINEST)
