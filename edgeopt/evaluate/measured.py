# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Figures of one system over all units: what they are, and what they would be on other draws."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from edgeopt.evaluate.interval import At

TITLES: Mapping[str, str] = {
    "accuracy": "accuracy",
    "top_5": "top 5",
    "f1": "F1",
    "f1_macro": "F1 macro",
    "f1_micro": "F1 micro",
    "mcc": "MCC",
    "spearman": "Spearman",
    "pearson": "Pearson",
    "exact_match": "exact match",
    "precision": "precision",
    "recall": "recall",
    "ndcg_at_10": "nDCG@10",
    "mrr_at_10": "MRR@10",
    "map": "MAP",
    "mean_average_precision": "mAP",
    "ap": "mAP",
    "ap_50": "mAP 50",
    "ap_75": "mAP 75",
    "ap_small": "mAP small",
    "ap_medium": "mAP medium",
    "ap_large": "mAP large",
    "ar_1": "AR 1",
    "ar_10": "AR 10",
    "ar_100": "AR 100",
    "ar_small": "AR small",
    "ar_medium": "AR medium",
    "ar_large": "AR large",
    "mean_iou": "mean IoU",
    "mean_accuracy": "mean accuracy",
    "pixel_accuracy": "pixel accuracy",
    "recall_at_1": "recall@1",
    "recall_at_5": "recall@5",
    "recall_at_10": "recall@10",
    "recall_at_100": "recall@100",
    "perplexity": "perplexity",
    "word_perplexity": "perplexity by word",
    "bits_per_byte": "bits per byte",
    "bleu": "BLEU",
    "chrf": "chrF",
    "rouge_1": "ROUGE-1",
    "rouge_2": "ROUGE-2",
    "rouge_l": "ROUGE-L",
}
"""What figures are called for the reader, by their names."""

LESS_IS_BETTER = frozenset({"perplexity", "word_perplexity", "bits_per_byte"})
"""Of these figures less is better, and of all others more."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Measured:
    """One figure of one system.

    ``value`` is what the field's own library computes, None if it is not defined (the correlation
    with a constant). ``at`` gives it for any counts of the units, by sums that add up. ``hits`` are
    float64 (units,), 0 or 1, if the figure is their share. ``centred`` says that fewer different
    units make the figure larger, and so draws: its interval is put around ``value``.
    """

    value: float | None
    at: At
    hits: np.ndarray | None = None
    centred: bool = False


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Scored:
    """What one system's answers are worth.

    ``figures`` are by name. ``got`` says what the system answered to each unit, and ``loss`` how
    wrong that is: 0 or less for what is right, float64 (units,). ``margin`` is how far the second
    best answer is behind, None if answers have none. ``by_label`` has the figures of what is a part
    of a unit, such as the entities of one type, by label, and how many are expected. ``note`` is
    what a reader of the figures has to know.
    """

    figures: Mapping[str, Measured]
    got: tuple[str, ...]
    loss: np.ndarray
    margin: np.ndarray | None = None
    by_label: Mapping[str, tuple[int, Mapping[str, Measured]]] = field(default_factory=dict)
    note: str = ""


def finite(value: float) -> float | None:
    """Return ``value``, None for NaN and infinities."""
    return float(value) if math.isfinite(value) else None


def share(hits: np.ndarray, value: float | None = None) -> Measured:
    """Return the share of ``hits`` (units,), each 0 or 1; ``value`` is what a library gives."""
    hits = hits.astype(np.float64)
    return Measured(
        value=float(hits.mean()) if value is None else value, at=_mean_at(hits), hits=hits
    )


def mean(values: np.ndarray, value: float | None = None) -> Measured:
    """Return the mean of ``values`` (units,)."""
    values = values.astype(np.float64)
    return Measured(value=float(values.mean()) if value is None else value, at=_mean_at(values))


def _mean_at(values: np.ndarray) -> At:
    def at(counts: np.ndarray) -> np.ndarray:
        return ratio(counts @ values, counts.sum(1), math.nan)

    return at


def ratio(above: np.ndarray, below: np.ndarray, undefined: float = 0.0) -> np.ndarray:
    """Return ``above / below``, and ``undefined`` if ``below`` is 0."""
    above, below = np.broadcast_arrays(above, below)
    found: np.ndarray = np.divide(
        above, below, out=np.full(above.shape, undefined, np.float64), where=below != 0
    )
    return found
