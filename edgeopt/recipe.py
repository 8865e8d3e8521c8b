"""Recipes: what is done to a model on its way to an artifact, as data.

``edgeopt/recipes/*.toml`` ship with the package; a path to a user's own file works as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edgeopt import fields
from edgeopt.quantize import Quantize
from edgeopt.steps import Step, read_steps

FOLDER = Path(__file__).parent / "recipes"
PRECISIONS = ("fp32", "fp16", "int8")
INT4 = "int4"
"""A recipe's ``[quantize]`` may ask for it in the place of int8; no target does."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bound:
    """An artifact whose ``cosine_min`` against FP32 is below this is not shipped."""

    cosine_min: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """Fidelity bounds by precision (fp32, fp16, int8), and how many texts calibrate INT8.

    ``compress`` is what is done to the network before it is lowered, in order, and ``quantize``
    how that is quantised; where it asks for int4, ``bounds`` has int4 as well.
    """

    name: str
    bounds: Mapping[str, Bound]
    calibration_texts: int
    compress: tuple[Step, ...] = ()
    quantize: Quantize = field(default_factory=Quantize)
    path: str


def recipe_names() -> tuple[str, ...]:
    """Return the names of the shipped recipes."""
    return fields.shipped_names(FOLDER)


def load_recipe(name_or_path: str | Path, *, beside: Path | None = None) -> Recipe:
    """Read a shipped recipe by name, or a user's own by path.

    A relative path starts at the directory ``beside``, or at the current one. Raises InputError
    with the file and the dotted key for whatever the file has wrong.
    """
    path = fields.locate(name_or_path, FOLDER, "recipe", beside=beside)
    top = fields.read_toml(path)
    bounds = top.table("bounds")
    quantize = Quantize.read(top.optional_table("quantize"))
    # Only a recipe that asks for int4 makes it, and must say how near it has to be.
    held = (*PRECISIONS, INT4) if quantize.weights == INT4 else PRECISIONS
    recipe = Recipe(
        name=path.stem,
        bounds={precision: _bound(bounds.table(precision)) for precision in held},
        calibration_texts=top.integer("calibration_texts", high=100_000),
        compress=read_steps(top.tables("compress", ())),
        quantize=quantize,
        path=str(path),
    )
    bounds.close()
    top.close()
    return recipe


def _bound(table: fields.Table) -> Bound:
    bound = Bound(cosine_min=table.number("cosine_min", low=0.0, high=1.0))
    table.close()
    return bound
