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
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from edgeopt import cache, closure, progress
from edgeopt.backends import backend
from edgeopt.bundle.describe import artifact_entry, describe, tokenizer_files
from edgeopt.bundle.write import write
from edgeopt.errors import CompileError, EdgeoptError, MissingDependencyError
from edgeopt.lower import places
from edgeopt.lower.lowering import Lowered
from edgeopt.model import Model, TextInput, images, importer, samples, texts
from edgeopt.model.answer import (
    Answer,
    Decision,
    Detection,
    Original,
    Sample,
    Span,
    Text,
    map_size,
)
from edgeopt.model.image import ImageInput
from edgeopt.model.original import entity_of
from edgeopt.model.samples import Samples
from edgeopt.model.signature import NO_LENGTH
from edgeopt.model.tasks import (
    FEATURE_EXTRACTION,
    QUESTION_ANSWERING,
    SEQUENCE_CLASSIFICATION,
    Result,
    Task,
)
from edgeopt.quiet import quiet
from edgeopt.recipe import Limits
from edgeopt.target import EngineSpec, Target

USERS, SHIPPED, PAIRS, IMAGES = 32, 24, 6, 16
"""How many samples are compared: the user's own, shipped ones by length, pairs of them, images."""

ODD = (
    "",
    "a",
    "  blanks at both ends  ",
    "Naïve CAFÉ, Straße, Ελλάδα and İstanbul",
    "日本語のテキスト、中文 and 한국어",
    "an emoji 👩‍👩‍👧‍👦 and 🎉 within",
    "tab\tand\nnew line, a\u200bzero width, e\u0301 combining",
    "supercalifragilisticexpialidocious" * 8,
)
"""Texts that tokenizers disagree on; order and neighbours are not taken over them."""

TOGETHER = 6
"""Samples that are run again, padded to the longest length and in a batch of ``BATCH``."""
BATCH = 4

CLEAR = 0.1
"""A nearest neighbour is clear if the next one is so far behind.

The unit is a standard deviation of all similarities: what is nearer than that changes by rounding
in 8 bits.
"""

GOLDEN, GOLDEN_TOKENS = 4, 32
"""The texts that travel in a bundle with the tool's answers, and the most tokens of each.

They are run on the board: an emulated one takes 20 s for 128 tokens in FP32.
"""

LEAST_RANKED = 8
"""Fewer samples say nothing of an order: five may be in order by chance (1 in 120)."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Expected:
    """What the user's tool says. ``plain`` tells which samples are neither odd nor pairs, and
    ``tokens`` how many each has by the tool's tokenizer, uncut (0 for an image)."""

    tool: str
    labels: tuple[str, ...]
    limit: int | None
    samples: tuple[Sample, ...]
    plain: tuple[bool, ...]
    answers: tuple[Answer | None, ...]
    tokens: tuple[int, ...]
    digest: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """Figures of one artifact against the tool, None if a figure says nothing of the task.

    ``error`` is the largest difference of an answer: of scores (of those beyond 1 relative), of
    vectors the length of the difference by the vector's, of objects and maps of labels what
    ``lower.places`` says. ``decisions`` is the share of the same labels (of tokens, best answers,
    objects, pixels) among those whose margin, the tool's own, is beyond the bound's ``margin``.
    ``order`` is the rank correlation over samples of each label's score, or of the similarities
    between embeddings. ``neighbours`` is the share of embeddings with the same nearest neighbour,
    of those whose second one is clearly behind. ``context`` is the largest change of an answer by
    padding and by others in a batch. ``worst`` says of the worst sample what was expected and got.
    """

    samples: int
    error: float
    decisions: float | None
    order: float | None
    neighbours: float | None
    context: float | None
    worst: str
    differing: str

    def figures(self) -> dict[str, Any]:
        """Return the figures as plain values, for a manifest."""
        found = asdict(self)
        found["error"] = min(found["error"], 1e30)  # JSON has no infinity
        return {name: found[name] for name in found if name not in ("worst", "differing")}


def prepare(
    model: Model, given: Samples | None, original: Original, seq_lens: Sequence[int]
) -> Expected:
    """Choose samples and ask the tool (cached by content).

    ``given`` are the user's own; most of the shipped ones are cut to the longest of ``seq_lens``.
    """
    chosen, plain = _choose(model, given, original, max(seq_lens, default=0))
    key, found = ask(model, original, chosen)
    return Expected(
        tool=original.name,
        labels=original.labels,
        limit=original.limit,
        samples=chosen,
        plain=plain,
        answers=found,
        tokens=tuple(count_tokens(sample, original.tokenizer) for sample in chosen),
        digest=key,
    )


