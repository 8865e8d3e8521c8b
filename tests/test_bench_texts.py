# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""tools/bench texts: it says no more than the samples support, and why something is left out."""

from __future__ import annotations

import json
import math
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from edgeopt.errors import InputError, MeasurementError
from tools.benchmarks import own_length, peers, texts
from tools.benchmarks.own_length import ORIGINAL, Run
from tools.benchmarks.peers.reading import softmax
from tools.benchmarks.served import Answer, Served, Variant, last_words, peer

COUNT, BLOCK = 100, 10
LABELS = [i % 4 for i in range(COUNT)]
TOKENS = [20 + i for i in range(COUNT)]


def run(name: str, factor: float, *, wrong: int = 0, reads: int = 512, seed: int = 0) -> Run:
    """A variant whose time is by the tokens, with noise of a tenth."""
    draw = random.Random(seed)
    answers = []
    for i, (label, tokens) in enumerate(zip(LABELS, TOKENS, strict=True)):
        ns = round(factor * 1e5 * tokens * draw.uniform(0.9, 1.1))
        told = (label + 1) % 4 if i < wrong else label
        read = min(tokens, reads)
        answers.append(
            Answer(
                cpu_ns=ns,
                wall_ns=ns,
                quiet=True,
                label=told,
                tokens=read,
                probabilities=tuple(0.7 if i == told else 0.1 for i in range(4)),
            )
        )
    return Run(name=name, ours=False, answers=answers, peak_mb=100.0, versions={})


def document(runs: Sequence[Run], left_out: dict[str, str] | None = None) -> dict[str, Any]:
    pytest.importorskip("scipy", reason="needs edgeopt[evaluate]")
    return own_length.document(
        model="m",
        data="d",
        seed=0,
        seq_len=0,
        block=BLOCK,
        runs=runs,
        labels=LABELS,
        tokens=TOKENS,
        left_out=left_out or {},
        clock="process CPU time",
    )


def test_only_what_is_surely_faster_ranks_before() -> None:
    found = document(
        [run(ORIGINAL, 2.0), run("a", 1.0, seed=1), run("b", 1.001, seed=2), run("c", 0.5, seed=3)]
    )
    ranks = {one["variant"]: one["rank"] for one in found["results"]}
    assert ranks == {"c": 1, "a": 2, "b": 2, ORIGINAL: 4}
    faster = found["results"][0]["times_faster_than"][ORIGINAL]["median"]
    assert faster["low"] < 4 < faster["high"]
    assert faster["high"] / faster["low"] < 1.2


def test_accuracy_is_held_against_the_original_and_cuts_are_told() -> None:
    found = document([run(ORIGINAL, 1.0, wrong=20), run("cut", 1.0, wrong=30, reads=60)])
    (cut,) = (one for one in found["results"] if one["variant"] == "cut")
    assert cut["accuracy"] == pytest.approx(0.7)
    assert cut["kept"] == pytest.approx(0.7 / 0.8)
    low, high = cut["kept_interval"]
    assert low < 0.7 / 0.8 < high < 1
    assert (cut["cut_texts"], cut["reads_tokens"]) == (59, 60)
    assert cut["probability_error"] == pytest.approx(0.6)
    page = own_length.page(found)
    assert "59 at 60" in page
    assert json.loads(json.dumps(found)) == found


def test_a_percentile_takes_the_samples_that_support_it() -> None:
    times = list(range(1, 59))
    assert own_length.tail(times) is None
    found = own_length.tail(random.Random(0).sample(range(1, 201), 200))
    assert found is not None
    assert found["value"] == 190 / 1e6


def test_what_was_left_out_is_on_the_page_with_the_reason() -> None:
    page = own_length.page(document([run("a", 1.0)], {"X INT8": "no build for this machine"}))
    assert "* X INT8: not compared: no build for this machine" in page


def test_a_variant_that_does_not_open_says_why(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"max_position_embeddings": 8}')
    variant = Variant(
        name="onnxruntime FP32",
        module="onnxruntime_fp32",
        word="model.onnx",
        python=Path(sys.executable),
        model=tmp_path,
        folder=tmp_path,
    )
    with pytest.raises(MeasurementError, match="onnxruntime FP32: ended with 1: "):
        Served(variant, {})


def test_texts_are_drawn_by_the_seed_and_labels_must_be_known(tmp_path: Path) -> None:
    rows = [{"text": f"text {i}", "label": "ab"[i % 2]} for i in range(50)]
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = texts.read(tmp_path, ["a", "b"], 27, 1)
    assert len(given.texts) == 20  # whole blocks
    assert given == texts.read(tmp_path, ["a", "b"], 27, 1)
    assert given.texts != texts.read(tmp_path, ["a", "b"], 27, 2).texts
    assert all(int(t.split()[1]) % 2 == i for t, i in zip(given.texts, given.labels, strict=True))
    with pytest.raises(InputError, match="the model has no label 'b'"):
        texts.read(tmp_path, ["a"], 27, 1)
    with pytest.raises(InputError, match="10 texts, and 20 are the fewest"):
        texts.read(tmp_path, ["a", "b"], 10, 1)
    with pytest.raises(InputError, match="has none of"):
        texts.read(Path(__file__).parent, ["a"], 0, 1)


@pytest.mark.parametrize("name", peers.NAMES)
def test_a_peer_is_pinned_and_imports_nothing_heavy(name: str) -> None:
    module = peer(name)
    assert all("==" in one for one in module.REQUIREMENTS)
    assert module.VARIANTS
    assert callable(module.make)
    assert callable(module.reader)


def test_the_last_line_of_a_traceback_is_what_is_told() -> None:
    assert last_words("Traceback:\n  File x\nValueError: no\n\n") == "ValueError: no"
    assert last_words("") == "it said nothing"
    trace = "Traceback (most recent call last):\n  File x\n"
    failed = f"{trace}KeyError: 'n'\n{trace}subprocess.CalledProcessError: Command 'x'\n"
    assert last_words(failed) == "KeyError: 'n'"


def test_probabilities_are_the_softmax_of_logits_however_large() -> None:
    assert softmax([0.0, 0.0]) == [0.5, 0.5]
    assert softmax([1000.0, 1000.0 + math.log(3)]) == pytest.approx([0.25, 0.75])
