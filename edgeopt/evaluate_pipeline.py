# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""From labelled data to what artifacts are worth on it, beside the original."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np

from edgeopt import progress
from edgeopt.boards import connect
from edgeopt.bundle import Bundle, open_bundle
from edgeopt.bundle.manifest import FILE, ArtifactEntry, Manifest
from edgeopt.bundle.pack import SUFFIX
from edgeopt.deploy.provision import check_architecture
from edgeopt.errors import (
    BoardError,
    CompileError,
    EdgeoptError,
    InputError,
    MeasurementError,
    MissingDependencyError,
)
from edgeopt.evaluate import evaluation, problems
from edgeopt.evaluate.evaluation import Evaluation, NotRun, System
from edgeopt.evaluate.measured import Scored
from edgeopt.evaluate.problems import Asked
from edgeopt.evaluate.problems.class_maps import ClassMaps
from edgeopt.evaluate.problems.problem import Problem, Subject
from edgeopt.evaluate.rows.row import Columns
from edgeopt.extras import require
from edgeopt.fields import nearest
from edgeopt.lower import answers, asking
from edgeopt.model import Model, importer, original_generation
from edgeopt.model.answer import Answer, Continuation, Original, Sample, in_order
from edgeopt.model.dual_encoder import IMAGE, TEXT, DualEncoder
from edgeopt.model.original import open_original
from edgeopt.model.original_vision import reduces_labels
from edgeopt.model.tasks import (
    SEMANTIC_SEGMENTATION,
    SPEECH_RECOGNITION,
    TEXT_EMBEDDING,
    TEXT_GENERATION,
    Result,
    Task,
)
from edgeopt.run import artifact, forced
from edgeopt.run.reading import Reading

WORST = 3
ANSWER_TOKENS = 128
"""The most tokens that a generator goes on with a prompt by."""
MOST_SIDE = 4096
"""Of maps of labels, which are of an image's own size: the runtime reads no larger one."""

_NOT_HERE = (BoardError, CompileError, MeasurementError, MissingDependencyError)


def evaluate_bundle(
    source: str | Path | Bundle | Model | DualEncoder,
    data: str | Path,
    *,
    original: str | Path | Model | DualEncoder | None = None,
    board: str | None = None,
    engine: str | None = None,
    precision: str | None = None,
    threads: int | None = None,
    text: str | None = None,
    pair: str | None = None,
    label: str | None = None,
    labels: Sequence[str] = (),
    metric: str | None = None,
    no_answer_below: float | None = None,
    prompts: Sequence[str] = (),
    reduce_labels: bool | None = None,
    max_tokens: int | None = None,
    limit: int | None = None,
    worst: int = WORST,
) -> Evaluation:
    """Return what the artifacts of a bundle are worth on labelled data, beside the original.

    ``source`` is a bundle, or a model, which then is evaluated alone. ``data`` is a file or a
    folder of the user's (``edgeopt.evaluate.rows``), whose columns are found by convention, or
    named by ``text``, ``pair`` and ``label``; ``labels`` are what it calls the model's labels, in
    their order. ``original`` is
    the model that the bundle was made of, or another with the same labels: it is run by the user's
    own tool (``edgeopt.model.original``), and each artifact is held against it.

    All artifacts that ``engine`` and ``precision`` allow are run by the C runtime, from text to
    answer, on ``board`` or (None) here; one that does not run there is told in ``not_run``.
    A dual encoder (CLIP, SigLIP) is asked which image a caption is of, if the data has captions,
    else which label an image has: ``prompts`` are what it reads of a label, whose name stands where
    ``{}`` does, by default what transformers' pipeline makes of it. Both of its graphs are then run
    in the same engine and precision. ``metric`` names the figure to hold them against each
    other by. A generator goes on with prompts greedily, by up to ``max_tokens``, ``ANSWER_TOKENS``
    if None. An answer to a question whose score is below ``no_answer_below`` is none. Of masks,
    ``reduce_labels`` says that 0 is no label and 1 the first one; None for what the original's
    image processor does. At most ``limit`` units are taken, drawn with a fixed seed, and the
    ``worst`` answers of each artifact are listed.

    Raises InputError for wrong data, with file and line, MissingDependencyError without
    ``edgeopt[evaluate]`` (for objects ``edgeopt[detection]``), and what ``edgeopt.read`` raises if
    no artifact runs.
    """
    _check(limit, worst, no_answer_below, prompts)
    require("sklearn.metrics", "evaluate")
    bundle, model = _opened(source, original)
    path = Path(data)
    subject: Subject
    if bundle is not None:
        subject = bundle.manifest
        entries = _entries(bundle, engine, precision)
    else:
        assert model is not None
        subject, entries = model, ()
        if board or engine or precision or threads:
            raise InputError(
                "is a model, which your own tool runs on this machine: board, engine, precision "
                "and threads are for a bundle's artifacts",
                where=str(source) if isinstance(source, str | Path) else subject.name,
                hint="Make a bundle with: edgeopt compile MODEL --target TARGET",
            )
    if subject.task == SPEECH_RECOGNITION:
        raise InputError(
            f"{subject.name} is for {subject.task}, for which edgeopt has no figures yet",
            where=str(path),
            hint="'edgeopt compile --data FOLDER' compares its answers with transformers' on your "
            "WAV files.",
        )
    if max_tokens is not None and subject.task != TEXT_GENERATION:
        raise InputError(
            f"is for generators, and {subject.name} is for {subject.task}", where="max_tokens"
        )
    if board is not None and subject.task == TEXT_GENERATION:
        raise InputError("boards are not asked to generate yet: leave it out", where="board")
    asked = Asked(
        columns=Columns(text=text, pair=pair, label=label),
        labels=tuple(labels),
        limit=limit,
        no_answer_below=no_answer_below,
        reduce_labels=_reduces_labels(subject, model, reduce_labels),
        window=_window(subject, model),
        **({"prompts": tuple(prompts)} if prompts else {}),
    )
    with progress.step(f"Reading {path}"):
        problem = problems.load(path, subject, asked)
    main = _main(problem, metric)
    emulated = board is not None and bundle is not None and _check_board(board, bundle)
    given = None
    if isinstance(model, DualEncoder):
        given = _ask_both(model, subject, problem)
    elif model is not None:
        given = _ask_original(model, subject, problem, max_tokens or ANSWER_TOKENS)
    how = _How(board=board, threads=threads, max_tokens=max_tokens or ANSWER_TOKENS)
    runs, not_run = _run_all(bundle, entries, problem, how) if bundle else ([], [])
    return _evaluated(subject, path, problem, main, given, runs, not_run, board, emulated, worst)


