"""Look for a lottery ticket: a sparse network that trains as well as the whole one from its start.

Iterative magnitude pruning (Frankle and Carbin 2019, "The Lottery Ticket Hypothesis") with
rewinding to an early step (Frankle et al. 2020, "Linear Mode Connectivity and the Lottery Ticket
Hypothesis"), on a pre-trained encoder as Chen et al. 2020, "The Lottery Ticket Hypothesis for
Pre-trained BERT Networks": the smallest weights of all layers together, after each training the
same share of those that are left. For research: what comes out has zeros, which make no engine
here faster (``edgeopt.compress.unstructured``), and costs ``rounds + 1`` trainings.
"""

from __future__ import annotations

import copy
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from edgeopt import cache, progress
from edgeopt.compress.checkpoint import network
from edgeopt.compress.context import ALONE, Context
from edgeopt.compress.data import Data
from edgeopt.compress.sparsity import lowest
from edgeopt.compress.teaching import taught, wanted
from edgeopt.compress.training import fit
from edgeopt.compress.unstructured import linears
from edgeopt.model import Model
from edgeopt.model.widths import layers
from edgeopt.steps import wrong
from edgeopt.steps.limits import MIN_SAMPLES
from edgeopt.steps.lottery import Lottery
from edgeopt.steps.unstructured import Unstructured

if TYPE_CHECKING:
    import torch


def check(model: Model, options: Lottery) -> None:
    """Raise InputError where ``options`` cannot be done to ``model``."""
    layers(network(model))


def apply(
    model: Model, options: Lottery, data: Data, context: Context = ALONE
) -> tuple[Model, str]:
    """Return a model with zeros among its weights, trained on ``data``, and a line on how many.

    The embeddings and what stands on top of the layers are trained, and rewound, but not pruned.
    Raises InputError as ``check`` and ``fit`` do, and where there are too few texts.
    """
    check(model, options)
    if len(data) < MIN_SAMPLES:
        raise wrong(options, "training", f"{MIN_SAMPLES} texts are needed, found {len(data)}")
    answered = wanted(model, data, context)
    module = copy.deepcopy(model.module)
    assert module is not None
    ticket = replace(model, module=module)
    weights = [linear.weight for linear in linears(ticket, Unstructured())]
    masks = [weight.detach().new_ones(weight.shape) for weight in weights]
    loss = taught(
        ticket, answered, temperature=options.temperature, label_share=options.label_share
    )
    key = cache.key(**{k: v for k, v in asdict(options).items() if k != "max_drop"})

    def close(_done: int = 0, _total: int = 0) -> None:
        for weight, mask in zip(weights, masks, strict=True):
            weight.data.mul_(mask.to(weight.device))

    if options.rewind:
        short = replace(
            options.training,
            steps=options.rewind,
            schedule="constant",
            warmup=0.0,
            validation=0.0,
            patience=None,
        )
        fit(ticket, data, short, loss, context=context, text="The steps to rewind to", key=key)
    early = copy.deepcopy(module.state_dict())
    for number in range(1, options.rounds + 2):
        last = number == options.rounds + 1
        text = "Training the ticket" if last else f"Round {number} of {options.rounds}"
        fitted = fit(
            ticket,
            data,
            options.training,
            loss,
            context=context,
            text=text,
            after_step=close,
            key=key,
        )
        if not last:
            share = 1 - (1 - options.sparsity) ** (number / options.rounds)
            masks[:] = _masks(weights, share)
            module.load_state_dict(early)
            close()
    zeros = sum(int((weight == 0).sum()) for weight in weights)
    count = sum(weight.numel() for weight in weights)
    progress.note("lottery: zeros make no engine here faster; they only pack better")
    return ticket, (
        f"{zeros:,} of {count:,} weights in the layers are zero ({zeros / count:.1%}), found in "
        f"{options.rounds} rounds and rewound to step {options.rewind}; {fitted}"
    )


def _masks(weights: list[torch.Tensor], share: float) -> list[torch.Tensor]:
    """Return masks, float32, that are 0 for the ``share`` of the smallest weights of all.

    Those that are zero already are the smallest, so that what went stays away.
    """
    import torch

    sizes = [weight.detach().abs() for weight in weights]
    joined = lowest(torch.cat([size.flatten() for size in sizes]), share)
    parts = joined.split([size.numel() for size in sizes])
    return [part.reshape(s.shape).float() for part, s in zip(parts, sizes, strict=True)]
