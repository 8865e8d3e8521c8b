# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Texts or images in, results out: what the runtime makes of them, here or on a board."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from edgeopt.boards import Board, connect
from edgeopt.bundle import Bundle, open_bundle
from edgeopt.bundle.manifest import ArtifactEntry
from edgeopt.deploy.provision import answers, check_architecture, provide_any, repaired
from edgeopt.deploy.store import Store
from edgeopt.errors import BoardError, InputError, MeasurementError
from edgeopt.measure import agent
from edgeopt.model import images
from edgeopt.model.answer import Sample
from edgeopt.model.dual_encoder import TEXT
from edgeopt.model.tasks import Result as Kind
from edgeopt.runtime.host import failed, graph_for, open_session

Text = str | tuple[str, str]
"""A text, or a text with its second part: a question with its context."""

Told = Callable[[int], None]
"""What is called with the number of texts that are done."""

Mapped = Callable[[int, np.ndarray], None]
"""What is called with an image's number and its map of labels, uint16 (height, width)."""

_TIMEOUT_S = 600.0
_TEXT_TIMEOUT_S = 10.0  # a large model, emulated
_MORE_ITEMS, _MOST_VALUES = 64, 1 << 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """One finding: a label or a span with its score. ``begin`` and ``end`` are characters of the
    text (of the context, for question answering), None if the finding is of the whole text.
    ``box`` is where an object is, in pixels of the image: x_min, y_min, x_max, y_max; None for
    other tasks."""

    label: str | None
    score: float
    begin: int | None
    end: int | None
    text: str | None
    box: tuple[float, float, float, float] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """What the model made of one text or image: ``items``, best first, or a ``vector``."""

    items: tuple[Item, ...]
    vector: tuple[float, ...] | None
    tokens: int
    truncated: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """The results of all samples, and what computed them. ``board`` is None for this machine."""

    board: str | None
    emulated: bool
    engine: str
    engine_version: str
    precision: str
    results: tuple[Result, ...]


def read(
    bundle: str | Path | Bundle,
    texts: Sequence[Text],
    *,
    board: str | None = None,
    engine: str | None = None,
    precision: str | None = None,
    threads: int | None = None,
) -> Reading:
    """Return what ``bundle`` makes of ``texts``, on ``board`` or (None) on this machine.

    The artifact is the one that the runtime prefers (INT8 before FP16 before FP32) of those that
    ``engine`` and ``precision`` allow and that run there. Raises BundleError for a damaged bundle,
    InputError for texts that it does not take, BoardError if nothing of it runs there. Of a dual
    encoder it is the embeddings that its graph of texts makes.
    """
    if board is not None:
        opened = bundle if isinstance(bundle, Bundle) else open_bundle(bundle)
        return read_there(opened, texts, board, engine, precision, threads)
    path = bundle.path if isinstance(bundle, Bundle) else bundle
    options = {"engine": engine, "precision": precision, "threads": threads or 0}
    return _read_here(path, texts, graph=graph_for(path, TEXT), **options)


def _read_here(path: str | Path, texts: Sequence[Text], **options: Any) -> Reading:
    from edgeopt.runtime.python import edgeopt_rt

    with open_session(path, **options) as session:
        try:
            found = [session.run_texts([text])[0] for text in texts]
        except edgeopt_rt.Failure as exc:
            raise failed(exc) from exc
        return reading_of(session, found)


def reading_of(session: Any, found: Sequence[Any]) -> Reading:
    """Return what a session on this machine (``edgeopt_rt.Session``) gave."""
    return Reading(
        board=None,
        emulated=False,
        engine=session.engine,
        engine_version=session.engine_version,
        precision=session.precision,
        results=tuple(
            Result(
                items=tuple(Item(**item._asdict()) for item in result.items),
                vector=None if result.vector is None else tuple(map(float, result.vector)),
                tokens=result.tokens,
                truncated=result.truncated,
            )
            for result in found
        ),
    )


def _untold(done: int) -> None:
    """Tell nobody."""


