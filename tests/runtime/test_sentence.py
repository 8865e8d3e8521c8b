# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Embeddings, rerankers and SetFit heads from the raw text, through the runtime, against the tools.

What is carried of their folders is in tests/model/test_sentence.py; here it meets the engine.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgeopt
from edgeopt.errors import InputError
from tests import checkpoints, sentences
from tests.lazily import lazily

kinds = lazily("sentence_transformers.sentence_transformer.modules", reason="needs edgeopt[dev]")
torch = pytest.importorskip("torch", reason="needs edgeopt[torch]")

pytestmark = pytest.mark.heavy


def compiled(folder: Path, **options: Any) -> edgeopt.Bundle:
    given = {"engines": ["onnx"], "precisions": ["fp32"]} | options
    return edgeopt.compile(folder, "host", output=folder.with_suffix(".edgeopt"), **given)


def vectors(bundle: edgeopt.Bundle, texts: Any = sentences.TEXTS, **options: Any) -> np.ndarray:
    return np.array([result.vector for result in edgeopt.read(bundle, texts, **options).results])


def test_a_graph_that_embeds_behind_a_prompt(
    tmp_path: Path, agent: Path, onnxruntime_library: Path
) -> None:
    folder = sentences.write(
        tmp_path / "model",
        kinds.Pooling(32, ("lasttoken", "weightedmean"), include_prompt=False),
        kinds.Dense(64, 8),
        prompts={"query": "the tool for ", "document": "text: "},
        default_prompt_name="query",
    )
    bundle = compiled(folder)
    assert bundle.manifest.input.prompt == "the tool for "
    assert vectors(bundle) == pytest.approx(sentences.encode(folder), abs=1e-5)
    lines = "".join(json.dumps({"text": text}) + "\n" for text in sentences.TEXTS)
    done = subprocess.run(  # under the sanitizers
        [agent, "read", "--bundle", bundle.path, "--libraries", onnxruntime_library],
        input=lines, capture_output=True, text=True, check=True,
    )  # fmt: skip
    events = [json.loads(line) for line in done.stdout.splitlines()]
    found = [event["vector"] for event in events if "vector" in event]
    assert np.array(found) == pytest.approx(sentences.encode(folder), abs=1e-5)
    again = compiled(folder, prompt="document")  # other inputs: not taken for up to date
    expected = sentences.encode(folder, prompt_name="document")
    assert vectors(again) == pytest.approx(expected, abs=1e-5)


def test_a_prompt_before_texts_that_the_runtime_pools(tmp_path: Path) -> None:
    folder = sentences.write(
        tmp_path / "model", prompts={"query": "\u00e9 tool: "}, default_prompt_name="query"
    )
    bundle = compiled(folder)
    given = (*sentences.TEXTS, "", "a" * 300)
    assert vectors(bundle, given) == pytest.approx(sentences.encode(folder, given), abs=1e-5)
    from edgeopt.runtime.host import open_session

    with open_session(bundle.path, batch=3, max_text_bytes=20) as session:
        rows = [result.vector for result in session.run_texts(list(sentences.TEXTS[:1]) * 3)]
        assert rows == pytest.approx(sentences.encode(folder, sentences.TEXTS[:1] * 3), abs=1e-5)


def test_a_reranker_gives_raw_scores_through_the_runtime(tmp_path: Path) -> None:
    folder = sentences.reranker(tmp_path / "model", 1, torch.nn.Identity())
    found = edgeopt.read(compiled(folder), sentences.PAIRS).results
    expected = sentences.predict(folder)[:, 0]
    assert [result.items[0].score for result in found] == pytest.approx(expected, abs=1e-4)
    assert expected.min() < 0  # no sigmoid gives that


def test_a_setfit_head_through_the_runtime(tmp_path: Path) -> None:
    folder = sentences.write(tmp_path / "model", kinds.Pooling(32, "cls"))
    expected = sentences.head(folder, [2, 0, 1, 0], {"labels": ["a", "b", "c"]})
    results = edgeopt.read(compiled(folder), sentences.TEXTS).results
    for result, row in zip(results, expected, strict=True):
        found = {item.label: item.score for item in result.items}
        assert [found[label] for label in "abc"] == pytest.approx(row, abs=1e-5)


def test_every_engine_takes_every_pooling(tmp_path: Path) -> None:
    modes = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
    folder = sentences.write(
        tmp_path / "model",
        kinds.Pooling(32, modes),
        kinds.LayerNorm(192),
        kinds.Dense(192, 12, activation_function=torch.nn.GELU()),
        kinds.Normalize(),
        truncate_dim=10,
    )
    bundle = compiled(folder, engines=[], precisions=["fp32"])
    assert [a.engine for a in bundle.manifest.artifacts] == ["onnx", "tflite", "openvino", "tvm"]
    given = sentences.TEXTS[:3]
    expected = sentences.encode(folder, given)
    for artifact in bundle.manifest.artifacts:
        found = vectors(bundle, given, engine=artifact.engine)
        assert found == pytest.approx(expected, abs=1e-5), artifact.engine


def test_a_prompt_goes_with_a_checkpoint_as_it_is(tmp_path: Path) -> None:
    folder = checkpoints.write(tmp_path / "model", "BertModel")
    with pytest.raises(InputError, match="not with a recipe that compresses"):
        edgeopt.compile(folder, "host", recipe="prune", data="x", prompt="query")
