# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What the user says of labelled data, and how its labels are found among the model's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from edgeopt import progress
from edgeopt.errors import InputError
from edgeopt.evaluate.data import index_of
from edgeopt.evaluate.problems.problem import Subject
from edgeopt.evaluate.problems.zero_shot import TEMPLATE
from edgeopt.evaluate.rows.row import Columns, Rows

_SEED = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """What the user says of the data.

    ``labels`` are what it calls the model's labels, in their order, () for the same. At most
    ``limit`` units are taken, drawn with a fixed seed; None for all. ``no_answer_below`` is
    ``Answers.no_answer_below``. ``prompts`` are what a dual encoder reads of a label, whose name
    stands where ``{}`` does. ``reduce_labels`` says whether 0 of a mask is no label, and 1 the
    first one. ``window`` is how many tokens of a text a decoder reads at once, 0 for an
    encoder-decoder, which judges none.
    """

    columns: Columns = field(default_factory=Columns)
    labels: tuple[str, ...] = ()
    limit: int | None = None
    no_answer_below: float | None = None
    prompts: tuple[str, ...] = (TEMPLATE,)
    reduce_labels: bool = False
    window: int = 0


def some(rows: Rows, limit: int | None) -> Rows:
    """Return at most ``limit`` of ``rows``, the same ones every time."""
    if limit is None or len(rows.rows) <= limit:
        return rows
    return replace(rows, rows=tuple(rows.rows[i] for i in drawn(len(rows.rows), limit)))


def drawn(count: int, limit: int) -> list[int]:
    """Return ``limit`` of ``count`` places in their order, the same every time."""
    chosen = np.random.default_rng(_SEED).permutation(count)[:limit]
    return sorted(int(i) for i in chosen)


def indexing(rows: Rows, column: str, subject: Subject, asked: Asked) -> Callable[[Any, str], int]:
    """Return what gives the index of a label of ``column``."""
    known = asked.labels or subject.labels
    names = rows.names.get(column)
    if names is not None and not set(names) <= set(known):
        if len(names) != len(known):
            raise InputError(
                f"has the labels {_listed(names)}, but {subject.name} has {_listed(known)}",
                where=str(rows.path),
            )
        progress.note(
            f"{rows.path}: its labels {_listed(names)} are taken for {_listed(known)}, by number"
        )
        names = None

    def index(value: Any, where: str) -> int:
        if names is not None and type(value) is int and 0 <= value < len(names):
            value = names[value]
        if isinstance(value, str) and value not in known and value.isdecimal():
            value = int(value)
        if value is None or value == -1:
            raise InputError(f"has no label in {column!r} ({value})", where=where)
        if type(value) not in (str, int):
            raise InputError(
                f"expected a label that is a name or an index, found {value!r}", where=where
            )
        return index_of(value, known, where)

    return index


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
