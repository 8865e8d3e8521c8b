# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What a tool makes of a text or an image, and the tool itself (``edgeopt.model.original``)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from edgeopt.model import images
from edgeopt.model.huggingface import without_bars
from edgeopt.quiet import quiet

Text = str | tuple[str, str]
"""A text, or a pair of them: for question answering the question and its context."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Continuation:
    """A text that a network is asked how likely it finds it, after ``context``, "" for none.

    At most ``window`` tokens are read at once; a longer text is read in windows, each of which
    begins half of one after the one before (``edgeopt.model.forced``).
    """

    context: str
    text: str
    window: int


Sample = Text | images.Image | Path
Question = Sample | Continuation
"""What a tool is asked."""

MOST_SIDE = 512
"""The longer side of the maps of labels that are compared, in pixels."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """A finding in a text: an entity, or an answer. ``begin`` and ``end`` are in characters."""

    label: str
    score: float
    begin: int
    end: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """The label of one token without its "B-" or "I-", and how far the next one is behind."""

    label: str
    begin: int
    end: int
    margin: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Detection:
    """An object in an image. ``box`` is (x_min, y_min, x_max, y_max) in its pixels."""

    label: str
    score: float
    box: tuple[float, float, float, float]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Answer:
    """What a tool makes of one text or image; which fields are there goes by the task.

    ``scores`` are in the order of the labels. ``spans`` are entities as they stand in the text, or
    answers, best first; ``decisions`` are those of the tokens. ``vector`` is an embedding,
    float32 (size,), or if nothing is pooled the hidden states, (tokens, size). ``ids`` are the
    tokens that the network read, () if they are not known. ``objects`` are what a detector looks
    for, best first. ``classes`` are the labels of pixels by number, uint16 (height, width), and
    ``margins`` how far the next label's share is behind there, float16; None if not known.
    ``tally`` is what ``edgeopt.evaluate`` keeps of them, int64 (3, labels): how many pixels are
    expected to have each label, how many have it, and how many are right. ``written`` is what a
    prompt is gone on with. Of a Continuation ``losses`` are the negative natural logarithms of its
    tokens' probabilities, float64 (tokens,), and ``likeliest`` says which of them the network would
    have chosen, bool (tokens,).
    """

    scores: tuple[float, ...] = ()
    spans: tuple[Span, ...] | None = None
    decisions: tuple[Decision, ...] = ()
    vector: np.ndarray | None = None
    ids: tuple[int, ...] = ()
    types: tuple[int, ...] = ()
    objects: tuple[Detection, ...] | None = None
    classes: np.ndarray | None = None
    margins: np.ndarray | None = None
    tally: np.ndarray | None = None
    written: str | None = None
    losses: np.ndarray | None = None
    likeliest: np.ndarray | None = None


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Original:
    """An opened tool. ``name`` is for the reader of a manifest.

    ``answer`` returns None for a sample that the tool itself refuses, such as a text that is too
    long for it. ``labels`` are what the tool calls the scores, () if it gives bare numbers.
    ``limit`` is how many tokens it reads, None for no limit of its own. ``tokenizer`` is
    transformers' own, None for images. ``pairs`` says whether it takes pairs and nothing else.
    """

    name: str
    answer: Callable[[Any], Answer | None]
    labels: tuple[str, ...]
    limit: int | None
    tokenizer: Any
    pairs: bool = False


def version(package: str) -> str:
    """Return a package's name with its version."""
    return f"{package} {metadata.version(package)}"


def answering(call: Callable[[Any], Answer]) -> Callable[[Any], Answer | None]:
    """Return ``call`` that gives None if the tool fails, and is quiet."""

    def answer(sample: Any) -> Answer | None:
        try:
            with quiet(), without_bars():
                return call(sample)
        # Tools check little: a text that is too long ends as an IndexError of torch's embedding, a
        # RuntimeError of its addition, an exception of onnxruntime's own. None has a common base.
        except Exception:  # noqa: BLE001
            return None

    return answer


def map_size(height: int, width: int, most: int = MOST_SIDE) -> tuple[int, int]:
    """Return the size at which an image's map of labels is compared: its own, if not too large."""
    scale = min(1.0, most / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def in_order(answer: Answer, labels: Sequence[str], order: Sequence[str]) -> Answer:
    """Return ``answer`` with the scores of ``labels`` in another order (``scores_in_order``)."""
    if not labels or not answer.scores:
        return answer
    found = list(zip(labels, answer.scores, strict=True))
    return replace(answer, scores=scores_in_order(found, order))


def scores_in_order(found: Sequence[tuple[str, float]], labels: Sequence[str]) -> tuple[float, ...]:
    """Return scores by label; of labels of one name the better score comes first."""
    left = sorted(found, key=lambda pair: -pair[1])
    scores = []
    for label in labels:
        at = next((i for i, (name, _) in enumerate(left) if name == label), None)
        scores.append(math.nan if at is None else left.pop(at)[1])
    return tuple(scores)
