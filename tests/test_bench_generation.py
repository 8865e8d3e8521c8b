# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""tools/bench generation: what its samples support, and a run of it with a tiny decoder."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from edgeopt.errors import InputError
from tools.benchmarks import decoders, generation, generators
from tools.benchmarks.generated import ORIGINAL, Run, Sample, document, page
from tools.benchmarks.generators import transformers_torch
from tools.benchmarks.generators.worker import timed
from tools.benchmarks.served import peer

ROUNDS, COUNT, LENGTH = 8, 16, 32


def run(name: str, step_ns: float, *, differs_at: int = COUNT, seed: int = 0) -> Run:
    """A variant that takes ten steps' time for the first token, with noise of a hundredth."""
    draw = random.Random(seed)
    made = Run(
        name=name, ours=name == "a", versions={}, open_cpu_ns=10**9, open_peak_mb=80, peak_mb=100
    )
    for _ in range(ROUNDS):
        step = step_ns * draw.uniform(0.99, 1.01)
        at = tuple(round(step * (10 + i)) for i in range(COUNT))
        tokens = tuple(7 if i < differs_at else 8 for i in range(COUNT))
        made.take(LENGTH, Sample(cpu_ns=at, wall_ns=at, tokens=tokens))
    return made


def told(*runs: Run) -> dict[str, Any]:
    return document(
        model="m",
        seed=0,
        count=COUNT,
        rounds=ROUNDS,
        context=LENGTH + COUNT,
        runs=runs,
        left_out={"X INT8": "no build for this machine"},
    )


def test_steps_and_first_tokens_are_held_against_each_other_by_rounds() -> None:
    found = told(run(ORIGINAL, 2e7), run("a", 1e7, differs_at=4, seed=1), run("b", 1e7, seed=2))
    (prompt,) = found["prompts"]
    by_name = {one["variant"]: one for one in prompt["results"]}
    assert {name: one["rank"] for name, one in by_name.items()} == {"a": 1, "b": 1, ORIGINAL: 3}
    assert by_name["a"]["tokens_per_s"] == pytest.approx(100, rel=0.01)
    assert by_name["a"]["first_token_ms"] == pytest.approx(100, rel=0.01)
    assert by_name["a"]["same_tokens"] == 4 * ROUNDS
    assert by_name["b"]["same_tokens"] == by_name["b"]["tokens"] == COUNT * ROUNDS
    for figure in ("token", "first_token"):
        faster = by_name["a"]["times_faster_than"][ORIGINAL][figure]
        assert faster["low"] < 2 < faster["high"] < 2.1
    text = page(found)
    assert "2.0" in text
    assert "1.00~" in text
    assert "* X INT8: not compared: no build for this machine" in text


@pytest.mark.parametrize("name", generators.NAMES)
def test_a_peer_is_pinned_and_imports_nothing_heavy(name: str) -> None:
    module = peer(name, generation.PACKAGE)
    assert all("==" in one for one in module.REQUIREMENTS)
    assert module.VARIANTS
    assert callable(module.make)
    assert callable(module.generator)


def test_one_round_says_nothing_of_how_sure_it_is() -> None:
    with pytest.raises(InputError, match="1 rounds; 2 are the fewest"):
        generation.compare(None, "tiny", [8], 4, 1, 0, [], "unused.json")


@pytest.mark.heavy
def test_edgeopt_goes_on_as_transformers_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch", reason="needs edgeopt[torch]")
    pytest.importorskip("transformers", reason="needs edgeopt[torch]")
    pytest.importorskip("onnxruntime", reason="needs edgeopt[onnx]")
    pytest.importorskip("ziglang", reason="ziglang is not installed")
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "found.json"
    generation.compare(None, "tiny", [3, 40], 8, 2, 0, ["edgeopt onnx fp32"], str(path))
    found = json.loads(path.read_text())
    assert found["left_out"] == {}
    assert [one["tokens"] for one in found["prompts"]] == [3, 40]
    own = found["prompts"][1]["results"][0]["samples"]
    model = decoders.made("tiny")
    prompts = generation.prompts_of([3, 40], 2, 512, 0)
    for variant in transformers_torch.VARIANTS.values():
        generate = transformers_torch.generator(variant, model, model, 48)
        for given, sample in zip(prompts, own, strict=True):
            assert timed(generate, given[40], 8)["tokens"] == sample["tokens"]
    assert path.with_suffix(".md").read_text().count("edgeopt onnx fp32") == 3
