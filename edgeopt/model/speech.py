# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Import Whisper, which writes down speech: an encoder of sound, and a decoder as BART's.

Its graph is an encoder-decoder's (``edgeopt.model.seq2seq``) whose source is of one length:
log-mel features of so many seconds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgeopt import progress
from edgeopt.errors import InputError
from edgeopt.extras import require
from edgeopt.model import Forced, Model, Speech, audio, huggingface
from edgeopt.model.audio import FEATURES, LogMel
from edgeopt.model.decoder import LOGITS, TOKENS, TOTAL, assembled
from edgeopt.model.seq2seq import WHISPER, check_tokens, forced_tokens, note_choices, states
from edgeopt.model.signature import Signature, TensorSpec
from edgeopt.model.tasks import SPEECH_RECOGNITION

LOADER = "AutoModelForSpeechSeq2Seq"
"""The class of transformers that opens one."""

_TRANSCRIBE = "transcribe"
_TASKS = (_TRANSCRIBE, "translate")


def is_speech(folder: Path) -> bool:
    """Tell whether ``folder`` is a checkpoint of a network that writes down speech."""
    config = folder / "config.json"
    return config.is_file() and huggingface.read_config(folder).get("model_type") == WHISPER


def import_speech(folder: Path, name: str, context: int = 0) -> Model:
    """Return the Model of a Whisper's checkpoint, in FP32 whatever it was stored in.

    ``context`` is the most tokens of an answer with those that it begins with, 0 for as many as the
    network takes. Raises InputError if files are missing or damaged, or have a part that is not
    carried.
    """
    require("transformers", "torch")
    where = str(folder / "config.json")
    architecture = huggingface.read_config(folder).get("architectures", [""])[0]
    if architecture != "WhisperForConditionalGeneration":
        raise InputError(f"{architecture} is not carried, of Whisper the whole is", where=where)
    network: Any = huggingface.load(folder, LOADER, SPEECH_RECOGNITION)
    config = network.config
    mel = audio.read(folder)
    if (mel.bins, mel.frames) != (config.num_mel_bins, 2 * config.max_source_positions):
        raise InputError(
            f"takes features of {config.num_mel_bins} x {2 * config.max_source_positions}, and "
            f"its feature extractor makes {mel.bins} x {mel.frames}",
            where=where,
        )
    most = int(config.max_target_positions)
    if context > most:
        raise InputError(f"takes up to {most} tokens, and was asked for {context}", where=where)
    note_choices(network, name)
    if getattr(network.generation_config, "return_timestamps", False):
        progress.note(f"{name}: generation_config.json asks for timestamps; a bundle has none")
    return assembled(
        folder,
        name,
        network,
        most=context or most,
        signature=_signature(config, mel),
        states=states(config),
        forced=_forced(network, where),
        mel=mel,
    )


def _signature(config: Any, mel: LogMel) -> Signature:
    rows = config.vocab_size
    return Signature(
        inputs=(
            TensorSpec(name=FEATURES, dtype="float32", dims=("batch", mel.bins, mel.frames)),
            TensorSpec(name=TOKENS, dtype="int64", dims=("batch", 1), limit=rows),
            TensorSpec(name=TOTAL, dtype="int32", dims=("batch",)),
        ),
        outputs=(TensorSpec(name=LOGITS, dtype="float32", dims=("batch", rows)),),
    )


def _forced(network: Any, where: str) -> Forced:
    """Return what an answer begins with, as generate() of transformers makes it of the files.

    A language that they do not name is English here, and found by the network when it runs.
    """
    asked = network.generation_config
    languages = _named(asked, "lang_to_id")
    tasks = {n: t for n, t in _named(asked, "task_to_id").items() if n in _TASKS}
    silent = getattr(asked, "no_timestamps_token_id", None)
    end = () if silent is None else (silent,)
    language, task = getattr(asked, "language", None), getattr(asked, "task", None)
    given: list[int | None] = []
    if language is not None or task is not None:
        given = [_of(languages, language, where), _of(tasks, task or _TRANSCRIBE, where)]
    else:
        old = getattr(asked, "forced_decoder_ids", None)
        old = old or getattr(network.config, "forced_decoder_ids", None) or ()
        given = [token for _, token in old]
    detects = bool(languages) and (not given or given[0] is None)
    if detects:
        usual = languages.get("en", min(languages.values()))
        given = [usual, *given[1:]]
    middle = tuple(token for token in given if token is not None)
    plain = forced_tokens(network, where, (*middle, *(() if middle[-1:] == end else end)))
    first = tuple(dict.fromkeys(getattr(asked, "begin_suppress_tokens", None) or ()))
    check_tokens((*first, *languages.values(), *tasks.values()), network, where)
    speech = None
    if languages:
        speech = Speech(
            languages=languages, tasks=tasks, begin=plain.start[0], end=end, detects=detects
        )
    return Forced(
        start=plain.start,
        first=plain.first,
        last=plain.last,
        never=plain.never,
        never_first=first,
        speech=speech,
    )


def _named(asked: Any, key: str) -> dict[str, int]:
    """Return tokens by their plain names: "en" for "<|en|>"."""
    found = getattr(asked, key, None) or {}
    return {str(name).removeprefix("<|").removesuffix("|>"): token for name, token in found.items()}


def _of(tokens: dict[str, int], name: str | None, where: str) -> int | None:
    """Return the token of ``name``. Raises InputError if there is none."""
    plain = None if name is None else name.removeprefix("<|").removesuffix("|>")
    if plain is not None and plain not in tokens:
        raise InputError(
            f"generation_config.json: {plain!r} is not one of {', '.join(sorted(tokens))}",
            where=where,
        )
    return None if plain is None else tokens[plain]
