# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Decoders whose engine keeps the cache inside (OpenVINO), against generate() of transformers."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgeopt
from edgeopt.bundle.verify import verify
from edgeopt.runtime.build import build_for_host
from edgeopt.runtime.python import edgeopt_rt
from tests import generators
from tests.runtime.generator_bundles import Made, edited

torch = pytest.importorskip("torch", reason="needs edgeopt[torch]")
pytest.importorskip("transformers", reason="needs edgeopt[torch]")
pytest.importorskip("onnxruntime", reason="needs edgeopt[onnx]")
pytest.importorskip("ziglang", reason="ziglang is not installed")
if find_spec("openvino") is None:
    pytest.skip("needs edgeopt[openvino]", allow_module_level=True)

pytestmark = pytest.mark.heavy

PROMPT = "The library is a tool for"
CONTEXT = 160
ROW = 2 * 2 * 2 * 16 * 4  # keys and values, layers, heads, size of a head, bytes


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A bundle for both engines."""
    return Made(tmp_path_factory.mktemp("held"), "llama", engines=("onnx", "openvino"))


@pytest.fixture(scope="module")
def opened(llama: Made) -> Iterator[Any]:
    with llama.open(engine="openvino") as generator:
        yield generator


def test_a_bundle_has_both_engines_and_both_agree(llama: Made) -> None:
    manifest = llama.bundle.manifest
    assert [a.engine for a in manifest.artifacts] == ["onnx", "openvino"]
    assert manifest.generation is not None
    assert manifest.generation.held == ("openvino",)
    for entry in manifest.artifacts:
        told = dict(entry.generated or {})
        assert told["texts_same"] == told["texts"] == 6
    assert [check.agrees for check in verify(llama.bundle).artifacts] == [True, True]
    how = edgeopt.Sampling(max_tokens=12)
    found = {e: edgeopt.generate(llama.bundle, [PROMPT], engine=e, sampling=how) for e in ENGINES}
    assert [found[engine].engine for engine in ENGINES] == ["onnx", "onnx", "openvino"]
    assert len({found[engine].answers for engine in ENGINES}) == 1


ENGINES = (None, "onnx", "openvino")


def test_greedy_text_is_that_of_transformers(llama: Made, opened: Any) -> None:
    for prompt in (PROMPT, "a", "caf\u00e9 \u4f60\u597d"):
        ids = llama.tokenizer(prompt).input_ids
        assert opened.run(prompt, max_tokens=64).tokens == llama.greedy(ids, 64)


def test_logits_after_any_prompt_are_those_of_the_network(llama: Made, opened: Any) -> None:
    ids = np.random.default_rng(0).integers(1, generators.VOCABULARY, CONTEXT).tolist()
    with torch.inference_mode():
        wanted = llama.network(torch.tensor([ids])).logits[0].numpy()
    for count in (1, 63, 160, 129, 2, 5):
        opened.reset()
        opened.prompt(ids[:count])
        np.testing.assert_allclose(opened.logits, wanted[count - 1], atol=1e-4)


def test_what_goes_on_with_the_cache_is_not_computed_again(llama: Made, opened: Any) -> None:
    opened.reset()
    ids = llama.tokenizer(PROMPT).input_ids
    found = opened.run(ids, max_tokens=9)
    longer = [*ids, *found.tokens, 5, 6]
    opened.prompt(longer)
    assert opened.reused == len(ids) + 8  # the last token was chosen, but not run
    reused = np.array(opened.logits)
    opened.reset()
    opened.prompt(longer)
    assert opened.reused == 0
    np.testing.assert_allclose(reused, opened.logits, atol=1e-5)
    for other in (ids[:4], longer, longer, [*ids[:2], 9, *ids[3:]]):
        # Anything else is read again: no part of the states can be taken back.
        assert opened.run(other, max_tokens=20).tokens == llama.greedy(other, 20)
        assert opened.reused == 0


def test_a_cancelled_answer_ends_and_the_next_is_right(opened: Any) -> None:
    whole = opened.run(PROMPT, max_tokens=12)
    for steps in (0, 1, 7):
        opened.prompt(PROMPT, max_tokens=12)
        tokens = [opened.next()[1] for _ in range(steps)]
        opened.cancel()
        assert opened.next()[1:] == (-1, "cancelled")
        assert tokens == whole.tokens[:steps]
    assert opened.run(PROMPT, max_tokens=12) == whole


def test_what_would_copy_the_cache_is_refused(llama: Made, opened: Any) -> None:
    with pytest.raises(edgeopt_rt.Failure, match="openvino: keeps its cache to itself"):
        llama.open(engine="openvino", beams=2)
    opened.prompt(PROMPT)
    for what in (opened.save, lambda: opened.restore(b"EOSTATE1" * 20)):
        with pytest.raises(edgeopt_rt.Failure, match="state: openvino keeps its cache to itself"):
            what()
    assert opened.next()[2] == "none"


def test_the_cache_is_told_as_what_the_engine_takes_at_most(llama: Made, tmp_path: Path) -> None:
    library = str(build_for_host().library)
    with edgeopt_rt.Bundle(llama.bundle.path, library=library) as bundle:
        assert bundle.cache_bytes() == 3 * CONTEXT * ROW
    alone = edited(llama, tmp_path / "b", lambda m: m["artifacts"].pop())
    with edgeopt_rt.Bundle(alone, library=library) as bundle:
        assert bundle.cache_bytes(10) == 10 * ROW
    most = 3 * 10 * ROW - 1
    llama.open(engine="onnx", context=10, max_cache_bytes=most).close()
    with pytest.raises(edgeopt_rt.Failure) as caught:
        llama.open(engine="openvino", context=10, max_cache_bytes=most)
    assert caught.value.message == (
        f"a context of 10 tokens takes {most + 1} bytes, expected up to {most}: room for 9 tokens"
    )
    llama.open(engine="openvino", context=10, max_cache_bytes=most + 1).close()


@pytest.mark.parametrize(
    ("held", "engine", "told"),
    [
        ([], "openvino", "keeps no cache in this version"),
        (["onnx"], "onnx", "keeps no cache in this version"),
        (["openvino"] * 5, "onnx", "generation.held: expected an array of not so many"),
        ([1], "onnx", "generation.held: expected names of engines, and versions"),
    ],
)
def test_a_manifest_that_says_otherwise_is_refused(
    held: list[Any], engine: str, told: str, llama: Made, tmp_path: Path
) -> None:
    bundle = edited(llama, tmp_path / "b", lambda m: m["generation"].update(held=held))
    with pytest.raises(edgeopt_rt.Failure, match=told):
        edgeopt_rt.Generator(bundle, library=str(build_for_host().library), engine=engine)
