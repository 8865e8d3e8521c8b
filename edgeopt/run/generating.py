# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""A prompt in, a text out: what a decoder's bundle goes on with on this machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from edgeopt.bundle import Bundle
from edgeopt.errors import InputError
from edgeopt.model.sounds import read_wav
from edgeopt.runtime.host import failed, open_generator

_Prompt = TypeVar("_Prompt")
Told = Callable[[str], None]
"""What is called with each piece of the text, as soon as there is one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """How the next token is chosen, in this order, as generate() of transformers does.

    ``repetition_penalty`` is of the tokens that prompt or answer have (0 and 1: none).
    ``temperature`` 0 takes the likeliest token, and what follows says nothing then. ``top_k`` keeps
    the best so many, ``top_p`` the best ones with this share of the probability, ``min_p`` those
    this likely as a share of the likeliest; 0 keeps all. The same ``seed`` chooses the same of the
    same logits. ``max_tokens`` ends the answer (0: a full context does), and so do ``stops``, which
    are no part of it.

    Of the rest None is as the bundle says. Several ``num_beams`` search the whole answer: its score
    is divided by its length to the power of ``length_penalty``, and ``early_stopping`` (True, False
    or "never") tells when the search ends. ``no_repeat_ngram_size`` tokens in a row come once
    alone, and a text does not end before ``min_tokens``.
    """

    max_tokens: int = 0
    repetition_penalty: float = 0.0
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 0.0
    min_p: float = 0.0
    stops: tuple[str, ...] = ()
    seed: int = 0
    num_beams: int | None = None
    length_penalty: float | None = None
    early_stopping: bool | str | None = None
    no_repeat_ngram_size: int | None = None
    min_tokens: int | None = None


GREEDY = Sampling()


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What one prompt was gone on with.

    ``tokens`` are the answer's, that which ended it among them. ``end`` is why it ended: token (one
    that ends a text), stop, length, context or cancelled. ``language`` is what was heard, None if
    there is no choice. ``reused`` of the ``prompt_tokens`` were
    in the cache of the prompt before.
    """

    text: str
    tokens: tuple[int, ...]
    end: str
    prompt_tokens: int
    reused: int
    language: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Answers:
    """The answers to all prompts, what made them, and the bytes of its cache of ``context``."""

    engine: str
    engine_version: str
    precision: str
    context: int
    cache_bytes: int
    answers: tuple[Answer, ...]


def generate(
    bundle: str | Path | Bundle,
    prompts: Sequence[str],
    *,
    sampling: Sampling = GREEDY,
    engine: str | None = None,
    precision: str | None = None,
    threads: int | None = None,
    context: int = 0,
    told: Told | None = None,
    ended: Callable[[Answer], None] | None = None,
) -> Answers:
    """Return what ``bundle`` goes on with after each of ``prompts``, on this machine.

    The artifact is the one that the runtime prefers (INT8 before INT4 and FP32) of those that
    ``engine`` and ``precision`` allow. ``context`` bounds the tokens of prompt and answer, and with
    them the cache; 0 is what the bundle was made for. ``told`` is called with each piece of text,
    and ``ended`` with each answer.
    Raises BundleError for a damaged bundle, InputError for a prompt that it does not take or one of
    another task, BoardError if nothing of it runs here.
    """

    def answer(generator: Any, prompt: str) -> Answer:
        generator.prompt(prompt, **asdict(sampling))
        return _rest(generator, None, told, ended)

    how = {"engine": engine, "precision": precision, "threads": threads or 0, "context": context}
    return _answered(bundle, prompts, answer, beams=sampling.num_beams or 0, **how)


def transcribe(
    bundle: str | Path | Bundle,
    sounds: Sequence[str | Path | np.ndarray],
    *,
    language: str | None = None,
    task: str | None = None,
    sampling: Sampling = GREEDY,
    engine: str | None = None,
    precision: str | None = None,
    threads: int | None = None,
    context: int = 0,
    told: Told | None = None,
    ended: Callable[[Answer], None] | None = None,
) -> Answers:
    """Return what is said in each of ``sounds``, on this machine.

    A sound is a WAV file of one channel, 16 bits and 16 kHz, or such samples: int16, or float32
    from -1 to 1, (samples,). ``language`` is a code such as "de"; None is what the checkpoint says,
    or the language that the network finds. ``task`` is "transcribe" or "translate". The rest is as
    in ``generate``, and so is what is raised: InputError too for a file of another kind, a sound
    that is longer than the network hears, and a language or task that it has not.
    """

    def answer(generator: Any, sound: str | Path | np.ndarray) -> Answer:
        given = generator.bundle.manifest["input"]
        if given["kind"] != "audio":
            raise InputError(
                "goes on with texts, and hears nothing", where=str(generator.bundle.path)
            )
        most = given["mel"]["samples"] / given["mel"]["sample_rate"]
        samples = sound if isinstance(sound, np.ndarray) else read_wav(sound, most)
        heard = generator.listen(samples, language=language, task=task, **asdict(sampling))
        return _rest(generator, heard, told, ended)

    how = {"engine": engine, "precision": precision, "threads": threads or 0, "context": context}
    return _answered(bundle, sounds, answer, beams=sampling.num_beams or 0, **how)


def _answered(
    bundle: str | Path | Bundle,
    prompts: Sequence[_Prompt],
    answer: Callable[[Any, _Prompt], Answer],
    **how: Any,
) -> Answers:
    """Open ``bundle`` as ``how`` says, and return what ``answer`` makes of each of ``prompts``."""
    from edgeopt.runtime.python import edgeopt_rt

    path = bundle.path if isinstance(bundle, Bundle) else bundle
    with open_generator(path, **how) as generator:
        try:
            found = tuple(answer(generator, prompt) for prompt in prompts)
        except edgeopt_rt.Failure as exc:
            raise failed(exc) from exc
        return Answers(
            engine=generator.engine,
            engine_version=generator.engine_version,
            precision=generator.precision,
            context=generator.context,
            cache_bytes=generator.cache_bytes,
            answers=found,
        )


def _rest(
    generator: Any,
    language: str | None,
    told: Told | None,
    ended: Callable[[Answer], None] | None,
) -> Answer:
    count = len(generator.tokens)
    texts, tokens, end = [], [], ""
    while end in ("", "none"):
        text, token, end = generator.next()
        texts.append(text)
        tokens += [token] if token >= 0 else []
        if text and told is not None:
            told(text)
    answer = Answer(
        text="".join(texts),
        tokens=tuple(tokens),
        end=end,
        prompt_tokens=count,
        reused=generator.reused,
        language=language,
    )
    if ended is not None:
        ended(answer)
    return answer
