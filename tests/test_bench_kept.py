# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""tools/bench kept: accuracy as transformers gives it, and intervals that say no more than it."""

import json
from pathlib import Path

import numpy as np
import pytest

from edgeopt.errors import InputError
from tests import checkpoints
from tests.compression.conftest import bert, rows, texts_file  # noqa: F401
from tools.benchmarks import kept

torch = pytest.importorskip("torch", reason="needs edgeopt[torch]")
pytest.importorskip("scipy", reason="needs edgeopt[evaluate]")
pytestmark = pytest.mark.heavy


def test_seeds_are_scored_as_transformers_does_and_pooled(
    bert: Path,  # noqa: F811
    texts_file: Path,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from transformers import pipeline

    other = checkpoints.write(tmp_path / "other", initializer_range=0.1)  # has learnt nothing
    kept.compare(str(bert), str(texts_file), [str(bert), str(other)], 16, str(tmp_path / "k.json"))
    found = json.loads((tmp_path / "k.json").read_text())
    given = rows(200)
    right = {}
    for folder in (bert, other):
        told = pipeline("text-classification", str(folder))(
            [row["text"] for row in given], truncation=True, max_length=16
        )
        right[folder.name] = np.mean(
            [a["label"] == b["label"] for a, b in zip(told, given, strict=True)]
        )
    assert found["accuracy"] == pytest.approx(right[bert.name])
    same, worse, pooled = (found["checkpoints"][n] for n in (bert.name, other.name, "pooled"))
    assert (same["share"], same["low"], same["high"]) == (1, 1, 1)
    assert worse["accuracy"] == pytest.approx(right[other.name])
    assert worse["low"] < worse["share"] < worse["high"] < 0.9
    assert pooled["share"] == pytest.approx((same["share"] + worse["share"]) / 2)
    # The seed that loses nothing adds no spread: the pooled interval is half as wide.
    assert pooled["high"] - pooled["low"] == pytest.approx((worse["high"] - worse["low"]) / 2)
    assert (
        f"pooled: {pooled['accuracy']:.4f}, kept {pooled['share']:.1%}" in capsys.readouterr().out
    )


def test_texts_without_labels_are_refused(bert: Path, tmp_path: Path) -> None:  # noqa: F811
    path = tmp_path / "t.txt"
    path.write_text("the fun game\n" * 30)
    with pytest.raises(InputError, match="expected texts with labels, and a classifier of them"):
        kept.compare(str(bert), str(path), [str(bert)], 16, str(tmp_path / "k.json"))
