# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The options of letting fewer tokens through."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Annotated, ClassVar, Literal, get_args

from edgeopt.fields import Table
from edgeopt.steps.limits import MOST
from edgeopt.steps.step import Aim, Step
from edgeopt.values import Range

Method = Literal["pool", "prune"]
METHODS: tuple[str, ...] = get_args(Method)
_FINEST = 100
_SHARES = Range(0.01, 0.99)


@dataclass(frozen=True, kw_only=True, slots=True)
class Tokens(Step):
    """Let fewer tokens through: ``keep[i]`` of those that reach layer ``layers[i]``.

    "pool" takes the mean of neighbours, "prune" drops those that get the least attention.
    """

    aims: ClassVar[Aim] = "latency"
    technique: str = field(default="tokens", init=False)
    method: Annotated[Method, "the mean of neighbours, or those with most attention"] = "pool"
    layers: Annotated[tuple[int, ...], Range(0, MOST), "which layers (from 0)"]
    keep: Annotated[tuple[float, ...], _SHARES, "the share that goes on from each of layers"]

    def check(self, table: Table) -> None:
        """Raise InputError if a share is missing, or one is none that can be pooled."""
        read_keep(table, self.method, len(self.layers))


def read_keep(table: Table, method: str, count: int) -> tuple[float, ...]:
    """Return the ``count`` shares of ``keep``. Raises InputError if they are not shares."""
    values = table.numbers("keep", low=_SHARES.low, high=_SHARES.high)
    if len(values) != count:
        raise table.wrong("keep", f"expected {count} shares, one a layer, found {len(values)}")
    for i, value in enumerate(values):
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
