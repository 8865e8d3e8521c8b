# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Images through the runtime, here or on a board: compared with texts, searched, segmented."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgeopt.bundle import Bundle, open_bundle
from edgeopt.errors import InputError
from edgeopt.model import images as pictures
from edgeopt.model.dual_encoder import IMAGE, TEXT
from edgeopt.model.tasks import SEMANTIC_SEGMENTATION
from edgeopt.run.reading import Reading, Result, read_there, reading_of
from edgeopt.runtime.build import build_for_host
from edgeopt.runtime.host import failed, graph_for, open_session

THRESHOLD = 0.5
"""Objects of lower scores are left out, as transformers' image processors do."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Match:
    """A text beside an image: the model's logit, and the score that it makes of it."""

    text: str
    logit: float
    score: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """What each image shows, of the texts: ``matches`` by image, the best first.

    ``image`` and ``text`` are the embeddings, and what computed them.
    """

    matches: tuple[tuple[Match, ...], ...]
    image: Reading
    text: Reading


def compare(
    bundle: str | Path | Bundle,
    images: Sequence[Path | str | pictures.Image],
    texts: Sequence[str],
    *,
    board: str | None = None,
    engine: str | None = None,
    precision: str | None = None,
    threads: int | None = None,
) -> Comparison:
    """Return how well each text fits each image, by a dual encoder (CLIP, SigLIP).

    Both are embedded on ``board`` or (None) on this machine. ``images`` are files, or uint8
    RGB arrays (height, width, 3). Scores are those of transformers'
    pipeline "zero-shot-image-classification" with the texts as they are: softmax over the texts
    for CLIP, of each by itself for SigLIP. Raises BundleError for a damaged bundle, InputError for
    one that is no dual encoder's and for images that cannot be read, BoardError if nothing runs.
    """
    from edgeopt.runtime.python import edgeopt_rt

    if not images or not texts:
        raise InputError("needs an image and a text at least", where="compare")
    path = bundle.path if isinstance(bundle, Bundle) else bundle
    if board is not None:
        return _compare_there(path, images, texts, board, engine, precision, threads)
    options = {"engine": engine, "precision": precision, "threads": threads or 0}
    pixels = [pictures.as_rgb(image) for image in images]
    with contextlib.ExitStack() as stack:
        by_text = stack.enter_context(open_session(path, graph=TEXT, **options))
        by_image = stack.enter_context(open_session(path, graph=IMAGE, **options))
        try:
            read = [by_text.run(text) for text in texts]
            seen = [by_image.run(image=image) for image in pixels]
            vectors = [result.vector for result in read]
            found = [by_image.bundle.compare(result.vector, vectors) for result in seen]
        except edgeopt_rt.Failure as exc:
            raise failed(exc) from exc
        return Comparison(
            matches=tuple(_matches(texts, one) for one in found),
            image=reading_of(by_image, seen),
            text=reading_of(by_text, read),
        )


def _compare_there(
    path: str | Path,
    images: Sequence[Path | str | pictures.Image],
    texts: Sequence[str],
    board: str,
    engine: str | None,
    precision: str | None,
    threads: int | None,
) -> Comparison:
    from edgeopt.runtime.python import edgeopt_rt

    opened = open_bundle(path)
    seen, read = (
        read_there(opened, samples, board, engine, precision, threads, kind=kind)
        for kind, samples in ((IMAGE, _samples(images)), (TEXT, tuple(texts)))
    )
    try:
        with edgeopt_rt.Bundle(path, library=str(build_for_host().library)) as held:
            vectors = [result.vector for result in read.results]
            found = [held.compare(result.vector, vectors) for result in seen.results]
    except edgeopt_rt.Failure as exc:
        raise failed(exc) from exc
    return Comparison(matches=tuple(_matches(texts, one) for one in found), image=seen, text=read)


def _samples(images: Sequence[Path | str | pictures.Image]) -> tuple[Path | pictures.Image, ...]:
    return tuple(Path(image) if isinstance(image, str) else image for image in images)


