# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Import an encoder-decoder that answers a text with another: T5, BART and Marian.

One graph has both parts, with the table of embeddings once. Called with no tokens of an answer
(``total_length`` 0) it reads a source and gives the keys and values that the decoder's attention
has of it; called with one token it goes on with the answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgeopt import progress
from edgeopt.errors import InputError
from edgeopt.extras import require
from edgeopt.model import Forced, Model, huggingface, search
from edgeopt.model.decoder import CONTEXT, LOGITS, TOKENS, TOTAL, assembled
from edgeopt.model.signature import PAST, SOURCE, Signature, State, TensorSpec
from edgeopt.model.tasks import TEXT_GENERATION

T5, BART, MARIAN = "t5", "bart", "marian"
ENCODER_DECODERS = (T5, BART, MARIAN)
"""Values of ``model_type`` that are imported."""

WHISPER = "whisper"
"""That of an encoder-decoder whose source is sound (``edgeopt.model.speech``)."""

WITH_ENCODERS = (*ENCODER_DECODERS, WHISPER)
"""All that read a source before they answer."""

SOURCE_TOKENS, SOURCE_TOTAL = "source_ids", "source_length"
"""The tensors of a graph besides a decoder's: tokens (1, seq), and how many of them count (1,)."""

_T5_POSITIONS = 512  # the length that T5 was trained with, if its config.json does not say
_CHOICES = {
    "encoder_no_repeat_ngram_size": 0,
    "repetition_penalty": 1.0,
    "encoder_repetition_penalty": 1.0,
}
"""What generation_config.json may ask of generate() that a bundle does not have."""


def is_encoder_decoder(folder: Path) -> bool:
    """Tell whether ``folder`` is a checkpoint of a network that answers a text with another."""
    if not (folder / "config.json").is_file() or (folder / "modules.json").is_file():
        return False
    config = huggingface.read_config(folder)
    named = config.get("architectures")
    first = str(named[0]) if isinstance(named, list) and named else ""
    answers = first.endswith("ForConditionalGeneration") or first == "MarianMTModel"
    return bool(config.get("is_encoder_decoder")) and answers


def import_seq2seq(folder: Path, name: str, context: int = 0) -> Model:
    """Return the Model of an encoder-decoder's checkpoint, in FP32 whatever it was stored in.

    ``context`` is the most tokens of a source, and the most of an answer; 0 for as many as the
    network takes, up to ``CONTEXT``. Raises InputError if files are missing or damaged, and for a
    network of another family than ``ENCODER_DECODERS``, or with a part that is not carried.
    """
    require("transformers", "torch")
    where = str(folder / "config.json")
    kind = huggingface.read_config(folder).get("model_type")
    if kind not in ENCODER_DECODERS:
        raise InputError(
            f"model_type {kind!r} is not one that edgeopt makes a generator of",
            where=where,
            hint=f"Of encoder-decoders it takes {', '.join(ENCODER_DECODERS)}.",
        )
    network: Any = huggingface.load(folder, "AutoModelForSeq2SeqLM", TEXT_GENERATION)
    config = network.config
    if decoder_layers(config) > 256 or config.num_hidden_layers > 256:
        raise InputError("has more than 256 layers, which is not carried", where=where)
    if not getattr(config, "share_encoder_decoder_embeddings", True):  # Marian's
        raise InputError(
            "has one vocabulary for sources and another for answers, which is not carried",
            where=where,
        )
    note_choices(network, name)
    forced = forced_tokens(network, where)
    return assembled(
        folder,
        name,
        network,
        most=_most(config, context, name, where),
        signature=_signature(config),
        states=states(config),
        forced=forced,
        search=search.asked_for(network.generation_config, len(forced.start)),
    )


def decoder_layers(config: Any) -> int:
    """Return how many layers the decoder has."""
    return int(config.num_decoder_layers if config.model_type == T5 else config.decoder_layers)


def heads(config: Any, part: str = "decoder") -> int:
    """Return how many heads the ``part``, "encoder" or "decoder", has."""
    return int(
        config.num_heads if config.model_type == T5 else getattr(config, f"{part}_attention_heads")
    )


