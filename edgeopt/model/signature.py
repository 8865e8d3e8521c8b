# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The inputs, outputs and states of a graph, in a model or an artifact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from edgeopt.values import Like, Most, OneOf, Range

NO_LENGTH = 0
"""Stands for the length of a call in which nothing runs along a sequence (an image's)."""

Dim = Annotated[int, Range(1, 2**31 - 1)] | Annotated[str, OneOf("batch", "seq")]
"""A size, or the symbol of one that each call chooses."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TensorSpec:
    """One tensor: ``dtype`` is numpy's name; a dimension is a size or a symbol ("batch", "seq").

    ``limit`` is the least value that is too large for an input (the rows of the table in which an
    id is looked up), None if it is not known.
    """

    name: str
    dtype: Annotated[str, OneOf("float32", "int32", "int64")]
    dims: Annotated[tuple[Dim, ...], Most(8)]
    limit: Annotated[int, Range(1, 2**31 - 1)] | None = None

    def shape(self, **sizes: int) -> tuple[int, ...]:
        """Return the dimensions with each symbol replaced: ``shape(batch=1, seq=32)``."""
        return tuple(sizes[dim] if isinstance(dim, str) else dim for dim in self.dims)


_NAME = r"[^{}]+({}[^{}]*)?"

PAST = "past"
"""The dimension of a state along which each call appends its tokens."""

SOURCE = "source"
"""That of a state which an encoder makes of a source: its tokens."""


@dataclass(frozen=True, kw_only=True, slots=True)
class State:
    """What a graph keeps between calls: an output of one is an input of the next, by name.

    It stands for ``count`` of them, one for each layer, whose number takes the place of ``{}`` in
    both names. ``dims`` are sizes, and ``PAST`` for the one that grows with the tokens, or
    ``SOURCE`` for that of a source's tokens.
    """

    input: Annotated[str, Like(_NAME)]
    output: Annotated[str, Like(_NAME)]
    count: Annotated[int, Range(1, 256, "layers")] = 1
    dtype: Annotated[str, OneOf("float32")] = "float32"
    dims: Annotated[
        tuple[Annotated[int, Range(1, 2**20)] | Annotated[str, OneOf(PAST, SOURCE)], ...], Most(8)
    ] = ()

    def names(self, side: str) -> tuple[str, ...]:
        """Return the names of all of them on ``side``, "input" or "output"."""
        pattern: str = getattr(self, side)
        return tuple(pattern.replace("{}", str(layer)) for layer in range(self.count))


@dataclass(frozen=True, kw_only=True, slots=True)
class Signature:
    """Inputs and outputs in the order of the call."""

    inputs: Annotated[tuple[TensorSpec, ...], Most(16)]
    outputs: Annotated[tuple[TensorSpec, ...], Most(16)]

    def seq_len(self, shapes: Mapping[str, Sequence[int]]) -> int:
        """Return the length of a call with inputs of ``shapes`` (by name), or ``NO_LENGTH``."""
        for spec in self.inputs:
            if "seq" in spec.dims:
                return int(shapes[spec.name][spec.dims.index("seq")])
        return NO_LENGTH
