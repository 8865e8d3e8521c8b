# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Which task an ONNX graph is for, and which of its outputs are that task's."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgeopt import progress
from edgeopt.errors import InputError
from edgeopt.model.tasks import (
    FEATURE_EXTRACTION,
    QUESTION_ANSWERING,
    SEQUENCE_CLASSIFICATION,
    TEXT_TASKS,
    TOKEN_CLASSIFICATION,
    Task,
    text_task,
)

SENTENCE = "sentence_embedding"
"""The output of a graph that pools by itself: (batch, size)."""

_HEADS = {
    "ForSequenceClassification": SEQUENCE_CLASSIFICATION,
    "ForTokenClassification": TOKEN_CLASSIFICATION,
    "ForQuestionAnswering": QUESTION_ANSWERING,
    "ForPreTraining": FEATURE_EXTRACTION,
    "Model": FEATURE_EXTRACTION,
}
"""The end of config.json's architecture, and the task of such a network."""

_WORDS = ("ForMaskedLM", "ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
"""Networks whose logits are over the words of the vocabulary."""

NAMES = {
    "logits": "logits",
    "output_logits": "logits",
    "probabilities": "logits",
    "probs": "logits",
    "start_logits": "start_logits",
    "end_logits": "end_logits",
    "last_hidden_state": "last_hidden_state",
    "token_embeddings": "last_hidden_state",
    SENTENCE: SENTENCE,
    "sentence_embeddings": SENTENCE,
    "embedding": SENTENCE,
    "embeddings": SENTENCE,
    "text_embeds": SENTENCE,
}
"""What exporters call the outputs (Optimum, sentence-transformers, tf2onnx), and what we do."""

_HINT = "Export it again with these output names."


@dataclass(frozen=True, kw_only=True, slots=True)
class Chosen:
    """The task; the file's outputs in its order; our names; the last dimension's size."""

    task: Task
    given: tuple[str, ...]
    ours: tuple[str, ...]
    width: int
    column: bool = False


def plain(name: str) -> str:
    """Return a tensor's name without what exporters add: "logits:0", "serving_default_logits"."""
    return re.sub(r"(:\d+|\.\d+)$", "", name).removeprefix("serving_default_").lower()


def choose(
    runs: Sequence[tuple[int, Mapping[str, np.ndarray]]],
    *,
    architecture: str,
    vocabulary: int,
    task: str | None,
    where: str,
) -> Chosen:
    """Return the task of a graph by what it gave in ``runs``: tokens of a text, outputs by name.

    Names decide if they are known; else config.json's ``architecture`` ("" for none) does,
    together with the shapes. Outputs that the task does not have are left out, and a note names
    them. Raises InputError if neither decides, or if both disagree.
    """
    asked = None if task is None else text_task(task, where)
    short = runs[0][1]
    floats = {n: a for n, a in short.items() if np.issubdtype(a.dtype, np.floating)}
    wanted = asked or next((t for end, t in _HEADS.items() if architecture.endswith(end)), None)
    found = _by_name(floats, wanted) or _by_shape(floats, runs[-1][1], wanted)
    if found is None:
        expected = "; ".join(
            f"{t}: {', '.join(t.outputs)}" for t in ((asked,) if asked else TEXT_TASKS)
        )
        raise InputError(
            f"outputs are {', '.join(short) or 'none'}; expected {expected}",
            where=where,
            hint=_HINT,
        )
    given, ours = found
    chosen = _checked(given, ours, runs, where)
    if ours == ("logits",):
        words = architecture.endswith(_WORDS) and chosen.task == TOKEN_CLASSIFICATION
        if words or (chosen.task == TOKEN_CLASSIFICATION and chosen.width == vocabulary > 2):
            raise InputError(
                f"{given[0]} has a value for each of the vocabulary's {chosen.width} words: it is "
                "a language model's, not the labels of a classification",
                where=where,
                hint="Export it for feature extraction (output last_hidden_state), or with a "
                "classification head.",
            )
    elsewhere = wanted is not None and wanted != chosen.task
    if asked and elsewhere:
        raise InputError(f"outputs are those of {chosen.task}, asked for {asked}", where=where)
    if elsewhere and wanted != FEATURE_EXTRACTION and chosen.task != FEATURE_EXTRACTION:
        raise InputError(
            f"{', '.join(given)} {_shape(short[given[0]])} is for {chosen.task}, but config.json "
            f"says {architecture}, which is for {wanted}",
            where=where,
            hint="Put the config.json beside it that it was exported with.",
        )
    if elsewhere:
        progress.note(
            f"{where}: taken for {chosen.task} by its output {given[0]}, though config.json says "
            f"{architecture}"
        )
    if list(given) != list(ours):
        progress.note(f"{where}: output {', '.join(given)} is taken as {', '.join(ours)}")
    if extra := [name for name in short if name not in given]:
        progress.note(f"{where}: leaves out {', '.join(extra)}, which {chosen.task} does not have")
    return chosen


def _by_name(
    outputs: Mapping[str, np.ndarray], wanted: Task | None
) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    by_name: dict[str, str] = {}
    for name, array in outputs.items():
        ours = NAMES.get(plain(name))
        if ours == SENTENCE and array.ndim == 3:  # "embeddings" of tokens
            ours = "last_hidden_state"
        if ours and ours not in by_name:
            by_name[ours] = name
    features = [(SENTENCE,), ("last_hidden_state",)]
    order = [("start_logits", "end_logits"), ("logits",), *features]
    if wanted == FEATURE_EXTRACTION:
        order = [*features, *order]
    elif wanted == QUESTION_ANSWERING:
        order = order[:1] + order[2:]
    for ours_ in order:
        if all(name in by_name for name in ours_):
            return tuple(by_name[name] for name in ours_), ours_
    return None


def _by_shape(
    outputs: Mapping[str, np.ndarray], long: Mapping[str, np.ndarray], wanted: Task | None
) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """Find outputs without a known name, as transformers orders them; None if none fits."""
    names = list(outputs)
    ranks = [outputs[name].ndim for name in names]
    if wanted == QUESTION_ANSWERING and ranks[:2] == [2, 2]:
        return (names[0], names[1]), ("start_logits", "end_logits")
    if wanted == SEQUENCE_CLASSIFICATION and ranks[:1] in ([1], [2]):
        return (names[0],), ("logits",)
    if wanted == TOKEN_CLASSIFICATION and ranks[:1] == [3]:
        return (names[0],), ("logits",)
    if wanted == FEATURE_EXTRACTION:
        if ranks[:1] == [3]:
            return (names[0],), ("last_hidden_state",)
        if ranks == [2] and outputs[names[0]].shape == long[names[0]].shape:
            return (names[0],), (SENTENCE,)
    if len(names) == 1 and plain(names[0]) == "pooler_output" and ranks == [2]:
        return (names[0],), (SENTENCE,)
    return None


def _checked(
    given: tuple[str, ...],
    ours: tuple[str, ...],
    runs: Sequence[tuple[int, Mapping[str, np.ndarray]]],
    where: str,
) -> Chosen:
    """Return the choice, if its shapes are a task's at every length."""
    first = runs[0][1][given[0]]
    pair = len(ours) == 2
    by_token = pair or ours == ("last_hidden_state",) or first.ndim == 3
    task = {
        ("start_logits", "end_logits"): QUESTION_ANSWERING,
        ("last_hidden_state",): FEATURE_EXTRACTION,
        (SENTENCE,): FEATURE_EXTRACTION,
    }.get(ours) or (TOKEN_CLASSIFICATION if by_token else SEQUENCE_CLASSIFICATION)
    column = ours == ("logits",) and first.ndim == 1
    size = 1 if column else int(first.shape[-1]) if first.ndim else 0
    for tokens, outputs in runs:
        wanted = (1, tokens) if pair else (1, tokens, size) if by_token else (1, size)
        for name in given:
            found = outputs[name].shape
            if found != (wanted[:1] if column else wanted):
                raise InputError(
                    f"output {name} is {_shape(outputs[name])} for a text of {tokens} tokens; "
                    f"{task} has ({', '.join(map(str, wanted))})",
                    where=where,
                    hint="Export it again with the network's own outputs.",
                )
    return Chosen(task=task, given=given, ours=ours, width=size, column=column)


def _shape(array: np.ndarray) -> str:
    return "(" + ", ".join(map(str, array.shape)) + ")"
