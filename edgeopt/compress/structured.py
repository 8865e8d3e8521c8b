"""Remove attention heads and FFN neurons, so that the network itself is smaller."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from edgeopt import progress
from edgeopt.compress import importance
from edgeopt.compress.checkpoint import network
from edgeopt.compress.context import ALONE, Context
from edgeopt.compress.data import Data
from edgeopt.compress.rearrange import rearrange
from edgeopt.compress.reconstruct import grams, refit
from edgeopt.model import Model
from edgeopt.model.section import describe
from edgeopt.model.tokens import reductions
from edgeopt.model.widths import keep, layers
from edgeopt.steps import wrong
from edgeopt.steps.limits import MIN_SAMPLES
from edgeopt.steps.structured import Structured

if TYPE_CHECKING:
    import torch

Kept = list[list[int]]
"""For each layer which heads, or which neurons, are left."""


def check(model: Model, options: Structured) -> None:
    """Raise InputError where ``options`` cannot be done to ``model``."""
    found = layers(network(model))
    for part in ("heads", "neurons"):
        there = min(getattr(layer, part) for layer in found)
        kept = getattr(options, part)
        if kept is not None and kept > there:
            raise wrong(options, part, f"{kept} are to be kept a layer, but there are {there}")
    if options.reconstruct and reductions(network(model)):
        raise wrong(options, "reconstruct", "layers hand on fewer tokens; let this step come first")
    most = min(layer.neurons for layer in found)
    if "neurons" in options.parts and options.multiple > most:
        raise wrong(options, "multiple", f"is {options.multiple}, but there are {most} neurons")


def apply(
    model: Model, options: Structured, data: Data, context: Context = ALONE
) -> tuple[Model, str]:
    """Return a model without the heads and neurons that matter least, and a line on what went.

    ``data`` (labelled for a classifier where there are labels) gives importance and
    reconstruction; ``model`` stays as it is. Raises InputError as ``check`` does, and where there
    are too few texts.
    """
    del context
    check(model, options)
    chosen = data.first(options.samples)
    if len(chosen) < MIN_SAMPLES:
        raise wrong(options, "samples", f"{MIN_SAMPLES} texts are needed, found {len(chosen)}")
    heads, neurons = choose(model, options, chosen)
    pruned = prune(model, heads, neurons, options, chosen)
    before, after = layers(network(model)), layers(network(pruned))

    def told(part: str) -> str:
        counts = sorted({getattr(layer, part) for layer in after})
        left = str(counts[0]) if len(counts) == 1 else f"{counts[0]}-{counts[-1]}"
        return f"{left} of {getattr(before[0], part)} {part}"

    return pruned, f"{told('heads')} and {told('neurons')} kept in each layer"


def choose(model: Model, options: Structured, data: Data) -> tuple[Kept, Kept]:
    """Return the heads and the neurons that each layer keeps, ascending."""
    found = layers(network(model))
    if options.importance == "magnitude":
        pairs = [importance.magnitude(layer) for layer in found]
        return (
            _select([pair[0] for pair in pairs], options, "heads"),
            _select([pair[1] for pair in pairs], options, "neurons"),
        )
    per_layer = importance.gradients(model, data)
    measure = importance.fisher if options.importance == "fisher" else importance.taylor
    parts = []
    for part in ("heads", "neurons"):
        gradients: list[torch.Tensor] = [getattr(layer, part) for layer in per_layer]
        kept = _select([measure(gradient) for gradient in gradients], options, part)
        if options.rearrange and options.importance == "fisher":
            with progress.step(f"Rearranging the {part}"):
                kept = [
                    rearrange(gradient, gradient.shape[1] - len(left))
                    for gradient, left in zip(gradients, kept, strict=True)
                ]
        parts.append(kept)
    return parts[0], parts[1]


def _select(scores: Sequence[torch.Tensor], options: Structured, part: str) -> Kept:
    """Return the indices of the highest ``scores`` of each layer, as many as options say."""
    import torch

    counts = [len(score) for score in scores]
    if part not in options.parts:
        return [list(range(count)) for count in counts]
    fixed = getattr(options, part)
    # Rounded down, as 30 % removed is a promise; 1e-9 as 0.7 * 10 is a little below 7.
    keeps = [fixed or max(1, int(count * (1 - options.remove) + 1e-9)) for count in counts]
    if options.widths == "uneven":
        joined = torch.cat(list(scores))
        best = joined.argsort(descending=True)[: sum(keeps)]
        owner = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
        keeps = torch.bincount(owner[best], minlength=len(counts)).tolist()
    if part == "neurons":
        step = options.multiple
        keeps = [
            max(step, min(round(kept / step), count // step) * step)
            for kept, count in zip(keeps, counts, strict=True)
        ]
    return [
        sorted(score.argsort(descending=True)[: max(1, kept)].tolist())
        for score, kept in zip(scores, keeps, strict=True)
    ]


def prune(model: Model, heads: Kept, neurons: Kept, options: Structured, data: Data) -> Model:
    """Return a model with these ``heads`` and ``neurons`` only, its projections refitted.

    Without ``options.reconstruct`` the weights that are left stay as they are.
    """
    import torch

    original = layers(network(model))
    pruned = copy.deepcopy(model.module)
    assert pruned is not None
    jobs: list[tuple[torch.nn.Linear, torch.nn.Linear, list[int]]] = []  # original, new, columns
    for whole, left, left_heads, left_neurons in zip(
        original, layers(pruned.network), heads, neurons, strict=True
    ):
        keep(left, left_heads, left_neurons)
        columns = [h * left.head_dim + i for h in left_heads for i in range(left.head_dim)]
        jobs.append((whole.attention_output, left.attention_output, columns))
        jobs.append((whole.ffn_output, left.ffn_output, left_neurons))
    if options.reconstruct:
        jobs = [job for job in jobs if job[1].in_features < job[0].in_features]
        found = grams(model, [old for old, _, _ in jobs], data)
        with progress.step("Refitting the projections by least squares"):
            for (old, new, columns), gram in zip(jobs, found, strict=True):
                weight, bias = refit(old, gram, columns, options.ridge)
                new.weight = torch.nn.Parameter(weight, requires_grad=False)
                new.bias = torch.nn.Parameter(bias, requires_grad=False)
    describe(pruned.network)
    return replace(model, module=pruned)
