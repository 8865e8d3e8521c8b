"""The inputs and outputs of a model or artifact."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class TensorSpec:
    """One tensor: ``dtype`` is numpy's name; a dimension is a size or a symbol ("batch", "seq")."""

    name: str
    dtype: str
    dims: tuple[int | str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Signature:
    """Inputs and outputs in the order of the call."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