def _window(subject: Subject, model: Model | DualEncoder | None) -> int:
    """Return how many tokens a decoder reads at once, 0 for what is none."""
    if subject.task != TEXT_GENERATION:
        return 0
    if isinstance(subject, Manifest):
        assert subject.generation is not None  # of each manifest with this task
        return 0 if subject.generation.start else subject.max_seq_len
    assert isinstance(model, Model)
    return 0 if model.forced.start else model.text.max_seq_len


def _reduces_labels(
    subject: Subject, model: Model | DualEncoder | None, asked: bool | None
) -> bool:
    """Tell whether 0 of a mask is no label; says so if it was not asked for, and not known."""
    if subject.task != SEMANTIC_SEGMENTATION:
        if asked is not None:
            raise InputError(
                f"is for masks, and {subject.name} is for {subject.task}", where="reduce_labels"
            )
        return False
    if asked is not None:
        return asked
    if model is not None and model.source is not None and model.source.is_dir():
        return reduces_labels(model.source)
    progress.note(
        f"0 of a mask is taken for {subject.labels[0]}; if it is no label, and 1 the first one, "
        "give --reduce-labels"
    )
    return False


def _check(
    limit: int | None, worst: int, no_answer_below: float | None, prompts: Sequence[str]
) -> None:
    for text in prompts:
        if "{}" not in text:
            raise InputError(
                f"expected a text with {{}} for the label, found {text!r}", where="prompt"
            )
    if limit is not None and limit < 1:
        raise InputError(f"expected at least 1, found {limit}", where="limit")
    if worst < 0:
        raise InputError(f"expected at least 0, found {worst}", where="worst")
    if no_answer_below is not None and not 0 <= no_answer_below <= 1:
        raise InputError(
            f"expected a score from 0 to 1, found {no_answer_below:g}", where="no_answer_below"
        )


