# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Prompts and texts through one generator of a bundle, on this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeopt.bundle import Bundle
from edgeopt.bundle.manifest import ArtifactEntry
from edgeopt.errors import EdgeoptError
from edgeopt.extras import require
from edgeopt.model.answer import Answer, Continuation, Question
from edgeopt.model.forced import judge
from edgeopt.runtime.host import GREEDY, failed, open_generator


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """What a generator made of all samples, and what it is."""

    engine: str
    engine_version: str
    precision: str
    answers: tuple[Answer, ...]


def run(
    bundle: Bundle,
    entry: ArtifactEntry,
    samples: Sequence[Question],
    places: Sequence[str],
    *,
    threads: int | None,
    max_tokens: int,
    told: Callable[[int], None],
) -> Judged:
    """Return what ``entry`` makes of ``samples``: a text is a prompt that it goes on with.

    A Continuation's tokens are judged, split by the tokenizers package from the bundle's own file,
    as it may be longer than what the runtime reads at once. ``places`` are for messages, and
    ``told`` is called with how many are done. Raises InputError for what the runtime does not take,
    BoardError if it does not run here.
    """
    from edgeopt.runtime.python import edgeopt_rt

    tokenizer = _tokenizer(bundle)
    found: list[Answer] = []
    with open_generator(
        bundle.path, engine=entry.engine, precision=entry.precision, threads=threads or 0, beams=1
    ) as generator:
        for sample, place in zip(samples, places, strict=True):
            try:
                if isinstance(sample, Continuation):
                    found.append(judge(sample, tokenizer, lambda t, n: _logits(generator, t, n)))
                else:
                    found.append(_go_on(generator, str(sample), max_tokens))
            except edgeopt_rt.Failure as exc:
                error: EdgeoptError = failed(exc)
                raise type(error)(error.message, where=place) from exc
            told(len(found))
        return Judged(
            engine=generator.engine,
            engine_version=generator.engine_version,
            precision=generator.precision,
            answers=tuple(found),
        )


def _tokenizer(bundle: Bundle) -> Callable[[str], Sequence[int]]:
    tokenizers = require("tokenizers", "torch")
    opened = tokenizers.Tokenizer.from_file(str(bundle.path / "tokenizer/tokenizer.json"))

    def tokenize(text: str) -> Sequence[int]:
        ids: list[int] = opened.encode(text).ids
        return ids

    return tokenize


def _logits(generator: Any, tokens: Sequence[int], first: int) -> Iterator[np.ndarray]:
    """Yield the logits before each token from ``first`` on; the cache has all but the last one."""
    for count in range(first, len(tokens)):
        generator.prompt(tokens[:count])
        yield np.asarray(generator.logits)


def _go_on(generator: Any, prompt: str, max_tokens: int) -> Answer:
    made = generator.run(prompt, max_tokens=max_tokens, **GREEDY)
    count = len(generator.tokens) - len(made.tokens)
    return Answer(ids=tuple(generator.tokens[:count]), written=made.text)
