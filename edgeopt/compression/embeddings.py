# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Make the table of token embeddings smaller: factored, rounded to 4 or 8 bits, or both.

A factored table keeps the principal directions of the rows, each weighed by how often its token
stands in the user's texts (and once more, so that tokens without any are not lost): with V the
first directions and m the weighted mean, row e becomes (e - m) V, and the projection is V^T and m.

INT8 artifacts store the table in 8 bits whatever the checkpoint does. A table of 8 bits makes
checkpoints and FP32 artifacts smaller, one of 4 bits all of them.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from edgeopt import progress
from edgeopt.compression.rounding import gobo, pack, size_bytes
from edgeopt.compression.technique import Change
from edgeopt.evaluate.data import Data, batches
from edgeopt.model import Model
from edgeopt.model.checkpoint import network
from edgeopt.model.network import embeddings as section
from edgeopt.model.network.shape_config import describe
from edgeopt.model.network.widths import blocks
from edgeopt.steps import wrong
from edgeopt.steps.embeddings import Embeddings
from edgeopt.train.context import ALONE, Context

if TYPE_CHECKING:
    import torch


def check(model: Model, options: Embeddings) -> None:
    """Raise InputError if ``options`` cannot be done to ``model``."""
    blocks(network(model))  # refuses other architectures
    table = section.plain_table(network(model))
    most = _break_even(table)
    if options.rank is not None and options.rank > most:
        raise wrong(options, "rank", f"is {options.rank}, but above {most} nothing is saved")
    width = options.rank or table.embedding_dim
    # The rank that energy comes to is rounded to whole groups.
    if options.bits is not None and options.energy is None and width % options.group:
        raise wrong(options, "group", f"is {options.group}, which does not divide {width} channels")
    if options.bits == 4 and options.group % 2:
        raise wrong(options, "group", f"is {options.group}, but two numbers share a byte")


def apply(model: Model, options: Embeddings, data: Data, context: Context = ALONE) -> Change:
    """Return a model with a smaller table, and a line on it; ``model`` stays as it is.

    The line holds a 4-bit table against GOBO's codebook. Raises InputError as ``check`` does.
    """
    del context
    check(model, options)
    module: Any = copy.deepcopy(model.module)
    old = section.plain_table(network(model))
    counts = _counts(model, data, old.num_embeddings)
    rank, values, directions, mean = None, old.weight.detach(), None, None
    told = []
    if options.rank is not None or options.energy is not None:
        values, directions, mean = factors(values, counts, options)
        rank = values.shape[1]
        told.append(f"rank {rank}")
    group = options.group if options.bits is not None else None
    made = section.replace(module.network, rank=rank, bits=options.bits, group=group)
    table = made if directions is None else made.table
    if directions is not None and mean is not None:
        made.projection.weight = _frozen(directions)
        made.projection.bias = _frozen(mean)
    if options.bits is None:
        table.weight = _frozen(values)
    else:
        told.append(f"{options.bits} bits in groups of {options.group}")
        with progress.step(f"Rounding the embeddings to {options.bits} bits"):
            pack(values, table)
    made.requires_grad_(False)
    sizes = [size_bytes(m) / 1e6 for m in (old, made)]
    told.append(f"{sizes[0]:.3g} -> {sizes[1]:.3g} MB")
    told.append(f"error {_error(old, made, counts):.1%} over the texts' tokens")
    if options.bits == 4:
        book = gobo(values, 4)
        errors = [float((v - values).norm() / values.norm()) for v in (table.weight, book.values)]
        told.append(
            f"by rounding {errors[0]:.1%} over the table (GOBO's codebook: {errors[1]:.1%} in "
            f"{book.size_bytes / 1e6:.3g} MB)"
        )
    describe(module.network)
    return Change(model.with_module(module), "token embeddings: " + ", ".join(told))


def _frozen(value: torch.Tensor) -> torch.nn.Parameter:
    import torch

    return torch.nn.Parameter(value.float().contiguous(), requires_grad=False)


def _break_even(table: torch.nn.Embedding) -> int:
    """Return the highest rank whose table and projection have fewer numbers than ``table``."""
    tokens, width = table.num_embeddings, table.embedding_dim
    return (tokens * width - width - 1) // (tokens + width)


def _counts(model: Model, data: Data, tokens: int) -> torch.Tensor:
    """Return how often each token stands in ``data``, float64 (tokens,)."""
    import torch

    counts = torch.zeros(tokens, dtype=torch.float64)
    with progress.step(f"Counting the tokens of {len(data)} texts"):
        for batch in batches(model, data):
            assert batch.mask is not None  # of texts
            ids = batch.inputs[0][batch.mask.bool()]
            counts += torch.bincount(ids, minlength=tokens)
    return counts


def factors(
    table: torch.Tensor, counts: torch.Tensor, options: Embeddings
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the narrow table (tokens, rank), the directions (hidden, rank) and the mean (hidden,).

    Raises InputError if the rank that ``options.energy`` needs would save nothing.
    """
    import torch

    weights = (counts + 1) / (counts + 1).sum()
    rows = table.double()
    mean = weights @ rows
    centred = rows - mean
    values, vectors = torch.linalg.eigh(centred.T @ (centred * weights.unsqueeze(1)))
    values, vectors = values.flip(0).clamp_min(0), vectors.flip(1)
    rank = options.rank
    if rank is None:
        kept = values.cumsum(0) / values.sum()
        rank = int((kept < options.energy).sum()) + 1
        rank += -rank % (options.group if options.bits is not None else 1)
        most = (rows.numel() - rows.shape[1] - 1) // sum(rows.shape)
        if rank > most:
            text = (
                f"is {options.energy}, which takes rank {rank}, and above {most} nothing is saved"
            )
            raise wrong(options, "energy", text)
    basis = vectors[:, :rank]
    return (centred @ basis).float(), basis.float(), mean.float()


def _error(old: Any, made: Any, counts: torch.Tensor) -> float:
    """Return |made - old| / |old| over the tokens as often as they stand in the texts."""
    import torch

    ids = counts.nonzero().squeeze(1)
    with torch.inference_mode():
        before, after = old(ids).double(), made(ids).double()
    weights = counts[ids].unsqueeze(1)
    lost = ((after - before).square() * weights).sum() / (before.square() * weights).sum()
    return float(lost.sqrt())
