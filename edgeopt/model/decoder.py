# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Import a decoder that goes on with a text: GPT-2, and networks that are built as Llama is.

Its graph takes the tokens of a call, and how many there are with those of the calls before, and
gives the logits of the last one. Keys and values of all tokens are its states.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgeopt import cache, closure, progress
from edgeopt.errors import InputError
from edgeopt.extras import require
from edgeopt.model import (
    MAIN,
    UNFORCED,
    AudioInput,
    Forced,
    Graph,
    Model,
    TextInput,
    TorchSource,
    huggingface,
    tokenizer,
)
from edgeopt.model.audio import LogMel
from edgeopt.model.network import embeddings
from edgeopt.model.search import PLAIN, Search
from edgeopt.model.signature import PAST, Signature, State, TensorSpec
from edgeopt.model.tasks import SPEECH_RECOGNITION, TEXT_GENERATION

LLAMA_LIKE = ("llama", "mistral", "qwen2", "qwen3", "gemma", "phi3", "smollm3")
"""Model types whose layers are RMS norm, attention with rotary positions, and a gated FFN."""

GPT2 = "gpt2"
FAMILIES = (GPT2, *LLAMA_LIKE)
"""Values of ``model_type`` that are imported to generate."""

CONTEXT = 2048
"""The most tokens of prompt and answer, if none are asked for and the network takes more."""

TOKENS, TOTAL, LOGITS = "input_ids", "total_length", "logits"
"""The tensors of a graph besides its states: tokens (1, seq); how many there are by then (1,)."""

_ROTARY = ("default", "linear", "llama3", "yarn")  # positions whose angles no length changes


def is_decoder(folder: Path) -> bool:
    """Tell whether ``folder`` is a checkpoint of a network that goes on with a text.

    One with an encoder before the decoder is none.
    """
    if not (folder / "config.json").is_file() or (folder / "modules.json").is_file():
        return False
    config = huggingface.read_config(folder)
    named = config.get("architectures")
    first = str(named[0]) if isinstance(named, list) and named else ""
    return not config.get("is_encoder_decoder") and (
        first.endswith("ForCausalLM") or first == "GPT2LMHeadModel"
    )


def import_decoder(folder: Path, name: str, context: int = 0) -> Model:
    """Return the Model of a decoder's checkpoint directory, in FP32 whatever it was stored in.

    ``context`` is the most tokens of prompt and answer, 0 for as many as the network takes, up to
    ``CONTEXT``. Raises InputError if files are missing or damaged, and for a network of another
    family than ``FAMILIES``, or with a part that is not carried.
    """
    require("transformers", "torch")
    where = str(folder / "config.json")
    kind = huggingface.read_config(folder).get("model_type")
    if kind not in FAMILIES:
        raise InputError(
            f"model_type {kind!r} is not one that edgeopt makes a generator of",
            where=where,
            hint=f"It takes {', '.join(FAMILIES)}.",
        )
    network = huggingface.load(folder, "AutoModelForCausalLM", TEXT_GENERATION)
    _check(network, where)
    return assembled(
        folder,
        name,
        network,
        most=_context(network, context, name, where),
        signature=_signature(network.config),
        states=_states(network.config),
    )


def assembled(
    folder: Path,
    name: str,
    network: Any,
    *,
    most: int,
    signature: Signature,
    states: tuple[State, ...],
    forced: Forced = UNFORCED,
    mel: LogMel | None = None,
    search: Search = PLAIN,
) -> Model:
    """Return the Model of ``network`` with what stands beside it in ``folder``.

    ``most`` are the tokens that it is called with at most. ``mel`` is of one that hears.
    Raises InputError if the tokenizer is missing, or has ids that the network has not.
    """
    config = huggingface.read_config(folder)
    hashes = {path.name: cache.file_sha256(path) for path in huggingface.weight_files(folder)}
    tokens = tokenizer.collect(folder)
    if tokens is None:
        raise InputError(
            "has no tokenizer, without which no text is generated",
            where=str(folder),
            hint="Save it beside the weights with tokenizer.save_pretrained().",
        )
    tokenizer.check_ids(tokens, embeddings.rows(network), str(folder))
    stops = _stops(network, str(folder / "config.json"))
    origin: dict[str, Any] = {
        "kind": "huggingface",
        "source": name,
        "architecture": type(network).__name__,
        "weights_sha256": hashes,
        "license": huggingface.read_license(folder, config),
        "tools": {p: require(p, "torch").__version__ for p in ("torch", "transformers")},
    }
    text = TextInput(tokenizer=tokens, max_seq_len=most)
    return Model(
        name=name,
        task=TEXT_GENERATION if mel is None else SPEECH_RECOGNITION,
        input=text if mel is None else AudioInput(mel=mel, text=text),
        graphs={
            MAIN: Graph(source=TorchSource(module=network), signature=signature, states=states)
        },
        labels=(),
        activation="none",
        pooling=None,
        stops=stops,
        forced=forced,
        search=search,
        source=folder,
        origin=origin,
        digest=cache.key(
            weights=hashes,
            config=cache.file_sha256(folder / "config.json"),
            tokenizer=tokenizer.hashes(tokens),
            context=most,
            stops=list(stops),
            forced=asdict(forced),
            mel=None if mel is None else asdict(mel),
            search=asdict(search),
            code=closure.code(__name__),
        ),
    )


