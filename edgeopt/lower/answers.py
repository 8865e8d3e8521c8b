# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""An artifact's final answers, held against those of the user's own tool.

Raw texts (or images) go into the C runtime, as on a device, and what comes out is compared with
what ``edgeopt.model.original`` says of the same ones. Cosines of tensors
(``edgeopt.evaluate.fidelity``) see neither order, nor decisions, nor neighbours, nor what an import
lost: this does.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from edgeopt import cache, closure, progress
from edgeopt.backends import backend
from edgeopt.bundle.describe import artifact_entry, describe, tokenizer_files
from edgeopt.bundle.write import write
from edgeopt.errors import CompileError, EdgeoptError, MissingDependencyError
from edgeopt.lower.asking import Expected
from edgeopt.lower.judged import Got, Judged, compare
from edgeopt.lower.lowering import Lowered
from edgeopt.model import Model, TextInput, images
from edgeopt.model.answer import (
    Answer,
    Detection,
    Span,
    map_size,
    scores_in_order,
)
from edgeopt.model.image import ImageInput
from edgeopt.model.original import entity_of
from edgeopt.model.signature import NO_LENGTH
from edgeopt.model.tasks import (
    FEATURE_EXTRACTION,
    QUESTION_ANSWERING,
    Result,
    Task,
)
from edgeopt.recipe import Limits
from edgeopt.target import EngineSpec, Target

TOGETHER = 6
"""Samples that are run again, padded to the longest length and in a batch of ``BATCH``."""
BATCH = 4


def judge(
    model: Model,
    target: Target,
    spec: EngineSpec,
    lowered: Lowered,
    expected: Expected,
    limits: Limits,
) -> Judged | None:
    """Run an artifact on the samples through the C runtime and compare (cached by content).

    None if this host cannot run it; a note says why. Raises CompileError if the runtime
    refuses an artifact that the engine itself runs.
    """
    from edgeopt import host
    from edgeopt.runtime.build import sources_digest

    artifact = lowered.artifact
    name = f"{artifact.engine} {artifact.precision}"
    machine = host.detect(id="host", name="host", path="host").arch
    if artifact.engine == "tvm" and machine != target.device.arch:
        progress.note(f"{name} is for {target.device.arch}: its answers are not compared here")
        return None
    margin = limits.margin

    def build(directory: Path) -> None:
        with progress.step(f"Comparing answers of {name} with {expected.tool}"):
            with tempfile.TemporaryDirectory(dir=directory) as scratch:
                bundle = _trial(model, target, spec, lowered, Path(scratch) / "trial.edgeopt")
                got = _run(model, target, lowered, bundle, expected)
            found = compare(expected, got, margin)
        (directory / "judged.json").write_text(json.dumps(asdict(found)))

    key = cache.key(
        artifact=lowered.directory.parent.name,
        model=model.digest,
        expected=expected.digest,
        margin=margin,
        lengths=list(target.seq_lens),
        runtime=sources_digest(),
        code=closure.code(__name__),
    )
    directory = cache.entry("judged", key, build)
    return Judged(**json.loads((directory / "judged.json").read_text()))


def _trial(model: Model, target: Target, spec: EngineSpec, lowered: Lowered, place: Path) -> Path:
    """Write a bundle of one artifact, as it would ship, and return its place."""
    artifact = lowered.artifact
    entry = artifact_entry(artifact, lowered.directory, spec.version, lowered.fidelity, bound=-1.0)
    files = tokenizer_files(model)
    files |= {
        name: lowered.directory / plain
        for name, plain in zip(entry.artifact.files, artifact.files, strict=True)
    }
    return write(place, describe(model, target, [entry]), files).path