def _matches(texts: Sequence[str], found: Any) -> tuple[Match, ...]:
    made = (
        Match(text=text, logit=logit, score=score)
        for text, logit, score in zip(texts, found.logits, found.scores, strict=True)
    )
    return tuple(sorted(made, key=lambda match: -match.logit))


def read_images(
    bundle: str | Path | Bundle,
    images: Sequence[Path | str | pictures.Image],
    *,
    board: str | None = None,
    engine: str | None = None,
    precision: str | None = None,
    threads: int | None = None,
    threshold: float = THRESHOLD,
) -> Reading:
    """Return what a model of images, or a dual encoder, makes of ``images``, here or on ``board``.

    Those are labels with their scores, embeddings, objects with their boxes (of scores above
    ``threshold``), or of segmentation the labels with their shares of the image. Raises as
    ``compare`` does.
    """
    from edgeopt.runtime.python import edgeopt_rt

    path = bundle.path if isinstance(bundle, Bundle) else bundle
    if board is not None:
        samples = _samples(images)
        opened = open_bundle(path)
        if opened.manifest.task.input != "image":
            raise InputError(f"is for {opened.manifest.task}, not of images", where=str(path))
        seen = read_there(opened, samples, board, engine, precision, threads, kind=IMAGE)
        return replace(seen, results=tuple(_above(threshold, found) for found in seen.results))
    pixels = [pictures.as_rgb(image) for image in images]
    options = {"engine": engine, "precision": precision, "threads": threads or 0}
    with open_session(path, graph=graph_for(path, IMAGE), **options) as session:
        try:
            seen = reading_of(session, [session.run(image=image) for image in pixels])
            return replace(seen, results=tuple(_above(threshold, found) for found in seen.results))
        except edgeopt_rt.Failure as exc:
            raise failed(exc) from exc


def _above(threshold: float, result: Result) -> Result:
    """Return ``result`` without objects of low scores."""
    kept = tuple(i for i in result.items if i.box is None or i.score > threshold)
    return replace(result, items=kept)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Segmentation:
    """The label of each pixel of each image, by its number in ``labels``.

    ``maps`` are uint16 (height, width). ``reading`` has each label's share of an image, and what
    computed them.
    """

    maps: tuple[np.ndarray, ...]
    labels: tuple[str, ...]
    reading: Reading


def segment(
    bundle: str | Path | Bundle,
    images: Sequence[Path | str | pictures.Image],
    *,
    board: str | None = None,
    engine: str | None = None,
    precision: str | None = None,
    threads: int | None = None,
) -> Segmentation:
    """Return the label of each pixel of ``images``, by a model of semantic segmentation.

    As post_process_semantic_segmentation in transformers, at the image's own size, on ``board`` or
    (None) on this machine. Raises as ``compare`` does, and InputError for a bundle of another task.
    """
    from edgeopt.runtime.python import edgeopt_rt

    opened = open_bundle(bundle.path if isinstance(bundle, Bundle) else bundle)
    manifest = opened.manifest
    if manifest.task != SEMANTIC_SEGMENTATION:
        raise InputError(
            f"is for {manifest.task}, and only semantic-segmentation has maps of labels",
            where=str(opened.path),
        )
    if board is not None:
        made: dict[int, np.ndarray] = {}
        reading = read_there(
            opened, _samples(images), board, engine, precision, threads,
            kind=IMAGE, mapped=made.__setitem__,
        )  # fmt: skip
        maps = [made[i] for i in range(len(images))]
        return Segmentation(maps=tuple(maps), labels=manifest.labels, reading=reading)
    pixels = [pictures.as_rgb(image) for image in images]
    options = {"engine": engine, "precision": precision, "threads": threads or 0}
    with open_session(opened.path, **options) as session:
        results, maps = [], []
        try:
            for width, height, rgb in pixels:
                results.append(session.run(image=(width, height, rgb)))
                maps.append(np.asarray(session.class_map(width, height)))
        except edgeopt_rt.Failure as exc:
            raise failed(exc) from exc
        return Segmentation(
            maps=tuple(maps), labels=manifest.labels, reading=reading_of(session, results)
        )
