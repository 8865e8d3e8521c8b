# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Remove attention heads and FFN neurons, so that the network itself is smaller."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from edgeopt import progress
from edgeopt.compression import budget, importance
from edgeopt.compression.rearrange import rearrange
from edgeopt.compression.reconstruct import refit_at_once, refit_in_turn
from edgeopt.compression.technique import Change
from edgeopt.estimate.costs import LayerCosts, Shape, round_neurons
from edgeopt.evaluate.data import Data
from edgeopt.evaluate.score import answers, change
from edgeopt.model import Model
from edgeopt.model.checkpoint import network, parameters
from edgeopt.model.network.shape_config import describe
from edgeopt.model.network.tokens import reductions
from edgeopt.model.network.widths import family, heads_stay, keep, layers
from edgeopt.steps import wrong
from edgeopt.steps.limits import MIN_SAMPLES
from edgeopt.steps.structured import Structured
from edgeopt.train.context import ALONE, Context

if TYPE_CHECKING:
    import torch

    from edgeopt.steps.gradual import Gradual

_CHECKED = 256
"""Texts that show whether refitting helped."""

Kept = list[list[int]]
"""For each layer which heads, or which neurons, are left."""


def check(model: Model, options: Structured) -> None:
    """Raise InputError if ``options`` cannot be done to ``model``."""
    check_widths(model, options)
    if options.latency is not None and options.importance == "magnitude":
        raise wrong(options, "importance", "magnitudes of heads and neurons do not compare")
    if options.latency is not None and family(network(model)).staged:
        raise wrong(
            options,
            "latency",
            "chooses widths by what one shape of layer costs, and the stages of this network have "
            "layers of several; remove, heads and neurons work",
        )
    if options.reconstruct and reductions(network(model)):
        raise wrong(options, "reconstruct", "layers hand on fewer tokens; let this step come first")


def check_widths(model: Model, options: Structured | Gradual) -> None:
    """Raise InputError if ``model`` has not the heads and neurons that are to stay."""
    found = layers(network(model))
    if "heads" in options.parts and (why := heads_stay(network(model))):
        raise wrong(options, "parts", f'{why}; parts = ["neurons"] works')
    for part in ("heads", "neurons"):
        there = min(getattr(layer, part) for layer in found)
        kept = getattr(options, part)
        if kept is not None and part in options.parts and kept > there:
            raise wrong(options, part, f"{kept} are to be kept a layer, but there are {there}")
    most = min(layer.neurons for layer in found)
    if "neurons" in options.parts and (options.multiple or 1) > most:
        raise wrong(options, "multiple", f"is {options.multiple}, but there are {most} neurons")


def apply(model: Model, options: Structured, data: Data, context: Context = ALONE) -> Change:
    """Return a model without the heads and neurons that matter least, and a line on what went.

    ``data`` (labelled for a classifier if there are labels) gives importance and
    reconstruction; ``model`` stays as it is. Raises InputError as ``check`` does, and if there
    are too few texts.
    """
    check(model, options)
    chosen = data.first(options.samples)
    if len(chosen) < MIN_SAMPLES:
        raise wrong(
            options, "samples", f"{MIN_SAMPLES} {data.noun} are needed, found {len(chosen)}"
        )
    table = None if options.latency is None else _costs(model, options, context)
    heads, neurons = choose(model, options, chosen, table)
    pruned = prune(model, heads, neurons, options, chosen)
    text = told(model, pruned)
    if options.reconstruct:
        # What was fitted to few texts, or to texts that are alike, may do harm to others.
        plain = replace(options, reconstruct=False)
        sliced = prune(model, heads, neurons, plain, chosen)
        unseen = data.take(range(options.samples, min(len(data), options.samples + _CHECKED)))
        if _nearer(model, sliced, pruned, unseen if len(unseen) >= MIN_SAMPLES else chosen):
            pruned = sliced
            text += ", not refitted, which would have changed the outputs more"
    if table is not None:
        share = _cost(pruned, table) / _cost(model, table)
        text += f", {share:.3f} of the layers' cost ({context.costs.name})"
    return Change(pruned, text, modified=parameters(pruned) < parameters(model))


def _nearer(model: Model, one: Model, other: Model, data: Data) -> bool:
    """Tell whether the outputs of ``one`` are nearer to those of ``model`` than ``other``'s."""
    found = [answers(m, data, "Comparing with and without refitting") for m in (model, one, other)]
    changes = [change(model, outputs, found[0], data) for outputs in found[1:]]
    return changes[0] < changes[1]


def told(before: Model, after: Model) -> str:
    """Return a line that tells how many heads and neurons of ``before`` are left in ``after``."""
    whole, left = layers(network(before)), layers(network(after))

    def part(name: str) -> str:
        ranges = []
        for found in (left, whole):
            counts = sorted({getattr(layer, name) for layer in found})
            ranges.append("-".join(map(str, dict.fromkeys((counts[0], counts[-1])))))
        return f"{ranges[0]} of {ranges[1]} {name}"

    heads = f"{part('heads')} and " if whole[0].heads else ""
    return f"{heads}{part('neurons')} kept in each layer"


