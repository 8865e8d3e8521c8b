# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Transformers from prompt to text, which generators are held against."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from edgeopt.errors import InputError
from edgeopt.extras import require
from edgeopt.model import Model, seq2seq
from edgeopt.model.answer import Answer, Continuation, Original, answering, version
from edgeopt.model.forced import judge
from edgeopt.quiet import quiet

_PLAIN: dict[str, Any] = {
    "num_beams": 1,
    "early_stopping": False,
    "length_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "encoder_no_repeat_ngram_size": 0,
    "min_length": 0,
    "min_new_tokens": 0,
    "repetition_penalty": 1.0,
    "encoder_repetition_penalty": 1.0,
}
"""What generate() takes from the model's own generation_config.json if it is not said."""


def greedy(model: Model) -> Any:
    """Return transformers' GenerationConfig for the likeliest token, as the runtime chooses it."""
    transformers = require("transformers", "torch")
    network: Any = model.module
    forced = model.forced

    def one(tokens: Sequence[int]) -> int | None:
        return tokens[0] if tokens else None

    # transformers 5.24 makes a cache of as many layers as the encoder has, and finds none for a
    # decoder's that has more.
    config = network.config
    whole = not forced.start or seq2seq.decoder_layers(config) <= config.num_hidden_layers
    return transformers.GenerationConfig(
        do_sample=False,
        use_cache=whole,
        eos_token_id=list(model.stops) or None,
        pad_token_id=0,
        decoder_start_token_id=one(forced.start),
        forced_bos_token_id=one(forced.first),
        forced_eos_token_id=one(forced.last),
        suppress_tokens=list(forced.never) or None,
        **_PLAIN,
    )


def open_tool(model: Model, max_tokens: int) -> Original:
    """Open transformers on the checkpoint of ``model``, which answers prompts and judges texts.

    A prompt is gone on with greedily, by up to ``max_tokens``. Raises InputError for a model that
    came of no folder, and MissingDependencyError without torch.
    """
    torch = require("torch", "torch")
    transformers = require("transformers", "torch")
    folder = model.source
    if folder is None or not folder.is_dir():
        raise InputError("came of no folder, which transformers could open", where=model.name)
    with quiet():
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
        loader = "AutoModelForSeq2SeqLM" if model.forced.start else "AutoModelForCausalLM"
        network = getattr(transformers, loader).from_pretrained(
            str(folder), dtype=torch.float32, local_files_only=True, trust_remote_code=False
        )
    network.eval()
    how = greedy(model)

    def tokenize(text: str) -> list[int]:
        ids: list[int] = tokenizer(text)["input_ids"]
        return ids

    def logits(tokens: Sequence[int], first: int) -> Iterator[np.ndarray]:
        with torch.inference_mode():
            found = network(torch.tensor([list(tokens)])).logits[0]
        yield from found[first - 1 : -1].float().numpy()

    def go_on(prompt: str) -> Answer:
        ids = torch.tensor([tokenize(prompt)])
        with torch.inference_mode():
            made = network.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                generation_config=how,
                max_new_tokens=max_tokens,
            )
        answer = made[0, 0 if model.forced.start else ids.shape[1] :]
        return Answer(
            ids=tuple(ids[0].tolist()),
            written=tokenizer.decode(answer, skip_special_tokens=True),
        )

    def answer(asked: Any) -> Answer:
        return judge(asked, tokenize, logits) if isinstance(asked, Continuation) else go_on(asked)

    return Original(
        name=f"{version('transformers')}, {loader}",
        answer=answering(answer),
        labels=(),
        limit=None,
        tokenizer=tokenizer,
    )
