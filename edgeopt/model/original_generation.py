# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""A decoder as transformers runs it, from prompt to text: what a generator is held against."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from edgeopt.errors import InputError
from edgeopt.extras import require
from edgeopt.model import Model
from edgeopt.model.answer import Answer, Continuation, Original, answering, version
from edgeopt.model.forced import judge
from edgeopt.quiet import quiet


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
        network = transformers.AutoModelForCausalLM.from_pretrained(
            str(folder), dtype=torch.float32, local_files_only=True, trust_remote_code=False
        ).eval()
    stops = list(model.stops)
    how = transformers.GenerationConfig(
        do_sample=False,
        max_new_tokens=max_tokens,
        eos_token_id=stops or None,
        pad_token_id=stops[0] if stops else 0,
    )

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
            made = network.generate(ids, attention_mask=torch.ones_like(ids), generation_config=how)
        answer = made[0, ids.shape[1] :]
        return Answer(
            ids=tuple(ids[0].tolist()),
            written=tokenizer.decode(answer, skip_special_tokens=True),
        )

    def answer(asked: Any) -> Answer:
        return judge(asked, tokenize, logits) if isinstance(asked, Continuation) else go_on(asked)

    return Original(
        name=f"{version('transformers')}, AutoModelForCausalLM",
        answer=answering(answer),
        labels=(),
        limit=None,
        tokenizer=tokenizer,
    )
