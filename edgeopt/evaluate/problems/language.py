# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""How likely a generator finds people's texts: perplexity, and whether it knows the last word."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import compress
from typing import Self

import numpy as np

from edgeopt.evaluate.measured import Measured, Scored, finite, share
from edgeopt.evaluate.problems.shown import shown
from edgeopt.model.answer import Answer, Continuation

_MOST_LOG = 700.0  # whose exponential is still a number


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Texts:
    """Texts that are judged: each is a unit."""

    inputs: tuple[Continuation, ...]
    places: tuple[str, ...]
    noun: str = "texts"

    labels = None

    def __len__(self) -> int:
        return len(self.inputs)

    def lengths(self, of_inputs: np.ndarray) -> np.ndarray:
        """Return them: each unit is an input."""
        return of_inputs

    def answered(self, inputs: np.ndarray) -> Self:
        """Return it with those units alone."""
        return replace(
            self,
            inputs=tuple(compress(self.inputs, inputs)),
            places=tuple(compress(self.places, inputs)),
        )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Perplexity(_Texts):
    """Whole texts.

    The perplexity by token, by word and the bits per byte are of all texts together, as
    lm-evaluation-harness has them. Words are what blanks part.
    """

    main: str = "perplexity"

    names = ("perplexity", "word_perplexity", "bits_per_byte")

    def unit(self, i: int) -> tuple[str, str, str]:
        """Return where a text stands, and the text; nothing else is expected."""
        return self.places[i], shown(self.inputs[i]), ""

    def score(self, answers: Sequence[Answer]) -> Scored:
        """Score; no text is right or wrong."""
        texts = [one.text for one in self.inputs]
        losses = np.array([_losses(a).sum() for a in answers])
        tokens = np.array([_losses(a).size for a in answers], np.float64)
        words = np.array([len(text.split()) for text in texts], np.float64)
        size = np.array([len(text.encode("utf-8", "surrogatepass")) for text in texts], np.float64)
        return Scored(
            figures={
                "perplexity": _exponential(losses, tokens),
                "word_perplexity": _exponential(losses, words),
                "bits_per_byte": _ratio(losses / math.log(2), size),
            },
            got=("",) * len(self),
            loss=np.zeros(len(self)),
        )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LastWord(_Texts):
    """Texts whose last word is to be known from all before it, as in LAMBADA.

    It is right if each of its tokens is the likeliest one. ``perplexity`` is by word, of the last
    ones, as lm-evaluation-harness has it.
    """

    main: str = "accuracy"

    names = ("accuracy", "perplexity")

    def unit(self, i: int) -> tuple[str, str, str]:
        """Return where a text stands, the end of what is before its last word, and that word."""
        one = self.inputs[i]
        return self.places[i], f"...{one.context[-120:]}", one.text.strip()

    def score(self, answers: Sequence[Answer]) -> Scored:
        """Score; how wrong an answer is is how unlikely the word was."""
        hits = np.array([bool(np.all(a.likeliest)) for a in answers])
        losses = np.array([_losses(a).sum() for a in answers])
        return Scored(
            figures={
                "accuracy": share(hits),
                "perplexity": _exponential(losses, np.ones(len(self))),
            },
            got=tuple(f"the word with probability {math.exp(-loss):.3g}" for loss in losses),
            loss=np.where(hits, 0.0, losses),
        )


def _losses(answer: Answer) -> np.ndarray:
    assert answer.losses is not None
    return answer.losses


def _ratio(above: np.ndarray, below: np.ndarray) -> Measured:
    """Return the ratio of the sums over the units."""

    def at(counts: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore", divide="ignore"):
            found: np.ndarray = (counts @ above) / (counts @ below)
        return found

    return Measured(value=finite(float(at(np.ones((1, len(above))))[0])), at=at)


def _exponential(above: np.ndarray, below: np.ndarray) -> Measured:
    """Return the exponential of the ratio of the sums over the units."""
    ratio = _ratio(above, below)

    def at(counts: np.ndarray) -> np.ndarray:
        return np.exp(np.minimum(ratio.at(counts), _MOST_LOG))

    return Measured(value=finite(float(at(np.ones((1, len(above))))[0])), at=at)
