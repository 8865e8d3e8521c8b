# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Tokens to text, piece by piece and under the sanitizers, against the package `tokenizers`."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests import generators
from tests.runtime.tokenizer_runs import build, run

tokenizers = pytest.importorskip("tokenizers", reason="the torch extra is not installed")

DRIVER = Path(__file__).with_name("detokenizer_driver.c")
TEXTS = (
    "The library is a tool.",
    " two  spaces, a tab\tand\nlines\n",
    "na\u00efve caf\u00e9, \u4f60\u597d \u4e16\u754c, \u05e9\u05dc\u05d5\u05dd",
    "\U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467 e\u0301",
    "",
    "a",
    " ",
)
KINDS = ("byte-level", "strip", "replace", "metaspace", "metaspace-never")


def made(kind: str) -> Any:
    if kind == "byte-level":
        found = generators.byte_level()
    elif kind.startswith("metaspace"):
        scheme = "never" if kind.endswith("never") else "always"
        found = generators.byte_fallback(strip=False)
        found.normalizer = None
        found.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace(prepend_scheme=scheme)
        found.decoder = tokenizers.decoders.Metaspace(prepend_scheme=scheme)
    else:
        found = generators.byte_fallback(strip=kind == "strip")
    found.add_tokens(["<<added one>>"])
    return found


def pieces(
    path: Path, lines: Sequence[tuple[bool, Sequence[int]]]
) -> list[tuple[list[bytes], bytes]]:
    """Return for each line of (whether the text goes on, ids) its pieces, and what is left."""
    given = "\n".join(" ".join(map(str, [int(begun), *ids])) for begun, ids in lines) + "\n"
    told = run(build(DRIVER), [str(path)], given.encode()).decode().splitlines()
    found = []
    for line in told:
        before, _, rest = line.partition("|")
        found.append(([bytes.fromhex(p) for p in before[:-1].split(" ")] if before else [],
                      bytes.fromhex(rest)))  # fmt: skip
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_texts_are_those_of_the_package(kind: str, tmp_path: Path) -> None:
    tokenizer = made(kind)
    path = tmp_path / "tokenizer.json"
    tokenizer.save(str(path))
    ids = [tokenizer.encode(text).ids for text in TEXTS]
    end = tokenizer.token_to_id(generators.END)
    ids += [[*ids[0], end, *ids[2]], [end], [len(tokenizer.get_vocab()) + 3, *ids[0]]]
    if kind == "byte-level":  # of any tokens, not only those of a text
        chance = random.Random(0)
        ids += [[chance.randrange(generators.VOCABULARY) for _ in range(30)] for _ in range(300)]
    found = pieces(path, [(False, one) for one in ids])
    for one, (parts, rest) in zip(ids, found, strict=True):
        wanted = tokenizer.decode(one, skip_special_tokens=True)
        assert (b"".join(parts) + rest).decode() == wanted
        for part in parts:  # each by itself: whole characters
            part.decode()


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_goes_on_with_its_prompt(kind: str, tmp_path: Path) -> None:
    tokenizer = made(kind)
    path = tmp_path / "tokenizer.json"
    tokenizer.save(str(path))
    asked, wanted = [], []
    for text in TEXTS[:4]:
        ids = tokenizer.encode(text).ids
        whole = tokenizer.decode(ids)
        for cut in range(1, len(ids)):
            before = tokenizer.decode(ids[:cut])
            if whole.startswith(before):  # else the cut is within a character
                asked.append((True, ids[cut:]))
                wanted.append((before, whole))
    for (before, whole), (parts, rest) in zip(wanted, pieces(path, asked), strict=True):
        assert before + (b"".join(parts) + rest).decode() == whole


def test_bytes_that_are_no_text_are_replaced_one_by_one(tmp_path: Path) -> None:
    tokenizer = made("strip")
    path = tmp_path / "tokenizer.json"
    tokenizer.save(str(path))
    ids = [tokenizer.token_to_id(f"<0x{byte:02X}>") for byte in b"\xe4\xbd\xff\xe4\xbd\xa0\xf0\x9f"]
    ((parts, rest),) = pieces(path, [(True, ids)])
    assert parts[0] == parts[1] == b""
    assert (b"".join(parts) + rest).decode() == "\ufffd\ufffd\u4f60\ufffd"


KNOWN = "ByteLevel, Metaspace, Replace, ByteFallback, Fuse and Strip"
UNSUPPORTED, DAMAGED = 6, 2
WRONG: dict[str, tuple[Any, int, str]] = {
    "null": (None, UNSUPPORTED, f" is null, supported: {KNOWN}"),
    "wordpiece": (
        {"type": "WordPiece", "prefix": "##"},
        UNSUPPORTED,
        f' is {{"type": "WordPiece", "prefix": "##"}}, supported: {KNOWN}',
    ),
    "strip": (
        {"type": "Strip", "content": " ", "start": 1, "stop": 0},
        UNSUPPORTED,
        ' is {"type": "Strip", "content": " ", "start": 1, "stop": 0}, supported: a Strip of the '
        "text's first space",
    ),
    "replace": (
        {"type": "Replace", "pattern": {"String": "_"}, "content": "x"},
        UNSUPPORTED,
        '.content is "x", supported: a space',
    ),
    "steps": (
        {"type": "Sequence", "decoders": 3},
        DAMAGED,
        ".decoders is 3, expected an array",
    ),
    "flag": (
        {"type": "Metaspace", "replacement": "_", "add_prefix_space": 3},
        DAMAGED,
        ".add_prefix_space is 3, expected true or false",
    ),
    "long": (
        {"type": "Metaspace", "replacement": "_" * 12},
        UNSUPPORTED,
        '.replacement is "____________", supported: one character',
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_another_decoder_is_refused(kind: str, tmp_path: Path) -> None:
    decoder, code, told = WRONG[kind]
    document = json.loads(made("byte-level").to_str())
    document["decoder"] = decoder
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(document))
    answer = run(build(DRIVER), [str(path)]).decode()
    assert answer == f"{code} tokenizer.json: decoder{told}\n"
