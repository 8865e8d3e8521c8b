"""Run a recipe's steps on a model: each checked on held-out texts, kept or rolled back."""

from __future__ import annotations

import hashlib
import importlib
import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgeopt import __version__, cache, place, progress
from edgeopt.compress import checkpoint, score
from edgeopt.compress.context import Context
from edgeopt.compress.data import SEQ_LEN, Data, read, split
from edgeopt.errors import InputError
from edgeopt.model import Model, importer, name_of
from edgeopt.model.huggingface import checkpoint as checkpoint_folder
from edgeopt.recipe import Recipe, load_recipe
from edgeopt.steps import Step

REPORT = "compress.json"
_FP32_BYTES = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class StepReport:
    """What one step did. Scores are means over the held-out texts, before and after it.

    ``drop`` is their difference and ``drop_se`` the standard error of that (texts are paired).
    Bytes are those of the FP32 weights.
    """

    technique: str
    options: dict[str, Any]
    change: str
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

    def __str__(self) -> str:
        """One line for people."""
        verdict = "kept" if self.kept else f"ROLLED BACK, as it loses more than {self.max_drop:g}"
        return (
            f"{self.technique}: {self.change}; {self.bytes_before / 1e6:.1f} -> "
            f"{self.bytes_after / 1e6:.1f} MB; {self.score_before:.4f} -> {self.score_after:.4f}: "
            f"{verdict}"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Compression:
    """What a recipe did. ``path`` is the folder written, None where none was asked for.

    ``measure`` is what scores are: accuracy, "same label" as the original, or cosine with it.
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

    def document(self) -> dict[str, Any]:
        """Return it as plain JSON values, without the path: what ``compress.json`` holds."""
        return {"edgeopt": __version__} | {k: v for k, v in asdict(self).items() if k != "path"}


def compress(
    source: str | Path,
    *,
    data: str | Path,
    recipe: str | Path | Recipe = "prune",
    output: str | Path | None = None,
) -> Compression:
    """Compress the checkpoint ``source`` by a recipe and write it to the folder ``output``.

    ``source`` is a Hugging Face directory or hub name. ``data`` has the user's texts (``.jsonl``
    or ``.jsonl.gz`` with "text" and, for a classifier, "label"; or a text a line): a fifth is held
    out to check each step, the others are what techniques learn from. ``output`` (by default
    ``NAME-RECIPE`` here) appears whole or not at all, with the report ``compress.json``; it loads
    with transformers unless heads were removed or FFN widths are unlike, and ``edgeopt compile``
    takes it in any case.

    A step that loses more than its ``max_drop`` is rolled back. Raises InputError for wrong input.
    """
    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    folder = Path(output) if output is not None else Path(f"{name_of(source)}-{recipe.name}")
    if Path(source).is_dir() and Path(source).resolve() == folder.resolve():
        raise InputError("is the model itself", where=str(folder), hint="Give another with -o.")
    with place.reserved(folder, REPORT, "compressed model"):
        model, found = compressed(source, recipe, Path(data))
        with progress.step(f"Writing {folder}"):
            _write(model, found, folder, checkpoint_folder(source))
    return replace(found, path=folder)


def compressed(source: str | Path, recipe: Recipe, data: Path) -> tuple[Model, Compression]:
    """Return the Model after the steps of ``recipe``, and the report; both cached by content.

    Raises InputError as ``compress`` does.
    """
    if not recipe.compress:
        raise InputError("has no [[compress]] steps", where=recipe.path)
    if Path(source).is_file() or Path(source).suffix == ".onnx":
        raise InputError("only checkpoints of transformers can be compressed", where=str(source))
    folder = checkpoint_folder(source)
    with progress.step(f"Importing {source}"):
        original = importer.import_model(folder)
    original = replace(original, name=name_of(source))
    if original.image is None:
        score.check(original)
    else:
        raise InputError(f"is for {original.task}; only texts are supported", where=original.name)
    for step in recipe.compress:
        _technique(step).check(original, step)
    everything = read(data, original)
    learning, held_out = split(everything)
    key = cache.key(model=original.digest, data=everything.digest(), code=code_digest())
    first = _baseline(key, original, held_out)
    model, before, reports = original, first, []
    for step in recipe.compress:
        # Not the bound: who loosens it need not wait for the same work again.
        options = {k: v for k, v in asdict(step).items() if k != "max_drop"}
        tried = cache.key(before=key, step=options)
        directory = _step(tried, model, step, learning, held_out, original, (first, before), folder)
        figures = json.loads((directory / "figures.json").read_text())
        report = StepReport(
            technique=step.technique,
            options=options,
            kept=figures["drop"] <= step.max_drop + 1e-9,  # a mean may miss the bound it equals
            max_drop=step.max_drop,
            **figures,
        )
        progress.note(str(report))
        reports.append(report)
        if report.kept:
            key = tried
            with progress.step(f"Loading what {step.technique} made"):
                model = importer.import_model(directory / "model")
            before = np.load(directory / "answers.npy")

    def mean(found: np.ndarray) -> float:
        return float(score.score(original, found, first, held_out).mean())

    sizes = [checkpoint.parameters(m) for m in (original, model)]
    result = Compression(
        path=None,
        name=original.name,
        recipe=recipe.name,
        measure="accuracy" if held_out.labels is not None else score.measure(original),
        held_out=len(held_out),
        learnt_from=len(learning),
        seq_len=min(SEQ_LEN, original.max_seq_len),
        score_before=mean(first),
        score_after=mean(before),
        parameters_before=sizes[0],
        parameters_after=sizes[1],
        bytes_before=sizes[0] * _FP32_BYTES,
        bytes_after=sizes[1] * _FP32_BYTES,
        data_sha256=everything.digest(),
        origin=dict(original.origin),
        steps=tuple(reports),
    )
    origin = dict(original.origin) | {"compressed": result.document()}
    return replace(model, name=original.name, origin=origin), result


def _technique(step: Step) -> Any:
    return importlib.import_module(f"edgeopt.compress.{step.technique}")


def _baseline(key: str, model: Model, held_out: Data) -> np.ndarray:
    """Return the original's outputs on the held-out texts."""

    def build(directory: Path) -> None:
        text = f"Running the original on {len(held_out)} held-out texts"
        np.save(directory / "answers.npy", score.answers(model, held_out, text))

    found: np.ndarray = np.load(cache.entry("compress", key, build) / "answers.npy")
    return found


