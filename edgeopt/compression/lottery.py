# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Look for a lottery ticket: a sparse network that trains as well as the whole one from its start.

Iterative magnitude pruning (Frankle and Carbin 2019, "The Lottery Ticket Hypothesis") with
rewinding to an early step (Frankle et al. 2020, "Linear Mode Connectivity and the Lottery Ticket
Hypothesis"), on a pre-trained encoder as Chen et al. 2020, "The Lottery Ticket Hypothesis for
Pre-trained BERT Networks": the smallest weights of all layers together, after each training the
same share of those that are left. For research: what comes out has zeros, which make no engine
here faster (``edgeopt.compression.unstructured``), and costs ``rounds + 1`` trainings.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from edgeopt import progress
from edgeopt.compression.sparsity import lowest
from edgeopt.compression.technique import Change
from edgeopt.compression.unstructured import linears
from edgeopt.evaluate.data import Data
from edgeopt.model import Model
from edgeopt.model.checkpoint import network
from edgeopt.model.network.widths import layers
from edgeopt.steps import wrong
from edgeopt.steps.limits import MIN_SAMPLES
from edgeopt.steps.lottery import Lottery
from edgeopt.steps.unstructured import Unstructured
from edgeopt.train.context import ALONE, Context
from edgeopt.train.pruning_loss import taught, wanted
from edgeopt.train.training import Fitted, fit

if TYPE_CHECKING:
    import torch


def check(model: Model, options: Lottery) -> None:
    """Raise InputError if ``model`` is of another architecture."""
    del options
    layers(network(model))


def apply(model: Model, options: Lottery, data: Data, context: Context = ALONE) -> Change:
    """Return a model with zeros among its weights, trained on ``data``, and a line on how many.

    The embeddings and what stands on top of the layers are trained, and rewound, but not pruned.
    ``model`` stays. Raises InputError as ``check`` and ``fit`` do, and if there are too few
    texts.
    """
    check(model, options)
    if len(data) < MIN_SAMPLES:
        raise wrong(options, "training", f"{MIN_SAMPLES} {data.noun} are needed, found {len(data)}")
    answered = wanted(model, data, context, options.training)
    ticket = search(model, options, data, answered, context)
    weights = _weights(ticket)
    masks = [(weight != 0).float() for weight in weights]
    fitted = _train(ticket, options, data, answered, context, "Training the ticket", masks)
    zeros = sum(int((weight == 0).sum()) for weight in weights)
    count = sum(weight.numel() for weight in weights)
    progress.note("lottery: zeros make no engine here faster; they only pack better")
    return Change(
        ticket,
        f"{zeros:,} of {count:,} weights in the layers are zero ({zeros / count:.1%}), found in "
        f"{options.rounds} rounds and rewound to step {options.rewind}; {fitted}",
    )


def search(
    model: Model, options: Lottery, data: Data, answered: torch.Tensor, context: Context = ALONE
) -> Model:
    """Return the ticket that was found: ``model`` with early weights, some of them zero.

    ``answered`` are the teacher's answers on ``data``.
    """
    module = copy.deepcopy(model.module)
    ticket = model.with_module(module)
    weights = _weights(ticket)
    masks = [weight.new_ones(weight.shape) for weight in weights]
    # To the end, as the papers do: the best on validation texts may be those it began with, whose
    # sizes say nothing of what training makes of them.
    whole = replace(options.training, validation=0.0, patience=None)
    if options.rewind:
        few = replace(whole, steps=options.rewind, schedule="constant", warmup=0.0)
        start = replace(options, training=few)
        _train(ticket, start, data, answered, context, "The steps to rewind to", masks)
    early = copy.deepcopy(module.state_dict())
    for number in range(1, options.rounds + 1):
        text = f"Round {number} of {options.rounds}"
        _train(ticket, replace(options, training=whole), data, answered, context, text, masks)
        masks = _masks(weights, 1 - (1 - options.sparsity) ** (number / options.rounds))
        module.load_state_dict(early)
        _close(weights, masks)
    return ticket


def _train(
    ticket: Model,
    options: Lottery,
    data: Data,
    answered: torch.Tensor,
    context: Context,
    text: str,
    masks: Sequence[torch.Tensor],
) -> Fitted:
    """Train ``ticket`` in place; weights stay zero where ``masks`` are."""
    weights = _weights(ticket)
    return fit(
        ticket,
        data,
        options.training,
        taught(ticket, answered, temperature=options.temperature, label_share=options.label_share),
        context=context,
        text=text,
        after_step=lambda _done, _total: _close(weights, masks),
        key=f"{options.temperature} {options.label_share}",
    )


def _weights(model: Model) -> list[torch.Tensor]:
    return [linear.weight for linear in linears(model, Unstructured())]


def _close(weights: Sequence[torch.Tensor], masks: Sequence[torch.Tensor]) -> None:
    for weight, mask in zip(weights, masks, strict=True):
        weight.data.mul_(mask.to(weight.device))


def _masks(weights: Sequence[torch.Tensor], share: float) -> list[torch.Tensor]:
    """Return masks, float32, that are 0 for the ``share`` of the smallest weights of all.

    Those that are zero already are the smallest, so that what went stays away.
    """
    import torch

    sizes = [weight.detach().abs() for weight in weights]
    joined = lowest(torch.cat([size.flatten() for size in sizes]), share)
    parts = joined.split([size.numel() for size in sizes])
    return [part.reshape(s.shape).float() for part, s in zip(parts, sizes, strict=True)]
