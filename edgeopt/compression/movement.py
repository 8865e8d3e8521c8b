# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Movement pruning: learn, with the weights, which heads and neurons the network does without.

Scores and masks are ``edgeopt.compression.masks``; the schedule is Zhu and Gupta's cubic one, from
the share ``begin`` of the steps to ``end``, and the teacher's answers are learnt all the while
(Sanh et al. 2020, section 4; Lagunas et al. 2021). Then what is masked is removed for good.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from edgeopt import cache
from edgeopt.compression.masks import LayerGates, Masks, gates
from edgeopt.compression.structured import told
from edgeopt.compression.technique import Change
from edgeopt.evaluate.data import Batch, Data
from edgeopt.model import Model
from edgeopt.model.checkpoint import network
from edgeopt.model.network.shape_config import describe
from edgeopt.model.network.widths import Layer, heads_stay, keep, layers
from edgeopt.steps import wrong
from edgeopt.steps.limits import MIN_SAMPLES
from edgeopt.steps.movement import Movement
from edgeopt.steps.training import Training
from edgeopt.train.context import ALONE, Context
from edgeopt.train.pruning_loss import taught, wanted
from edgeopt.train.training import fit

if TYPE_CHECKING:
    import torch


def check(model: Model, options: Movement) -> None:
    """Raise InputError if ``options`` cannot be done to ``model``."""
    if "heads" in options.parts and (why := heads_stay(network(model))):
        raise wrong(options, "parts", f'{why}; parts = ["neurons"] works')
    for layer in layers(network(model)):
        if options.block and layer.head_dim % options.block:
            raise wrong(
                options,
                "block",
                f"is {options.block}, and the size of a head, {layer.head_dim}, no multiple of it",
            )
        for linear in (*layer.of_attention, layer.ffn_input, layer.ffn_output):
            if options.outputs and linear.out_features % options.outputs:
                raise wrong(
                    options,
                    "outputs",
                    f"is {options.outputs}, and a projection has {linear.out_features}, no "
                    "multiple of it",
                )


def apply(model: Model, options: Movement, data: Data, context: Context = ALONE) -> Change:
    """Return a narrower model that was trained on ``data``, and a line on what went.

    ``context.teacher`` is taught from (without one, ``model`` as it is); ``model`` stays. Raises
    InputError as ``check`` and ``fit`` do, and if there are too few texts.
    """
    import torch

    check(model, options)
    if len(data) < MIN_SAMPLES:
        raise wrong(options, "training", f"{MIN_SAMPLES} {data.noun} are needed, found {len(data)}")
    answered = wanted(model, data, context, options.training)
    module = copy.deepcopy(model.module)
    pruned = model.with_module(module)
    made = gates(layers(module.network), options)
    masks = Masks(made, options)
    loss = taught(
        pruned, answered, temperature=options.temperature, label_share=options.label_share
    )

    def objective(batch: Batch) -> torch.Tensor:
        found = loss(batch)
        return found + masks.penalty() if options.method == "sigmoid" else found

    def before_step(done: int, total: int) -> None:
        # Of the step to come: the last one already has all that is to go.
        masks.done = (done + 1) / total

    with masks.applied(module):
        fitted = fit(
            pruned,
            data,
            options.training,
            objective,
            context=context,
            text="Movement pruning",
            groups=_groups(module, masks, options),
            before_step=before_step,
            extra={"scores": torch.nn.ParameterList([gate.score for gate in masks.gates])},
            best_from=options.end,
            key=cache.key(
                **{k: v for k, v in asdict(options).items() if k not in ("training", "max_drop")}
            ),
        )
    masks.done = 1.0
    zeros = remove(pruned, made, masks.hard())
    if options.outputs:
        left = masks.hard()
        share = sum(float(m.sum()) for m in left) / sum(m.numel() for m in left)
        return Change(
            pruned,
            f"{share:.1%} of the blocks of {options.outputs} x 1 are left ({options.method}); "
            f"{fitted}",
            modified=share < 1,
        )
    line = f"{told(model, pruned)} ({options.method}); {fitted}"
    if options.block:
        line += f"; {zeros:.0%} of the attention left is zero"
    return Change(pruned, line)


def _groups(module: Any, masks: Masks, options: Movement) -> list[dict[str, Any]]:
    """Return the optimiser's groups: weights that decay, biases and norms, and the scores."""
    import torch

    training: Training = options.training
    frozen = {
        parameter
        for part in module.modules()
        if training.freeze_embeddings and isinstance(part, torch.nn.Embedding)
        for parameter in part.parameters()
    }
    learnt = [parameter for parameter in module.parameters() if parameter not in frozen]
    return [
        {"params": [parameter for parameter in learnt if parameter.ndim > 1]},
        {"params": [parameter for parameter in learnt if parameter.ndim <= 1], "weight_decay": 0.0},
        {
            "params": [gate.score for gate in masks.gates],
            "lr": options.score_learning_rate,
            "weight_decay": 0.0,
        },
    ]


def remove(model: Model, made: Sequence[LayerGates], masks: Sequence[torch.Tensor]) -> float:
    """Remove the heads and neurons that ``masks`` close, in place; blocks become zeros.

    ``masks`` has one for each gate of ``made``, the gates of the layers of ``model``. Returns the
    share of zeros in attention.
    """
    left = iter(masks)
    zeros = count = 0
    for layer, layer_gates in zip(layers(network(model)), made, strict=True):
        kept = {"heads": list(range(layer.heads)), "neurons": list(range(layer.neurons))}
        for gate in (*layer_gates.heads, *layer_gates.neurons):
            mask = next(left)
            gate.linear.weight.data.mul_(gate.spread(mask))
            if gate.kind in kept:
                kept[gate.kind] = mask.flatten().nonzero().flatten().tolist()
        if layer_gates.heads and layer_gates.heads[0].kind == "squares":
            kept["heads"] = _alive(layer)
        keep(layer, kept["heads"], kept["neurons"])
        for linear in layer.of_attention:
            zeros += int((linear.weight == 0).sum())
            count += linear.weight.numel()
    describe(network(model))
    return zeros / max(1, count)


def _alive(layer: Layer) -> list[int]:
    """Return the heads that still do something, at least one; fold in what the others add.

    A head whose output columns are all zero adds nothing. One whose values have no weight gives
    its value bias wherever it looks, as attention sums to one: a constant, which goes into the
    bias of the output.
    """
    value, output = layer.qkv[2], layer.attention_output
    assert output is not None
    alive = []
    for head in range(layer.heads):
        part = slice(head * layer.head_dim, (head + 1) * layer.head_dim)
        columns = output.weight.data[:, part]
        if value.weight.data[part].any() and columns.any():
            alive.append(head)
        elif head < layer.heads - 1 or alive:  # else it is the last, and stays as it is
            output.bias.data.add_(columns @ value.bias.data[part])
    return alive or [layer.heads - 1]