def read_there(
    bundle: Bundle,
    samples: Sequence[Sample],
    name: str,
    engine: str | None,
    precision: str | None,
    threads: int | None,
    told: Told = _untold,
    kind: str = TEXT,
    mapped: Mapped | None = None,
) -> Reading:
    """Return what ``bundle`` makes of ``samples`` on the board ``name``; raises as ``read`` does.

    Of a dual encoder it is what the graph makes that takes a ``kind``, "text" or "image". Files of
    images are decoded here, as an app does; from their pixels on the runtime works there. With
    ``mapped`` maps of labels are made there as well, of each image's own size.
    """
    graph = []
    if bundle.manifest.is_dual:
        bundle, graph = bundle.of_graph(kind), ["--graph", kind]
    with connect(name) as board:
        check_architecture(bundle, board)
        store = Store(board.transport, board.facts)
        with store.in_use():
            allowed = candidates(bundle, engine, precision)
            artifact, provided = provide_any(bundle, board, store, allowed)
            words = [provided.agent, "read", "--bundle", provided.bundle]
            words += ["--libraries", provided.libraries, "--engine", artifact.engine]
            words += ["--precision", artifact.precision, *graph]
            words += ["--threads", str(threads)] if threads else []
            try:
                return _asked(bundle, board, words, samples, told, mapped)
            except (BoardError, MeasurementError):
                if not answers(board) or not repaired(bundle, store, provided):
                    raise
                return _asked(bundle, board, words, samples, told, mapped)


def _asked(
    bundle: Bundle,
    board: Board,
    words: Sequence[str],
    samples: Sequence[Sample],
    told: Told,
    mapped: Mapped | None,
) -> Reading:
    """Run the agent, once, and return what it says of ``samples``."""
    limit_s = _TIMEOUT_S + len(samples) * _TEXT_TIMEOUT_S
    with contextlib.closing(
        board.transport.lines(words, stdin=_sent_all(samples, mapped), timeout_s=limit_s)
    ) as said:
        return _reading(said, samples, bundle, board.entry.name, board.emulated, told, mapped)


def candidates(
    bundle: Bundle, engine: str | None, precision: str | None
) -> Iterable[ArtifactEntry]:
    """Return the artifacts that are allowed in the order of the runtime (session/choose.c)."""
    order = ("int8", "int4", "fp16", "fp32")
    held = bundle.manifest.artifacts
    chosen = [
        a
        for a in sorted(held, key=lambda a: order.index(a.precision))
        if engine in (None, a.engine) and precision in (None, a.precision)
    ]
    if not chosen:
        raise InputError(
            f"has no {' '.join(filter(None, (engine, precision)))} artifact",
            where=str(bundle.path),
            hint="It holds: " + ", ".join(f"{a.engine} {a.precision}" for a in held),
        )
    return chosen


def _sent_all(samples: Sequence[Sample], mapped: Mapped | None) -> Iterator[bytes]:
    for sample in samples:
        yield _sent(sample, mapped is not None)


def _sent(sample: Sample, as_map: bool = False) -> bytes:
    """Return what the agent reads of a sample: a line, and behind that of an image a binary PPM.

    ``as_map`` asks for the labels of the image's pixels too.
    """
    found: dict[str, str | int]
    pixels = b""
    if isinstance(sample, str):
        found = {"text": sample}
    elif isinstance(sample, tuple):
        found = {"text": sample[0], "pair": sample[1]}
    else:
        width, height, rgb = images.as_rgb(sample)
        pixels = f"P6\n{width} {height}\n255\n".encode() + rgb
        found = {"image": len(pixels), **({"map": 1} if as_map else {})}
    return json.dumps(found).encode() + b"\n" + pixels


def _reading(
    lines: Iterable[str],
    samples: Sequence[Sample],
    bundle: Bundle,
    name: str,
    emulated: bool,
    told: Told = _untold,
    mapped: Mapped | None = None,
) -> Reading:
    """Read the agent's lines; it says no more than what was asked for."""
    opened: dict[str, Any] | None = None
    items: list[Item] = []
    results: list[Result] = []
    runs: list[np.ndarray] = []
    pixels = 0
    most = len(bundle.manifest.labels) + _places(bundle) + _MORE_ITEMS
    for line in lines:
        with agent.protocol(line, name):
            event = agent.event_of(line)
            kind = event["event"]
            if kind == "error":
                place, message = agent.told_error(event)
                raise BoardError(message, where=f"{name}: {place}")
            if kind == "engine" and opened is None:
                opened = {key: agent.text(event[key]) for key in ("engine", "version", "precision")}
            elif kind in ("item", "result") and (opened is None or len(results) == len(samples)):
                raise ValueError("more results than samples")
            elif kind == "item":
                items.append(_item(event, samples[len(results)], bundle.manifest.labels))
                if len(items) > most:
                    raise ValueError("more findings than tokens")
            elif kind == "map" and opened is not None and mapped is not None:
                runs.append(_runs(event, len(bundle.manifest.labels)))
                pixels += int(runs[-1][1].sum())
                if pixels > images.MAX_PIXELS:
                    raise ValueError("more pixels than an image has")
            elif kind == "result":
                results.append(_result(event, tuple(items)))
                items = []
                if mapped is not None:
                    at = len(results) - 1
                    mapped(at, _map(runs, samples[at]))
                    runs, pixels = [], 0
                told(len(results))
            elif kind != "hello" or opened is not None:
                raise ValueError(f"{kind!r} is out of order")
    if opened is None or len(results) != len(samples):
        raise MeasurementError("the agent ended before it was done", where=name)
    return Reading(
        board=name,
        emulated=emulated,
        engine=opened["engine"],
        engine_version=opened["version"],
        precision=opened["precision"],
        results=tuple(results),
    )