def _opened(
    source: str | Path | Bundle | Model | DualEncoder,
    original: str | Path | Model | DualEncoder | None,
) -> tuple[Bundle | None, Model | DualEncoder | None]:
    """Return the bundle, None for a model, and the model that is the original, None for none."""
    if isinstance(source, Bundle):
        bundle: Bundle | None = source
    elif isinstance(source, Model | DualEncoder) or not _is_bundle(Path(source)):
        bundle = None
    else:
        bundle = open_bundle(source)
    if bundle is None and original is not None:
        raise InputError(
            "is a model: give the bundle first, and this as the original",
            where=source.name if isinstance(source, Model | DualEncoder) else str(source),
        )
    wanted = original if bundle is not None else source
    if wanted is None or isinstance(wanted, Model | DualEncoder):
        return bundle, wanted
    assert not isinstance(wanted, Bundle)
    with progress.step(f"Importing {wanted}"):
        return bundle, importer.import_whole(wanted)


def _is_bundle(path: Path) -> bool:
    """Tell a bundle from a model; a packed one is told to be no directory when it is opened."""
    return (path / FILE).is_file() or (path.is_file() and path.name.endswith(SUFFIX))


def _entries(
    bundle: Bundle, engine: str | None, precision: str | None
) -> tuple[ArtifactEntry, ...]:
    held = bundle.manifest.artifacts
    if bundle.manifest.is_dual:  # those of its images stand for both, if there is one of its texts
        texts = {(a.engine, a.precision) for a in bundle.of_graph(TEXT).manifest.artifacts}
        held = tuple(
            a for a in bundle.of_graph(IMAGE).manifest.artifacts if (a.engine, a.precision) in texts
        )
    found = tuple(
        a for a in held if engine in (None, a.engine) and precision in (None, a.precision)
    )
    if not found:
        raise InputError(
            f"has no {' '.join(filter(None, (engine, precision)))} artifact",
            where=str(bundle.path),
            hint="It holds: " + ", ".join(f"{a.engine} {a.precision}" for a in held),
        )
    return found


def _main(problem: Problem, metric: str | None) -> str:
    if metric is None:
        return problem.main
    if metric not in problem.names:
        raise InputError(
            f"there is no {metric!r} of these answers{nearest(metric, problem.names)}",
            where="metric",
            hint=f"There are: {', '.join(problem.names)}",
        )
    return metric


def _check_board(name: str, bundle: Bundle) -> bool:
    """Tell whether the board is emulated. Raises BoardError if the bundle is not for it."""
    with connect(name) as board:
        check_architecture(bundle, board)
        return board.emulated


@dataclass(frozen=True, kw_only=True, slots=True)
class _Run:
    """What a system answered. ``answers`` are None if a tool does not take an input."""

    name: str
    engine: str
    precision: str
    answers: tuple[Answer | None, ...]
    tokens: tuple[int, ...] | None
    cut: int


@dataclass(frozen=True, kw_only=True, slots=True)
class _How:
    """How artifacts are run."""

    board: str | None
    threads: int | None
    max_tokens: int


def _ask_original(model: Model, subject: Subject, problem: Problem, max_tokens: int) -> _Run:
    if model.task != subject.task:
        raise InputError(
            f"is for {model.task}, but {subject.name} is for {subject.task}", where=model.name
        )
    generates = model.task == TEXT_GENERATION
    tool: Original | str
    if generates:
        tool = original_generation.open_tool(model, max_tokens)
    else:
        tool = open_original(model, MOST_SIDE)
    if isinstance(tool, str):
        raise InputError(f"cannot be asked: {tool}", where=model.name)
    labels = tool.labels or model.labels
    if subject.task.labelled and sorted(labels) != sorted(subject.labels):
        raise InputError(
            f"has other labels ({', '.join(labels)}) than {subject.name} "
            f"({', '.join(subject.labels)})",
            where=model.name,
        )
    _check_pairs(tool, model, problem)
    against = f"{max_tokens} tokens" if generates else ""
    if isinstance(problem, ClassMaps):
        if tuple(labels) != tuple(subject.labels):
            raise InputError(f"has the labels of {subject.name} in another order", where=model.name)
        tool, against = _tallying(tool, problem), problem.digest()
    _, found = asking.ask(model, tool, tuple(problem.inputs), against)
    kept = tuple(a and in_order(a, tool.labels, subject.labels) for a in found)
    for answer, place in zip(kept, problem.places, strict=True):
        if answer is not None:
            _check_answer(answer, subject.task, place, model.name)
    if not any(kept):
        raise InputError(f"takes none of the {len(kept)} inputs", where=tool.name)
    tokens = None
    if generates:
        tokens = tuple(len(a.ids) if a else 0 for a in kept)
    elif tool.tokenizer is not None:
        tokens = tuple(asking.count_tokens(one, tool.tokenizer) for one in problem.inputs)
    windows = subject.task.result is Result.SPANS
    limit = None if windows else tool.limit
    return _Run(
        name=tool.name,
        engine="",
        precision="",
        answers=kept,
        tokens=tokens,
        cut=0 if limit is None else sum(n > limit for n in tokens or ()),
    )


