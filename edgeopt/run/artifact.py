# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Many samples, one after the other, through one artifact of a bundle."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgeopt.backends import backend
from edgeopt.bundle import Bundle
from edgeopt.bundle.manifest import ArtifactEntry
from edgeopt.errors import InputError
from edgeopt.model import images
from edgeopt.model.answer import Sample
from edgeopt.run.reading import Reading, Told, read_there, reading_of
from edgeopt.runtime.host import failed, open_session

MOST_TEXT_BYTES = 65_536
"""What the runtime reads of one text, where an app asks for nothing else (edgeopt_rt.h)."""


def run(
    bundle: Bundle,
    entry: ArtifactEntry,
    samples: Sequence[Sample],
    places: Sequence[str],
    *,
    board: str | None,
    threads: int | None,
    told: Told,
) -> Reading:
    """Return what ``entry`` makes of ``samples``, on ``board`` or (None) on this machine.

    ``places`` are where each sample stands, for messages, and ``told`` is called with how many are
    done. Here it computes as on the device that it was made for. Raises InputError for a sample
    that the runtime does not take, BoardError and its like if the artifact does not run there.
    """
    for sample, place in zip(samples, places, strict=True):
        _check(sample, place)
    if board is not None:
        # Images were refused before: the agent reads texts.
        texts: Any = samples
        return read_there(bundle, texts, board, entry.engine, entry.precision, threads, told)
    return _run_here(bundle, entry, samples, places, threads or 0, told)


def _check(sample: Sample, place: str) -> None:
    parts = [p for p in (sample if isinstance(sample, tuple) else (sample,)) if isinstance(p, str)]
    size = max((len(part.encode("utf-8", "surrogatepass")) for part in parts), default=0)
    if size > MOST_TEXT_BYTES:
        raise InputError(
            f"has {size} bytes, and the runtime reads up to {MOST_TEXT_BYTES} of a text",
            where=place,
            hint="Cut it shorter, or leave it out.",
        )


def _run_here(
    bundle: Bundle,
    entry: ArtifactEntry,
    samples: Sequence[Sample],
    places: Sequence[str],
    threads: int,
    told: Told,
) -> Reading:
    from edgeopt.runtime.python import edgeopt_rt

    options = backend(entry.engine).host_options(bundle.artifact(entry), bundle.path)
    with open_session(
        bundle.path,
        engine=entry.engine,
        precision=entry.precision,
        threads=threads,
        options=options,
    ) as session:
        found = []
        for sample, place in zip(samples, places, strict=True):
            try:
                if isinstance(sample, str | tuple):
                    found += session.run_texts([sample])
                else:
                    found += session.run_images([images.as_rgb(sample)])
            except edgeopt_rt.Failure as exc:
                error = failed(exc)
                raise type(error)(error.message, where=place) from exc
            told(len(found))
        return reading_of(session, found)
