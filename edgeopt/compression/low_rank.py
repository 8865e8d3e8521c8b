# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Factor linear layers: W x + b becomes U (V x) + b'.

That takes rank * (inputs + outputs) products instead of inputs * outputs.

``svd`` takes the best U V to W itself. ``activation`` takes the best to the layer's outputs on the
user's texts: the inputs have the covariance C, so that |(W - U V) C^1/2| is least (Chen et al.
2021, "DRONE", eq. 4; SVD-LLM, Wang et al. 2024, whitens by a Cholesky factor of the same). With
the singular vectors U of W C^1/2, that is V = U^T W: no inverse is needed, and the rank may be
anything even if C has none. The error's mean, (W - U V) mean(x), goes into the bias.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeopt import progress
from edgeopt.compression.reconstruct import grams
from edgeopt.compression.technique import Change
from edgeopt.evaluate.data import Data
from edgeopt.model import Model
from edgeopt.model.checkpoint import network
from edgeopt.model.network import low_rank
from edgeopt.model.network.shape_config import describe
from edgeopt.model.network.widths import Layer, family, layers
from edgeopt.steps import wrong
from edgeopt.steps.limits import MIN_SAMPLES
from edgeopt.steps.low_rank import LINEARS, LowRank
from edgeopt.train.context import ALONE, Context

if TYPE_CHECKING:
    import torch

    from edgeopt.model.network.factors import Factors


def check(model: Model, options: LowRank) -> None:
    """Raise InputError if ``options`` cannot be done to ``model``, or would change nothing."""
    found = [linear for layer in layers(network(model)) for linear in _linears(layer, options)]
    if not found:
        raise wrong(
            options,
            "parts",
            f"{type(network(model)).__name__} has no attention of four projections; "
            'parts = ["ffn_input", "ffn_output"] works',
        )
    most = max(_break_even(linear) for linear in found)
    for option in ("rank", "multiple"):
        value = getattr(options, option)
        if value is not None and value > most:
            raise wrong(
                options,
                option,
                f"is {value}, but no layer becomes cheaper above rank {most}: two layers cost "
                "rank * (inputs + outputs)",
            )


def apply(model: Model, options: LowRank, data: Data, context: Context = ALONE) -> Change:
    """Return a model whose linear layers are factored, and a line on the ranks.

    A layer whose rank would save nothing stays whole, and the line says how many did. ``model``
    stays as it is. Raises InputError as ``check`` does, and if there are too few texts.
    """
    del context
    check(model, options)
    chosen = data.first(options.samples)
    if options.method == "activation" and len(chosen) < MIN_SAMPLES:
        raise wrong(
            options, "samples", f"{MIN_SAMPLES} {data.noun} are needed, found {len(chosen)}"
        )
    jobs = _jobs(model, options, chosen)
    module = copy.deepcopy(model.module)
    ranks, saved, whole = [], 0, 0
    with progress.step(f"Factoring {len(jobs)} layers") as step:
        for i, (name, job) in enumerate(jobs.items()):
            basis, energies = directions(job.linear, job.gram)
            rank = _rank(job.linear, energies, options)
            if rank is None:
                whole += 1
            else:
                made = low_rank.replace(module.network, name, rank)
                _fill(made, job, basis[:, :rank])
                ranks.append(rank)
                saved += job.linear.weight.numel() - rank * sum(job.linear.weight.shape)
            step.update(i + 1, len(jobs))
    describe(module.network)
    text = _line(ranks, whole, saved, jobs)
    return Change(model.with_module(module), text, modified=bool(ranks))


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Job:
    linear: torch.nn.Linear
    gram: torch.Tensor | None  # of the inputs and a one, as ``grams`` gives it; None for "svd"


def _linears(layer: Layer, options: LowRank) -> list[torch.nn.Linear]:
    """Return the linear modules of ``layer`` that are to be factored."""
    found: list[torch.nn.Linear] = []
    for part in LINEARS:
        if part in options.parts:
            one = getattr(layer, part)
            found += one if isinstance(one, tuple) else [one] if one is not None else []
    return found


