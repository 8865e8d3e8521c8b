# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What an artifact's answers are worth on the user's own texts or images, beside those of FP32.

They are those that compression holds out as well: neither learnt from nor calibrated on.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeopt import cache, closure, progress
from edgeopt.backends import Artifact, Batch, Outputs, run_on_host
from edgeopt.errors import InputError
from edgeopt.evaluate import score
from edgeopt.evaluate.data import Data, divide
from edgeopt.model import Model, reference, samples
from edgeopt.model.tasks import FEATURE_EXTRACTION

MOST_TEXTS = 1000
"""If 1 % of so many texts change, a drop's standard error is a third of a point."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Accuracy:
    """Scores of FP32 and of an artifact on ``texts`` held-out texts.

    ``measure`` is "accuracy", or without labels "same label" as FP32 or "cosine" with it. ``drop``
    is the mean difference of the paired scores and ``drop_se`` its standard error.
    """

    measure: str
    texts: int
    reference: float
    score: float
    drop: float
    drop_se: float


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class HeldOut:
    """The texts, as calls of one length, and FP32's outputs on them, (texts, labels or hidden)."""

    data: Data
    calls: list[Batch]
    answers: np.ndarray


def held_out(model: Model, path: Path, apart: Path | None = None) -> Data:
    """Return at most ``MOST_TEXTS`` texts: of ``apart``, or those that are held out of ``path``.

    Raises InputError if there are too few, for labels that ``model`` has not, and for a model
    whose answers have no score here.
    """
    classifies = model.task in score.CLASSIFIERS and model.activation == "softmax"
    if not classifies and model.task != FEATURE_EXTRACTION:
        raise InputError(
            f"is for {model.task}, and max_drop is for one label an input and for embeddings",
            where=model.name,
            hint="Leave max_drop out; [bounds] hold for every task.",
        )
    return divide(path, apart, model)[1].first(MOST_TEXTS)


def prepare(model: Model, data: Data, seq_len: int) -> HeldOut:
    """Run the reference on ``data`` at ``seq_len`` tokens (cached by content)."""
    calls: list[Batch] = list(samples.calls(model, data.inputs, seq_len))

    def build(directory: Path) -> None:
        with progress.step(f"Running the reference on {len(calls)} held-out {data.noun}"):
            found = _rows(model, calls, reference.run(model, calls))
        np.save(directory / "answers.npy", found)

    key = cache.key(
        model=model.digest,
        data=data.digest(),
        seq_len=seq_len,
        code=closure.code(__name__, *reference.CODE),
        rows="pooled",
    )
    answers = np.load(cache.entry("reference", key, build) / "answers.npy")
    return HeldOut(data=data, calls=calls, answers=answers)


def judge(model: Model, artifact: Artifact, directory: Path, held: HeldOut) -> Accuracy:
    """Run ``artifact`` on the held-out texts. Raises CompileError if this host cannot."""
    name = f"{artifact.engine} {artifact.precision}"
    with progress.step(f"Scoring {name} on {len(held.calls)} held-out {held.data.noun}"):
        found = _rows(model, held.calls, run_on_host(artifact, directory, held.calls))
    before, after = (
        score.score(model, rows, held.answers, held.data) for rows in (held.answers, found)
    )
    differences = before - after
    return Accuracy(
        measure="accuracy" if held.data.labels is not None else score.measure(model),
        texts=len(before),
        reference=float(before.mean()),
        score=float(after.mean()),
        drop=float(differences.mean()),
        drop_se=float(differences.std() / np.sqrt(len(differences))),
    )


def _rows(model: Model, calls: list[Batch], outputs: list[Outputs]) -> np.ndarray:
    """Return one row for each call: its logits, or its pooled embedding."""
    name = model.main.signature.outputs[0].name
    if model.task.metric != "cosine":
        return np.concatenate([output[name] for output in outputs])
    import torch

    rows: list[Any] = [
        score.pool(
            torch.from_numpy(output[name]), torch.from_numpy(call["attention_mask"]), model.pooling
        )
        for call, output in zip(calls, outputs, strict=True)
    ]
    return torch.cat(rows).numpy()