def _tallying(tool: Original, problem: ClassMaps) -> Original:
    """Return ``tool`` with what is kept of its maps in their place."""
    numbers = {image: i for i, image in enumerate(problem.inputs)}

    def answer(image: Any) -> Answer | None:
        found = tool.answer(image)
        if found is None or found.classes is None:
            return None
        return problem.tallied(numbers[image], found.classes)

    return replace(tool, answer=answer)


def _ask_both(model: DualEncoder, subject: Subject, problem: Problem) -> _Run:
    """Ask the user's own tool for both encoders' embeddings."""
    if model.task != subject.task:
        raise InputError(
            f"is for {model.task}, but {subject.name} is for {subject.task}", where=model.name
        )
    found: list[Answer | None] = [None] * len(problem.inputs)
    names = []
    for kind, tower in model.towers.items():
        tool = open_original(tower)
        if isinstance(tool, str):
            raise InputError(f"cannot be asked: {tool}", where=model.name)
        rows = [
            i for i, s in enumerate(problem.inputs) if isinstance(s, str | tuple) == (kind == TEXT)
        ]
        _, given = asking.ask(tower, tool, tuple(problem.inputs[i] for i in rows))
        for i, answer in zip(rows, given, strict=True):
            found[i] = answer
        names.append(tool.name)
    return _Run(name=names[0], engine="", precision="", answers=tuple(found), tokens=None, cut=0)


def _check_pairs(tool: Original, model: Model, problem: Problem) -> None:
    if tool.pairs and not isinstance(problem.inputs[0], tuple):
        raise InputError(
            f"{tool.name} takes pairs of texts, and the data has one text",
            where=problem.places[0],
            hint="Name the columns of both with --text and --pair.",
        )


def _check_answer(answer: Answer, task: Task, place: str, name: str) -> None:
    """Raise if an answer is none that can be scored."""
    values: Any = answer.scores
    if task.result is Result.EMBEDDING:
        values = answer.vector
        if values is None or values.ndim != 1 or not len(values):
            raise InputError(
                f"is for {task}, and does not say how an embedding is made of it",
                where=name,
                hint="A checkpoint says so in 1_Pooling/config.json, as sentence-transformers "
                "writes it.",
            )
    elif task.result is Result.GENERATED:
        values = () if answer.losses is None else answer.losses
    elif task.result is Result.SPANS or task.result is Result.ENTITIES:
        values = [span.score for span in answer.spans or ()]
    elif task.result is Result.BOXES:
        values = [[one.score, *one.box] for one in answer.objects or ()]
    if not np.isfinite(values).all():
        raise MeasurementError(f"{name} gives no finite answer", where=place)


def _run_all(
    bundle: Bundle,
    entries: Sequence[ArtifactEntry],
    problem: Problem,
    how: _How,
) -> tuple[list[_Run], list[NotRun]]:
    """Run the artifacts. Raises the error of the last if none runs."""
    runs: list[_Run] = []
    not_run: list[NotRun] = []
    errors: list[EdgeoptError] = []
    place = f" on {how.board}" if how.board else ""
    run = _generate if bundle.manifest.task == TEXT_GENERATION else _run
    for entry in entries:
        name = f"{entry.engine} {entry.precision}"
        try:
            with progress.step(f"Running {name}{place} on {len(problem.inputs)} inputs") as step:
                told = partial(step.update, total=len(problem.inputs))
                runs.append(run(bundle, entry, problem, how, told))
        except _NOT_HERE as exc:
            errors.append(exc)
            not_run.append(NotRun(engine=entry.engine, precision=entry.precision, reason=str(exc)))
    if not runs:
        if len(errors) == 1:
            raise errors[0]
        reasons = "\n".join(f"  {n.engine} {n.precision}: {n.reason}" for n in not_run)
        raise type(errors[-1])(f"no artifact runs there\n{reasons}", where=str(bundle.path))
    return runs, not_run


