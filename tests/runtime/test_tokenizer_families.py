# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The C tokenizer on the tokenizers of known checkpoints, against the package `tokenizers`."""

from __future__ import annotations

import json
import random
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from tests.runtime import tokenizer_texts as texts
from tests.runtime.tokenizer_families import FAMILIES, with_added
from tests.runtime.tokenizer_runs import (
    DRIVER,
    LONGEST_FIRST,
    ONLY_FIRST,
    ONLY_SECOND,
    Case,
    build,
    check,
    check_truncated,
    encode,
    tokenizers,
)

pytestmark = pytest.mark.heavy  # thousands of texts for each family and step

TEXTS = 20_000


@pytest.fixture(scope="module")
def driver() -> Path:
    return build(DRIVER)


@lru_cache(maxsize=len(FAMILIES))
def made(family: str) -> dict[str, Any]:
    return FAMILIES[family]()


@pytest.mark.parametrize("family", FAMILIES)
def test_tokens_are_those_of_the_package(driver: Path, tmp_path: Path, family: str) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(made(family)), "utf-8")
    cases = [Case(text) for text in (*texts.fixed(), *texts.generated(41, TEXTS))]
    check(driver, path, cases)


@pytest.mark.parametrize("family", FAMILIES)
def test_added_tokens_of_every_kind(driver: Path, tmp_path: Path, family: str) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(with_added(made(family))), "utf-8")
    check(driver, path, [Case(text) for text in (*texts.fixed(), *texts.generated(42, 1500))])


@pytest.mark.parametrize("family", FAMILIES)
def test_pairs_and_their_truncation(driver: Path, tmp_path: Path, family: str) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(made(family)), "utf-8")
    pairs = texts.pairs(43, 120)
    check(driver, path, [Case(a, b) for a, b in pairs])
    tokenizer = tokenizers.Tokenizer.from_file(str(path))
    marks = tokenizer.num_special_tokens_to_add(True)
    # The package makes an encoding of each part that a small limit cuts off one text with each of
    # the other.
    short = [pair for pair in pairs if sum(map(len, pair)) < 150]
    cases = [
        Case(a, b, limit, truncation)
        for truncation in (LONGEST_FIRST, ONLY_SECOND, ONLY_FIRST)
        for limit in (*range(marks, marks + 6), 31)
        for first, second in (short if limit < 31 else pairs)[limit % 4 :: 4]
        for a, b in ((first, second), (first, None))
    ]
    check_truncated(driver, path, tokenizer, cases)


def test_hostile_texts_take_no_longer_than_others(driver: Path, tmp_path: Path) -> None:
    size = 1 << 15
    hostile = [
        "a" * size,
        "▁" * (size // 3),
        " " * size,
        "\n" * (size - 1) + "x",
        "a " * (size // 2),
        "!" * size,
        "''" * (size // 2),
        "``" * (size // 2),
        "1" * size,
        "\u0301\u0327" * (size // 4),
        "\U0001d165\u0301\u302e" * (size // 9),
        "e\u0301\u0302\u0303" * (size // 8),
        "\ufdfa" * (size // 3),
        "한" * (size // 3),
        "\u1112\u1161\u11ab" * (size // 9),
        "क\u094d" * (size // 6),
        "\U0001f468\u200d" * (size // 7),
        "\U0001f1e6" * (size // 4),
        "\u0600" * (size // 2),
        "豈" * (size // 3),
        "İ" * (size // 2),
        "<0x41>" * (size // 6),
        "<extra_id_1>" * (size // 12),
        "\x01" * size,
        " \t" * (size // 2),
        " left" * (size // 5),
    ]
    raw = [text.encode() for text in hostile] + [b"\xff" * size]
    for family in FAMILIES:
        path = tmp_path / "tokenizer.json"
        path.write_text(json.dumps(with_added(made(family))), "utf-8")
        before = time.monotonic()
        encode(driver, path, [Case(text, max_tokens=512) for text in raw])
        assert time.monotonic() - before < 1.0 * len(raw)
        check(driver, path, [Case(text[:2000].decode("utf-8", "ignore").encode()) for text in raw])


def test_long_texts_of_one_word(driver: Path, tmp_path: Path) -> None:
    """Where nothing splits it, a whole text is one word to the model."""
    rng = random.Random(44)
    for family in ("llama-2", "llama-2-saved", "gemma", "deberta-v3", "t5"):
        path = tmp_path / "tokenizer.json"
        path.write_text(json.dumps(made(family)), "utf-8")
        cases = [Case(b" ".join(texts.generated(rng.randrange(1000), 60))) for _ in range(12)]
        check(driver, path, cases)
