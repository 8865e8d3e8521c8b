# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Let fewer tokens through: neighbours pooled, or those that get the least attention dropped.

What the network then is, and the sources, are in ``edgeopt.model.network.tokens``. Weights stay as
they are; accuracy comes back when the network is trained in this shape, by a step behind this one.
"""

from __future__ import annotations

import copy

from edgeopt.compression.technique import Change
from edgeopt.errors import InputError
from edgeopt.estimate.latency import layer_tokens
from edgeopt.evaluate.data import SEQ_LEN, Data
from edgeopt.model import Model
from edgeopt.model.checkpoint import network
from edgeopt.model.network.shape_config import describe
from edgeopt.model.network.tokens import OF_IMAGES, per_token, reads_first, reduce, reductions
from edgeopt.model.network.widths import blocks
from edgeopt.steps import wrong
from edgeopt.steps.tokens import Tokens, share
from edgeopt.train.context import ALONE, Context


def check(model: Model, options: Tokens) -> None:
    """Raise InputError if ``options`` cannot be done to ``model``."""
    if not reads_first(network(model)):
        raise InputError(
            f"is not for {type(network(model)).__name__}, which reads more of an image than its "
            f"first token (for those of {', '.join(OF_IMAGES)} it is)",
            where="compress step tokens",
            hint="Of what makes this network faster there are structured, layers, low_rank and "
            "distil.",
        )
    count = len(blocks(network(model)))
    for index in options.layers:
        if index >= count:
            raise wrong(options, "layers", f"there is no layer {index}, only 0 to {count - 1}")
    if reductions(network(model)):
        raise wrong(options, "layers", "some hand on fewer tokens already")
    if options.method == "prune" and per_token(network(model)):
        raise wrong(
            options,
            "method",
            f"{model.task} reads the states of all tokens, so none can be pruned (pool can be)",
        )


def apply(model: Model, options: Tokens, data: Data, context: Context = ALONE) -> Change:
    """Return a model whose ``options.layers`` hand on fewer tokens, and a line on how many.

    Neither ``data`` nor ``context`` is used: nothing is learnt. ``model`` stays as it is. Raises
    InputError as ``check`` does.
    """
    del data, context
    check(model, options)
    module = copy.deepcopy(model.module)
    reduce(module.network, options.layers, options.method, [share(k) for k in options.keep])
    describe(module.network)
    whole = layer_tokens(model, SEQ_LEN)
    left, parts = whole, []
    for index, reduction in reductions(module.network).items():
        left = reduction.length(left)
        parts.append(f"{left} behind layer {index}")
    text = f"{options.method}: of {whole} tokens {', '.join(parts)}"
    return Change(model.with_module(module), text)