def _step(
    key: str,
    model: Model,
    step: Step,
    learning: Data,
    held_out: Data,
    teacher: Model,
    outputs: tuple[np.ndarray, np.ndarray],
    source: Path,
) -> Path:
    """Return the directory with a step's figures, checkpoint, and outputs on held-out texts.

    ``outputs`` are those of ``teacher`` (the original) and of ``model``, on the held-out texts.
    """
    original, before = outputs

    def build(directory: Path) -> None:
        with cache.scratch("training", key) as work:
            context = Context(teacher=teacher, work=work, source=source)
            changed, change = _technique(step).apply(model, step, learning, context)
        after = score.answers(changed, held_out, f"Checking {step.technique} on held-out texts")
        scores = [score.score(model, found, original, held_out) for found in (before, after)]
        differences = scores[0] - scores[1]
        sizes = [checkpoint.parameters(m) for m in (model, changed)]
        figures = {
            "change": change,
            "parameters_before": sizes[0],
            "parameters_after": sizes[1],
            "bytes_before": sizes[0] * _FP32_BYTES,
            "bytes_after": sizes[1] * _FP32_BYTES,
            "score_before": float(scores[0].mean()),
            "score_after": float(scores[1].mean()),
            "drop": float(differences.mean()),
            "drop_se": float(differences.std() / np.sqrt(len(differences))),
        }
        (directory / "model").mkdir()
        checkpoint.save(changed, directory / "model", source)
        np.save(directory / "answers.npy", after)
        (directory / "figures.json").write_text(json.dumps(figures))

    return cache.entry("compress", key, build)


def _write(model: Model, found: Compression, folder: Path, source: Path) -> None:
    work = None
    try:
        work = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.new-"))
        checkpoint.save(model, work, source)
        (work / REPORT).write_text(json.dumps(found.document(), indent=2))
        work.chmod(0o755)
        place.swap(work, folder)
    except OSError as exc:
        raise InputError(f"cannot be written ({exc.strerror})", where=str(folder)) from exc
    finally:
        if work is not None:
            shutil.rmtree(work, ignore_errors=True)


def code_digest(package: Path = Path(__file__).parent.parent) -> str:
    """Return a hash of the code that compresses, so that a changed technique is run again."""
    digest = hashlib.sha256(__version__.encode())
    files: Sequence[Path] = [*package.glob("compress/*.py"), *package.glob("model/*.py")]
    for path in sorted([*files, *package.glob("steps/*.py")]):
        digest.update(path.read_bytes())
    return digest.hexdigest()
