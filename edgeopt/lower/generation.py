# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Lower a generator, and hold what it generates against transformers, which is called directly.

Logits are compared step by step over texts that both are given (teacher forcing), half of each
text in one call and the other half token by token, as a device reads a prompt and then answers.
Then both go on by themselves, greedily. An encoder-decoder reads each text as its source, answers
it with the text itself under teacher forcing, and what its encoder hands on is compared besides.
Lowered and checked artifacts are kept by content.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgeopt import cache, closure, progress, values
from edgeopt.backends import Artifact
from edgeopt.backends.decoders import DECODERS
from edgeopt.errors import CompileError, InputError
from edgeopt.evaluate import fidelity
from edgeopt.evaluate.fidelity import Fidelity
from edgeopt.extras import require
from edgeopt.fields import Table
from edgeopt.lower.lowering import Lowered
from edgeopt.model import AudioInput, Model, samples, texts, tokenizer
from edgeopt.model.decoder import LOGITS
from edgeopt.model.original_generation import greedy
from edgeopt.quantize import Quantize
from edgeopt.quiet import quiet
from edgeopt.target import EngineSpec, Target

TEXTS = 6
"""How many texts are compared; and of each so many tokens, and so many of a prompt:"""
MOST_TOKENS, PROMPT_TOKENS = 96, 16
ANSWER_TOKENS = 64

_TIE = 1e-4
"""Logits of the reference this near, as a share of the largest, name either token."""

_RECORD = "artifact.json"
_FEWEST = 4  # tokens of a text that is compared


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """One text and what the reference makes of it.

    ``logits`` are float32 (tokens, vocabulary); ``answer`` are the tokens that greedily follow the
    first ``prompt`` of ``tokens``, the one that ends the text among them, and ``text`` is the
    prompt's. Of the answer the first ``sure`` are told from every other token by the logits.

    An encoder-decoder's ``source`` are the tokens of ``text``, ``tokens`` are the decoder's and
    ``prompt`` counts those that it begins with. ``encoded`` are by state what its encoder hands on,
    float32 (1, heads, source, size of a head). If it hears, ``sound`` are int16 (samples,) and
    ``features`` what transformers makes of them, float32 (bins, frames); there is no source then,
    and ``text`` is "".
    """

    tokens: tuple[int, ...]
    logits: np.ndarray
    prompt: int
    answer: tuple[int, ...]
    sure: int
    text: str
    source: tuple[int, ...] = ()
    encoded: Mapping[str, np.ndarray] = field(default_factory=dict)
    sound: np.ndarray | None = None
    features: np.ndarray | None = None

    @property
    def read(self) -> Sequence[int] | np.ndarray:
        """What an encoder reads."""
        return self.source if self.features is None else self.features

    @property
    def given(self) -> tuple[int, ...]:
        """The tokens that a device makes of ``text``."""
        return self.source or self.tokens[: self.prompt]


@dataclass(frozen=True, kw_only=True, slots=True)
class Generated:
    """How an artifact's tokens compare with the reference's.

    ``steps`` are the tokens whose logits were compared; perplexities are over their successors.
    ``greedy_same`` of the ``greedy`` tokens are the reference's, those before the first other one
    of each text, and ``texts_same`` of ``texts`` are so as long as the reference is sure.
    """

    steps: int
    perplexity: float
    reference_perplexity: float
    texts: int
    texts_same: int
    greedy: int
    greedy_same: int


@dataclass(frozen=True, kw_only=True, slots=True)
class _Record:
    artifact: Artifact
    fidelity: Fidelity
    generated: Generated
    encoded_cosine: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Made:
    """An artifact with its files, and what was found of it.

    ``encoded_cosine`` is the worst of what an encoder hands on, None without one.
    """

    lowered: Lowered
    generated: Generated
    encoded_cosine: float | None


