# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Round a table of numbers to few bits: groups with a scale each, and GOBO's codebook beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from edgeopt.model.network.tables import Packed

_CLIPS = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7)
"""Shares of a group's largest number that its outermost level may stand at; the best is taken. Of
16 levels for a normal distribution it stands best at 2.5 standard deviations (7.5 steps of .3352:
Max 1960, "Quantizing for minimum distortion", table II), which the largest of 32 draws often is
beyond."""

_RANGE = 1e-4
"""The least scale, as a share of the largest: that of groups of almost nothing, as in padding."""

_ROWS = 4096  # at a time, so that a table of a million tokens needs no copy of itself
_LOG_PROBABILITY = -4.0  # Zadeh et al. 2020, section IV: below it a weight is an outlier
_MOST_ROUNDS = 50  # GOBO takes about seven


def pack(table: torch.Tensor, packed: Packed) -> None:
    """Fill ``packed`` with ``table``, float32 (tokens, dim): each group at its best scale."""
    import torch

    half = (2**packed.bits - 1) / 2
    groups = table.reshape(len(table), -1, packed.group)
    widest = (groups.abs().amax(-1) / half).clamp_min(1e-30)
    low = max(float(widest.min()) * min(_CLIPS), float(widest.max()) * _RANGE)
    step = (float(widest.max().log()) - torch.tensor(low).log().item()) / 255
    packed.low.fill_(torch.tensor(low).log())
    packed.step.fill_(step)
    for start in range(0, len(table), _ROWS):
        rows = slice(start, start + _ROWS)
        codes, numbers = _best(groups[rows], widest[rows], packed, half)
        numbers = numbers.flatten(1)  # (rows, dim)
        if packed.bits == 4:
            middle = numbers.shape[1] // 2
            numbers = numbers[:, :middle] + 16 * numbers[:, middle:]
        packed.packed[rows] = (numbers - 128).to(torch.int8)
        packed.codes[rows] = (codes - 128).to(torch.int8)


def _best(
    groups: torch.Tensor, widest: torch.Tensor, packed: Packed, half: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the scale's code (rows, groups) and the numbers (rows, groups, group), from 0 on."""
    import torch

    best = torch.full_like(widest, torch.inf)
    codes, numbers = torch.zeros_like(widest), torch.zeros_like(groups)
    for clip in _CLIPS:
        code = torch.zeros_like(widest)
        if float(packed.step) > 0:
            code = (((widest * clip).log() - packed.low) / packed.step).ceil().clamp(0, 255)
        scale = torch.exp(packed.low + packed.step * code).unsqueeze(-1)
        number = (groups / scale + half).round().clamp(0, 2 * half)
        error = ((number - half) * scale - groups).square().sum(-1)
        better = error < best
        best = torch.where(better, error, best)
        codes = torch.where(better, code, codes)
        numbers = torch.where(better.unsqueeze(-1), number, numbers)
    return codes, numbers


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Codebook:
    """A table as GOBO stores it: ``values``, float32, of which ``outliers`` stay as they were."""

    values: torch.Tensor
    outliers: int
    size_bytes: int


def gobo(table: torch.Tensor, bits: int) -> Codebook:
    """Return ``table`` rounded to one codebook of 2^bits numbers, with outliers in FP32.

    Zadeh et al. 2020, "GOBO": weights whose log probability in the normal distribution fitted to
    all is under -4 stay as they are; the others are split into groups of equal population, whose
    means are the first codebook; then each weight goes to the nearest and means are taken anew, as
    long as the sum of distances falls. No engine here runs it, so it is only for comparison. The
    size counts ``bits`` a weight, the codebook, and for an outlier 4 bytes and 4 for its place.
    """
    import torch

    values = table.detach().flatten().double()
    mean, deviation = values.mean(), values.std().clamp_min(1e-12)
    spread = (values - mean) / deviation
    probability = (
        -spread.square() / 2 - deviation.log() - 0.5 * torch.log(torch.tensor(2 * torch.pi))
    )
    outlier = probability < _LOG_PROBABILITY
    inner, _ = values[~outlier].sort()
    if not len(inner):  # a spread so wide that every weight is improbable
        return Codebook(values=table.clone(), outliers=len(values), size_bytes=8 * len(values))
    means = torch.stack([part.mean() for part in inner.tensor_split(2**bits) if len(part)])
    sums = torch.cat([inner.new_zeros(1), inner.cumsum(0)])
    least = torch.inf
    for _ in range(_MOST_ROUNDS):
        # The weights are sorted, so that those nearest to one mean stand together.
        cuts = torch.searchsorted(inner, (means[1:] + means[:-1]) / 2)
        edges = torch.cat([cuts.new_zeros(1), cuts, cuts.new_full((1,), len(inner))])
        counts = edges.diff()
        distance = float((inner - means.repeat_interleave(counts)).abs().sum())
        if distance >= least:
            break
        least, kept = distance, means
        taken = sums[edges[1:]] - sums[edges[:-1]]
        means = torch.where(counts > 0, taken / counts.clamp_min(1), means)
    nearest = torch.bucketize(values, (kept[1:] + kept[:-1]) / 2)
    found = torch.where(outlier, values, kept[nearest])
    return Codebook(
        values=found.reshape(table.shape).float(),
        outliers=int(outlier.sum()),
        size_bytes=len(values) * bits // 8 + 4 * len(kept) + 8 * int(outlier.sum()),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Way:
    """One way to store a table; ``error`` is |stored - table| / |table|, by Frobenius norms."""

    name: str
    size_bytes: int
    error: float


def compare(table: torch.Tensor, group: int = 32) -> list[Way]:
    """Return the size and error of ``table``, float32 (tokens, dim), by each way to round it."""
    from edgeopt.model.network.tables import Packed

    norm = float(table.norm())
    ways = [Way(name="FP32", size_bytes=4 * table.numel(), error=0.0)]
    for bits in (8, 4):
        packed = Packed(*table.shape, bits=bits, group=group)
        pack(table, packed)
        error = float((packed.weight - table).norm()) / norm
        ways.append(Way(name=f"{bits} bits", size_bytes=size_bytes(packed), error=error))
    for bits in (4, 3):
        found = gobo(table, bits)
        error = float((found.values - table).norm()) / norm
        ways.append(Way(name=f"GOBO, {bits} bits", size_bytes=found.size_bytes, error=error))
    return ways


def size_bytes(module: torch.nn.Module) -> int:
    """Return how many bytes the weights of ``module`` are, as they are stored."""
    return sum(value.numel() * value.element_size() for value in module.state_dict().values())