def _run(model: Model, target: Target, lowered: Lowered, bundle: Path, expected: Expected) -> Got:
    from edgeopt.runtime.host import failed, open_session
    from edgeopt.runtime.python import edgeopt_rt

    artifact = lowered.artifact
    # How many tokens it reads at all, and whether that is less than the user's tool does.
    fixed = artifact.main.seq_lens
    longest = model.input.max_seq_len if isinstance(model.input, TextInput) else NO_LENGTH
    lengths = fixed or tuple(n for n in target.seq_lens if n <= longest)
    most = max(fixed, default=longest)
    shorter = bool(fixed) and (expected.limit is None or most < expected.limit)
    options: dict[str, Any] = {
        "threads": 1,
        "engine": artifact.engine,
        "precision": artifact.precision,
        "options": backend(artifact.engine).host_options(artifact, lowered.directory),
    }
    names = expected.labels or model.labels  # an item is found by the name that it has
    by_hand = model.task == FEATURE_EXTRACTION and _unpooled(expected)

    def read(session: Any, numbers: Sequence[int]) -> list[tuple[Answer | None, int]]:
        """Return the answers to some samples, None for one that is cut short, and their tokens."""
        chosen: list[Any] = [expected.samples[i] for i in numbers]
        if isinstance(model.input, ImageInput):
            pixels = [images.as_rgb(sample) for sample in chosen]
            found = session.run_images(pixels)
            if model.task.result is Result.CLASS_MAP:
                return [(_map(session, i, image), 0) for i, image in enumerate(pixels)]
        elif by_hand:
            return [_by_hand(session, expected.answers[i], most) for i in numbers]
        else:
            found = session.run_texts(chosen)
        return [
            (None if r.truncated and shorter else answer_of(model.task, r, names), r.tokens)
            for r in found
        ]

    asked = [i for i, answer in enumerate(expected.answers) if answer is not None]
    if model.task == QUESTION_ANSWERING:  # windows are each tool's own
        asked = [i for i in asked if len(_ids(expected.answers[i])) < most]
    answers: list[Answer | None] = [None] * len(expected.samples)
    changed: list[tuple[int, Answer]] = []
    sizes: dict[int, int] = {}
    try:
        with _opened(open_session, bundle, options) as (session, batch):
            for i in asked:
                ((answers[i], sizes[i]),) = read(session, [i])
            some = _some(
                sizes, [i for i in asked if answers[i] is not None], max(lengths, default=0)
            )
            for start in range(0, len(some), batch) if batch > 1 and not by_hand else ():
                group = some[start : start + batch]
                found = read(session, group)
                changed += [(i, a) for i, (a, _) in zip(group, found, strict=True) if a is not None]
        if len(lengths) > 1 or (not fixed and lengths):
            with open_session(bundle, seq_lens=(max(lengths),), **options) as session:
                padded = [(i, read(session, [i])[0][0]) for i in some]
                changed += [(i, a) for i, a in padded if a is not None]
    except edgeopt_rt.Failure as exc:
        raise _refused(failed(exc)) from exc
    except (MissingDependencyError, CompileError):
        raise
    except EdgeoptError as exc:
        raise _refused(exc) from exc
    return Got(answers=tuple(answers), changed=tuple(changed))


def _refused(exc: EdgeoptError) -> CompileError:
    return CompileError(f"the runtime on the device does not run it: {exc}")


@contextlib.contextmanager
def _opened(
    open_session: Callable[..., Any], bundle: Path, options: Mapping[str, Any]
) -> Iterator[tuple[Any, int]]:
    """Open a session for ``BATCH`` samples at once, or for one if the artifact takes no more."""
    try:
        session, batch = open_session(bundle, batch=BATCH, **options), BATCH
    except EdgeoptError as exc:
        if "one input at a time" not in str(exc):
            raise
        session, batch = open_session(bundle, **options), 1
    with session:
        yield session, batch


def _some(sizes: Mapping[int, int], numbers: Sequence[int], most: int) -> list[int]:
    """Return ``TOGETHER`` of ``numbers``, short beside long, of those that fit into ``most``."""
    fitting = sorted((i for i in numbers if sizes[i] <= most or not most), key=lambda i: sizes[i])
    steps = np.linspace(0, len(fitting) - 1, min(TOGETHER, len(fitting))).round().astype(int)
    some = [fitting[i] for i in dict.fromkeys(steps.tolist())] if fitting else []
    half = (len(some) + 1) // 2
    return [
        i for pair in zip_longest(some[:half], some[: half - 1 : -1]) for i in pair if i is not None
    ]


def _unpooled(expected: Expected) -> bool:
    """Tell whether the tool gives hidden states, which the runtime has as tensors alone."""
    return any(a is not None and a.vector is not None and a.vector.ndim == 2
               for a in expected.answers)  # fmt: skip


def _ids(answer: Answer | None) -> tuple[int, ...]:
    return () if answer is None else answer.ids


def _by_hand(session: Any, answer: Answer | None, most: int) -> tuple[Answer | None, int]:
    """Return the hidden states of the very tokens that the tool read, and their number."""
    ids = _ids(answer)
    if answer is None or not ids or len(ids) > most:
        return None, len(ids)
    session.select(1, len(ids))
    values = {"input_ids": ids, "attention_mask": (1,) * len(ids), "token_type_ids": answer.types}
    for name, buffer in session.inputs().items():
        buffer[:] = 0
        given = values[name]
        buffer[0, : len(given)] = given
    session.execute()
    (hidden,) = session.outputs().values()
    return Answer(vector=np.array(hidden[0, : len(ids)])), len(ids)


def _map(session: Any, index: int, image: tuple[int, int, bytes]) -> Answer:
    height, width = map_size(image[1], image[0])
    return Answer(classes=np.asarray(session.class_map(width, height, index)))


def answer_of(task: Task, result: Any, labels: Sequence[str]) -> Answer:
    """Return a result of the runtime as the tools give theirs."""
    if task.result is Result.SCORES:
        return Answer(scores=scores_in_order([(i.label, i.score) for i in result.items], labels))
    if task.result is Result.EMBEDDING:
        if result.vector is None:
            return Answer(vector=np.zeros(0, np.float32))
        return Answer(vector=np.asarray(result.vector, np.float32))
    if task.result is Result.BOXES:
        found = (Detection(label=i.label, score=i.score, box=tuple(i.box)) for i in result.items)
        return Answer(objects=tuple(found))
    spans = [
        Span(label=entity_of(i.label or ""), score=i.score, begin=i.begin, end=i.end)
        for i in result.items
    ]
    return Answer(spans=tuple(spans))
