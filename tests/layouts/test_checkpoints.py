# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Checkpoints as they lie on the hub, from folder to final answer, held against their users' tool.

The tool opens the folder as it came; edgeopt compiles the same folder and answers in its C runtime.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgeopt
from edgeopt.errors import EdgeoptError
from edgeopt.quiet import quiet
from edgeopt.runtime.host import open_session
from tests.layouts import build
from tests.layouts.build import POSITIONS, TEXTS, Layout

torch = pytest.importorskip("torch", reason="needs edgeopt[torch]")
pytest.importorskip("transformers", reason="needs edgeopt[torch]")
pytest.importorskip("onnxruntime", reason="needs edgeopt[onnx]")
pytest.importorskip("ziglang", reason="needs edgeopt[cross]")

pytestmark = pytest.mark.heavy

SAME = 1e-4  # float32 sums of another order, over two layers; of the largest value if it is above 1
CUT = {"truncation": True, "max_length": POSITIONS}
LAYOUTS = build.layouts()


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_a_checkpoint_of_the_hub(layout: Layout, tmp_path: Path) -> None:
    folder = build.write(layout, tmp_path / layout.name.rpartition("/")[2])

    def compiled() -> edgeopt.Bundle:
        return edgeopt.compile(
            folder, "host", output=tmp_path / "b", engines=["onnx"], precisions=["fp32"]
        )

    if layout.refused:
        with pytest.raises(EdgeoptError, match=layout.refused) as refused:
            compiled()
        assert refused.value.exit_code in (2, 4)
        assert not (tmp_path / "b").exists()
        return
    bundle = compiled()
    tool, _, kind = layout.tool.partition(":")
    if kind == "zero-shot-image-classification":
        _dual_encoder(bundle, folder, kind)
        return
    if kind == "text-generation":
        _goes_on(bundle, folder, kind)
        return
    if kind == "AutoModelForSeq2SeqLM":
        _answers(bundle, folder, kind)
        return
    with open_session(bundle.path) as session:
        HELD[tool](session, folder, kind)


def _model(session: Any, folder: Path, kind: str) -> None:
    """Hold ids and outputs of the network, which has no answer of its own, and spans of one that
    answers questions."""
    import transformers

    with quiet():
        tokens = transformers.AutoTokenizer.from_pretrained(str(folder))
        network = getattr(transformers, kind).from_pretrained(str(folder)).eval()
    asks = kind == "AutoModelForQuestionAnswering"
    for text in TEXTS:
        # A context that is too long is read in windows, by each tool in its own way.
        words = ("which tool?", text) if asks and text != TEXTS[-1] else (text,)
        if asks and len(words) == 1:
            continue
        encoded = tokens(*words, **CUT, return_tensors="pt")
        with torch.inference_mode():
            wanted = network(**encoded)
        result = session.run(*words)
        count = encoded["input_ids"].shape[1]
        ids = session.inputs()["input_ids"][0, :count]
        assert np.array_equal(ids, encoded["input_ids"][0].numpy())
        for name, found in session.outputs().items():
            expected = wanted[name].numpy()
            assert np.abs(found[:, :count] - expected).max() < SAME * max(1, np.abs(expected).max())
        assert bool(result.items) == asks


def _pipeline(session: Any, folder: Path, kind: str) -> None:
    import transformers

    options = {"aggregation_strategy": "simple"} if kind == "token-classification" else {}
    options |= {"top_k": None} if kind == "text-classification" else {}
    with quiet():
        made = transformers.pipeline(kind, model=str(folder), device="cpu", **options)
    if kind == "image-classification":
        _images(session, made)
    elif kind == "text-classification":
        for text in TEXTS:
            (wanted,) = made([text], **CUT)
            _same_scores(session.run(text).items, wanted)
    else:
        for text in TEXTS[:-1]:  # this pipeline does not cut
            wanted = made(text)
            found = session.run(text).items
            assert [
                (i.label.removeprefix("B-").removeprefix("I-"), i.begin, i.end) for i in found
            ] == [(w["entity_group"], w["start"], w["end"]) for w in wanted]
            assert [i.score for i in found] == pytest.approx([w["score"] for w in wanted], abs=SAME)


