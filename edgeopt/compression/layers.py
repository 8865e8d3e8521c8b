# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Drop whole layers: by index, or those without which the outputs change least."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from edgeopt.compression.technique import Change
from edgeopt.evaluate.data import Data
from edgeopt.evaluate.score import answers, change
from edgeopt.model import Model
from edgeopt.model.checkpoint import network
from edgeopt.model.network import widths
from edgeopt.model.network.shape_config import describe
from edgeopt.model.network.widths import blocks, fixed
from edgeopt.steps import wrong
from edgeopt.steps.layers import Layers
from edgeopt.steps.limits import MIN_SAMPLES
from edgeopt.train.context import ALONE, Context


def check(model: Model, options: Layers) -> None:
    """Raise InputError if ``options`` cannot be done to ``model``."""
    count = len(blocks(network(model)))
    for index in options.drop:
        if index >= count:
            raise wrong(options, "drop", f"there is no layer {index}, only 0 to {count - 1}")
    going = options.count or len(options.drop)
    if going >= count:
        option = "count" if options.count else "drop"
        raise wrong(options, option, f"{going} layers are to go, but there are {count}")
    if options.drop and (why := fixed(network(model), options.drop)):
        raise wrong(options, "drop", why)
    most = len(_loose(model))
    if options.count and options.count > most:
        raise wrong(
            options,
            "count",
            f"{options.count} layers are to go, but only {most} can, as each stage keeps one",
        )


def apply(model: Model, options: Layers, data: Data, context: Context = ALONE) -> Change:
    """Return a model without some layers, and a line on which; ``model`` stays as it is.

    Raises InputError as ``check`` does, and if there are too few texts to choose by.
    """
    del context
    check(model, options)
    going = list(options.drop) or _least(model, options, data.first(options.samples))
    before = len(blocks(network(model)))
    numbers = ", ".join(map(str, going))
    text = f"{len(going)} of {before} layers dropped (numbers {numbers})"
    return Change(drop(model, going), text)


def drop(model: Model, going: Sequence[int]) -> Model:
    """Return a model without the layers ``going``, counted from 0."""
    module = copy.deepcopy(model.module)
    widths.drop(module.network, going)
    describe(module.network)
    return model.with_module(module)


def _loose(model: Model) -> list[int]:
    """Return the layers of which all but the last of each stage can go, one after the other."""
    gone: list[int] = []
    for i in range(len(blocks(network(model)))):
        if fixed(network(model), [*gone, i]) is None:
            gone.append(i)
    return gone


def _least(model: Model, options: Layers, data: Data) -> list[int]:
    """Return the ``count`` layers that change the outputs least, chosen one after the other."""
    assert options.count is not None
    if len(data) < MIN_SAMPLES:
        raise wrong(options, "samples", f"{MIN_SAMPLES} {data.noun} are needed, found {len(data)}")
    original = answers(model, data, "Running the model with all layers")
    gone: list[int] = []
    for _ in range(options.count):
        count = len(blocks(network(model)))
        left = [
            i for i in range(count) if i not in gone and fixed(network(model), [*gone, i]) is None
        ]
        changes = {
            i: change(
                model,
                answers(drop(model, [*gone, i]), data, f"Trying without layer {i}"),
                original,
                data,
            )
            for i in left
        }
        gone.append(min(left, key=lambda i: changes[i]))
    return sorted(gone)
