# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Texts through two bundles: the small one answers if it is sure, else the large one does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeopt import progress
from edgeopt.bundle import Bundle, open_bundle
from edgeopt.errors import InputError
from edgeopt.evaluate import data as texts_file
from edgeopt.model.tasks import SEQUENCE_CLASSIFICATION
from edgeopt.run import early_exit as threshold
from edgeopt.run.early_exit import Cascade, Part
from edgeopt.run.reading import Reading, Result, read

_LEAST = 1e-30  # a score that float32 rounded to 0


@dataclass(frozen=True, kw_only=True, slots=True)
class CascadeReading:
    """The results of all texts, and which of them (``early``) the first bundle answered.

    ``first`` is what that bundle made of all texts, ``second`` what the other made of those that
    went on, in their order; None if none did.
    """

    results: tuple[Result, ...]
    early: tuple[bool, ...]
    first: Reading
    second: Reading | None


def cascade(
    first: str | Path | Bundle,
    second: str | Path | Bundle,
    data: str | Path,
    *,
    max_drop: float = 0.01,
    doubt: float = 0.1,
    board: str | None = None,
    engine: str | None = None,
    precision: str | None = None,
    threads: int | None = None,
) -> Cascade:
    """Return when the answer of ``first`` stands in the place of that of ``second``.

    ``data`` is a file of texts (``.jsonl[.gz]``, with labels or without, or lines) that neither
    model learnt from: one half chooses, the other measures. ``max_drop`` is the share of texts
    that may be spoilt, and ``doubt`` the probability that it is more all the same. Both bundles are
    run as ``edgeopt.read`` runs them, with its options and its errors. Raises InputError unless
    both are classifiers of the same labels, and if there are too few texts to show anything.
    """
    for name, share in (("max_drop", max_drop), ("doubt", doubt)):
        if not 0 < share < 1:
            raise InputError(f"expected a share between 0 and 1, found {share!r}", where=name)
    small, large = _opened(first), _opened(second)
    if small.manifest.labels != large.manifest.labels:
        raise InputError(
            f"has other labels ({_shown(small)}) than {large.path} ({_shown(large)})",
            where=str(small.path),
            hint="A cascade needs two bundles that answer the same question.",
        )
    held = texts_file.read(Path(data), small.manifest, 1)
    needed = 2 * threshold.least(max_drop, doubt)
    if len(held) < needed:
        raise InputError(
            f"has {len(held)} texts, but {needed} are needed at the least: half of them choose,"
            f" and fewer than {needed // 2} cannot show a drop of at most {max_drop:g}"
            f" with a doubt of {doubt:g}, whatever the models answer",
            where=str(data),
            hint="Give more texts, or allow a larger drop or more doubt.",
        )
    found = []
    for bundle in (small, large):
        with progress.step(f"Running {bundle.manifest.name} on {len(held)} texts"):
            found.append(
                read(
                    bundle,
                    [str(text) for text in held.inputs],
                    board=board,
                    engine=engine,
                    precision=precision,
                    threads=threads,
                )
            )
    return threshold.choose(
        _logits(small, found[0].results),
        _logits(large, found[1].results),
        None if held.labels is None else np.array(held.labels),
        parts=(_part(small, found[0]), _part(large, found[1])),
        max_drop=max_drop,
        doubt=doubt,
    )


def read_cascade(
    first: str | Path | Bundle,
    second: str | Path | Bundle,
    cascade: str | Path | Cascade,
    texts: Sequence[str],
    *,
    board: str | None = None,
    threads: int | None = None,
) -> CascadeReading:
    """Return what ``first`` makes of the texts it is sure of, and ``second`` of the others.

    ``cascade``, or the file that it was saved to, also says which artifacts are run: those that it
    was found for. A text that goes on is computed by both bundles from the start. Raises
    InputError if the bundles are not those of ``cascade``, and the errors of ``edgeopt.read``.
    """
    where = "cascade" if isinstance(cascade, Cascade) else str(cascade)
    found = cascade if isinstance(cascade, Cascade) else threshold.load(Path(cascade))
    small, large = (open_bundle(b) if not isinstance(b, Bundle) else b for b in (first, second))
    for bundle, part in ((small, found.first), (large, found.second)):
        if bundle.manifest.digest != part.digest:
            raise InputError(
                f"was found for the bundle {part.name} {part.digest[:12]}, but {bundle.path} is"
                f" {bundle.manifest.name} {bundle.manifest.digest[:12]}",
                where=where,
                hint="Find it for these bundles with: edgeopt cascade SMALL LARGE --data FILE",
            )
    readings = _read(small, found.first, texts, board, threads)
    early = found.sure(_logits(small, readings.results))
    left = [text for text, sure in zip(texts, early, strict=True) if not sure]
    rest = _read(large, found.second, left, board, threads) if left else None
    others = iter(rest.results if rest else ())
    return CascadeReading(
        results=tuple(
            result if sure else next(others)
            for result, sure in zip(readings.results, early, strict=True)
        ),
        early=tuple(bool(sure) for sure in early),
        first=readings,
        second=rest,
    )


def _read(
    bundle: Bundle, part: Part, texts: Sequence[str], board: str | None, threads: int | None
) -> Reading:
    return read(
        bundle,
        texts,
        board=board,
        engine=part.engine,
        precision=part.precision,
        threads=threads,
    )


def _opened(bundle: str | Path | Bundle) -> Bundle:
    opened = bundle if isinstance(bundle, Bundle) else open_bundle(bundle)
    manifest = opened.manifest
    if manifest.task != SEQUENCE_CLASSIFICATION or manifest.activation != "softmax":
        kind = f" with {manifest.activation} scores" if manifest.task.labelled else ""
        raise InputError(
            f"is for {manifest.task}{kind}, but a cascade is for one label a text",
            where=str(opened.path),
        )
    if len(set(manifest.labels)) != len(manifest.labels):
        raise InputError("has a label twice", where=str(opened.path))
    return opened


def _shown(bundle: Bundle) -> str:
    labels = bundle.manifest.labels
    return ", ".join(labels[:8]) + (", ..." if len(labels) > 8 else "")


def _part(bundle: Bundle, reading: Reading) -> Part:
    return Part(
        name=bundle.manifest.name,
        digest=bundle.manifest.digest,
        engine=reading.engine,
        precision=reading.precision,
    )


def _logits(bundle: Bundle, results: Sequence[Result]) -> np.ndarray:
    """Return float64 (texts, labels), but for a constant of each text, which no probability sees:
    the logarithm of a softmax."""
    places = {label: i for i, label in enumerate(bundle.manifest.labels)}
    scores = np.zeros((len(results), len(places)))
    for row, result in zip(scores, results, strict=True):
        for item in result.items:
            row[places[item.label or ""]] = item.score
    return np.log(np.maximum(scores, _LEAST))