def choose(
    model: Model, options: Structured, data: Data, table: LayerCosts | None = None
) -> tuple[Kept, Kept]:
    """Return the heads and the neurons that each layer keeps, ascending.

    ``table`` is what they cost; it is needed if ``options.latency`` is set.
    """
    found = layers(network(model))
    if options.importance == "magnitude":
        pairs = [importance.magnitude(layer) for layer in found]
        return (
            _select([pair[0] for pair in pairs], options, "heads"),
            _select([pair[1] for pair in pairs], options, "neurons"),
        )
    per_layer = importance.gradients(model, data)
    measure = importance.fisher if options.importance == "fisher" else importance.taylor
    widths = None
    if table is not None:
        widths = _within(
            [measure(layer.heads).tolist() for layer in per_layer],
            [measure(layer.neurons).tolist() for layer in per_layer],
            options,
            table,
        )
    parts = []
    for i, part in enumerate(("heads", "neurons")):
        gradients: list[torch.Tensor] = [getattr(layer, part) for layer in per_layer]
        scores = [measure(gradient) for gradient in gradients]
        kept = _best(scores, widths[i]) if widths else _select(scores, options, part)
        if options.rearrange and options.importance == "fisher":
            with progress.step(f"Rearranging the {part}"):
                kept = [
                    rearrange(gradient, gradient.shape[1] - len(left))
                    for gradient, left in zip(gradients, kept, strict=True)
                ]
        parts.append(kept)
    return parts[0], parts[1]


def _costs(model: Model, options: Structured, context: Context) -> LayerCosts:
    """Return the costs of the widest layer's widths, and of all below."""
    found = layers(network(model))
    shape = Shape(
        hidden=found[0].ffn_input.in_features,
        head_dim=found[0].head_dim,
        heads=max(layer.heads for layer in found),
        neurons=max(layer.neurons for layer in found),
    )
    return context.costs(shape, options.multiple)


def _cost(model: Model, table: LayerCosts) -> float:
    """Return what all layers cost; a width that is not in the table as the next wider one."""

    def at_least(costs: Mapping[int, float], width: int) -> float:
        return costs[min(n for n in costs if n >= width)]

    return sum(
        at_least(table.heads, layer.heads) + at_least(table.neurons, layer.neurons)
        for layer in layers(network(model))
    )


def _within(
    heads: Sequence[Sequence[float]],
    neurons: Sequence[Sequence[float]],
    options: Structured,
    table: LayerCosts,
) -> tuple[list[int], list[int]]:
    """Return how many heads and neurons each layer keeps, by the importance of each of them.

    A part that ``options.parts`` leaves alone stays whole, and counts.
    """
    choices = []
    for part, costs, scores in (
        *(("heads", table.heads, layer) for layer in heads),
        *(("neurons", table.neurons, layer) for layer in neurons),
    ):
        here = {n: cost for n, cost in costs.items() if n <= len(scores)}
        here[len(scores)] = costs[min(n for n in costs if n >= len(scores))]
        widths = list(here) if part in options.parts else [len(scores)]
        kept = budget.kept_importance(scores, widths)
        choices.append({n: (here[n], kept[n]) for n in widths})
    whole = sum(choice[max(choice)][0] for choice in choices)
    assert options.latency is not None
    found = budget.choose(choices, options.latency * whole)
    if found is None:
        least = sum(min(cost for cost, _ in choice.values()) for choice in choices) / whole
        raise wrong(
            options, "latency", f"is {options.latency:g}, but the cheapest widths cost {least:.3f}"
        )
    return found[: len(heads)], found[len(heads) :]


def _best(scores: Sequence[torch.Tensor], widths: Sequence[int]) -> Kept:
    """Return the indices of as many of the highest ``scores`` of each layer, ascending."""
    return [
        sorted(score.argsort(descending=True)[:width].tolist())
        for score, width in zip(scores, widths, strict=True)
    ]


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
        keeps = [
            round_neurons(kept, count, options.multiple)
            for kept, count in zip(keeps, counts, strict=True)
        ]
    return _best(scores, [max(1, kept) for kept in keeps])


def prune(model: Model, heads: Kept, neurons: Kept, options: Structured, data: Data) -> Model:
    """Return a model with these ``heads`` and ``neurons`` only, its projections refitted.

    Without ``options.reconstruct`` the weights that are left stay as they are.
    """
    pruned = copy.deepcopy(model.module)
    assert pruned is not None
    columns = []
    for left, left_heads, left_neurons in zip(layers(pruned.network), heads, neurons, strict=True):
        keep(left, left_heads, left_neurons)
        of_heads = [h * left.head_dim + i for h in left_heads for i in range(left.head_dim)]
        columns.append((of_heads, left_neurons))
    if options.reconstruct:
        chain = family(network(model)).residual is not None
        refits = refit_in_turn if chain else refit_at_once
        refits(model, pruned, columns, data, options.ridge)
    describe(pruned.network)
    return model.with_module(pruned)
