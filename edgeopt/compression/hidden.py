# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Remove channels of the residual stream: the hidden size, from the embeddings to the classifier.

A gate of one on a channel, the same after every norm, tells by its gradient what the channel
matters (``importance``: fisher, taylor); ``magnitude`` is the channel's mean square there.

A norm has other statistics on fewer channels. Its scale and shift are fitted again, channel by
channel, so that on the user's texts its output comes nearest (least squares) to what it was, and
the linear layers that read it are refitted as in ``reconstruct``. A rotation of the stream by its
principal components (SliceGPT, Ashkboos et al. 2024) loses less, but a LayerNorm does not commute
with it, so that a network of these architectures would not be what comes out.

Without training this costs much accuracy; it is a start for distillation.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from edgeopt import progress
from edgeopt.compression import importance
from edgeopt.compression.reconstruct import grams, refit
from edgeopt.compression.technique import Change
from edgeopt.evaluate.data import Batch, Data, batches
from edgeopt.model import Model
from edgeopt.model.checkpoint import network
from edgeopt.model.network.hidden import keep, stream
from edgeopt.model.network.shape_config import describe
from edgeopt.steps import wrong
from edgeopt.steps.hidden import Hidden
from edgeopt.steps.limits import MIN_SAMPLES
from edgeopt.train.context import ALONE, Context

if TYPE_CHECKING:
    import torch

_SEED = 0


def check(model: Model, options: Hidden) -> None:
    """Raise InputError if ``options`` cannot be done to ``model``, or would change nothing."""
    width = stream(network(model)).width
    left = _left(width, options)
    if not 0 < left < width:
        option = "remove" if options.size is None else "size"
        raise wrong(
            options,
            option,
            f"leaves {left} of {width} channels, in multiples of {options.multiple}",
        )


def apply(model: Model, options: Hidden, data: Data, context: Context = ALONE) -> Change:
    """Return a model with a narrower residual stream, and a line on it; ``model`` stays as it is.

    Raises InputError as ``check`` does, and if there are too few texts.
    """
    del context
    check(model, options)
    chosen = data.first(options.samples)
    if len(chosen) < MIN_SAMPLES:
        raise wrong(options, "samples", f"{MIN_SAMPLES} texts are needed, found {len(chosen)}")
    scores = importances(model, options.importance, chosen)
    left = _left(len(scores), options)
    channels = sorted(scores.argsort(descending=True)[:left].tolist())
    text = f"{left} of {len(scores)} channels of the residual stream kept"
    return Change(prune(model, channels, options, chosen), text)


def _left(width: int, options: Hidden) -> int:
    """Return how many of ``width`` channels stay."""
    wanted = options.size or width * (1 - options.remove)
    return int(wanted / options.multiple + 0.5) * options.multiple


def importances(model: Model, kind: str, data: Data) -> torch.Tensor:
    """Return how much each channel matters, float32 (channels,).

    ``kind`` is fisher, taylor or magnitude.
    """
    import torch

    found = stream(network(model))
    generator = torch.Generator().manual_seed(_SEED)
    rows: list[torch.Tensor] = []
    done = 0
    with progress.step(f"Measuring what channels matter on {len(data)} texts") as step:
        for batch in batches(model, data):
            if kind == "magnitude":
                rows.append(_squares(model, found.norms, batch))
            else:
                gate = torch.ones(len(batch.rows), found.width, requires_grad=True)
                hooks = [
                    norm.register_forward_hook(lambda _, x, y, g=gate: y * g.unsqueeze(1))
                    for norm in found.norms
                ]
                try:
                    (output,) = model.module(*batch.inputs)
                finally:
                    for hook in hooks:
                        hook.remove()
                total = importance.loss(model, output, batch, generator)
                rows += torch.autograd.grad(total, [gate])
            done += len(batch.rows)
            step.update(done, len(data))
    joined = torch.cat(rows)  # (texts, channels)
    if kind == "magnitude":
        return joined.mean(0)
    return importance.fisher(joined) if kind == "fisher" else importance.taylor(joined)


def _squares(model: Model, norms: Sequence[torch.nn.LayerNorm], batch: Batch) -> torch.Tensor:
    """Return (texts, channels): the squares behind all norms, means over each text's tokens."""
    import torch

    assert batch.mask is not None  # of texts
    weights = (batch.mask / batch.mask.sum(1, keepdim=True)).unsqueeze(-1)
    found = torch.zeros(len(batch.rows), len(norms[0].weight))

    def add(_: Any, inputs: Any, output: torch.Tensor) -> None:
        found.add_((output.square() * weights).sum(1))

    hooks = [norm.register_forward_hook(add) for norm in norms]
    try:
        with torch.inference_mode():
            model.module(*batch.inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def prune(model: Model, channels: Sequence[int], options: Hidden, data: Data) -> Model:
    """Return a model with these ``channels`` only, refitted if ``options.reconstruct``."""
    import torch

    module = copy.deepcopy(model.module)
    keep(module.network, channels)
    if options.reconstruct:
        old, new = stream(network(model)), stream(module.network)
        for norm, fitted in zip(new.norms, _norms(model, channels, data), strict=True):
            norm.weight, norm.bias = (torch.nn.Parameter(v, requires_grad=False) for v in fitted)
        found = grams(model, old.readers, data)
        with progress.step("Refitting what reads the residual stream, by least squares"):
            for whole, left, gram in zip(old.readers, new.readers, found, strict=True):
                weight, bias = refit(whole, gram, channels, options.ridge)
                left.weight = torch.nn.Parameter(weight, requires_grad=False)
                left.bias = torch.nn.Parameter(bias, requires_grad=False)
    describe(module.network)
    return model.with_module(module)


def _norms(
    model: Model, channels: Sequence[int], data: Data
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return scale and shift of each norm, float32 (channels,), for the statistics of ``channels``.

    With z the norm of the kept channels alone and y what the whole norm gives, the scale is
    cov(z, y) / var(z) and the shift mean(y) - scale * mean(z), over all tokens.
    """
    import torch

    norms = stream(network(model)).norms
    index = torch.tensor(channels)
    sums = [torch.zeros(4, len(channels), dtype=torch.float64) for _ in norms]
    mask = torch.empty(0)
    tokens = done = 0
    hooks = []
    for norm, total in zip(norms, sums, strict=True):

        def add(norm: Any, inputs: Any, output: torch.Tensor, total: torch.Tensor = total) -> None:
            x, y = inputs[0][mask][:, index], output[mask][:, index]  # (tokens, channels)
            z = torch.nn.functional.layer_norm(x, (len(channels),), eps=norm.eps).double()
            total.add_(torch.stack([z.sum(0), z.square().sum(0), y.sum(0), (z * y).sum(0)]))

        hooks.append(norm.register_forward_hook(add))
    try:
        with (
            progress.step(f"Collecting the norms' inputs on {len(data)} texts") as step,
            torch.inference_mode(),
        ):
            for batch in batches(model, data):
                assert batch.mask is not None
                mask = batch.mask.bool()
                model.module(*batch.inputs)
                tokens += int(mask.sum())
                done += len(batch.rows)
                step.update(done, len(data))
    finally:
        for hook in hooks:
            hook.remove()
    fitted = []
    for total in sums:
        z, square, y, product = total / tokens
        scale = (product - z * y) / (square - z.square()).clamp_min(1e-12)
        fitted.append((scale.float(), (y - scale * z).float()))
    return fitted