def ask(
    model: Model, original: Original, chosen: Sequence[Sample], against: str = ""
) -> tuple[str, tuple[Answer | None, ...]]:
    """Ask the tool about ``chosen`` (cached by content); return the key, and its answers.

    ``against`` is a digest of what else goes into an answer, such as masks.
    """
    source = importer.fingerprint(model.source) if model.source is not None else model.digest
    key = cache.key(
        source=source,
        model=model.digest,
        tool=original.name,
        samples=[_name(sample) for sample in chosen],
        against=against,
        code=closure.code(__name__),
    )

    def build(directory: Path) -> None:
        found = []
        text = f"Asking {original.name} about {len(chosen)} {samples.name(model)}"
        with progress.step(text) as step:
            for sample in chosen:
                found.append(original.answer(sample))
                step.update(len(found), len(chosen))
        _save(directory, found)

    return key, _load(cache.entry("answers", key, build))


def _choose(
    model: Model, given: Samples | None, original: Original, most: int
) -> tuple[tuple[Sample, ...], tuple[bool, ...]]:
    if isinstance(model.input, ImageInput):
        pictures = given or images.make_images(IMAGES)
        kept: tuple[Sample, ...] = tuple(pictures[:IMAGES])
        return kept, (True,) * len(kept)
    own = [str(text) for text in (given or ())][:USERS]
    shipped = sorted(texts.read_texts(None, 1_000), key=len)
    steps = np.linspace(0, len(shipped) - 1, SHIPPED).round().astype(int)
    # Every third stays as long as it is; an artifact of fixed lengths is compared on the others.
    joined = model.task == QUESTION_ANSWERING or original.pairs
    room = most * 2 // 3 - 6 if joined else most
    cut = [
        shipped[at] if i % 3 == 0 else _cut(shipped[at], original.tokenizer, room)
        for i, at in enumerate(steps)
    ]
    main = [text for text in dict.fromkeys([*own, *cut]) if text]
    others = main[1:] + main[:1]
    if model.task == QUESTION_ANSWERING:
        asked = [(" ".join(text.split()[:2]) + "?", text) for text in main]
        return tuple(asked), (True,) * len(asked)
    if original.pairs:
        return tuple(zip(main, others, strict=True)), (True,) * len(main)
    pairs: list[Text] = []
    if model.task == SEQUENCE_CLASSIFICATION:
        pairs += list(zip(main, others, strict=True))[:: max(1, len(main) // PAIRS)]
    chosen: list[Text] = [*main, *ODD, *pairs]
    return tuple(chosen), (True,) * len(main) + (False,) * (len(chosen) - len(main))


def _cut(text: str, tokenizer: Any, most: int) -> str:
    """Return as many of the first words as have ``most`` tokens together."""
    words = text.split()
    while words and count_tokens(" ".join(words), tokenizer) > most:
        words = words[: min(len(words) - 1, len(words) * 3 // 4)]
    return " ".join(words)


def count_tokens(sample: Sample, tokenizer: Any) -> int:
    """Return how many tokens a text or a pair has, uncut; 0 for an image."""
    if tokenizer is None or not isinstance(sample, str | tuple):
        return 0
    parts = (sample,) if isinstance(sample, str) else sample
    with quiet():  # tokenizers warn of what is longer than their limit
        return len(tokenizer(*parts)["input_ids"])


def _name(sample: Sample) -> str:
    """Return what tells a sample from others."""
    if isinstance(sample, str):
        return sample
    if isinstance(sample, tuple):
        return json.dumps(sample)
    one: Any = (sample,)
    return samples.digest(one)


_ARRAYS = ("vector", "classes", "margins", "tally")


def _save(directory: Path, answers: Sequence[Answer | None]) -> None:
    arrays = {
        f"{name}-{i}": found
        for i, a in enumerate(answers)
        for name in _ARRAYS
        if a is not None and (found := getattr(a, name)) is not None
    }
    np.savez(directory / "arrays.npz", **arrays)
    without: dict[str, Any] = dict.fromkeys(_ARRAYS)
    rows = [None if a is None else asdict(replace(a, **without)) for a in answers]
    (directory / "answers.json").write_text(json.dumps(rows))


def _load(directory: Path) -> tuple[Answer | None, ...]:
    rows = json.loads((directory / "answers.json").read_text())
    found: list[Answer | None] = []
    with np.load(directory / "arrays.npz") as arrays:
        for i, row in enumerate(rows):
            if row is None:
                found.append(None)
                continue
            spans = None if row["spans"] is None else tuple(Span(**s) for s in row["spans"])
            objects = None
            if row["objects"] is not None:
                boxed = (one | {"box": tuple(one["box"])} for one in row["objects"])
                objects = tuple(Detection(**one) for one in boxed)
            found.append(
                Answer(
                    scores=tuple(row["scores"]),
                    spans=spans,
                    decisions=tuple(Decision(**d) for d in row["decisions"]),
                    objects=objects,
                    **{name: arrays.get(f"{name}-{i}") for name in _ARRAYS},
                    ids=tuple(row["ids"]),
                    types=tuple(row["types"]),
                )
            )
    return tuple(found)


def golden_texts(
    model: Model, expected: Expected, most: int, error_max: Mapping[str, float]
) -> dict[str, Any] | None:
    """Return what ``bundle.golden.TEXTS`` holds; None unless answers are scores or an embedding.

    ``GOLDEN`` samples, short to long, that an artifact of ``most`` tokens reads whole; if none has
    as few as ``GOLDEN_TOKENS``, the shortest ones.
    """
    if not isinstance(model.input, TextInput):
        return None
    found: list[tuple[int, dict[str, Any]]] = []
    prompt = len(model.input.prompt.encode())  # no text has more tokens than bytes
    for sample, answer, tokens in zip(
        expected.samples, expected.answers, expected.tokens, strict=True
    ):
        if answer is None or not isinstance(sample, str | tuple):
            continue
        first, second = (sample, None) if isinstance(sample, str) else sample
        values = in_order(answer, expected.labels, model.labels).scores
        if answer.vector is not None and answer.vector.ndim == 1:
            values = tuple(map(float, answer.vector))
        if values and first and tokens + prompt <= most:
            found.append((tokens, {"text": first, "pair": second, "values": values}))
    found.sort(key=lambda item: item[0])
    short = [item for item in found if item[0] + prompt <= GOLDEN_TOKENS] or found[:GOLDEN]
    steps = np.linspace(0, len(short) - 1, min(GOLDEN, len(short))).round().astype(int)
    chosen = [short[at][1] for at in steps]
    return (
        {"tool": expected.tool, "error_max": dict(error_max), "texts": chosen} if chosen else None
    )


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


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Got:
    """What an artifact made of each sample; None for one that it did not read whole.

    ``changed`` has other answers to some of them, by number: padded, and in a batch.
    """

    answers: tuple[Answer | None, ...]
    changed: tuple[tuple[int, Answer], ...]


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
        return Answer(scores=_in_order([(i.label, i.score) for i in result.items], labels))
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


def _in_order(found: Sequence[tuple[str, float]], labels: Sequence[str]) -> tuple[float, ...]:
    """Return scores by label; of labels of one name the better score comes first."""
    left = sorted(found, key=lambda pair: -pair[1])
    scores = []
    for label in labels:
        at = next((i for i, (name, _) in enumerate(left) if name == label), None)
        scores.append(math.nan if at is None else left.pop(at)[1])
    return tuple(scores)


def compare(expected: Expected, got: Got, margin: float) -> Judged:
    """Return the figures; see ``Judged``. Raises CompileError if nothing could be compared."""
    labels = expected.labels
    pairs = [
        (i, in_order(want, labels, labels), have)
        for i, (want, have) in enumerate(zip(expected.answers, got.answers, strict=True))
        if want is not None and have is not None
    ]
    if not pairs:
        raise CompileError(f"none of {len(expected.samples)} samples could be compared")
    plain = [(want, have) for i, want, have in pairs if expected.plain[i]]
    errors = [difference(want, have) for _, want, have in pairs]
    at = int(np.argmax(errors))
    alone = {i: have for i, _, have in pairs}
    flips = [(i, _decide(want, have, margin)) for i, want, have in pairs]
    same, decided = (sum(found[part] for _, found in flips) for part in (0, 1))
    first = next((i for i, (same, decided) in flips if same < decided), None)
    moved = [difference(alone[i], other) for i, other in got.changed if i in alone]
    return Judged(
        samples=len(pairs),
        error=errors[at],
        decisions=same / decided if decided else None,
        order=_order(plain),
        neighbours=_neighbours(plain),
        context=max(moved, default=None),
        worst=_tell(expected.samples[pairs[at][0]], pairs[at][1], pairs[at][2]),
        differing=""
        if first is None
        else _tell(expected.samples[first], *next((w, h) for i, w, h in pairs if i == first)),
    )


def in_order(answer: Answer, labels: Sequence[str], order: Sequence[str]) -> Answer:
    """Return ``answer`` with the scores of ``labels`` in another order, as ``_in_order`` has it."""
    if not labels or not answer.scores:
        return answer
    found = list(zip(labels, answer.scores, strict=True))
    return replace(answer, scores=_in_order(found, order))


def difference(want: Answer, have: Answer) -> float:
    """Return how far two answers are from each other (``Judged.error``).

    That is infinity if one is no answer of the kind. Entities and answers that are not the same are
    told by decisions.
    """
    if want.vector is not None:
        if have.vector is None or have.vector.shape != want.vector.shape:
            return math.inf
        length = float(np.linalg.norm(want.vector))
        found = float(np.linalg.norm(have.vector - want.vector))
        return _finite(found / length if length else found)
    if want.objects is not None:
        return places.objects_error(want, have)
    if want.classes is not None:
        return places.map_error(want, have)
    if want.spans is not None:
        scores = {(s.label, s.begin, s.end): s.score for s in have.spans or ()}
        # An answer's score is a product of two shares of many tokens, and so is seen by its size.
        unit = max((s.score for s in want.spans), default=1.0) if not want.decisions else 1.0
        shared = [
            abs(s.score - scores[s.label, s.begin, s.end]) / (unit or 1.0)
            for s in want.spans
            if (s.label, s.begin, s.end) in scores
        ]
        return _finite(max(shared, default=0.0))
    if len(want.scores) != len(have.scores):
        return math.inf
    a, b = np.asarray(want.scores), np.asarray(have.scores)
    return _finite(
        float(np.abs(a - b).max(initial=0.0)) / max(1.0, float(np.abs(a).max(initial=0)))
    )


def _finite(value: float) -> float:
    return value if math.isfinite(value) else math.inf


def _decide(want: Answer, have: Answer, margin: float) -> tuple[int, int]:
    """Return how many decisions are the same, of those whose margin in ``want`` is wide enough."""
    if want.objects is not None:
        return places.objects_decided(want, have, margin)
    if want.classes is not None:
        return places.map_decided(want, have, margin)
    if want.decisions:
        wide = [d for d in want.decisions if d.margin > margin]
        return sum(_label_at(have, d) == d.label for d in wide), len(wide)
    if want.spans is not None:
        best = [*sorted((s.score for s in want.spans), reverse=True), 0.0, 0.0]
        if not want.spans or best[0] - best[1] <= margin * best[0]:
            return 0, 0
        first, found = want.spans[0], (have.spans or (None,))[0]
        same = found is not None and (found.begin, found.end) == (first.begin, first.end)
        return int(same), 1
    scores = np.asarray(want.scores)
    if scores.size < 2 or len(have.scores) != scores.size:
        return 0, 0
    ahead = np.sort(scores)[-1] - np.sort(scores)[-2]
    if ahead <= margin * max(1.0, float(np.abs(scores).max())):
        return 0, 0
    return int(int(scores.argmax()) == int(np.argmax(have.scores))), 1


def _label_at(answer: Answer, token: Decision) -> str:
    """Return the entity that ``token`` lies in, "O" for none."""
    for span in answer.spans or ():
        if span.begin <= token.begin and token.end <= span.end:
            return span.label
    return "O"


def _order(pairs: Sequence[tuple[Answer, Answer]]) -> float | None:
    """Return the rank correlation of scores over samples, or of similarities between vectors."""
    if len(pairs) < LEAST_RANKED:
        return None
    vectors = _vectors(pairs)
    if vectors is not None:
        a, b = (_similarities(side) for side in vectors)
        kept = ~np.eye(len(a), dtype=bool)
        return float(np.mean([_spearman(x[k], y[k]) for x, y, k in zip(a, b, kept, strict=True)]))
    if not pairs[0][0].scores or any(len(w.scores) != len(h.scores) for w, h in pairs):
        return None
    wanted, found = (np.array([p[s].scores for p in pairs]) for s in (0, 1))
    if not np.isfinite(found).all():
        return 0.0
    # Labels count by how much their scores vary: of one that is never meant little is read.
    weights = wanted.std(0)
    ranks = [_spearman(w, f) for w, f in zip(wanted.T, found.T, strict=True)]
    return float(np.average(ranks, weights=weights)) if weights.sum() > 0 else None


def _vectors(pairs: Sequence[tuple[Answer, Answer]]) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the tool's and the artifact's embeddings, None if answers are none, or differ."""
    wanted, found = ([p[side].vector for p in pairs] for side in (0, 1))
    if any(w is None or f is None or w.ndim != 1 or w.shape != f.shape
           for w, f in zip(wanted, found, strict=True)):  # fmt: skip
        return None
    return np.array(wanted), np.array(found)


def _similarities(vectors: np.ndarray) -> np.ndarray:
    """Return the cosine of every vector with every other."""
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    even = vectors / np.where(lengths > 0, lengths, 1.0)
    found: np.ndarray = np.nan_to_num(even @ even.T)
    return found


def _spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Return the rank correlation; equal values share their mean rank."""
    x, y = _ranks(a), _ranks(b)
    spread = float(x.std() * y.std())
    if not spread:
        return float(x.std() == y.std())
    return min(1.0, float(((x - x.mean()) * (y - y.mean())).mean() / spread))


def _ranks(values: np.ndarray) -> np.ndarray:
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = counts.cumsum()
    found: np.ndarray = (ends - (counts - 1) / 2)[places]
    return found


def _neighbours(pairs: Sequence[tuple[Answer, Answer]]) -> float | None:
    """Return the share of vectors with the same nearest one, of those that have a clear one."""
    vectors = _vectors(pairs) if len(pairs) >= LEAST_RANKED else None
    if vectors is None:
        return None
    wanted, found = (_similarities(side) for side in vectors)
    np.fill_diagonal(wanted, -np.inf)
    np.fill_diagonal(found, -np.inf)
    same, clear = 0, 0
    for w, f in zip(wanted, found, strict=True):
        best = np.sort(w)[1:]
        if best[-1] - best[-2] > CLEAR * best.std():
            clear += 1
            same += int(w.argmax() == f.argmax())
    return same / clear if clear else None


def _tell(sample: Sample, want: Answer, have: Answer) -> str:
    shown = sample if isinstance(sample, str | tuple) else "an image"
    text = repr(shown)
    text = text if len(text) <= 60 else text[:57] + "..."
    return f"{text}: expected {_brief(want)}, got {_brief(have)}"


def _brief(answer: Answer) -> str:
    if answer.objects is not None:
        shown = [
            f"{o.label} {o.score:.4f} at {', '.join(f'{v:.1f}' for v in o.box)}"
            for o in answer.objects[:2]
        ]
        return "; ".join(shown) or "nothing"
    if answer.classes is not None:
        numbers, counts = np.unique(answer.classes, return_counts=True)
        order = np.argsort(-counts)[:3]
        shares = counts[order] / answer.classes.size
        told = [f"label {n} {s:.4f}" for n, s in zip(numbers[order], shares, strict=True)]
        return ", ".join(told)
    if answer.spans is not None:
        told = [f"{s.label or 'answer'} {s.begin}-{s.end} {s.score:.4f}" for s in answer.spans[:2]]
        return ", ".join(told) or "nothing"
    if answer.vector is not None:
        head = ", ".join(f"{x:.4f}" for x in answer.vector.ravel()[:3])
        return f"[{head}, ...] ({'x'.join(map(str, answer.vector.shape))})"
    return "[" + ", ".join(f"{x:.4f}" for x in answer.scores[:4]) + "]"


def beyond(found: Judged, limits: Limits, tool: str) -> str:
    """Return what of ``found`` is beyond the recipe's limits, "" for nothing."""
    if found.error > limits.error_max:
        return (
            f"answers differ from those of {tool} by {found.error:.2g}, more than error_max "
            f"{limits.error_max:g} ({found.worst})"
        )
    shares = (
        ("decisions", "the share of the same decisions", f" ({found.differing})"),
        ("order", "the rank correlation", ""),
        ("neighbours", "the share of the same nearest neighbours", ""),
    )
    for name, what, why in shares:
        value, least = getattr(found, name), getattr(limits, f"{name}_min")
        if value is not None and value < least:
            return (
                f"{what} with {tool} is {value:.3f} over {found.samples} samples, below "
                f"{name}_min {least:g}{why}"
            )
    if found.context is not None and found.context > limits.context_max:
        return (
            f"padding, or others in a batch, change an answer by {found.context:.2g}, more than "
            f"context_max {limits.context_max:g}"
        )
    return ""