def head_size(config: Any) -> int:
    """Return the values of one head's key."""
    size = getattr(config, "head_dim", None)
    return int(size or config.hidden_size // config.num_attention_heads)


def key_heads(config: Any) -> int:
    """Return how many heads keys and values have, which heads of queries may share."""
    return int(getattr(config, "num_key_value_heads", None) or config.num_attention_heads)


def _signature(config: Any) -> Signature:
    return Signature(
        inputs=(
            TensorSpec(name=TOKENS, dtype="int64", dims=("batch", "seq"), limit=config.vocab_size),
            TensorSpec(name=TOTAL, dtype="int32", dims=("batch",)),
        ),
        outputs=(TensorSpec(name=LOGITS, dtype="float32", dims=("batch", config.vocab_size)),),
    )


def _states(config: Any) -> tuple[State, ...]:
    return tuple(
        State(
            input=f"past.{{}}.{part}",
            output=f"present.{{}}.{part}",
            count=config.num_hidden_layers,
            dims=(1, key_heads(config), PAST, head_size(config)),
        )
        for part in ("key", "value")
    )


def _check(network: Any, where: str) -> None:
    """Raise InputError if the network has a part that the graphs of its family have not."""
    config = network.config
    wrong = None
    if config.num_hidden_layers > 256:
        wrong = f"{config.num_hidden_layers} layers, expected up to 256"
    elif getattr(config, "add_cross_attention", False):
        wrong = "attention to an encoder (add_cross_attention)"
    elif config.model_type in LLAMA_LIKE:
        kind = config.rope_parameters.get("rope_type", "default")
        if kind not in _ROTARY:
            wrong = f"rotary positions of type {kind!r}, expected one of {', '.join(_ROTARY)}"
    if wrong is not None:
        raise InputError(f"has {wrong}, which is not carried", where=where)


def _context(network: Any, asked: int, name: str, where: str) -> int:
    """Return the most tokens of prompt and answer together."""
    most = int(network.config.max_position_embeddings)
    if asked > most:
        raise InputError(f"takes up to {most} tokens, and was asked for {asked}", where=where)
    if asked == 0 and most > CONTEXT:
        progress.note(
            f"{name} takes {most} tokens; its bundle is made for {CONTEXT}, or what --seq-len says"
        )
    return asked or min(most, CONTEXT)


def _stops(network: Any, where: str) -> tuple[int, ...]:
    """Return the tokens that end a text, as transformers' generate() takes them."""
    found = getattr(network.generation_config, "eos_token_id", None)
    if found is None:
        found = network.config.eos_token_id
    stops = found if isinstance(found, list) else [] if found is None else [found]
    for stop in stops:
        if type(stop) is not int or not 0 <= stop < network.config.vocab_size:
            raise InputError(f"eos_token_id: no token of the vocabulary: {stop!r}", where=where)
    return tuple(dict.fromkeys(stops))


def described(model: Model) -> Mapping[str, Any]:
    """Return the sizes of a decoder, for its manifest's reader."""
    config: Any = model.module.config
    return {
        "family": config.model_type,
        "layers": config.num_hidden_layers,
        "heads": config.num_attention_heads,
        "key_heads": key_heads(config),
        "head_size": head_size(config),
    }