def _goes_on(bundle: edgeopt.Bundle, folder: Path, kind: str) -> None:
    import transformers

    with quiet():
        made = transformers.pipeline(kind, model=str(folder), device="cpu")
        texts = TEXTS[:-1]  # a generator cuts no prompt
        wanted = [
            made(text, do_sample=False, max_new_tokens=12)[0]["generated_text"] for text in texts
        ]
    found = edgeopt.generate(bundle, texts, sampling=edgeopt.Sampling(max_tokens=12)).answers
    assert [text + one.text for text, one in zip(texts, found, strict=True)] == wanted


def _answers(bundle: edgeopt.Bundle, folder: Path, kind: str) -> None:
    import transformers

    with quiet():
        tokens = transformers.AutoTokenizer.from_pretrained(str(folder))
        network = getattr(transformers, kind).from_pretrained(str(folder)).eval()
    texts = TEXTS[:-1]
    found = edgeopt.generate(bundle, texts, sampling=edgeopt.Sampling(max_tokens=12)).answers
    for text, one in zip(texts, found, strict=True):
        with quiet():
            made = network.generate(
                **tokens(text, return_tensors="pt"), do_sample=False, max_new_tokens=12
            )
        assert one.text == tokens.decode(made[0], skip_special_tokens=True)


def _images(session: Any, made: Any) -> None:
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    generator = np.random.default_rng(0)
    for width, height in ((48, 40), (32, 32), (21, 77)):
        pixels = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
        wanted = made(image.fromarray(pixels), top_k=100)
        _same_scores(session.run(image=(width, height, pixels.tobytes())).items, wanted)


def _dual_encoder(bundle: edgeopt.Bundle, folder: Path, kind: str) -> None:
    import transformers

    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    with quiet():
        made = transformers.pipeline(kind, model=str(folder), device="cpu")
    texts = TEXTS[:-1]  # this pipeline does not cut
    pixels = np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8)
    wanted = made(image.fromarray(pixels), candidate_labels=texts, hypothesis_template="{}")
    (found,) = edgeopt.compare(bundle, [pixels], texts).matches
    assert {m.text: m.score for m in found} == pytest.approx(
        {w["label"]: w["score"] for w in wanted}, abs=SAME
    )


def _same_scores(items: Any, wanted: list[dict[str, Any]]) -> None:
    found = {item.label: item.score for item in items}
    assert found == pytest.approx({w["label"]: w["score"] for w in wanted}, abs=SAME)
    assert items[0].label == wanted[0]["label"]


def _sentence_transformers(session: Any, folder: Path, kind: str) -> None:
    with quiet():
        from sentence_transformers import SentenceTransformer

        # Of weights in FP16 it would compute in FP16, while artifacts hold FP32.
        exact = {"dtype": "float32"}
        made = SentenceTransformer(str(folder), device="cpu", model_kwargs=exact)
        wanted = made.encode(list(TEXTS))
    for text, vector in zip(TEXTS, wanted, strict=True):
        found = np.array(session.run(text).vector)
        assert found.shape == vector.shape
        assert np.abs(found - vector).max() < SAME


def _cross_encoder(session: Any, folder: Path, kind: str) -> None:
    pairs = [("which tool?", text) for text in TEXTS]
    with quiet():
        from sentence_transformers import CrossEncoder

        wanted = CrossEncoder(str(folder), device="cpu").predict(pairs)
    found = [session.run(*pair).items[0].score for pair in pairs]
    assert found == pytest.approx(wanted.tolist(), abs=SAME)


HELD: dict[str, Callable[[Any, Path, str], None]] = {
    "model": _model,
    "pipeline": _pipeline,
    "sentence-transformers": _sentence_transformers,
    "cross-encoder": _cross_encoder,
}