def _jobs(model: Model, options: LowRank, data: Data) -> dict[str, _Job]:
    """Return what is to be factored, by its name in the base model."""
    net = network(model)
    names = {module: name for name, module in net.base_model.named_modules()}
    wanted = [linear for layer in layers(net) for linear in _linears(layer, options)]
    found: dict[torch.nn.Linear, torch.Tensor] = {}
    if options.method == "activation":
        # Query, key and value have one input, which is looked at once.
        # In stages keys and values may have one that is cut down.
        alike = [] if family(net).staged else layers(net)
        first = {q: layer.qkv[0] for layer in alike for q in layer.qkv}
        seen = list(dict.fromkeys(first.get(linear, linear) for linear in wanted))
        by_module = dict(zip(seen, grams(model, seen, data), strict=True))
        found = {linear: by_module[first.get(linear, linear)] for linear in wanted}
    return {names[linear]: _Job(linear=linear, gram=found.get(linear)) for linear in wanted}


def directions(
    linear: torch.nn.Linear, gram: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the directions of the outputs of ``linear``, best first, and what each explains.

    float64: (outputs, n) with orthonormal columns, and (n,), n being the lesser of inputs and
    outputs. ``gram`` is of the inputs, as ``reconstruct.grams`` gives it; without, every input
    counts alike.
    """
    import torch

    weight = linear.weight.detach().double()
    if gram is not None:
        mean = gram[:-1, -1]
        # Without a bias nothing can take up the mean error, so that the mean counts as well.
        free = linear.bias is not None
        covariance = gram[:-1, :-1] - torch.outer(mean, mean) if free else gram[:-1, :-1]
        values, vectors = torch.linalg.eigh(covariance)
        weight = weight @ (vectors * values.clamp_min(0).sqrt())
    basis, singular, _ = torch.linalg.svd(weight, full_matrices=False)
    return basis, singular.square()


def _break_even(linear: torch.nn.Linear) -> int:
    """Return the highest rank that costs less than ``linear``."""
    outputs, inputs = linear.out_features, linear.in_features
    return (outputs * inputs - 1) // (outputs + inputs)


def _rank(linear: torch.nn.Linear, energies: torch.Tensor, options: LowRank) -> int | None:
    """Return the rank that options ask for, None if it would save nothing."""
    if options.energy is not None:
        kept = energies.cumsum(0) / energies.sum()
        rank = int((kept < options.energy).sum()) + 1
        rank += -rank % options.multiple  # up: less than this energy was not asked for
    else:
        if options.share is not None:
            products = linear.in_features * linear.out_features
            each = linear.in_features + linear.out_features
            rank = int(options.share * products / each + 1e-9)  # as 0.3 * 10 is a little below 3
        else:
            assert options.rank is not None
            rank = options.rank
        rank = max(rank - rank % options.multiple, options.multiple)
    return rank if rank <= _break_even(linear) else None


def _fill(made: Factors, job: _Job, basis: torch.Tensor) -> None:
    """Give the Factors ``made`` their weights: outputs are projected on ``basis``."""
    import torch

    weight = job.linear.weight.detach().double()
    first = basis.T @ weight

    def parameter(value: torch.Tensor) -> torch.nn.Parameter:
        return torch.nn.Parameter(value.float().contiguous(), requires_grad=False)

    made.first.weight = parameter(first)
    made.second.weight = parameter(basis)
    if job.linear.bias is not None:
        bias = job.linear.bias.detach().double()
        if job.gram is not None:
            bias = bias + (weight - basis @ first) @ job.gram[:-1, -1]
        made.second.bias = parameter(bias)


def _line(ranks: list[int], whole: int, saved: int, jobs: dict[str, _Job]) -> str:
    """Return what was done, for people."""
    before = sum(job.linear.weight.numel() for job in jobs.values())
    text = f"{len(ranks)} of {len(jobs)} linear layers factored"
    if ranks:
        low, high = min(ranks), max(ranks)
        text += f", rank {low}" if low == high else f", ranks {low}-{high}"
        text += f", {1 - saved / before:.0%} of their multiplications left"
    if whole:
        text += f"; {whole} stay whole, as they would not become cheaper"
    return text
