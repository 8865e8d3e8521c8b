# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The inputs and outputs of a model or artifact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

NO_LENGTH = 0
"""Stands for the length of a call where nothing runs along a sequence (an image's)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TensorSpec:
    """One tensor: ``dtype`` is numpy's name; a dimension is a size or a symbol ("batch", "seq")."""

    name: str
    dtype: str
    dims: tuple[int | str, ...]

    def shape(self, **sizes: int) -> tuple[int, ...]:
        """Return the dimensions with each symbol replaced: ``shape(batch=1, seq=32)``."""
        return tuple(sizes[dim] if isinstance(dim, str) else dim for dim in self.dims)


@dataclass(frozen=True, kw_only=True, slots=True)
class Signature:
    """Inputs and outputs in the order of the call."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def seq_len(self, shapes: Mapping[str, Sequence[int]]) -> int:
        """Return the length of a call with inputs of ``shapes`` (by name), or ``NO_LENGTH``."""
        for spec in self.inputs:
            if "seq" in spec.dims:
                return int(shapes[spec.name][spec.dims.index("seq")])
        return NO_LENGTH
