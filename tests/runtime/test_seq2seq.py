# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Encoder-decoders in the runtime library, against generate() of transformers."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeopt.runtime.build import FLAGS, build_for_host
from edgeopt.runtime.python import edgeopt_rt
from tests import generators
from tests.programs import SANITIZED
from tests.runtime.generator_bundles import Made, drive, edited, program

torch = pytest.importorskip("torch", reason="needs edgeopt[torch]")
pytest.importorskip("transformers", reason="needs edgeopt[torch]")
pytest.importorskip("onnxruntime", reason="needs edgeopt[onnx]")
pytest.importorskip("ziglang", reason="ziglang is not installed")

pytestmark = pytest.mark.heavy

PROMPT = "translate English to German: The library is a tool."
CONTEXT = 160


@pytest.fixture(scope="module")
def t5(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(tmp_path_factory.mktemp("seq2seq"), "t5")


@pytest.fixture(scope="module")
def bart(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(tmp_path_factory.mktemp("seq2seq"), "bart")


@pytest.fixture
def generator(t5: Made) -> Iterator[Any]:
    with t5.open() as opened:
        yield opened


@pytest.mark.parametrize("family", ["t5", "bart"])
@pytest.mark.parametrize("penalty", [None, 1.5])
def test_greedy_answers_are_those_of_transformers(
    family: str, penalty: float | None, request: pytest.FixtureRequest
) -> None:
    made: Made = request.getfixturevalue(family)
    options = {} if penalty is None else {"repetition_penalty": penalty}
    with made.open() as opened:
        for prompt in (PROMPT, "a", "caf\u00e9 \u4f60\u597d", " two  spaces " * 3):
            ids = made.tokenizer(prompt).input_ids
            wanted = made.greedy(ids, 64, **options)
            found = opened.run(prompt, max_tokens=64, **options)
            assert found.tokens == wanted
            assert opened.tokens == [*ids, *(wanted[:-1] if found.end == "token" else wanted)]
            text = made.tokenizer.decode(wanted, skip_special_tokens=True)
            if "\ufffd" not in text:
                assert found.text == text
            forced = family == "bart"  # its last token ends it, wherever that is
            assert found.end == ("token" if forced or wanted[-1] == 1 else "length")


def test_a_source_of_any_length_has_the_logits_of_the_network(t5: Made, generator: Any) -> None:
    ids = np.random.default_rng(0).integers(2, generators.VOCABULARY, CONTEXT).tolist()
    begin = torch.zeros((1, 1), dtype=torch.int64)
    for count in (1, 2, 15, 16, 17, 18, 31, 33, 35, 65, 127, 129, 159, 160):
        generator.prompt(ids[:count])
        assert (generator.reused, generator.tokens) == (0, ids[:count])
        with torch.inference_mode():
            wanted = t5.network(torch.tensor([ids[:count]]), decoder_input_ids=begin).logits
        np.testing.assert_allclose(generator.logits, wanted[0, 0].numpy(), atol=1e-5)


def test_the_same_source_is_not_read_again(t5: Made, generator: Any) -> None:
    first = generator.run(PROMPT, max_tokens=20)
    count = len(t5.tokenizer(PROMPT).input_ids)
    assert generator.run(PROMPT, max_tokens=20) == first
    assert generator.reused == count
    other = generator.run(PROMPT + " more", max_tokens=20)
    assert generator.reused == 0
    generator.reset()
    assert generator.run(PROMPT + " more", max_tokens=20) == other
    assert generator.reused == 0


def test_an_answer_ends_with_the_context_and_bart_with_its_end(t5: Made, bart: Made) -> None:
    with t5.open(context=20) as opened:
        found = opened.run([5, 6, 7])
        assert (len(found.tokens), found.end) == (19, "context")  # after what it begins with
        assert found.tokens == t5.greedy([5, 6, 7], 19)
        assert opened.run([5] * 20, max_tokens=4).tokens == t5.greedy([5] * 20, 4)
    with bart.open(context=20) as opened:
        for count in (1, 2, 19):
            found = opened.run([5, 6, 7], max_tokens=count)
            assert (found.tokens, found.end) == (bart.greedy([5, 6, 7], count), "token")
        assert opened.run([5, 6, 7]).tokens == found.tokens


def test_tokens_that_are_never_chosen_are_not(t5: Made, tmp_path: Path) -> None:
    plain = t5.greedy([5, 6, 7], 12)
    never = sorted({plain[0], plain[5]})
    bundle = edited(t5, tmp_path / "b", lambda m: m["generation"].update(never=never))
    with edgeopt_rt.Generator(bundle, library=str(build_for_host().library)) as opened:
        found = opened.run([5, 6, 7], max_tokens=12).tokens
        assert found == t5.greedy([5, 6, 7], 12, suppress_tokens=never) != plain
        sampled = opened.run([5, 6, 7], max_tokens=40, temperature=2.0, seed=3).tokens
        assert not set(sampled) & set(never)
        assert len(set(sampled)) > 20


def test_the_cache_is_told_before_opening_and_bounded(t5: Made) -> None:
    row = 2 * 2 * 2 * 4 * 16 * 4  # of both parts: keys and values, layers, heads, head, bytes
    with edgeopt_rt.Bundle(t5.bundle.path, library=str(build_for_host().library)) as bundle:
        assert bundle.cache_bytes() == CONTEXT * row
        assert bundle.cache_bytes(10) == 10 * row
    with pytest.raises(edgeopt_rt.Failure, match="room for 10 tokens"):
        t5.open(max_cache_bytes=10 * row + 5)
    with t5.open(context=10, max_cache_bytes=10 * row) as opened:
        assert opened.cache_bytes == 10 * row
    with pytest.raises(edgeopt_rt.Failure, match="is 1, expected room for an answer after 1"):
        t5.open(context=1)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "empty": ({"prompt": ""}, "is empty, expected a text"),
    "no tokens": ({"prompt": []}, "has no tokens, expected at least one"),
    "unknown": ({"prompt": [3, 404]}, "holds 404 at 1, expected 0 to 403"),
    "long": ({"prompt": [5] * 161}, "has 161 tokens, expected up to 160: the context"),
    "long text": ({"prompt": "\x01 " * 400}, "expected up to 160: the context"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_input_is_refused_and_changes_nothing(kind: str, generator: Any) -> None:
    wrong, told = WRONG[kind]
    whole = generator.run(PROMPT, max_tokens=12)
    generator.prompt(PROMPT, max_tokens=12)
    begun = [generator.next() for _ in range(5)]
    with pytest.raises(edgeopt_rt.Failure) as caught:
        generator.prompt(**wrong)
    assert caught.value.code == edgeopt_rt.INPUT
    assert told in caught.value.message
    rest = [generator.next() for _ in range(8)]
    assert [token for _, token, _ in (*begun, *rest)][:12] == whole.tokens


def test_a_cancelled_answer_ends_and_the_next_is_right(generator: Any) -> None:
    whole = generator.run(PROMPT, max_tokens=12)
    for steps in (0, 1, 7):
        generator.prompt(PROMPT, max_tokens=12)
        tokens = [generator.next()[1] for _ in range(steps)]
        generator.cancel()
        assert generator.next()[1:] == (-1, "cancelled")
        assert tokens == whole.tokens[:steps]
    assert generator.run(PROMPT, max_tokens=12) == whole


HOSTILE: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "no start": (
        lambda m: m["generation"].update(start=[]),
        "2 manifest.json: generation.start: expected tokens with states of a source, and only then",
    ),
    "start": (
        lambda m: m["generation"].update(start=[404]),
        "2 manifest.json: generation: token 404, expected 0 to 403",
    ),
    "no token": (
        lambda m: m["generation"].update(never=["x"]),
        "2 manifest.json: generation.never: expected tokens",
    ),
    "swapped": (
        lambda m: m["generation"]["states"][2].update(dims=[1, 4, "past", 16]),
        "3 run: ",
    ),
    "both": (
        lambda m: m["generation"]["states"][2].update(dims=[1, "past", "source", 16]),
        '2 manifest.json: generation.dims: expected "past" or "source" once',
    ),
    "sizes": (
        lambda m: m["generation"]["states"][3].update(dims=[1, 2, "source", 32]),
        "3 run: ",
    ),
    "tensors": (
        lambda m: m["artifacts"][0]["artifact"]["graphs"]["main"]["signature"]["inputs"][0].update(
            name="source"
        ),
        "2 manifest.json: artifacts.signature: expected source_ids, source_length, input_ids and "
        "total_length, and logits of a vocabulary",
    ),
}


@pytest.mark.heavy
def test_nothing_is_allocated_after_opening_and_no_bundle_harms(
    t5: Made, bart: Made, tmp_path: Path
) -> None:
    for flags in ((*FLAGS, "-O1"), SANITIZED):
        for made in (t5, bart):
            before, after = drive(program(*flags), made.bundle.path).split()
            assert int(before) > 10
            assert int(after) == 0
    for kind, (change, told) in HOSTILE.items():
        found = drive(program(*SANITIZED), edited(t5, tmp_path / kind, change))
        assert found == told or (told.endswith(": ") and found.startswith(told)), kind
        shutil.rmtree(tmp_path / kind)
