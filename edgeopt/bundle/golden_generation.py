# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Golden prompts of a bundle that generates text: what the reference greedily goes on with.

``golden/prompts.json`` has the prompts as text and as tokens, and the tokens that follow, as long
as the reference is sure of them;
``golden/prompt_N/`` the tokens as ``in.input_ids.npy`` and the logits after the last of them. An
encoder-decoder's prompt is its source, and its logits are those that the answer begins with. If it
hears, ``in.sound.npy`` is its source, int16 (samples,), and the tokens are those that its decoder
begins with.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeopt.bundle import golden
from edgeopt.bundle.manifest import Golden
from edgeopt.errors import BundleError, InputError
from edgeopt.fields import read_json
from edgeopt.model.decoder import LOGITS, TOKENS, TOTAL
from edgeopt.model.seq2seq import SOURCE_TOKENS, SOURCE_TOTAL

PROMPTS = "golden/prompts.json"
SOUND = "sound"
_PROMPTS = 2
_MOST_BYTES = 1 << 24


@dataclass(frozen=True, kw_only=True, slots=True)
class Prompt:
    """A prompt, its tokens, the logits after the last, and the tokens that greedily follow.

    ``sound`` is what is heard, int16 (samples,), None for a prompt that is read.
    """

    text: str
    tokens: tuple[int, ...]
    logits: np.ndarray
    answer: tuple[int, ...]
    sound: np.ndarray | None = None


def write(folder: Path, asked: Sequence[Any]) -> tuple[Golden, ...]:
    """Write some of ``asked`` below ``folder`` and return the manifest's calls of them.

    Each is an ``edgeopt.lower.generation.Asked``.
    """
    calls, prompts = [], []
    surest = sorted(asked, key=lambda one: -one.sure)[:_PROMPTS]
    for number, one in enumerate(surest):
        name = f"golden/prompt_{number}"
        tokens = one.tokens[: one.prompt]
        inputs: dict[str, np.ndarray] = {
            TOKENS: np.array([tokens], np.int64),
            TOTAL: np.array([len(tokens)], np.int32),
        }
        if one.sound is not None:
            inputs[SOUND] = one.sound
        elif one.source:
            inputs[SOURCE_TOKENS] = np.array([one.source], np.int64)
            inputs[SOURCE_TOTAL] = np.array([len(one.source)], np.int32)
        golden.write(folder / name, inputs, {LOGITS: one.logits[one.prompt - 1][None]})
        count = len(one.given) if one.sound is None else 0
        calls.append(Golden(directory=name, seq_len=count, tokens=count))
        answer = list(one.answer[: one.sure])
        prompts.append({"text": one.text, "tokens": list(one.given), "answer": answer})
    (folder / PROMPTS).write_text(json.dumps(prompts))
    return tuple(calls)


def read(bundle: Path, calls: Sequence[Golden]) -> tuple[Prompt, ...]:
    """Return the golden prompts of a bundle. Raises BundleError if they are damaged."""
    path = bundle / PROMPTS
    try:
        _, document = read_json(path, _MOST_BYTES)
    except (OSError, InputError) as exc:
        raise BundleError(f"cannot be read ({exc})", where=str(path)) from exc
    found = []
    try:
        for call, one in zip(calls, document, strict=True):
            inputs, outputs = golden.read(bundle / call.directory)
            tokens = tuple(int(token) for token in one["tokens"])
            answer = tuple(int(token) for token in one["answer"])
            text = one["text"]
            if not isinstance(text, str) or not tokens:
                raise ValueError("a prompt without text or tokens")
            found.append(
                Prompt(
                    text=text,
                    tokens=tokens,
                    logits=outputs[LOGITS],
                    answer=answer,
                    sound=inputs.get(SOUND),
                )
            )
    except (TypeError, ValueError, KeyError) as exc:
        raise BundleError(f"holds no golden prompts: {exc}", where=str(path)) from exc
    return tuple(found)
