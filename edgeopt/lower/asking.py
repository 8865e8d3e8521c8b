# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What the user's own tool is asked about, and what it says (``edgeopt.model.original``)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgeopt import cache, closure, progress
from edgeopt.model import Model, TextInput, images, importer, samples, texts
from edgeopt.model.answer import (
    Answer,
    Continuation,
    Decision,
    Detection,
    Original,
    Question,
    Sample,
    Span,
    Text,
    in_order,
)
from edgeopt.model.image import ImageInput
from edgeopt.model.samples import Samples
from edgeopt.model.tasks import (
    QUESTION_ANSWERING,
    SEQUENCE_CLASSIFICATION,
)
from edgeopt.quiet import quiet

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

GOLDEN, GOLDEN_TOKENS = 4, 32
"""The texts that travel in a bundle with the tool's answers, and the most tokens of each.

They are run on the board: an emulated one takes 20 s for 128 tokens in FP32.
"""


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


def prepare(
    model: Model, given: Samples | None, original: Original, seq_lens: Sequence[int]
) -> Expected:
    """Choose samples and ask the tool (cached by content).

    ``given`` are the user's own; most of the shipped ones are cut to the longest of ``seq_lens``.
    """
    with quiet():  # once for all that is counted
        chosen, plain = _choose(model, given, original, max(seq_lens, default=0))
        tokens = tuple(count_tokens(sample, original.tokenizer) for sample in chosen)
    key, found = ask(model, original, chosen)
    return Expected(
        tool=original.name,
        labels=original.labels,
        limit=original.limit,
        samples=chosen,
        plain=plain,
        answers=found,
        tokens=tokens,
        digest=key,
    )


def ask(
    model: Model, original: Original, chosen: Sequence[Question], against: str = ""
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


def count_tokens(sample: Question, tokenizer: Any) -> int:
    """Return how many tokens a text or a pair has, uncut; 0 for an image."""
    if tokenizer is None or not isinstance(sample, str | tuple):
        return 0
    parts = (sample,) if isinstance(sample, str) else sample
    with quiet():  # tokenizers warn of what is longer than their limit
        return len(tokenizer(*parts)["input_ids"])


def _name(sample: Question) -> str:
    """Return what tells a sample from others."""
    if isinstance(sample, str):
        return sample
    if isinstance(sample, tuple):
        return json.dumps(sample)
    if isinstance(sample, Continuation):
        return json.dumps(asdict(sample))
    one: Any = (sample,)
    return samples.digest(one)


_ARRAYS = ("vector", "classes", "margins", "tally", "losses", "likeliest")


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
                    written=row["written"],
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
