# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""How much of its accuracy a model keeps after compression, over several seeds of one recipe."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console

from edgeopt import progress
from edgeopt.errors import InputError
from edgeopt.evaluate import interval, score
from edgeopt.evaluate.data import MIN_CHECKED, Data, batches, read
from edgeopt.model import Model
from edgeopt.model.importer import import_model


def compare(model: str, test: str, checkpoints: Sequence[str], seq_len: int, output: str) -> None:
    """Print what ``checkpoints``, each and all, keep of the accuracy of ``model`` on ``test``.

    All in torch, FP32. Raises InputError without labels.
    """
    original = import_model(model)
    data = read(Path(test), original, MIN_CHECKED)
    if data.labels is None or original.task not in score.CLASSIFIERS:
        raise InputError("expected texts with labels, and a classifier of them", where=test)
    base = _right(original, data, seq_len)
    found = np.stack([_right(import_model(folder), data, seq_len) for folder in checkpoints])
    rows = {Path(f).name: _kept(one[None], base) for f, one in zip(checkpoints, found, strict=True)}
    rows["pooled"] = _kept(found, base)
    result = {
        "model": model, "texts": len(data), "seq_len": seq_len, "accuracy": float(base.mean()),
        "checkpoints": rows,
    }  # fmt: skip
    Path(output).parent.mkdir(parents=True, exist_ok=True)
    Path(output).write_text(json.dumps(result, indent=2))
    console = Console(highlight=False)
    console.print(f"{model}: {base.mean():.4f} on {len(data)} texts of at most {seq_len} tokens")
    for name, row in rows.items():
        console.print(
            f"{name}: {row['accuracy']:.4f}, kept {row['share']:.1%} "
            f"[{row['low']:.1%}, {row['high']:.1%}]"
        )


def _right(model: Model, data: Data, seq_len: int) -> np.ndarray:
    """Return which texts get their label, float64 (texts,)."""
    import torch

    logits = np.zeros((len(data), len(model.labels)), np.float32)
    with progress.step(f"Running {model.name}"), torch.inference_mode():
        for batch in batches(model, data, seq_len):
            (output,) = model.module(*batch.inputs)
            logits[batch.rows] = output.numpy()
    return score.score(model, logits, logits, data)


def _kept(found: np.ndarray, base: np.ndarray) -> dict[str, float]:
    """Return the mean accuracy of ``found`` (seeds, texts), and the share of ``base``'s it is.

    The interval is that of the paired bootstrap: texts are drawn again, the same for all. It says
    what other texts would give with these seeds, not what other seeds would.
    """
    mean = found.mean(0)

    def share(counts: np.ndarray) -> np.ndarray:
        ratio: np.ndarray = (counts @ mean) / (counts @ base)
        return ratio

    low, high = interval.bootstrap({"kept": [share]}, len(base))["kept"][0][0]
    return {
        "accuracy": float(mean.mean()),
        "share": float(mean.mean() / base.mean()),
        "low": low,
        "high": high,
    }
