# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Texts in to labels out, each at its own length or all at one: edgeopt and what users pick.

Every variant is a process of its own. Texts come in blocks; a block is run by all variants, in an
order that is drawn, each beginning with a call that does not count. One that fails is left out,
with the reason, and the others go on.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from edgeopt import pipeline, progress
from edgeopt.errors import EdgeoptError, InputError
from edgeopt.measure import timing
from edgeopt.model.importer import import_model
from edgeopt.model.tasks import SEQUENCE_CLASSIFICATION
from edgeopt.runtime.build import build_for_host
from edgeopt.target import ENGINES, PRECISIONS
from tools.benchmarks import labelled, peers
from tools.benchmarks.own_length import Run, document, page
from tools.benchmarks.peers import reading
from tools.benchmarks.served import Answer, Served, Variant, made, peer, python_of

BLOCK = 10
"""Texts of a block: its median is the unit of the comparison."""

DATA_FILES = ("test.jsonl.gz", "test.jsonl")


@dataclass(frozen=True, kw_only=True, slots=True)
class Given:
    """The texts that are timed, with the index of each one's label."""

    texts: tuple[str, ...]
    labels: tuple[int, ...]


def compare(
    source: str,
    data: str,
    count: int,
    seed: int,
    seq_len: int,
    target: str,
    checkpoints: Sequence[str],
    only: Sequence[str],
    output: str,
) -> None:
    """Time all variants on ``count`` texts of ``data``, and write and print what is true.

    ``seq_len`` 0: each text at its own length; else all are cut or padded to so many tokens.
    """
    model = Path(source)
    given = read(Path(data), reading.labels(model), count, seed)
    tokens = _lengths(model, given.texts)
    left_out: dict[str, str] = {}
    variants = []
    for named, folder in [("", model)] + [(f" {Path(c).name}", Path(c)) for c in checkpoints]:
        if any(
            _asked(f"edgeopt{named} {engine} {p}", only) for engine in ENGINES for p in PRECISIONS
        ):
            variants += _ours(named, model, folder, target, left_out)
    variants += _peers(model, only, left_out)
    variants = [replace(one, length=seq_len) for one in variants if _asked(one.name, only)]
    answers, served = _run(variants, given.texts, seed, left_out)
    runs = [
        Run(
            name=name,
            ours=one.variant.module == "ours",
            answers=answers[name],
            peak_mb=one.peak_mb,
            versions=one.versions,
        )
        for name, one in served.items()
    ]
    found = document(
        model=model.name,
        data=data,
        seed=seed,
        seq_len=seq_len,
        block=BLOCK,
        runs=runs,
        labels=given.labels,
        tokens=tokens,
        left_out=left_out,
        clock=timing.CLOCK,
    )
    path = Path(output)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1) + "\n")
    text = page(found)
    path.with_suffix(".md").write_text(text)
    print(text)
    print(f"as JSON: {path}, as Markdown: {path.with_suffix('.md')}")


def read(path: Path, labels: Sequence[str], count: int, seed: int) -> Given:
    """Return ``count`` labelled texts (0: all) of a file or of a folder's test file, drawn.

    Raises InputError for other files, for a label that the model has not, and for too few texts.
    """
    if path.is_dir():
        found = [path / name for name in DATA_FILES if (path / name).is_file()]
        if not found:
            raise InputError(f"has none of {', '.join(DATA_FILES)}", where=str(path))
        path = found[0]
    rows = labelled.read(path)
    index = {name: i for i, name in enumerate(labels)}
    if unknown := sorted({str(label) for label in rows.labels} - set(index)):
        raise InputError(f"the model has no label {unknown[0]!r}", where=str(path))
    order = random.Random(seed).sample(range(len(rows.texts)), len(rows.texts))
    order = order[: count or len(order)]
    if len(order) < 2 * BLOCK:
        raise InputError(
            f"{len(order)} texts, and {2 * BLOCK} are the fewest that say how sure it is",
            where=str(path),
        )
    order = order[: len(order) // BLOCK * BLOCK]
    return Given(
        texts=tuple(rows.texts[i] for i in order),
        labels=tuple(index[str(rows.labels[i])] for i in order),
    )


def _lengths(model: Path, texts: Sequence[str]) -> list[int]:
    """Return the tokens of each text, up to the model's own limit."""
    encode = reading.encoder(model, None)
    return [len(encode(text).ids) for text in texts]


def _ours(
    named: str, original: Path, folder: Path, target: str, left_out: dict[str, str]
) -> list[Variant]:
    """Return the artifacts of the checkpoint in ``folder``, compiled for ``target``."""
    model = import_model(str(folder))
    if model.task != SEQUENCE_CLASSIFICATION:
        raise InputError("is no classifier of texts", where=str(folder))
    output = f"build/bench-{folder.name}-{target}.edgeopt"
    try:
        bundle = pipeline.compile(model, target, output=output)
    except EdgeoptError as exc:
        left_out[f"edgeopt{named}"] = str(exc)
        return []
    return [
        Variant(
            name=f"edgeopt{named} {entry.engine} {entry.precision}",
            module="ours",
            word=f"{entry.engine}:{entry.precision}",
            python=python_of(()),
            model=original,
            folder=bundle.path.resolve(),
        )
        for entry in bundle.manifest.artifacts
    ]


def _asked(name: str, only: Sequence[str]) -> bool:
    return not only or any(word in name for word in only)


def _peers(model: Path, only: Sequence[str], left_out: dict[str, str]) -> list[Variant]:
    variants = []
    for name in peers.NAMES:
        module = peer(name)
        if not any(_asked(title, only) for title in module.VARIANTS):
            continue
        try:
            python, folder = made(name, model)
        except EdgeoptError as exc:
            left_out |= dict.fromkeys(module.VARIANTS, str(exc))
            progress.note(f"{' and '.join(module.VARIANTS)}: not compared: {exc}")
            continue
        variants += [
            Variant(name=title, module=name, word=word, python=python, model=model, folder=folder)
            for title, word in module.VARIANTS.items()
        ]
    return variants


def _run(
    variants: Sequence[Variant], texts: Sequence[str], seed: int, left_out: dict[str, str]
) -> tuple[dict[str, list[Answer]], dict[str, Served]]:
    """Return the answers of each variant that came to the end, and its process, which has ended."""
    environment = {"EDGEOPT_RT": str(build_for_host().library)}
    served: dict[str, Served] = {}
    answers: dict[str, list[Answer]] = {}
    draw = random.Random(seed)
    with ExitStack() as stack:
        with progress.step(f"Opening {len(variants)} variants") as step:
            for i, variant in enumerate(variants):
                try:
                    served[variant.name] = stack.enter_context(Served(variant, environment))
                except EdgeoptError as exc:
                    _lost(variant.name, exc, left_out)
                step.update(i + 1, len(variants))
        answers = {name: [] for name in served}
        blocks = [texts[i : i + BLOCK] for i in range(0, len(texts), BLOCK)]
        text = f"Timing {len(served)} variants on {len(texts)} texts, {os.cpu_count()} cores here"
        with progress.step(text) as step:
            for i, block in enumerate(blocks):
                for name in draw.sample(list(served), len(served)):
                    try:
                        answers[name] += served[name].block(block)
                    except EdgeoptError as exc:
                        _lost(name, exc, left_out)
                        del served[name], answers[name]
                step.update(i + 1, len(blocks))
    return answers, served


def _lost(name: str, exc: EdgeoptError, left_out: dict[str, str]) -> None:
    left_out[name] = exc.message
    progress.note(f"{name}: not compared: {exc.message}")
