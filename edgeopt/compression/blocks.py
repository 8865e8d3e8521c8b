# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Set blocks of weights to zero that TVM's kernels skip, and refit what is left.

A block is some outputs of one input of a projection W (outputs, inputs). With z what the projection
is given once those before it are pruned, G the mean of z z^T, and y what it gave in the whole
network, the weights of a group of outputs whose inputs s are left come nearest to y as

    W_s = (mean of y z_s^T + r W[:, s]) (G[s, s] + r I)^-1

(``reconstruct`` has the same for whole inputs). Setting one more block j to zero then costs
sum over its outputs o of f_o W_oj^2 / [(G[s, s] + r I)^-1]_jj, the removal of the optimal brain
surgeon (Hassibi and Stork 1993; of groups: Frantar and Alistarh 2022, "Optimal Brain Compression",
eq. 5; Kurtic et al. 2022, "The Optimal BERT Surgeon"). f_o is the mean squared gradient of the loss
with respect to output o, one for the importance "output". Some blocks go in each round, those that
cost least, and all that is left is refitted.

How much of each projection stays is a multiple-choice knapsack over all of them: what the loss
rises by if only its best blocks stay (``_losses``), against what the kernel takes
(``tvm_sparse.cost``) for as many tokens as it is given: of a classifier's last layer most
projections see one token, and cost next to nothing.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from edgeopt import progress
from edgeopt.backends.tvm_schedule import AVX2, AVX512, NEON
from edgeopt.backends.tvm_sparse import BLOCKS, cost
from edgeopt.compression import budget
from edgeopt.compression.importance import loss
from edgeopt.compression.layerwise import (
    Call,
    first_calls,
    inputs,
    projections,
    through,
    tokens,
    with_ones,
)
from edgeopt.compression.reconstruct import grams
from edgeopt.compression.sparsity import cubic
from edgeopt.compression.technique import Change
from edgeopt.evaluate.data import Data, batches
from edgeopt.model import Model
from edgeopt.model.checkpoint import network
from edgeopt.model.network.first_token import narrowing
from edgeopt.model.network.widths import Layer, blocks, family, layers
from edgeopt.steps import wrong
from edgeopt.steps.blocks import Blocks
from edgeopt.steps.limits import MIN_SAMPLES
from edgeopt.train.context import ALONE, Context
from edgeopt.train.pruning_loss import taught, wanted
from edgeopt.train.training import TO_THE_END, fit

if TYPE_CHECKING:
    import torch

NOTE = "blocks: TVM skips these zeros, in FP32; other engines are as fast as before"

_SEED = 0
_CORES = {4: NEON, 8: AVX2, 16: AVX512}
"""Whose kernels like blocks of so many outputs."""

_SHARES = (3, 6, 10, 15, 20, 25, 30, 35, 40, 50, 60, 70)
"""Percent of a projection's blocks that may stay; 100 is dense."""

_GROUPS = 4
"""Of how many groups of outputs the loss of each share is computed."""

_FLOOR = 0.1  # of the mean squared gradient: few texts see no gradient at outputs that others have


def check(model: Model, options: Blocks) -> None:
    """Raise InputError if ``options`` cannot be done to ``model``."""
    found = layers(network(model))
    if family(network(model)).staged:
        raise wrong(options, "parts", "layers stand in stages of several widths")
    for number, layer in enumerate(found):
        linears = _linears(layer, options)
        if not linears:
            raise wrong(options, "parts", 'no attention of four projections; parts = ["ffn"] works')
        for linear in linears:
            if linear.bias is None:
                raise wrong(
                    options, "parts", f"a projection of layer {number} has no bias to refit"
                )
            if linear.out_features % options.outputs:
                raise wrong(
                    options,
                    "outputs",
                    f"is {options.outputs}, and layer {number} has a projection to "
                    f"{linear.out_features}, no multiple of it",
                )


