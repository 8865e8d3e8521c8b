"""Recipes: what is done to a model on its way to an artifact, as data.

``edgeopt/recipes/*.toml`` ship with the package; a path to a user's own file works as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Bound:
    """An artifact whose ``cosine_min`` against FP32 is below this is not shipped."""

    cosine_min: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """Fidelity bounds by precision (fp32, fp16, int8), and how many texts calibrate INT8."""

    name: str
    bounds: Mapping[str, Bound]
    calibration_texts: int
    path: str
