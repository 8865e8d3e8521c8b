"""Texts through two bundles: the small one answers where it is sure, else the large one does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeopt.bundle import Bundle
from edgeopt.compress.cascade import Cascade
from edgeopt.measure.reading import Result, Text, read

_LEAST = 1e-30  # a score that float32 rounded to 0


@dataclass(frozen=True, kw_only=True, slots=True)
class CascadeReading:
    """The results of all texts, and which of them (``early``) the first bundle answered."""

    results: tuple[Result, ...]
    early: tuple[bool, ...]


def read_cascade(
    first: str | Path | Bundle,
    second: str | Path | Bundle,
    cascade: Cascade,
    texts: Sequence[Text],
    **options: Any,
) -> CascadeReading:
    """Return what ``first`` makes of the texts it is sure of, and ``second`` of the others.

    ``options`` are those of ``edgeopt.read``, which runs each bundle; its errors are raised. A text
    that goes on is computed by both bundles from the start.
    """
    small = read(first, texts, **options).results
    # The logarithm of a softmax is the logits but for a constant, which no probability sees.
    scores = np.array([[item.score for item in result.items] for result in small])
    early = cascade.sure(np.log(np.maximum(scores, _LEAST)))
    left = [text for text, sure in zip(texts, early, strict=True) if not sure]
    large = iter(read(second, left, **options).results if left else ())
    return CascadeReading(
        results=tuple(s if sure else next(large) for s, sure in zip(small, early, strict=True)),
        early=tuple(bool(sure) for sure in early),
    )