def apply(model: Model, options: Blocks, data: Data, context: Context = ALONE) -> Change:
    """Return a model with blocks of zeros, and a line on how many; ``model`` stays.

    With ``options.recovery`` what is left is taught by ``context.teacher`` (without one, by
    ``model`` as it is). Raises InputError as ``check`` and ``fit`` do, and if there are too few
    texts.
    """
    check(model, options)
    chosen = data.first(options.samples)
    if len(chosen) < MIN_SAMPLES:
        raise wrong(
            options, "samples", f"{MIN_SAMPLES} {data.noun} are needed, found {len(chosen)}"
        )
    pruned = model.with_module(copy.deepcopy(model.module))
    linears = _every(model, options)
    seen = _sensitivity(model, linears, chosen)
    weights = _rows(model, linears, chosen)
    shares = _shares(model, options, chosen, seen, weights)
    _prune(model, pruned, options, chosen, seen, shares)
    progress.note(NOTE)
    kept = [_kept(linear.weight, options.outputs) for linear in _every(pruned, options)]
    left = sum(int(mask.sum()) for mask in kept) / sum(mask.numel() for mask in kept)
    spent = sum(
        w * m.numel() * _cost(float(m.float().mean()), options)
        for w, m in zip(weights, kept, strict=True)
    ) / sum(w * m.numel() for w, m in zip(weights, kept, strict=True))
    text = (
        f"{left:.1%} of the blocks of {options.outputs} x 1 are left, which take {spent:.3f} of "
        f"the projections' work in TVM ({options.importance})"
    )
    if options.recovery is not None:
        text += f"; {_teach(model, pruned, options, data, context, kept)}"
    return Change(pruned, text, modified=left < 1)


def _teach(
    model: Model,
    pruned: Model,
    options: Blocks,
    data: Data,
    context: Context,
    kept: list[torch.Tensor],
) -> Any:
    """Train ``pruned`` in place; what is zero stays so."""
    assert options.recovery is not None
    masks = [mask.repeat_interleave(options.outputs, 0).float() for mask in kept]
    left = _every(pruned, options)

    def after_step(done: int, total: int) -> None:
        del done, total
        for linear, mask in zip(left, masks, strict=True):
            linear.weight.data.mul_(mask.to(linear.weight.device))

    answered = wanted(model, data, context, options.recovery)
    plain = dataclasses.asdict(dataclasses.replace(options, recovery=None))
    return fit(
        pruned,
        data,
        options.recovery,
        taught(pruned, answered, temperature=options.temperature, label_share=options.label_share),
        context=context,
        text="Training what is left of the blocks",
        after_step=after_step,
        best_from=TO_THE_END,
        key=str(sorted(plain.items())),
    )


def _linears(layer: Layer, options: Blocks) -> list[torch.nn.Linear]:
    return [linear for group in projections(layer, options.parts) for linear in group]


def _every(model: Model, options: Blocks) -> list[torch.nn.Linear]:
    return [one for layer in layers(network(model)) for one in _linears(layer, options)]


def _kept(weight: torch.Tensor, outputs: int) -> torch.Tensor:
    """Return which blocks of ``weight`` are not zero, bool (groups, inputs)."""
    return (weight.detach().unflatten(0, (-1, outputs)) != 0).any(dim=1)


def _sensitivity(model: Model, linears: list[torch.nn.Linear], data: Data) -> list[torch.Tensor]:
    """Return the mean squared gradient of the loss at each output of ``linears``, float64."""
    import torch

    found = [torch.zeros(linear.out_features, dtype=torch.float64) for linear in linears]
    hooks, mask, count, done = [], None, 0, 0
    generator = torch.Generator().manual_seed(_SEED)

    def begin(_: Any, args: Any) -> Any:
        return (args[0].detach().requires_grad_(), *args[1:])

    hooks.append(blocks(network(model))[0].register_forward_pre_hook(begin))
    for linear, total in zip(linears, found, strict=True):

        def watch(_: Any, __: Any, output: torch.Tensor, total: torch.Tensor = total) -> None:
            def add(gradient: torch.Tensor) -> None:
                total.add_(tokens(gradient, mask).square().sum(0))

            output.register_hook(add)

        hooks.append(linear.register_forward_hook(watch))
    try:
        with progress.step(f"Measuring what outputs matter on {len(data)} {data.noun}") as step:
            for batch in batches(model, data):
                mask = None if batch.mask is None else batch.mask.bool()
                (output,) = model.module(*batch.inputs)
                loss(model, output, batch, generator).backward()
                count += len(batch.rows)
                done += len(batch.rows)
                step.update(done, len(data))
    finally:
        for hook in hooks:
            hook.remove()
    return [total / count + _FLOOR * total.mean() / count for total in found]


def _rows(model: Model, linears: list[torch.nn.Linear], data: Data) -> list[float]:
    """Return, for each of ``linears``, the share of a text's tokens that a device gives it."""
    import torch

    counts: dict[torch.nn.Module, int] = {}

    def count(linear: torch.nn.Module, args: Any) -> None:
        counts[linear] = args[0].numel() // args[0].shape[-1]

    hooks = [linear.register_forward_pre_hook(count) for linear in linears]
    try:
        with narrowing(model), torch.no_grad():
            model.module(*next(iter(batches(model, data))).inputs)
    finally:
        for hook in hooks:
            hook.remove()
    most = max(counts.values())
    return [counts.get(linear, 0) / most for linear in linears]


