# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of the hub on an emulated ARM board: raw text in, final answer as their users' tool.

What each kind needs of the runtime is there once: tokenizers, entities, pairs, prompts, modules.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgeopt
from edgeopt.boards.emulated import lifecycle
from edgeopt.errors import BoardError, MissingDependencyError
from edgeopt.quiet import quiet
from edgeopt.target import load_target
from tests.layouts import build
from tests.layouts.build import POSITIONS, TEXTS
from tests.lazily import lazily

pytest.importorskip("torch", reason="needs edgeopt[torch]")
pytest.importorskip("transformers", reason="needs edgeopt[torch]")
lazily("sentence_transformers", reason="needs edgeopt[dev]")
pytest.importorskip("onnxruntime", reason="needs edgeopt[onnx]")
pytest.importorskip("ziglang", reason="needs edgeopt[cross]")

pytestmark = [pytest.mark.heavy, pytest.mark.board]

BOARD = "layouts-pi"
SAME = 1e-4
NAMES = (
    "cardiffnlp/twitter-roberta-base-sentiment-latest",  # byte-level BPE
    "dslim/bert-base-NER",
    "cross-encoder/ms-marco-MiniLM-L6-v2",
    "sentence-transformers/distiluse-base-multilingual-cased-v2",  # a Dense module
    "mixedbread-ai/mxbai-embed-large-v1",  # prompts
)


@pytest.fixture(scope="module")
def board() -> Iterator[str]:
    try:
        lifecycle.up(BOARD, load_target("raspberry-pi-4"), mode="user")
    except (BoardError, MissingDependencyError) as exc:
        pytest.skip(f"no user-mode board here: {exc}")
    yield BOARD
    lifecycle.forget(BOARD)


@pytest.mark.parametrize("name", NAMES)
def test_a_checkpoint_answers_there_as_its_own_tool(name: str, board: str, tmp_path: Path) -> None:
    (layout,) = (found for found in build.layouts() if found.name == name)
    folder = build.write(layout, tmp_path / "model")
    bundle = edgeopt.compile(
        folder, "raspberry-pi-4", output=tmp_path / "b", engines=["onnx"], precisions=["fp32"]
    )
    tool, _, kind = layout.tool.partition(":")
    texts: list[Any] = list(TEXTS[:-1] if kind == "token-classification" else TEXTS)
    if tool == "cross-encoder":
        texts = [("which tool?", text) for text in texts]
    found = edgeopt.read(bundle, texts, board=board)
    assert (found.board, found.emulated) == (board, True)
    for result, wanted in zip(found.results, asked(tool, kind, folder, texts), strict=True):
        if tool == "sentence-transformers":
            assert np.abs(np.array(result.vector) - wanted).max() < SAME
        elif tool == "cross-encoder":
            assert result.items[0].score == pytest.approx(wanted, abs=SAME)
        elif kind == "token-classification":
            assert [(i.begin, i.end) for i in result.items] == [
                (w["start"], w["end"]) for w in wanted
            ]
            assert [i.score for i in result.items] == pytest.approx(
                [w["score"] for w in wanted], abs=SAME
            )
        else:
            scores = {item.label: item.score for item in result.items}
            assert scores == pytest.approx({w["label"]: w["score"] for w in wanted}, abs=SAME)


def asked(tool: str, kind: str, folder: Path, texts: list[Any]) -> list[Any]:
    """Return what the tool itself says of ``texts``."""
    with quiet():
        if tool == "pipeline":
            import transformers

            if kind == "token-classification":
                options = {"aggregation_strategy": "simple"}
                made = transformers.pipeline(kind, model=str(folder), device="cpu", **options)
                return [made(text) for text in texts]
            made = transformers.pipeline(kind, model=str(folder), device="cpu", top_k=None)
            return [made([t], truncation=True, max_length=POSITIONS)[0] for t in texts]
        import sentence_transformers

        if tool == "cross-encoder":
            reranker = sentence_transformers.CrossEncoder(str(folder), device="cpu")
            return list(reranker.predict(texts).tolist())
        exact = {"dtype": "float32"}
        model = sentence_transformers.SentenceTransformer(
            str(folder), device="cpu", model_kwargs=exact
        )
        return list(model.encode(texts))
