# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What the teacher answers: kept by content, so that it runs once for each text."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeopt import cache, closure, progress
from edgeopt.errors import InputError
from edgeopt.evaluate.data import Data, Encoded, EncodedTexts, batches, encode
from edgeopt.model import Model, tokenizer
from edgeopt.model.checkpoint import network
from edgeopt.model.huggingface import input_key
from edgeopt.model.image import ImageInput
from edgeopt.model.network.first_token import narrowing
from edgeopt.model.network.fused_attention import fused_attention
from edgeopt.model.network.widths import blocks
from edgeopt.steps.training import Training
from edgeopt.train import training
from edgeopt.train.activations import embed, watch
from edgeopt.train.resume import digest

if TYPE_CHECKING:
    import torch

DTYPES = {"logits": np.float32, "embeddings": np.float16}
"""Of embeddings there are hundreds for each text, and three digits of each are enough."""

LEAST_SAME = 0.5
"""The least share of the texts that both must tokenise alike for losses of single tokens."""


def key(teacher: Model) -> str:
    """Return the hash of all that the teacher's answers depend on, but the texts."""
    return cache.key(
        # Not the Model's digest, which stays the same when a technique changes the weights.
        weights=digest({"teacher": teacher.module.state_dict()}),
        config=network(teacher).config.to_dict(),
        **input_key(teacher.input),
        pooling=None if teacher.pooling is None else asdict(teacher.pooling),
    )


def answers(
    teacher: Model, parts: Sequence[Data], outputs: Sequence[str], options: Training
) -> dict[str, torch.Tensor]:
    """Return the teacher's outputs on all texts of ``parts``, one part behind the other, float32.

    ``outputs`` are "logits" (texts, labels) and "embeddings" (texts, hidden), computed in the
    precision and cut at the length of the training ``options``. Each part is kept in
    the cache by the teacher and the texts: with more copies of the texts only the new ones are run.
    """
    import torch

    whole = key(teacher)
    found: dict[str, list[np.ndarray]] = {name: [] for name in outputs}
    for number, part in enumerate(parts):
        which = f"changed copy {number} of the texts" if number else f"{len(part)} {part.noun}"

        def build(directory: Path, part: Data = part, which: str = which) -> None:
            text = f"Running the teacher on {which}"
            for name, values in _run(teacher, part, outputs, options, text).items():
                np.save(directory / f"{name}.npy", values)

        entry = cache.key(
            teacher=whole,
            texts=part.digest(),
            outputs=sorted(outputs),
            seq_len=options.seq_len,
            precision=training.precision(options),
            code=closure.code(__name__, "edgeopt.model.importer"),
        )
        directory = cache.entry("teacher", entry, build)
        for name in outputs:
            found[name].append(np.load(directory / f"{name}.npy"))
    return {name: torch.from_numpy(np.concatenate(v)).float() for name, v in found.items()}


def _run(
    teacher: Model, data: Data, outputs: Sequence[str], options: Training, text: str
) -> dict[str, np.ndarray]:
    import torch

    rows: dict[str, list[Any]] = {name: [None] * len(data) for name in outputs}
    last = [len(blocks(network(teacher))) - 1] if "embeddings" in outputs else []
    done = 0
    place = training.device()
    mixed = training.precision(options) == "bf16"
    teacher.module.to(place)
    try:
        with (
            progress.step(text) as step,
            torch.inference_mode(),
            watch(teacher, hidden=last) as inside,
            contextlib.nullcontext() if last else narrowing(teacher),
            fused_attention(teacher),
            torch.autocast(place.type, torch.bfloat16, enabled=mixed),
        ):
            for batch in batches(teacher, data, options.seq_len):
                moved = batch.to(place)
                (output,) = teacher.module(*moved.inputs)
                values = {"logits": output}
                if last:
                    values["embeddings"] = embed(teacher, inside.hidden[last[0]], moved.mask)
                for name in outputs:
                    found = values[name].float().cpu().numpy().astype(DTYPES[name])
                    for row, value in zip(batch.rows, found, strict=True):
                        rows[name][row] = value
                done += len(batch.rows)
                step.update(done, len(data))
    finally:
        teacher.module.to("cpu")
    return {name: np.stack(values) for name, values in rows.items()}


def alike(teacher: Model, student: Model, data: Data, seq_len: int) -> tuple[Encoded, list[bool]]:
    """Return ``data`` as the teacher tokenises it, and which texts the student cuts alike.

    Two tokenizers may number the same tokens differently, as after a trimmed vocabulary. Raises
    InputError if under half of the texts are cut alike: then single tokens cannot be compared.
    """
    if isinstance(teacher.input, ImageInput):
        return encode(teacher, data), [True] * len(data)
    assert teacher.text.tokenizer is not None
    assert student.text.tokenizer is not None
    theirs = EncodedTexts(teacher, data, seq_len)
    limits = {min(seq_len, model.text.max_seq_len) for model in (teacher, student)}
    files = [
        tokenizer.hashes(folder) for folder in (teacher.text.tokenizer, student.text.tokenizer)
    ]
    if len(limits) == 1 and files[0] == files[1]:
        return theirs, [True] * len(data)
    ours = EncodedTexts(student, data, seq_len)
    same = [ours.tokens(i) == theirs.tokens(i) for i in range(len(data))]
    if sum(same) < LEAST_SAME * len(data):
        raise InputError(
            f"tokenises only {sum(same)} of {len(data)} texts as the teacher does, so that losses "
            "of single tokens (hidden, cosine, attention, relations) cannot be taken",
            where=student.name,
            hint="Use response, distances, angles or embedding, or distil before the vocabulary "
            "is trimmed.",
        )
    return theirs, same