def ask(model: Model, texts: Sequence[str]) -> tuple[Asked, ...]:
    """Ask the reference about at most ``TEXTS`` of ``texts``. Raises InputError if none will do."""
    torch = require("torch", "torch")
    folder = model.text.tokenizer
    assert folder is not None  # the import refuses a decoder without
    own = tokenizer.load(folder)
    network: Any = model.module
    most = min(MOST_TOKENS, model.text.max_seq_len)
    forced = model.forced
    how = greedy(model)
    found: list[Asked] = []
    with progress.step(f"Asking transformers about {TEXTS} texts"), torch.inference_mode():
        for text in texts:
            if forced.start and len(found) < TEXTS:
                one = _ask_encoder(model, own, text, most, how)
                found += [] if one is None else [one]
                continue
            tokens = own(text).input_ids[:most]
            if len(tokens) < _FEWEST or len(found) == TEXTS:
                continue
            prompt = min(PROMPT_TOKENS, len(tokens) // 2)
            room = min(ANSWER_TOKENS, model.text.max_seq_len - prompt)
            ids = torch.tensor([tokens])
            with quiet():
                logits = network(ids).logits[0].float().numpy()
                made = network.generate(
                    ids[:, :prompt],
                    attention_mask=torch.ones_like(ids[:, :prompt]),
                    generation_config=how,
                    max_new_tokens=room,
                    output_scores=True,
                    return_dict_in_generate=True,
                )
            found.append(
                Asked(
                    tokens=tuple(tokens),
                    logits=logits,
                    prompt=prompt,
                    answer=tuple(made.sequences[0, prompt:].tolist()),
                    sure=sure_steps([row[0].float().numpy() for row in made.scores]),
                    text=own.decode(tokens[:prompt], skip_special_tokens=True),
                )
            )
    if not found:
        raise InputError(f"no text of at least {_FEWEST} tokens to compare", where=model.name)
    return tuple(found)


def ask_sounds(model: Model, given: Sequence[np.ndarray]) -> tuple[Asked, ...]:
    """Ask the reference about at most ``TEXTS`` sounds, int16 (samples,).

    Each is answered with one of the texts that ship under teacher forcing, and by generate() as it
    is called without a language or a task: it may find the language.
    """
    torch = require("torch", "torch")
    transformers = require("transformers", "torch")
    assert model.source is not None  # the import is of a folder
    extractor = transformers.WhisperFeatureExtractor.from_pretrained(str(model.source))
    assert model.text.tokenizer is not None
    own = tokenizer.load(model.text.tokenizer)
    network: Any = model.module
    most = min(MOST_TOKENS, model.text.max_seq_len)
    found = []
    words = texts.read_texts(None, TEXTS)
    with progress.step(f"Asking transformers about {TEXTS} sounds"), torch.inference_mode():
        for sound, text in zip(given, words, strict=False):
            scaled = sound.astype(np.float32) / 32768
            rate = model.input.mel.sample_rate if isinstance(model.input, AudioInput) else 0
            features = extractor(scaled, sampling_rate=rate, return_tensors="pt").input_features
            with quiet():
                made = network.generate(
                    features,
                    do_sample=False,
                    num_beams=1,
                    max_new_tokens=min(
                        ANSWER_TOKENS, model.text.max_seq_len - len(model.forced.start)
                    ),
                    return_timestamps=False,
                    output_scores=True,
                    return_dict_in_generate=True,
                )
                every = made.sequences[0].tolist()
                start = every[: len(every) - len(made.scores)]
                tokens = [*start, *own(text, add_special_tokens=False).input_ids][:most]
                forward = network(
                    input_features=features,
                    decoder_input_ids=torch.tensor([tokens]),
                    use_cache=True,
                )
            found.append(
                Asked(
                    tokens=tuple(tokens),
                    logits=forward.logits[0].float().numpy(),
                    prompt=len(start),
                    answer=tuple(every[len(start) :]),
                    sure=sure_steps([row[0].float().numpy() for row in made.scores]),
                    text="",
                    encoded=_handed_on(forward),
                    sound=sound,
                    features=features[0].numpy(),
                )
            )
    return tuple(found)


def _handed_on(forward: Any) -> dict[str, np.ndarray]:
    """Return what the decoder's attention has of a source, by the name of the state."""
    kept = getattr(forward, "cache", None) or forward.past_key_values  # the name before 5.24
    return {
        f"present.{i}.cross_{part}": getattr(layer, f"{part}s").float().numpy()
        for i, layer in enumerate(kept.cross_attention_cache.layers)
        for part in ("key", "value")
    }


def _ask_encoder(model: Model, own: Any, text: str, most: int, how: Any) -> Asked | None:
    """Ask an encoder-decoder about ``text``, or the words of it that are ``most`` tokens.

    None if that is too short.
    """
    import torch

    words = text.split(" ")
    while words and len(own(" ".join(words)).input_ids) > most:
        words.pop()
    text = " ".join(words)
    source = own(text).input_ids
    if len(source) < _FEWEST:
        return None
    network: Any = model.module
    start = model.forced.start
    tokens = [*start, *source][:most]
    room = min(ANSWER_TOKENS, model.text.max_seq_len - len(start))
    ids = torch.tensor([source])
    given = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    with quiet():
        forward = network(**given, decoder_input_ids=torch.tensor([tokens]), use_cache=True)
        made = network.generate(
            **given,
            generation_config=how,
            max_new_tokens=room,
            output_scores=True,
            return_dict_in_generate=True,
        )
    answer = tuple(made.sequences[0, len(start) :].tolist())
    sure = sure_steps([row[0].float().numpy() for row in made.scores])
    if model.forced.last and len(answer) == room:
        sure = min(sure, room - 1)  # the last one is forced, and not in a longer answer
    return Asked(
        tokens=tuple(tokens),
        logits=forward.logits[0].float().numpy(),
        prompt=len(start),
        answer=answer,
        sure=sure,
        text=text,
        source=tuple(source),
        encoded=_handed_on(forward),
    )


def sure_steps(scores: Sequence[np.ndarray]) -> int:
    """Return how many steps there are before two tokens' scores are alike but for rounding.

    Each of ``scores`` is of the whole vocabulary; those of tokens that cannot be chosen are
    infinite.
    """
    for step, every in enumerate(scores):
        row = every[np.isfinite(every)]
        if row.size < 2:
            continue
        second, first = np.partition(row, -2)[-2:]
        if first - second <= _TIE * float(np.abs(row).max()):
            return step
    return len(scores)


def lower(
    model: Model,
    target: Target,
    spec: EngineSpec,
    precision: str,
    quantize: Quantize,
    bound: float,
    asked: Sequence[Asked],
) -> Made:
    """Lower for one engine and precision and check on this host, or take both from the cache.

    INT8 of which a cosine is below ``bound``, of logits at any step or of what an encoder hands on,
    is made again in groups. Raises CompileError if that is below it too, or another precision, and
    in FP32 if a greedy token is not the reference's.
    """
    made = _lower(model, target, spec, precision, quantize, asked)
    finer = DECODERS[spec.engine].finer(precision, quantize)
    if finer is not None and (below := _below(made, bound)) is not None:
        progress.note(
            f"{spec.engine} {precision}: {below}; weights in groups of {finer.group_size} lose less"
        )
        made = _lower(model, target, spec, precision, finer, asked)
    _judge(made, precision, bound)
    return made


def _lower(
    model: Model,
    target: Target,
    spec: EngineSpec,
    precision: str,
    quantize: Quantize,
    asked: Sequence[Asked],
) -> Made:
    """Lower and check, or take both from the cache; nothing is judged."""

    def build(directory: Path) -> None:
        files = directory / "files"
        files.mkdir()
        with progress.step(f"Lowering to {spec.engine} {precision}"):
            artifact = DECODERS[spec.engine].lower(model, target, spec, precision, files, quantize)
        with progress.step(f"Checking {spec.engine} {precision} against the reference"):
            found, generated, encoded = _check(model, artifact, files, asked)
        record = values.write(
            _Record(artifact=artifact, fidelity=found, generated=generated, encoded_cosine=encoded)
        )
        (directory / _RECORD).write_text(json.dumps(record))

    key = cache.key(
        model=model.digest,
        texts=[(one.source, one.tokens, one.answer) for one in asked],
        sounds=[samples.digest((one.sound,)) for one in asked if one.sound is not None],
        engine=asdict(spec) | {"precisions": None, "why": None},
        precision=precision,
        quantize=quantize.options(),
        device=(target.device.arch, target.device.overflows_int8),
        code=closure.code(__name__),
    )
    directory = cache.entry("generator", key, build)
    path = directory / _RECORD
    record = values.read(_Record, Table(json.loads(path.read_text()), file=str(path)))
    return Made(
        lowered=Lowered(
            artifact=record.artifact, fidelity=record.fidelity, directory=directory / "files"
        ),
        generated=record.generated,
        encoded_cosine=record.encoded_cosine,
    )


def _below(made: Made, bound: float) -> str | None:
    """Tell which cosine is below ``bound``, None if none is."""
    if made.encoded_cosine is not None and made.encoded_cosine < bound:
        return (
            f"cosine {made.encoded_cosine:.4f} of what the encoder hands on is below the "
            f"recipe's bound {bound}"
        )
    least = made.lowered.fidelity.cosine_min
    if least < bound:
        return f"cosine {least:.4f} of a step's logits is below the recipe's bound {bound}"
    return None


def _judge(made: Made, precision: str, bound: float) -> None:
    if (below := _below(made, bound)) is not None:
        raise CompileError(below)
    generated = made.generated
    if precision == "fp32" and generated.texts_same < generated.texts:
        raise CompileError(
            f"greedy tokens are not those of transformers: {generated.greedy_same} of "
            f"{generated.greedy} are the same"
        )


def _check(
    model: Model, artifact: Artifact, directory: Path, asked: Sequence[Asked]
) -> tuple[Fidelity, Generated, float | None]:
    try:
        path = directory / artifact.main.files[0]
        decoder = DECODERS[artifact.engine].Decoder(path, model, 1)
        logits = [_forced(decoder, one) for one in asked]
        encoded = [cosine for one in asked for cosine in _encoded(decoder, one)]
        answers = [_answer(decoder, one, model) for one in asked]
    except CompileError:
        raise
    # Engines raise exceptions of many kinds without a common base.
    except Exception as exc:
        raise CompileError(f"{artifact.engine} cannot run it on this host ({exc})") from exc
    calls = [{LOGITS: row[None]} for rows in logits for row in rows]
    wanted = [{LOGITS: row[None]} for one in asked for row in one.logits[_half(one) - 1 :]]
    same = [_same(one, answer) for one, answer in zip(asked, answers, strict=True)]
    return (
        fidelity.summarise(calls, wanted, [None] * len(calls)),
        Generated(
            steps=len(calls),
            perplexity=_perplexity(asked, logits),
            reference_perplexity=_perplexity(
                asked, [one.logits[_half(one) - 1 :] for one in asked]
            ),
            texts=len(asked),
            texts_same=sum(n == len(one.answer) for n, one in zip(same, asked, strict=True)),
            greedy=sum(len(one.answer) for one in asked),
            greedy_same=sum(same),
        ),
        min(encoded, default=None),
    )


def _half(one: Asked) -> int:
    return max(1, len(one.tokens) // 2)


def _forced(decoder: Any, one: Asked) -> np.ndarray:
    """Return the logits from the middle of a text to its end, (steps, vocabulary)."""
    half = _half(one)
    decoder.reset(one.read)
    found = [decoder.run(one.tokens[:half])]
    found += [decoder.run([token]) for token in one.tokens[half:]]
    return np.stack(found)


def _encoded(decoder: Any, one: Asked) -> list[float]:
    """Return the cosines of each layer's keys and values of the source with the reference's."""
    if not one.encoded:
        return []
    decoder.reset(one.read)
    found = []
    for name, wanted in one.encoded.items():
        ours = decoder.states[name].numpy().ravel().astype(np.float64)
        theirs = wanted.ravel().astype(np.float64)
        size = float(np.linalg.norm(ours) * np.linalg.norm(theirs))
        found.append(
            float(ours @ theirs) / size if size > 0 else float(np.array_equal(ours, theirs))
        )
    return found


def _answer(decoder: Any, one: Asked, model: Model) -> list[int]:
    """Return the tokens that greedily follow the prompt, as many as the reference gave."""
    forced = model.forced
    most = min(ANSWER_TOKENS, model.text.max_seq_len - one.prompt)
    decoder.reset(one.read)
    answer: list[int] = []
    given = one.tokens[: one.prompt]
    while len(answer) < len(one.answer) and not (answer and answer[-1] in model.stops):
        logits = decoder.run(given)
        logits[list(forced.never if answer else (*forced.never, *forced.never_first))] = -np.inf
        token = int(logits.argmax())
        if len(answer) < len(forced.first):
            token = forced.first[len(answer)]
        elif len(answer) + 1 == most and forced.last:
            token = forced.last[0]
        answer.append(token)
        given = (token,)
    return answer


def _same(one: Asked, answer: Sequence[int]) -> int:
    """Return how many tokens of ``answer`` are the reference's, up to the first other one.

    All are, if the reference was not sure by then.
    """
    pairs = zip(answer, one.answer, strict=False)
    at = next((i for i, (a, b) in enumerate(pairs) if a != b), len(answer))
    return len(one.answer) if at >= one.sure else at


def _perplexity(asked: Sequence[Asked], logits: Sequence[np.ndarray]) -> float:
    """Return the perplexity of the second halves of the texts."""
    losses: list[float] = []
    for one, rows in zip(asked, logits, strict=True):
        targets = one.tokens[_half(one) :]
        for row, target in zip(rows[:-1].astype(np.float64), targets, strict=True):
            peak = row.max()
            losses.append(float(peak + np.log(np.exp(row - peak).sum()) - row[target]))
    return math.exp(min(sum(losses) / len(losses), 600.0))
