# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Beam search in the runtime library, against generate() of transformers."""

from __future__ import annotations

from typing import Any

import pytest

from edgeopt.model.search import MOST_BEAMS
from edgeopt.runtime.build import SOURCES, build_for_host
from edgeopt.runtime.python import edgeopt_rt
from tests.runtime.generator_bundles import Made

torch = pytest.importorskip("torch", reason="needs edgeopt[torch]")
pytest.importorskip("transformers", reason="needs edgeopt[torch]")
pytest.importorskip("onnxruntime", reason="needs edgeopt[onnx]")
pytest.importorskip("ziglang", reason="ziglang is not installed")

pytestmark = pytest.mark.heavy

TOKENS = 14
PROMPTS = ("translate English to German: The library is a tool.", "a")
FACTORS = {"t5": 3.0, "bart": 2.0, "marian": 0.5}
"""Of the networks' weights: rounding decides nothing, and beams differ."""

OWN = {
    "num_beams": 3,
    "length_penalty": 2.0,
    "early_stopping": True,
    "no_repeat_ngram_size": 3,
    "min_length": 6,
}
"""What the bundle of BART asks for by itself."""

WAYS: dict[str, dict[str, Any]] = {
    "plain": {"num_beams": 4},
    "short": {"num_beams": 2, "length_penalty": -1.0, "early_stopping": True},
    "never": {"num_beams": 3, "length_penalty": 0.5, "early_stopping": "never"},
    "no length": {"num_beams": 5, "length_penalty": 0.0, "no_repeat_ngram_size": 2},
    "penalty": {"num_beams": 3, "no_repeat_ngram_size": 3, "repetition_penalty": 1.3},
    "one": {"num_beams": 1, "no_repeat_ngram_size": 2},
    "least": {"num_beams": 4, "min_new_tokens": 9, "length_penalty": -2.0},
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Made]:
    folder = tmp_path_factory.mktemp("beams")
    return {
        name: Made(folder, name, factor=factor, asked=OWN if name == "bart" else None)
        for name, factor in FACTORS.items()
    }


def ours(how: dict[str, Any]) -> dict[str, Any]:
    """The options of a prompt that generate() has as ``how``."""
    return {"min_tokens" if name == "min_new_tokens" else name: how[name] for name in how}


@pytest.mark.parametrize("family", FACTORS)
def test_answers_are_those_of_generate(family: str, made: dict[str, Made]) -> None:
    one = made[family]
    plain = {} if family != "bart" else {
        "num_beams": 1, "length_penalty": 1.0, "early_stopping": False,
        "no_repeat_ngram_size": 0, "min_length": 0,
    }  # fmt: skip
    with one.open(beams=5) as opened:
        for number, prompt in enumerate(PROMPTS):
            ids = one.tokenizer(prompt).input_ids
            for name in list(WAYS)[number::2] if family != "t5" else WAYS:
                how = plain | WAYS[name]
                asked = ours(how) | ({"min_tokens": how.get("min_new_tokens", 0)})
                asked.pop("min_length", None)
                found = opened.run(prompt, max_tokens=TOKENS, **asked)
                assert found.tokens == one.greedy(ids, TOKENS, **how), (name, prompt)
                assert opened.tokens[: len(ids)] == ids


def test_a_bundle_searches_as_its_generation_config_says(made: dict[str, Made]) -> None:
    bart = made["bart"]
    ids = bart.tokenizer(PROMPTS[0]).input_ids
    wanted = bart.greedy(ids, TOKENS)  # as its own generation_config has it
    with bart.open() as opened:
        assert opened.run(PROMPTS[0], max_tokens=TOKENS).tokens == wanted
        assert opened.run(PROMPTS[0], max_tokens=TOKENS, num_beams=1).tokens != wanted
        sampled = opened.run(PROMPTS[0], max_tokens=TOKENS, temperature=1.0)
        assert sampled.tokens != wanted
    with bart.open(beams=1) as opened:  # no room for more
        alone = {"num_beams": 1, "early_stopping": False, "length_penalty": 1.0}
        assert opened.run(ids, max_tokens=TOKENS).tokens == bart.greedy(ids, TOKENS, **alone)


def test_the_cache_of_beams_is_told_before_opening_and_bounded(made: dict[str, Made]) -> None:
    row = 2 * 3 * 4 * 16 * 4  # keys and values, layers, heads, size of a head, bytes
    bart = made["bart"].bundle.path
    with edgeopt_rt.Bundle(bart, library=str(build_for_host().library)) as bundle:
        assert bundle.cache_bytes(10, 1) == 10 * 2 * row  # of source and answer
        assert bundle.cache_bytes(10, 4) == 10 * (2 + 4) * row
        assert bundle.cache_bytes(10) == 10 * (2 + 3) * row
        with pytest.raises(edgeopt_rt.Failure, match="is 17, expected up to 16"):
            bundle.cache_bytes(10, 17)
    with pytest.raises(edgeopt_rt.Failure, match="room for 9 tokens"):
        made["bart"].open(context=10, beams=4, max_cache_bytes=10 * 6 * row - 1)
    with made["bart"].open(context=10, beams=4, max_cache_bytes=10 * 6 * row) as opened:
        assert opened.cache_bytes == 10 * 6 * row


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "more": ({"num_beams": 5}, "is 5, the generator was opened for up to 4"),
    "random": ({"num_beams": 2, "temperature": 1.0}, "is 2 with a temperature, and beams are not"),
    "penalty": ({"length_penalty": 101.0}, "is 101, expected -100 to 100"),
    "no number": ({"length_penalty": float("nan")}, "is nan, expected -100 to 100"),
    "early": ({"early_stopping": "soon"}, "is 'soon', expected None, False, True, 'never'"),
}


def test_wrong_options_are_refused_and_a_search_may_be_cancelled(made: dict[str, Made]) -> None:
    with made["t5"].open(beams=4) as opened:
        whole = opened.run(PROMPTS[0], max_tokens=TOKENS, num_beams=4)
        opened.prompt(PROMPTS[0], max_tokens=TOKENS, num_beams=4)
        begun = [opened.next()[1] for _ in range(3)]
        for wrong, told in WRONG.values():
            with pytest.raises(edgeopt_rt.Failure) as caught:
                opened.prompt(PROMPTS[0], **wrong)
            assert caught.value.code == edgeopt_rt.INPUT
            assert told in caught.value.message
        assert [*begun, *(opened.next()[1] for _ in range(TOKENS - 3))] == whole.tokens
        opened.prompt(PROMPTS[0], max_tokens=TOKENS, num_beams=4)
        opened.cancel()
        assert opened.next() == ("", -1, "cancelled")
        assert opened.run(PROMPTS[0], max_tokens=TOKENS, num_beams=4) == whole
        assert opened.reused > 0  # the source was not read again


def test_the_most_beams_are_the_runtimes() -> None:
    header = (SOURCES / "generate/generation.h").read_text()
    assert f"#define EO_BEAMS_MAX {MOST_BEAMS}\n" in header
