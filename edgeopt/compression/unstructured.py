# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Set single weights to zero, without training.

The shapes stay, so that the folder loads with plain transformers. What it pays, measured on two
layers of MiniLM's size (384, 1536; 128 tokens, one thread, process CPU time, median of 60 shuffled
runs, AMD EPYC with AVX-512 VNNI): dense / "2:4" / 90 % zeros,

    onnxruntime   FP32  10.4 / 10.3 / 10.5 ms    INT8  4.8 / 4.8 / 4.8 ms
    OpenVINO      FP32  10.5 / 10.5 / 10.4 ms    INT8  4.2 / 4.3 / 4.2 ms
    LiteRT        FP32   9.7 /  9.7 /  9.6 ms    INT8  3.6 / 3.6 / 3.6 ms
    TVM           FP32   9.9 /  9.8 /  9.7 ms
    .onnx, deflated     14.0 /  8.5 /  2.7 MB          3.5 / 2.7 / 1.0 MB

OpenVINO's CPU_SPARSE_WEIGHTS_DECOMPRESSION_RATE (at .5 and .9) changed nothing here either: as its
documentation says ("CPU Device", limitations), it is for INT8 on CPUs with AMX, and for widths that
are multiples of 64. XNNPACK's sparse kernels are for convolutional networks alone (its TFLite
delegate's README, "Sparse Inference"). A bundle stores its files uncompressed: it stays as large
as it is.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from edgeopt import progress
from edgeopt.compression.layerwise import first_calls, inputs, projections, through, with_ones
from edgeopt.compression.reconstruct import grams
from edgeopt.compression.sparsity import grouped, lowest, lowest_of_rows, sparsegpt, wanda
from edgeopt.compression.technique import Change
from edgeopt.evaluate.data import Data
from edgeopt.model import Model
from edgeopt.model.checkpoint import network
from edgeopt.model.network.widths import blocks, family, layers
from edgeopt.steps import wrong
from edgeopt.steps.limits import MIN_SAMPLES
from edgeopt.steps.unstructured import Unstructured
from edgeopt.train.context import ALONE, Context

if TYPE_CHECKING:
    import torch

NOTE = (
    "unstructured: zeros make no engine here faster; they only pack better. "
    'Use "structured" for speed'
)


def check(model: Model, options: Unstructured) -> None:
    """Raise InputError if ``options`` cannot be done to ``model``."""
    found = layers(network(model))
    if not any(projections(layer, options.parts) for layer in found):
        raise wrong(
            options,
            "parts",
            f"{type(network(model)).__name__} has no attention of four projections; "
            'parts = ["ffn"] works',
        )
    if options.group is None:
        return
    for number, layer in enumerate(found):
        for linear in (one for group in projections(layer, options.parts) for one in group):
            if linear.in_features % options.group[1]:
                raise wrong(
                    options,
                    "pattern",
                    f"layer {number} has a projection of {linear.in_features} inputs, which is no "
                    f"multiple of {options.group[1]} (structured keeps such with its option "
                    f"multiple)",
                )


def apply(model: Model, options: Unstructured, data: Data, context: Context = ALONE) -> Change:
    """Return a model with zeros among its weights, and a line on how many; ``model`` stays.

    "sparsegpt" and "wanda" go layer by layer, each on the inputs that the layers before it give
    once they are pruned. Embeddings and what stands on top of the layers stay whole. Raises
    InputError as ``check`` does, and if there are too few texts.
    """
    del context
    check(model, options)
    module = copy.deepcopy(model.module)
    pruned = model.with_module(module)
    if options.method == "magnitude":
        _by_magnitude(pruned, options)
    else:
        chosen = data.first(options.samples)
        if len(chosen) < MIN_SAMPLES:
            raise wrong(
                options, "samples", f"{MIN_SAMPLES} {data.noun} are needed, found {len(chosen)}"
            )
        _by_inputs(pruned, options, chosen)
    progress.note(NOTE)
    weights = [linear.weight for linear in linears(pruned, options)]
    count = sum(weight.numel() for weight in weights)
    zeros = sum(int((weight == 0).sum()) for weight in weights)
    pattern = f", {options.pattern}" if options.pattern else ""
    text = (
        f"{zeros:,} of {count:,} weights in the layers are zero ({zeros / count:.1%}, "
        f"{options.method}{pattern}); shapes and speed stay"
    )
    return Change(pruned, text, modified=zeros > 0)


def linears(model: Model, options: Unstructured) -> list[torch.nn.Linear]:
    """Return the projections that ``options`` prune, from the input on."""
    found = layers(network(model))
    return [one for layer in found for group in projections(layer, options.parts) for one in group]


def _by_magnitude(model: Model, options: Unstructured) -> None:
    """Set the smallest weights of the module to zero, in place."""
    import torch

    found = linears(model, options)
    sizes = [linear.weight.abs() for linear in found]
    if options.group is not None:
        kept = [grouped(size, options.group) for size in sizes]
    elif options.scope == "layer":
        kept = [lowest(size, options.sparsity) for size in sizes]
    else:
        joined = lowest(torch.cat([size.flatten() for size in sizes]), options.sparsity)
        parts = joined.split([size.numel() for size in sizes])
        kept = [part.reshape(size.shape) for part, size in zip(parts, sizes, strict=True)]
    for linear, mask in zip(found, kept, strict=True):
        linear.weight.data.masked_fill_(~mask, 0.0)


def _by_inputs(model: Model, options: Unstructured, data: Data) -> None:
    """Prune block after block, each on what the blocks before it now give, in place.

    Layers in stages do not follow each other: all are pruned on what the whole network gives them.
    """
    found = layers(network(model))
    if family(network(model)).staged:
        every = linears(model, options)
        for linear, gram in zip(every, grams(model, every, data), strict=True):
            _prune(linear, gram, options)
        return
    calls = first_calls(model, data)
    with progress.step(f"Pruning weights ({options.method}) on {len(data)} {data.noun}") as step:
        for number, (block, layer) in enumerate(zip(blocks(network(model)), found, strict=True)):
            groups = projections(layer, options.parts)
            for group, gram in zip(groups, _grams(block, groups, calls), strict=True):
                for linear in group:
                    _prune(linear, gram, options)
            calls = [through(block, call) for call in calls]
            step.update(number + 1, len(found))


def _grams(block: Any, groups: list[tuple[torch.nn.Linear, ...]], calls: Any) -> list[torch.Tensor]:
    """Return the mean of x x^T of what each group is given, float64, the last x being one."""
    import torch

    first = [group[0] for group in groups]
    found = [
        torch.zeros(one.in_features + 1, one.in_features + 1, dtype=torch.float64) for one in first
    ]
    tokens = 0
    for call in calls:
        for gram, rows in zip(found, inputs(block, first, call), strict=True):
            rows = with_ones(rows)
            gram.add_(rows.T @ rows)
        tokens += len(rows)
    return [gram / tokens for gram in found]


def _prune(linear: torch.nn.Linear, gram: torch.Tensor, options: Unstructured) -> None:
    if options.method == "sparsegpt":
        weight, bias = sparsegpt(
            linear, gram, sparsity=options.sparsity, group=options.group, damp=options.damp
        )
        linear.weight.data.copy_(weight)
        if bias is not None:
            linear.bias.data.copy_(bias)
        return
    scores = wanda(linear.weight, gram)
    if options.group is None:
        kept = lowest_of_rows(scores, options.sparsity)
    else:
        kept = grouped(scores, options.group)
    linear.weight.data.masked_fill_(~kept, 0.0)
