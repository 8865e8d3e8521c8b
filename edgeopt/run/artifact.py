# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Many samples, one after the other, through one artifact of a bundle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from edgeopt.backends import backend
from edgeopt.bundle import Bundle
from edgeopt.bundle.manifest import ArtifactEntry
from edgeopt.errors import InputError
from edgeopt.model import images
from edgeopt.model.answer import Sample
from edgeopt.model.dual_encoder import IMAGE, TEXT
from edgeopt.run.reading import Mapped, Reading, Result, Told, read_there, reading_of
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
    mapped: Mapped | None = None,
) -> Reading:
    """Return what ``entry`` makes of ``samples``, on ``board`` or (None) on this machine.

    ``places`` are where each sample stands, for messages, and ``told`` is called with how many are
    done. Of segmentation ``mapped`` is called with the map of each image (``reading.Mapped``). Here
    it computes as on the device that it was made for. Raises InputError for a sample that the
    runtime does not take, BoardError and its like if the artifact does not run there.
    """
    if bundle.manifest.is_dual:
        return _run_both(bundle, entry, samples, places, board, threads, told)
    for sample, place in zip(samples, places, strict=True):
        _check(sample, place)
    if board is not None:
        kind = TEXT if isinstance(samples[0], str | tuple) else IMAGE
        return read_there(
            bundle, samples, board, entry.engine, entry.precision, threads, told, kind, mapped
        )
    return _run_here(bundle, entry, samples, places, threads or 0, told, mapped=mapped)


def _run_both(
    bundle: Bundle,
    entry: ArtifactEntry,
    samples: Sequence[Sample],
    places: Sequence[str],
    board: str | None,
    threads: int | None,
    told: Told,
) -> Reading:
    """Run texts and images, each through the graph of a dual encoder that takes them."""
    results: list[Result | None] = [None] * len(samples)
    done = 0
    for kind in (TEXT, IMAGE):
        rows = [i for i, s in enumerate(samples) if isinstance(s, str | tuple) == (kind == TEXT)]
        if not rows:
            continue
        chosen = [samples[i] for i in rows]
        whole, so_far = bundle, done

        def tell(count: int, so_far: int = so_far) -> None:
            told(so_far + count)

        for i in rows:
            _check(samples[i], places[i])
        if board is not None:
            reading = read_there(
                whole, chosen, board, entry.engine, entry.precision, threads, tell, kind
            )
        else:
            part = bundle.of_graph(kind)
            own = next(
                a
                for a in part.manifest.artifacts
                if (a.engine, a.precision) == (entry.engine, entry.precision)
            )
            where = [places[i] for i in rows]
            reading = _run_here(part, own, chosen, where, threads or 0, tell, kind)
        for i, result in zip(rows, reading.results, strict=True):
            results[i] = result
        done += len(rows)
    return replace(reading, results=tuple(r for r in results if r is not None))


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
    graph: str | None = None,
    mapped: Mapped | None = None,
) -> Reading:
    from edgeopt.runtime.python import edgeopt_rt

    options = backend(entry.engine).host_options(bundle.artifact(entry), bundle.path)
    with open_session(
        bundle.path,
        engine=entry.engine,
        precision=entry.precision,
        threads=threads,
        options=options,
        graph=graph,
    ) as session:
        found = []
        for sample, place in zip(samples, places, strict=True):
            try:
                if isinstance(sample, str | tuple):
                    found += session.run_texts([sample])
                else:
                    width, height, rgb = images.as_rgb(sample)
                    found += session.run_images([(width, height, rgb)])
                    if mapped is not None:
                        mapped(len(found) - 1, np.asarray(session.class_map(width, height)))
            except edgeopt_rt.Failure as exc:
                error = failed(exc)
                raise type(error)(error.message, where=place) from exc
            told(len(found))
        return reading_of(session, found)