def _shares(
    model: Model,
    options: Blocks,
    data: Data,
    seen: list[torch.Tensor],
    rows: list[float],
) -> list[float]:
    """Return which share of its blocks each projection keeps, within ``options.cost``."""
    linears = _every(model, options)
    if options.widths == "uniform":
        return [_within(options)] * len(linears)
    choices: list[Mapping[int, tuple[float, float]]] = []
    whole = 0.0
    for linear, gram, output, row in zip(
        linears, grams(model, linears, data), seen, rows, strict=True
    ):
        size = row * linear.weight.numel()
        whole += size
        losses = _losses(linear, gram, output, options)
        choices.append(
            {
                share: (size * _cost(share / 100, options), losses[_SHARES[0]] - lost)
                for share, lost in losses.items()
            }
        )
    found = budget.choose(choices, options.cost * whole)
    if found is None:
        raise wrong(options, "cost", f"is {options.cost:g}, less than the cheapest that there is")
    return [share / 100 for share in found]


def _within(options: Blocks) -> float:
    """Return the largest share of blocks that costs at most what ``options`` say."""
    if options.cost >= 1:
        return 1.0
    return max(1, *(s for s in range(1, 100) if _cost(s / 100, options) <= options.cost)) / 100


def _cost(share: float, options: Blocks) -> float:
    return cost(share, BLOCKS[_CORES[options.outputs]])


