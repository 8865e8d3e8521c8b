# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Run a recipe's steps on a model: each checked on held-out texts, kept or rolled back.

If there is a target, a step that aims at latency is also held against the model before it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgeopt import __version__, cache, closure, place, progress
from edgeopt.compression.technique import module_name, technique
from edgeopt.errors import CompileError, InputError
from edgeopt.estimate.latency import Aiming, Gain, Judge, Source
from edgeopt.evaluate import score
from edgeopt.evaluate.data import SEQ_LEN, Data, divide
from edgeopt.fields import read_json
from edgeopt.model import Model, TextInput, checkpoint, dual_import, importer, name_of
from edgeopt.model.huggingface import checkpoint as checkpoint_folder
from edgeopt.model.signature import NO_LENGTH
from edgeopt.recipe import Recipe, load_recipe
from edgeopt.steps import TECHNIQUES, Step
from edgeopt.train.context import Context
from edgeopt.train.distributed import ALONE, Peers, trains
from edgeopt.train.resume import read_metrics

REPORT = "compress.json"

_KIND = "compressed model"
_REPORT_BYTES = 1 << 26  # training's lines take most of it


@dataclass(frozen=True, kw_only=True, slots=True)
class StepReport:
    """What one step did. Scores are means over the held-out inputs, before and after it.

    ``drop`` is their difference and ``drop_se`` the standard error of that (texts are paired).
    Bytes are those of the weights as the checkpoint stores them: FP32, but for a packed table.
    ``latency`` is None if no target was given, or if the step had failed already.
    ``modified`` is False if the technique found nothing to do.
    ``rolled_back`` says why the step was, None if it was kept. ``training`` are the lines of
    metrics.jsonl of a step that learns: losses, learning rates, and after each epoch what the
    validation texts say.
    """

    technique: str
    options: dict[str, Any]
    change: str
    modified: bool
    kept: bool
    parameters_before: int
    parameters_after: int
    bytes_before: int
    bytes_after: int
    score_before: float
    score_after: float
    drop: float
    drop_se: float
    max_drop: float
    aims: str
    latency: Gain | None
    rolled_back: str | None
    training: Sequence[dict[str, Any]] = ()

    def __str__(self) -> str:
        """One line for people."""
        verdict = "kept" if self.kept else f"ROLLED BACK, as it {self.rolled_back}"
        if self.kept and self.latency is not None:
            verdict += f", {self.latency.ratio:.2f} times as fast"
        return (
            f"{self.technique}: {self.change}; {self.bytes_before / 1e6:.1f} -> "
            f"{self.bytes_after / 1e6:.1f} MB; {self.score_before:.4f} -> {self.score_after:.4f}: "
            f"{verdict}"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Compression:
    """What a recipe did. ``path`` is the folder written, None if none was asked for.

    ``measure`` is what scores are: accuracy, "same label" as the original, or cosine with it.
    ``latency`` is where latencies come from and ``times_faster`` that of the result against the
    original; None if no target was given.
    """

    path: Path | None
    name: str
    recipe: str
    measure: str
    held_out: int
    learnt_from: int
    seq_len: int
    score_before: float
    score_after: float
    parameters_before: int
    parameters_after: int
    bytes_before: int
    bytes_after: int
    data_sha256: str
    origin: dict[str, Any]
    steps: tuple[StepReport, ...]
    latency: Source | None
    times_faster: float | None

    def document(self) -> dict[str, Any]:
        """Return it as plain JSON values, without the path: what ``compress.json`` holds."""
        return {"edgeopt": __version__} | {k: v for k, v in asdict(self).items() if k != "path"}


def compress(
    source: str | Path,
    *,
    data: str | Path,
    held_out: str | Path | None = None,
    recipe: str | Path | Recipe = "prune",
    output: str | Path | None = None,
    aiming: Aiming | None = None,
    peers: Peers = ALONE,
) -> Compression:
    """Compress the checkpoint ``source`` by a recipe and write it to the folder ``output``.

    ``source`` is a Hugging Face directory or hub name. ``data`` has the user's texts (``.jsonl``
    or ``.jsonl.gz`` with "text" and, for a classifier, "label"; or a text a line), or images (a
    folder for each label, a folder without, or a table of files), which techniques
    learn from. Each step is checked on those of ``held_out``, or without them on a fifth of
    ``data``, which is then not learnt from. ``output`` (by default
    ``NAME-RECIPE`` here) appears whole or not at all, with the report ``compress.json``; it loads
    with transformers unless it has a shape that config.json has no word for (its section
    "edgeopt" says which), and ``edgeopt compile`` takes it in any case.

    A step that loses more than its ``max_drop`` is rolled back, and so is one that aims at latency
    and gains none on the target of ``aiming`` (None: the model is made for no target). The others
    of ``peers`` train beside this process. Raises InputError for wrong input, and what ``aiming``
    raises.
    """
    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    folder = Path(output) if output is not None else Path(f"{name_of(source)}-{recipe.name}")
    read = [Path(path) for path in (source, data, held_out) if path]
    with place.reserved(folder, _KIND, foreign, read):
        model, found = compressed(
            source, recipe, Path(data), Path(held_out) if held_out else None, aiming, peers
        )
        with progress.step(f"Writing {folder}"):
            _write(model, found, folder, checkpoint_folder(source))
    return replace(found, path=folder)


def compressed(
    source: str | Path,
    recipe: Recipe,
    data: Path,
    held_out: Path | None = None,
    aiming: Aiming | None = None,
    peers: Peers = ALONE,
) -> tuple[Model, Compression]:
    """Return the Model after the steps of ``recipe``, and the report; both cached by content.

    Raises InputError as ``compress`` does.
    """
    if not recipe.compress:
        raise InputError("has no [[compress]] steps", where=recipe.path)
    if Path(source).is_file() or Path(source).suffix == ".onnx":
        raise InputError("only checkpoints of transformers can be compressed", where=str(source))
    folder = checkpoint_folder(source)
    if dual_import.body(folder) is not None:
        raise InputError(
            "has two networks, of texts and of images; a step is held against the answers of one",
            where=str(source),
            hint="'edgeopt compile' makes INT8 of both, and 'edgeopt evaluate' says what it loses. "
            "A classifier of images with the same encoder (CLIPForImageClassification, "
            "SiglipForImageClassification) can be compressed.",
        )
    with progress.step(f"Importing {source}"):
        original = importer.import_model(folder)
    original = replace(original, name=name_of(source))
    score.check(original)
    for step in recipe.compress:
        _check_input(step, original)
        technique(step.technique).check(original, step)
    learning, checked = divide(data, held_out, original)
    aim = None if aiming is None else aiming(original)
    digest = cache.key(learning=learning.digest(), held_out=checked.digest())
    key = cache.key(model=original.digest, data=digest, code=closure.code(__name__))
    first = _baseline(key, original, checked)
    model, before, reports = original, first, []
    times_faster = None if aim is None else 1.0
    for step in recipe.compress:
        # Not the bound: who loosens it need not wait for the same work again.
        options = {k: v for k, v in asdict(step).items() if k != "max_drop"}
        around = Context(teacher=original, peers=peers)
        code = closure.code(module_name(step.technique))
        parts: dict[str, Any] = {"before": key, "step": options, "code": code}
        if peers.count > 1 and trains(step):
            parts["processes"] = peers.count  # they round otherwise than one does
        tried = cache.key(**parts)
        if aim is not None and step.needs_costs:
            around = replace(around, target=aim.target, costs=aim.costs)
            tried = cache.key(**parts, costs=aim.costs.key)
        directory = _step(tried, model, step, learning, checked, around, (first, before), folder)
        figures = json.loads((directory / "figures.json").read_text())
        failed, gain = None, None
        if figures["drop"] > step.max_drop + 1e-9:  # a mean may miss the bound that it equals
            failed = f"loses more than {step.max_drop:g}"
        else:
            with progress.step(f"Loading what {step.technique} made"):
                changed = importer.import_model(directory / "model")
            if aim is not None:
                gain, failed = _judge(aim.judge, step, original, model, changed)
            if failed is None and not figures["modified"]:
                failed = "changed nothing"
        report = StepReport(
            technique=step.technique,
            options=options,
            kept=failed is None,
            max_drop=step.max_drop,
            aims=step.aims,
            latency=gain,
            rolled_back=failed,
            **figures,
        )
        progress.note(str(report))
        reports.append(report)
        if failed is None:
            key, model = tried, changed
            before = np.load(directory / "answers.npy")
            times_faster = None if gain is None else gain.of_original

    def mean(found: np.ndarray) -> float:
        return float(score.score(original, found, first, checked).mean())

    sizes = [checkpoint.parameters(m) for m in (original, model)]
    result = Compression(
        path=None,
        name=original.name,
        recipe=recipe.name,
        measure="accuracy" if checked.labels is not None else score.measure(original),
        held_out=len(checked),
        learnt_from=len(learning),
        seq_len=_seq_len(original),
        score_before=mean(first),
        score_after=mean(before),
        parameters_before=sizes[0],
        parameters_after=sizes[1],
        bytes_before=checkpoint.size_bytes(original),
        bytes_after=checkpoint.size_bytes(model),
        data_sha256=digest,
        origin=dict(original.origin),
        steps=tuple(reports),
        latency=None if aim is None else aim.judge.source,
        times_faster=times_faster,
    )
    origin = dict(original.origin) | {"compressed": result.document()}
    return replace(model, name=original.name, origin=origin), result


def _check_input(step: Step, model: Model) -> None:
    """Raise InputError if ``step`` is of what networks of another kind of input have."""
    kind = model.input.kind
    if kind not in step.inputs:
        others = [name for name, kind_of in TECHNIQUES.items() if kind in _takes(kind_of)]
        raise InputError(
            f"is for networks of texts, and {model.name} is for {model.task}",
            where=f"compress step {step.technique}",
            hint=f"Of {kind}s there are: {', '.join(others)}; the recipe prune-images begins "
            "with structured.",
        )


def _seq_len(model: Model) -> int:
    """Return to how many tokens texts are cut; ``NO_LENGTH`` for images."""
    given = model.input
    return min(SEQ_LEN, given.max_seq_len) if isinstance(given, TextInput) else NO_LENGTH


def _takes(kind: type[Step]) -> frozenset[str]:
    """Return what the networks take that a technique is for, whatever its options are."""
    found = kind.inputs
    return found if isinstance(found, frozenset) else frozenset({"text", "image"})


def _judge(
    judge: Judge, step: Step, original: Model, before: Model, after: Model
) -> tuple[Gain | None, str | None]:
    """Return what a step gains, and why it is to be rolled back for that, None if it is not."""
    try:
        gain = judge(original, before, after)
    except CompileError as exc:
        return None, f"leaves a model that does not run on the target: {exc}"
    if step.aims != "latency" or gain.gains:
        return gain, None
    found = f"{judge.source.kind} {gain.ratio:.2f} times as fast"
    if gain.rounds:
        found += f", {gain.low:.3f} to {gain.high:.3f} by {gain.rounds} rounds"
    return gain, f"gains no latency on {judge.source.where} ({found})"


def techniques(recipe: Recipe) -> tuple[str, ...]:
    """Return the modules that do the steps of ``recipe``: they are found by name as it runs."""
    return tuple(module_name(step.technique) for step in recipe.compress)


def _baseline(key: str, model: Model, held_out: Data) -> np.ndarray:
    """Return the original's outputs on the held-out texts."""

    def build(directory: Path) -> None:
        text = f"Running the original on {len(held_out)} held-out {held_out.noun}"
        np.save(directory / "answers.npy", score.answers(model, held_out, text))

    found: np.ndarray = np.load(cache.entry("compress", key, build) / "answers.npy")
    return found


def _step(
    key: str,
    model: Model,
    step: Step,
    learning: Data,
    held_out: Data,
    around: Context,
    outputs: tuple[np.ndarray, np.ndarray],
    source: Path,
) -> Path:
    """Return the directory with a step's figures, checkpoint, and outputs on held-out texts.

    ``outputs`` are those of the original and of ``model``, on the held-out texts.
    """
    original, before = outputs

    def build(directory: Path) -> None:
        with cache.scratch("training", key) as work:
            context = replace(around, work=work, source=source)
            apply = technique(step.technique).apply
            change = context.peers.apply(apply, model, step, learning, context)
            changed = change.model
            metrics = read_metrics(work)
        after = score.answers(
            changed, held_out, f"Checking {step.technique} on held-out {held_out.noun}"
        )
        scores = [score.score(model, found, original, held_out) for found in (before, after)]
        differences = scores[0] - scores[1]
        sizes = [checkpoint.parameters(m) for m in (model, changed)]
        figures = {
            "change": change.text,
            "modified": change.modified,
            "parameters_before": sizes[0],
            "parameters_after": sizes[1],
            "bytes_before": checkpoint.size_bytes(model),
            "bytes_after": checkpoint.size_bytes(changed),
            "score_before": float(scores[0].mean()),
            "score_after": float(scores[1].mean()),
            "drop": float(differences.mean()),
            "drop_se": float(differences.std() / np.sqrt(len(differences))),
            "training": metrics,
        }
        (directory / "model").mkdir()
        checkpoint.save(changed, directory / "model", source)
        np.save(directory / "answers.npy", after)
        (directory / "figures.json").write_text(json.dumps(figures))

    return cache.entry("compress", key, build)


def _write(model: Model, found: Compression, folder: Path, source: Path) -> None:
    try:
        with place.replacing(folder, _KIND, foreign) as work:
            checkpoint.save(model, work, source)
            files = {name: cache.file_sha256(work / name) for name in place.files(work)}
            report = found.document() | {"files": files}
            (work / REPORT).write_text(json.dumps(report, indent=2))
    except OSError as exc:
        raise InputError(f"cannot be written ({exc.strerror})", where=str(folder)) from exc


def foreign(folder: Path) -> str | None:
    """Say why ``folder`` is not to be replaced, None if it is as ``compress`` wrote it.

    Weights that were trained further are not, so their hashes are looked at as well.
    """
    if not place.is_made(folder / REPORT):
        return f"exists and is not a {_KIND}"
    try:
        _, report = read_json(folder / REPORT, _REPORT_BYTES)
    except InputError:
        report = None
    files = report.get("files") if isinstance(report, dict) else None
    if not isinstance(files, dict) or "recipe" not in report:
        return f"exists, and its {REPORT} does not list what was written with it"
    if other := place.other_than(folder, {REPORT, *files}):
        return f"holds {other}, which was not written with its {REPORT}"
    for name, sha256 in files.items():
        path = folder / name
        if path.exists() and cache.file_sha256(path) != sha256:
            return f"holds {name}, which was changed since it was written"
    return None