def _run(
    bundle: Bundle,
    entry: ArtifactEntry,
    problem: Problem,
    how: _How,
    told: Callable[[int], None],
) -> _Run:
    manifest = bundle.manifest
    tallies: dict[int, Answer] = {}

    def tally(i: int, classes: np.ndarray) -> None:
        assert isinstance(problem, ClassMaps)
        tallies[i] = problem.tallied(i, classes)

    reading: Reading = artifact.run(
        bundle,
        entry,
        cast(Sequence[Sample], problem.inputs),
        problem.places,
        board=how.board,
        threads=how.threads,
        told=told,
        mapped=tally if isinstance(problem, ClassMaps) else None,
    )
    task = TEXT_EMBEDDING if manifest.is_dual else manifest.task  # both graphs of one embed
    if isinstance(problem, ClassMaps):
        found = [tallies[i] for i in range(len(problem))]
    else:
        found = [answers.answer_of(task, r, manifest.labels) for r in reading.results]
    name = f"{reading.engine} {reading.engine_version} {reading.precision}"
    for answer, place in zip(found, problem.places, strict=True):
        _check_answer(answer, task, place, name)
    return _Run(
        name=name,
        engine=reading.engine,
        precision=reading.precision,
        answers=tuple(found),
        tokens=tuple(result.tokens for result in reading.results),
        cut=sum(result.truncated for result in reading.results),
    )


def _generate(
    bundle: Bundle,
    entry: ArtifactEntry,
    problem: Problem,
    how: _How,
    told: Callable[[int], None],
) -> _Run:
    found = forced.run(
        bundle,
        entry,
        problem.inputs,
        problem.places,
        threads=how.threads,
        max_tokens=how.max_tokens,
        told=told,
    )
    name = f"{found.engine} {found.engine_version} {found.precision}"
    for answer, place in zip(found.answers, problem.places, strict=True):
        _check_answer(answer, bundle.manifest.task, place, name)
    return _Run(
        name=name,
        engine=found.engine,
        precision=found.precision,
        answers=found.answers,
        tokens=tuple(len(a.ids) for a in found.answers),
        cut=0,
    )


def _evaluated(
    subject: Subject,
    path: Path,
    problem: Problem,
    main: str,
    original: _Run | None,
    runs: Sequence[_Run],
    not_run: Sequence[NotRun],
    board: str | None,
    emulated: bool,
    worst: int,
) -> Evaluation:
    systems = [*([original] if original else []), *runs]
    taken = np.array([a is not None for a in systems[0].answers])
    units = len(problem)
    lengths, unit = _lengths(problem, runs or systems)
    if not taken.all():
        problem = problem.answered(taken)
        lengths = None if lengths is None else lengths[taken]
        if not len(problem):
            raise InputError(f"{systems[0].name} takes none of its {problem.noun}", where=str(path))
    with progress.step(f"Scoring {len(problem)} {problem.noun}"):
        scored = [
            problem.score([a for a, keep in zip(s.answers, taken, strict=True) if keep and a])
            for s in systems
        ]
        against = original is not None
        figures = evaluation.figures(scored, len(problem), against_first=against)
        slices = evaluation.slices(problem, scored, main, lengths=lengths, unit=unit)
    own = scored[0] if against else None
    told = [
        _system(run, one, found, evaluation.worst(problem, one, own if i else None, worst))
        for i, (run, one, found) in enumerate(zip(systems, scored, figures, strict=True))
    ]
    return Evaluation(
        name=subject.name,
        task=str(subject.task),
        data=str(path),
        noun=problem.noun,
        units=len(problem),
        left_out=units - len(problem),
        main=main,
        board=board,
        emulated=emulated,
        original=told[0] if against else None,
        artifacts=tuple(told[1:] if against else told),
        not_run=tuple(not_run),
        slices=slices,
        digest=subject.digest if isinstance(subject, Manifest) else "",
    )


def _system(
    run: _Run, scored: Scored, figures: Any, mistakes: tuple[evaluation.Mistake, ...]
) -> System:
    return System(
        name=run.name,
        engine=run.engine,
        precision=run.precision,
        figures=figures,
        cut=run.cut,
        worst=mistakes,
        note=scored.note,
    )


def _lengths(problem: Problem, runs: Sequence[_Run]) -> tuple[np.ndarray | None, str]:
    """Return the length of each input in tokens, or in characters; None for images."""
    if not all(isinstance(sample, str | tuple | Continuation) for sample in problem.inputs):
        return None, ""
    if runs[0].tokens is not None:
        return np.array(runs[0].tokens, np.float64), "tokens"
    sizes = [sum(map(len, s)) if isinstance(s, tuple) else len(str(s)) for s in problem.inputs]
    return np.array(sizes, np.float64), "characters"