def _runs(event: dict[str, Any], labels: int) -> np.ndarray:
    """Return runs of pixels of one label, int64 (2, runs): the labels, and how many pixels."""
    sides = [event["labels"], event["counts"]]
    if not all(isinstance(side, list) for side in sides) or len(sides[0]) != len(sides[1]):
        raise ValueError("no runs of labels")
    most = (labels - 1, images.MAX_PIXELS)
    found = [
        [agent.count(value, top) for value in side] for side, top in zip(sides, most, strict=True)
    ]
    made = np.array(found, np.int64)
    if not made[1].all():
        raise ValueError("a run of no pixel")
    return made


def _map(runs: Sequence[np.ndarray], sample: Sample) -> np.ndarray:
    """Return the map of labels of an image, of its own size, row by row from the top."""
    width, height, _ = images.as_rgb(cast("Path | images.Image", sample))
    labels, counts = np.concatenate(runs, axis=1) if runs else np.zeros((2, 0), np.int64)
    if int(counts.sum()) != width * height:
        raise ValueError("labels for another number of pixels than the image has")
    return np.repeat(labels.astype(np.uint16), counts).reshape(height, width)


def _places(bundle: Bundle) -> int:
    """Return how many places an answer can have: tokens of a text, or objects of an image."""
    manifest = bundle.manifest
    if manifest.task.result is not Kind.BOXES:
        return manifest.max_seq_len
    (graph,) = manifest.graphs.values()
    queries = graph.signature.outputs[0].dims[1]
    return queries if isinstance(queries, int) else 0


def _result(event: dict[str, Any], items: tuple[Item, ...]) -> Result:
    vector = event.get("vector")
    if vector is not None and (not isinstance(vector, list) or len(vector) > _MOST_VALUES):
        raise ValueError("no vector")
    if agent.count(event["items"]) != len(items):
        raise ValueError("findings are missing")
    return Result(
        items=items,
        vector=None if vector is None else tuple(map(agent.number, vector)),
        tokens=agent.count(event["tokens"]),
        truncated=agent.flag(event["truncated"]),
    )


def _item(event: dict[str, Any], sample: Sample, labels: Sequence[str]) -> Item:
    """Return a finding with its place in characters; the agent counts bytes of UTF-8."""
    label = event.get("label")
    if label is not None and label not in labels:
        raise ValueError("a label that the bundle does not have")
    begin = end = None
    text = sample[1] if isinstance(sample, tuple) else sample
    if "begin" in event:
        if not isinstance(text, str):
            raise ValueError("a place in an image")
        encoded = text.encode()
        first, last = agent.count(event["begin"]), agent.count(event["end"], len(encoded))
        if first > last:
            raise ValueError("a finding that ends before it begins")
        begin = len(encoded[:first].decode(errors="replace"))
        end = begin + len(encoded[first:last].decode(errors="replace"))
    return Item(
        label=label,
        score=agent.number(event["score"]),
        begin=begin,
        end=end,
        text=text[begin:end] if isinstance(text, str) and begin is not None else None,
        box=_box(event["box"]) if "box" in event else None,
    )


def _box(values: Any) -> tuple[float, float, float, float]:
    if not isinstance(values, list):
        raise ValueError("no box")
    x_min, y_min, x_max, y_max = map(agent.number, values)
    return x_min, y_min, x_max, y_max
