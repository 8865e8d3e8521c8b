# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The tiny checkpoint for every engine of this machine, whose artifacts are made once for all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from edgeopt.bundle import Bundle
from edgeopt.pipeline import compile
from edgeopt.recipe import Bound, Recipe, load_recipe
from edgeopt.target import Target, load_target


def host() -> Target:
    """Return the target of this machine, at lengths that the tiny checkpoint takes."""
    return replace(load_target("host"), seq_lens=(16, 32))


def loose() -> Recipe:
    """Return the default recipe with room for random weights in INT8."""
    recipe = load_recipe("default")
    bound = Bound(cosine_min=0.5, answers={"order_min": 0.5})
    return replace(recipe, bounds=recipe.bounds | {"int8": bound})


def bundle(checkpoint: Path, output: Path) -> Bundle:
    """Compile for every engine, in FP32 and INT8. Files of tests that do so share the cache."""
    return compile(checkpoint, host(), output=output, recipe=loose())