def head_size(config: Any, part: str = "decoder") -> int:
    """Return the values of one head's key."""
    return int(config.d_kv if config.model_type == T5 else config.d_model // heads(config, part))


def note_choices(network: Any, name: str) -> None:
    """Say what generation_config.json asks of transformers that a bundle does not do."""
    asked = network.generation_config
    others = [
        f"{key} {getattr(asked, key)}"
        for key, plain in _CHOICES.items()
        if getattr(asked, key, None) not in (plain, None)
    ]
    if others:
        progress.note(
            f"{name}: generation_config.json has {', '.join(others)}, which a bundle does not "
            "heed; its answers are those of generate() without"
        )


def _signature(config: Any) -> Signature:
    rows = config.vocab_size
    return Signature(
        inputs=(
            TensorSpec(name=SOURCE_TOKENS, dtype="int64", dims=("batch", "seq"), limit=rows),
            TensorSpec(name=SOURCE_TOTAL, dtype="int32", dims=("batch",)),
            TensorSpec(name=TOKENS, dtype="int64", dims=("batch", 1), limit=rows),
            TensorSpec(name=TOTAL, dtype="int32", dims=("batch",)),
        ),
        outputs=(TensorSpec(name=LOGITS, dtype="float32", dims=("batch", rows)),),
    )


def states(config: Any) -> tuple[State, ...]:
    """Return what is kept: of the decoder's tokens and of a source, keys and values by layer."""
    return tuple(
        State(
            input=f"past.{{}}.{kind}{part}",
            output=f"present.{{}}.{kind}{part}",
            count=decoder_layers(config),
            dims=(1, heads(config), along, head_size(config)),
        )
        for kind, along in (("", PAST), ("cross_", SOURCE))
        for part in ("key", "value")
    )


def _most(config: Any, asked: int, name: str, where: str) -> int:
    """Return the most tokens of a source and of an answer."""
    if config.model_type == T5:  # its positions are relative: it takes more than it was trained on
        usual, most = int(getattr(config, "n_positions", None) or _T5_POSITIONS), CONTEXT
    else:
        usual = most = int(config.max_position_embeddings)
    if asked > most:
        raise InputError(f"takes up to {most} tokens, and was asked for {asked}", where=where)
    if asked == 0 and usual > CONTEXT:
        progress.note(
            f"{name} takes {usual} tokens; its bundle is made for {CONTEXT}, or what --seq-len says"
        )
    return asked or min(usual, CONTEXT)


def forced_tokens(network: Any, where: str, more: Sequence[int] = ()) -> Forced:
    """Return the tokens that transformers' generate() does not choose.

    An answer begins with ``more`` behind the token that it always begins with. Raises InputError
    if there is none of those, or a token is not of the vocabulary.
    """
    asked = network.generation_config
    start = _least(asked, "decoder_start_token_id", "bos_token_id")
    if start is None:
        raise InputError(
            "has no decoder_start_token_id, with which an answer begins",
            where=where,
            hint="Write it into generation_config.json; T5's is its pad_token_id.",
        )
    first = _least(asked, "forced_bos_token_id")
    last = _least(asked, "forced_eos_token_id")
    never = list(getattr(asked, "suppress_tokens", None) or ())
    for words in getattr(asked, "bad_words_ids", None) or ():
        if len(words) != 1:
            raise InputError(
                f"bad_words_ids: {words} is of {len(words)} tokens; single ones are carried",
                where=where,
            )
        never += words
    found = Forced(
        start=(start, *more),
        first=() if first is None else (first,),
        last=() if last is None else (last,),
        never=tuple(dict.fromkeys(never)),
    )
    check_tokens((*found.start, *found.first, *found.last, *found.never), network, where)
    return found


def check_tokens(tokens: Sequence[Any], network: Any, where: str) -> None:
    """Raise InputError for one that is not of the vocabulary."""
    for token in tokens:
        if type(token) is not int or not 0 <= token < network.config.vocab_size:
            raise InputError(
                f"generation_config.json: no token of the vocabulary: {token!r}", where=where
            )


def _least(asked: Any, *names: str) -> Any:
    """Return what ``asked`` has under the first of ``names`` that it has.

    Of several tokens it is the least, as generate() chooses of tokens that are equally likely.
    """
    for name in names:
        found = getattr(asked, name, None)
        if found is not None:
            return min(found) if isinstance(found, list) else found
    return None
