# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""How near an artifact's outputs are to the reference's, in figures that both sides compute alike.

Cosine and maximum error are taken output by output over the flattened float32 values; if an
output runs along the sequence, positions that the attention mask leaves out do not count, since
no user reads them. The agent computes the same on the board (``runtime/agent/compare.c``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from edgeopt.values import Range

MOST_ERROR = 1e30
"""What stands for an infinite error in a summary: JSON has no infinity."""

_PIXELS = 4

Cosine = Annotated[float, Range(-1.001, 1.001)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Agreement:
    """One call against its reference; ``cosine`` is the smallest among the outputs."""

    cosine: float
    max_abs_error: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Fidelity:
    """Many calls against their references. ``same_top1`` is the share of calls (or of unmasked
    positions, queries, pixels) whose largest logit is the same, None without logits."""

    cosine_min: Cosine
    cosine_mean: Cosine
    max_abs_error: Annotated[float, Range(0, MOST_ERROR)]
    same_top1: Annotated[float, Range(0, 1)] | None
    calls: Annotated[int, Range(1, 2**53)]


def compare(
    outputs: Mapping[str, np.ndarray],
    reference: Mapping[str, np.ndarray],
    attention_mask: np.ndarray | None,
) -> Agreement:
    """Compare one call. A NaN or infinity anywhere gives cosine -1 and an infinite error.

    Arrays are (1, ...) float32; ``attention_mask`` is (1, seq) or None. Raises ValueError if
    names or shapes differ: that is a fault of the backend, not of the numbers.
    """
    cosine, error = 1.0, 0.0
    for name, expected in reference.items():
        got = outputs[name]
        if got.shape != expected.shape:
            raise ValueError(f"output {name!r}: shape {got.shape}, expected {expected.shape}")
        a, b = _kept(got, attention_mask), _kept(expected, attention_mask)
        if not np.isfinite(a).all():
            return Agreement(cosine=-1.0, max_abs_error=math.inf)
        norms = float(np.linalg.norm(a) * np.linalg.norm(b))
        cosine = min(cosine, float(a @ b) / norms if norms else float(np.array_equal(a, b)))
        error = max(error, float(np.abs(a - b).max(initial=0.0)))
    return Agreement(cosine=cosine, max_abs_error=error)


def _kept(values: np.ndarray, attention_mask: np.ndarray | None) -> np.ndarray:
    """Return the values that count, flat and float64."""
    if attention_mask is not None and values.ndim >= 2 and values.shape[:2] == attention_mask.shape:
        values = values[attention_mask.astype(bool)]
    return values.astype(np.float64).ravel()


def summarise(
    outputs: Sequence[Mapping[str, np.ndarray]],
    references: Sequence[Mapping[str, np.ndarray]],
    masks: Sequence[np.ndarray | None],
) -> Fidelity:
    """Compare call by call and summarise. All sequences have one length, at least 1."""
    calls = [compare(o, r, m) for o, r, m in zip(outputs, references, masks, strict=True)]
    same, positions = 0, 0
    for out, ref, mask in zip(outputs, references, masks, strict=True):
        for name in ("logits", "start_logits", "end_logits"):
            if name in ref:
                # Logits of pixels are (1, labels, rows, columns).
                axis = 1 if ref[name].ndim == _PIXELS else -1
                a, b = out[name].argmax(axis), ref[name].argmax(axis)
                if mask is not None and a.shape == mask.shape:
                    a, b = a[mask.astype(bool)], b[mask.astype(bool)]
                same += int((a == b).sum())
                positions += a.size
    return Fidelity(
        cosine_min=min(c.cosine for c in calls),
        cosine_mean=sum(c.cosine for c in calls) / len(calls),
        max_abs_error=min(max(c.max_abs_error for c in calls), MOST_ERROR),
        same_top1=same / positions if positions else None,
        calls=len(calls),
    )
