# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Scores that should go with those of people: of a regression head, or of how near texts are."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import compress
from typing import Any, Self

import numpy as np

from edgeopt.evaluate.interval import At
from edgeopt.evaluate.measured import Measured, Scored, finite, ratio
from edgeopt.evaluate.problems.shown import shown
from edgeopt.extras import require
from edgeopt.model.answer import Answer, Sample

_NAMES = ("spearman", "pearson")
_ROUNDING = 1e-24  # a relative error of 1e-12, squared


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Regression:
    """``expected`` is a score for each input, float64 (units,)."""

    inputs: tuple[Sample, ...]
    places: tuple[str, ...]
    expected: np.ndarray
    noun: str = "texts"
    main: str = "spearman"

    names = _NAMES
    labels = None

    def __len__(self) -> int:
        return len(self.inputs)

    def unit(self, i: int) -> tuple[str, str, str]:
        """Return where a unit stands, its text, and its score."""
        return self.places[i], shown(self.inputs[i]), f"{self.expected[i]:g}"

    def lengths(self, of_inputs: np.ndarray) -> np.ndarray:
        """Return them: each unit is an input."""
        return of_inputs

    def answered(self, inputs: np.ndarray) -> Self:
        """Return it with those units alone."""
        return replace(
            self,
            inputs=tuple(compress(self.inputs, inputs)),
            places=tuple(compress(self.places, inputs)),
            expected=self.expected[inputs],
        )

    def score(self, answers: Sequence[Answer]) -> Scored:
        """Score by scipy."""
        return _scored(self.expected, np.array([answer.scores[0] for answer in answers]))


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Similarity:
    """Pairs of texts, each by its places in ``inputs``, int64 (units, 2), and their scores.

    A system's score of a pair is the cosine of its two embeddings.
    """

    inputs: tuple[Sample, ...]
    places: tuple[str, ...]
    pairs: np.ndarray
    pair_places: tuple[str, ...]
    expected: np.ndarray
    noun: str = "pairs"
    main: str = "spearman"

    names = _NAMES
    labels = None

    def __len__(self) -> int:
        return len(self.pairs)

    def unit(self, i: int) -> tuple[str, str, str]:
        """Return where a pair stands, its texts, and its score."""
        texts = " | ".join(shown(self.inputs[at]) for at in self.pairs[i])
        return self.pair_places[i], texts, f"{self.expected[i]:g}"

    def lengths(self, of_inputs: np.ndarray) -> np.ndarray:
        """Return the sum of both."""
        found: np.ndarray = of_inputs[self.pairs].sum(1)
        return found

    def answered(self, inputs: np.ndarray) -> Self:
        """Return it with the pairs of those inputs."""
        kept = inputs[self.pairs].all(1)
        numbers = np.cumsum(inputs) - 1
        return replace(
            self,
            inputs=tuple(compress(self.inputs, inputs)),
            places=tuple(compress(self.places, inputs)),
            pairs=numbers[self.pairs[kept]],
            pair_places=tuple(compress(self.pair_places, kept)),
            expected=self.expected[kept],
        )

    def score(self, answers: Sequence[Answer]) -> Scored:
        """Score by scipy."""
        even = unit_vectors(answers)
        left, right = even[self.pairs[:, 0]], even[self.pairs[:, 1]]
        return _scored(self.expected, np.einsum("ij,ij->i", left, right))


def unit_vectors(answers: Sequence[Answer]) -> np.ndarray:
    """Return embeddings of length 1, float64 (inputs, size)."""
    vectors = np.array([answer.vector for answer in answers], np.float64)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    found: np.ndarray = vectors / np.where(lengths > 0, lengths, 1.0)
    return found


def _scored(expected: np.ndarray, got: np.ndarray) -> Scored:
    stats = require("scipy.stats", "evaluate")
    places = [stats.rankdata(values) for values in (expected, got)]

    def value(of: Any) -> float | None:
        if len(got) < 2:
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", stats.ConstantInputWarning)
            warnings.simplefilter("ignore", stats.NearConstantInputWarning)
            return finite(float(of(expected, got).statistic))

    return Scored(
        figures={
            "spearman": Measured(value=value(stats.spearmanr), at=_spearman_at(expected, got)),
            "pearson": Measured(value=value(stats.pearsonr), at=_pearson_at(expected, got)),
        },
        got=tuple(f"{score:.4f}" for score in got),
        loss=np.abs(places[0] - places[1]) / len(got),
    )


def _pearson_at(expected: np.ndarray, got: np.ndarray) -> At:
    def at(counts: np.ndarray) -> np.ndarray:
        return _correlation(expected[None], got[None], counts)

    return at


def _spearman_at(expected: np.ndarray, got: np.ndarray) -> At:
    def at(counts: np.ndarray) -> np.ndarray:
        return _correlation(_ranks(expected, counts), _ranks(got, counts), counts)

    return at


def _ranks(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the rank of each unit in each resample, the mean one among equals, as counts have."""
    distinct, places = np.unique(values, return_inverse=True)
    order = np.argsort(places, kind="stable")
    starts = np.searchsorted(places[order], np.arange(len(distinct)))
    drawn = np.add.reduceat(counts[:, order], starts, axis=1)  # (resamples, distinct)
    ranks = drawn.cumsum(1) - (drawn - 1) / 2
    found: np.ndarray = ranks[:, places]
    return found


def _correlation(a: np.ndarray, b: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the correlation of ``a`` and ``b``, (resamples or 1, units), counted."""
    total = counts.sum(1, keepdims=True)
    own = [side - ratio((counts * side).sum(1, keepdims=True), total) for side in (a, b)]
    spreads = [(counts * side * side).sum(1) for side in own]
    for spread, side in zip(spreads, (a, b), strict=True):  # equal values, but for rounding
        spread[spread <= _ROUNDING * (counts * side * side).sum(1)] = 0
    together = (counts * own[0] * own[1]).sum(1)
    return ratio(together, np.sqrt(spreads[0] * spreads[1]), np.nan)
