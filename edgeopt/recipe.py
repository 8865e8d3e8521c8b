# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Recipes: what is done to a model on its way to an artifact, as data.

``edgeopt/recipes/*.toml`` ship with the package; a path to a user's own file works as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from dataclasses import fields as fields_of
from pathlib import Path

from edgeopt import fields, options
from edgeopt.quantize import PLAIN, Quantize
from edgeopt.steps import Step, read_steps

FOLDER = Path(__file__).parent / "recipes"
PRECISIONS = ("fp32", "fp16", "int8")
INT4 = "int4"
"""A recipe's ``[quantize]`` may ask for it in the place of int8; no target does."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What final answers have to keep to; the figures are those of ``lower.judged.Judged``.

    ``margin`` is how far a decision must be ahead in the tool's own answer to count as one.
    """

    error_max: float
    margin: float
    decisions_min: float
    order_min: float
    neighbours_min: float
    context_max: float


LIMITS: Mapping[str, Limits] = {
    # Sound artifacts of tiny random networks and of a trained MiniLM are off by at most 2e-6 (in
    # scores, vectors and spans; ONNX, TFLite, OpenVINO, TVM); another pooling, prompt or token by
    # 1e-2 and more. A decision may then turn if the tool's two best are within twice that.
    "fp32": Limits(
        error_max=1e-3,
        margin=2e-3,
        decisions_min=1.0,
        order_min=0.0,  # follows from error_max
        neighbours_min=0.0,
        context_max=1e-3,
    ),
    # Half precision has 11 bits: 16 times better than 8, whose limits these are, drawn in.
    "fp16": Limits(
        error_max=0.05,
        margin=0.05,
        decisions_min=1.0,
        order_min=0.98,
        neighbours_min=0.95,
        context_max=0.01,
    ),
    # Sound INT8 of a trained MiniLM that classifies, by a core without VNNI: same decisions 1.0,
    # order .989 to .998, single scores off by up to .16. Of one that embeds: order .980 to .990,
    # nearest neighbours .95 to 1.0, vectors off by up to .24 (that of the empty text). Of tiny
    # random networks: decisions 1.0, order .89 (hidden states at .98) to .999, scores off by up to
    # .16. Alone, padded and in a batch all give the very same answers.
    "int8": Limits(
        error_max=0.3,
        margin=0.1,
        decisions_min=0.9,
        order_min=0.9,
        neighbours_min=0.8,
        context_max=0.02,
    ),
    # Weights of 16 steps; no engine quantises activations with them.
    "int4": Limits(
        error_max=0.5,
        margin=0.2,
        decisions_min=0.8,
        order_min=0.8,
        neighbours_min=0.6,
        context_max=0.02,
    ),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Bound:
    """What an artifact has to reach to be shipped.

    ``cosine_min`` is the least cosine against FP32. ``answers`` replace some of the ``LIMITS``
    that final answers have to keep to.
    """

    cosine_min: float
    answers: Mapping[str, float] = field(default_factory=dict)

    def limits(self, precision: str) -> Limits:
        """Return what final answers have to keep to."""
        return replace(LIMITS[precision], **self.answers)


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """Fidelity bounds by precision (fp32, fp16, int8), and how many texts calibrate INT8.

    ``compress`` is what is done to the network before it is lowered, in order, and ``quantize``
    how that is quantised; if it asks for int4, ``bounds`` has int4 as well.
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
    quantize = options.group(Quantize, top, "quantize", PLAIN)
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
    names = [f.name for f in fields_of(Limits)]
    bound = Bound(
        cosine_min=table.number("cosine_min", low=0.0, high=1.0),
        answers={
            name: table.number(name, low=0.0, high=1.0 if name.endswith("_min") else 1e30)
            for name in names
            if name in table
        },
    )
    table.close()
    return bound