def _losses(
    linear: torch.nn.Linear, gram: torch.Tensor, output: torch.Tensor, options: Blocks
) -> dict[int, float]:
    """Return what the loss rises by, if so many percent of the blocks stay and are refitted.

    Removing the inputs r of a group together costs W_r ([G^-1]_rr)^-1 W_r^T for each output, far
    more than one after the other where inputs are alike. A few groups stand for all.
    """
    import torch

    weight = linear.weight.detach().double().unflatten(0, (-1, options.outputs))
    factor = _factor(output, options).unflatten(0, (-1, options.outputs))
    inverse = torch.linalg.inv(_ridged(gram, options.ridge))[:-1, :-1]
    scores = (weight.square() * factor[..., None]).sum(1)  # (groups, inputs)
    if options.importance != "magnitude":
        scores = scores / inverse.diagonal()
    limits = scores.flatten().sort().values
    every = range(0, len(weight), max(1, len(weight) // _GROUPS))
    found = {}
    for share in (*_SHARES, 100):
        gone = len(limits) - round(share / 100 * len(limits))
        total = 0.0
        for group in every if gone else ():
            index = (scores[group] <= limits[gone - 1]).nonzero().flatten()
            removed = weight[group][:, index]
            joint = torch.linalg.solve(inverse[index][:, index], removed, left=False)
            total += float(((joint * removed).sum(1) * factor[group]).sum())
        found[share] = total * len(weight) / len(every)
    return found


def _factor(output: torch.Tensor, options: Blocks) -> torch.Tensor:
    """Return how much the squared error of each output counts, float64."""
    import torch

    return output if options.importance == "fisher" else torch.ones_like(output)


def _ridged(gram: torch.Tensor, ridge: float) -> torch.Tensor:
    """Return ``gram`` with the penalty on its diagonal; the last one, the bias', has none."""
    found = gram.clone()
    size = ridge * gram.diagonal()[:-1].mean()
    # 1e-12: inputs that are all zero leave no mean to add a share of.
    found.diagonal()[:-1].add_(size.clamp_min(1e-12))
    return found


def _prune(
    model: Model,
    pruned: Model,
    options: Blocks,
    data: Data,
    seen: list[torch.Tensor],
    shares: list[float],
) -> None:
    """Prune projection after projection of ``pruned`` in place, on what those before it now give.

    What each is refitted to is what the one of ``model`` gives there, and if its output is added
    to a residual, what that has lost by then.
    """
    before = after = first_calls(model, data)
    jobs = iter(zip(seen, shares, strict=True))
    pairs = list(zip(layers(network(model)), layers(network(pruned)), strict=True))
    with progress.step(f"Pruning blocks on {len(data)} {data.noun}") as step:
        for number, (whole, left) in enumerate(pairs):
            for group, new_group in zip(
                projections(whole, options.parts), projections(left, options.parts), strict=True
            ):
                parts = [(*pair, *next(jobs)) for pair in zip(group, new_group, strict=True)]
                if all(share == 1 for *_, share in parts):
                    continue
                means = _means(whole, left, group, new_group, before, after)
                for (old, new, output, share), (right, gram) in zip(parts, means, strict=True):
                    if share < 1:
                        _refit(old, new, right, gram, output, share, options)
            before = [through(whole.block, call) for call in before]
            after = [through(left.block, call) for call in after]
            step.update(number + 1, len(pairs))


def _means(
    whole: Layer,
    left: Layer,
    group: tuple[torch.nn.Linear, ...],
    new_group: tuple[torch.nn.Linear, ...],
    before: list[Call],
    after: list[Call],
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return the means of y z^T and z z^T for each projection of ``group``, float64."""
    import torch

    first = group[0]
    found = [
        (
            torch.zeros(one.out_features, one.in_features + 1, dtype=torch.float64),
            torch.zeros(one.in_features + 1, one.in_features + 1, dtype=torch.float64),
        )
        for one in group
    ]
    beside = _residual(whole, first)
    new_beside = _residual(left, new_group[0])
    count = 0
    for call, new_call in zip(before, after, strict=True):
        x, *old_residual = inputs(whole.block, [first, *beside], call)
        z, *new_residual = inputs(left.block, [new_group[0], *new_beside], new_call)
        z = with_ones(z)
        count += len(z)
        gram = z.T @ z
        for one, (right, total) in zip(group, found, strict=True):
            y = one(x)
            if old_residual:
                y = y + old_residual[0] - new_residual[0]
            right.add_(y.T @ z)
            total.add_(gram)
    return [(right / count, total / count) for right, total in found]


def _residual(layer: Layer, linear: torch.nn.Linear) -> list[torch.nn.Module]:
    """Return the module that is given what the output of ``linear`` is added to, if any."""
    if layer.family.residual is None:
        return []
    names = dict(
        zip((layer.attention_output, layer.ffn_output), layer.family.residual, strict=True)
    )
    return [layer.block.get_submodule(names[linear])] if linear in names else []


def _refit(
    old: torch.nn.Linear,
    new: torch.nn.Linear,
    right: torch.Tensor,
    gram: torch.Tensor,
    output: torch.Tensor,
    share: float,
    options: Blocks,
) -> None:
    """Leave the share of the blocks of ``new`` that matter most, refitted, in place."""
    import torch

    size = options.ridge * gram.diagonal()[:-1].mean()
    weight = torch.cat([old.weight.double(), old.bias.double().unsqueeze(1)], dim=1)
    ridged = _ridged(gram, options.ridge)
    penalty = torch.full((weight.shape[1],), float(size), dtype=torch.float64)
    penalty[-1] = 0
    target = right + weight * penalty
    groups = old.out_features // options.outputs
    kept = torch.ones(groups, old.in_features, dtype=torch.bool)
    whole = torch.linalg.inv(ridged)
    found, diagonal = target @ whole, whole.diagonal()[:-1].expand(groups, -1)
    factor = _factor(output, options)
    for number in range(1, options.rounds + 1):
        due = round((1 - (1 - share) * cubic(number / options.rounds)) * kept.numel())
        squares = found[:, :-1].square()
        if options.importance != "magnitude":
            squares = squares * factor[:, None] / diagonal.repeat_interleave(options.outputs, 0)
        scores = squares.unflatten(0, (groups, options.outputs)).sum(1)
        scores[~kept] = -1.0  # what went stays away
        best = scores.flatten().argsort(descending=True)[:due]
        kept = torch.zeros(kept.numel(), dtype=torch.bool)
        kept[best] = True
        kept = kept.unflatten(0, (groups, old.in_features))
        found, diagonal = _fitted(kept, target, ridged, options.outputs)
    new.weight.data.copy_(found[:, :-1].float())
    new.bias.data.copy_(found[:, -1].float())


def _fitted(
    kept: torch.Tensor, target: torch.Tensor, ridged: torch.Tensor, outputs: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the refitted weights with the bias, and the inverses' diagonals (groups, inputs)."""
    import torch

    found = torch.zeros_like(target)
    diagonals = torch.ones(kept.shape, dtype=torch.float64)
    for number, index in _indices(kept):
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(ridged[index][:, index]))
        rows = slice(number * outputs, (number + 1) * outputs)
        found[rows, index] = target[rows][:, index] @ inverse
        diagonals[number, index[:-1]] = inverse.diagonal()[:-1]
    return found, diagonals


def _indices(kept: torch.Tensor) -> Iterator[tuple[int, torch.Tensor]]:
    """Give each group's number and the inputs that it keeps, with the ones for the bias last."""
    import torch

    last = torch.tensor([kept.shape[1]])
    for number, row in enumerate(kept):
        yield number, torch.cat([row.nonzero().flatten(), last])
