# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The C tokenizer through its driver, and the package `tokenizers` beside it."""

from __future__ import annotations

import re
import struct
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeopt.runtime.build import SOURCES
from tests.programs import SANITIZED, compiled
from tests.runtime import tokenizer_texts as texts

tokenizers = pytest.importorskip("tokenizers", reason="the torch extra is not installed")

DRIVER = Path(__file__).with_name("tokenizer_driver.c")
MODULES = [p for room in ("base", "tokenizer") for p in sorted((SOURCES / room).glob("*.c"))]
NO_WORD = 0xFFFFFFFF
EO_EINPUT, EO_EBUNDLE, EO_EUNSUPPORTED = 1, 2, 6
LONGEST_FIRST, ONLY_SECOND, ONLY_FIRST = 0, 1, 2
STRATEGIES = ("longest_first", "only_second", "only_first")


def build(*sources: Path) -> Path:
    """Compile C files with the tokenizer's for this host, under the address and
    undefined-behaviour sanitizers."""
    return compiled(sources[0].stem, *SANITIZED, *sources, *MODULES, "-lm")


def run(driver: Path, words: Sequence[str], data: bytes = b"") -> bytes:
    done = subprocess.run([driver, *words], input=data, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode(errors="replace")[-4000:]
    return done.stdout


@dataclass(frozen=True)
class Case:
    text: bytes
    pair: bytes | None = None
    max_tokens: int | None = None  # None: as many as there can be
    truncation: int = LONGEST_FIRST
    pair_skip: int = 0


@dataclass(frozen=True, eq=False)
class Encoded:
    """What was encoded; ``error`` stands alone. A row of ``tokens`` is (id, begin, end, word,
    sequence, type, special), with offsets in characters, -1 for one within a character."""

    tokens: np.ndarray = field(default_factory=lambda: np.empty((0, 7), np.int64))
    total: int = 0
    pair: int = 0
    error: str = ""


def encode(driver: Path, path: Path, cases: Sequence[Case]) -> list[Encoded]:
    return encode_each(driver, [path], cases)[0]


def encode_each(driver: Path, paths: Sequence[Path], cases: Sequence[Case]) -> list[list[Encoded]]:
    """Encode the same texts with each of several tokenizers, in one process."""
    parts = [struct.pack("<I", len(cases))]
    for case in cases:
        pair = 0 if case.pair is None else len(case.pair) + 1
        limit = case.max_tokens
        if limit is None:  # U+FDFA has 11 times its bytes in NFKD, and more once replaced
            limit = 20 * (len(case.text) + pair) + 10
        head = (len(case.text), pair, limit, case.truncation, case.pair_skip)
        parts += [struct.pack("<5I", *head), case.text, case.pair or b""]
    data = run(driver, ["encode", *map(str, paths)], b"".join(parts) * len(paths))
    numbers = memoryview(data).cast("I")
    count = len(cases) * len(paths)
    found, begins, at = [Encoded()] * count, [0] * count, 0
    rows = np.zeros(count, np.int64)
    for i in range(count):
        if numbers[at]:
            code, length = numbers[at + 1 : at + 3]
            assert code == EO_EINPUT
            begin = 4 * (at + 3)
            found[i] = Encoded(error=data[begin : begin + length].decode())
            begins[i] = at = at + 3 + -(-length // 4)
            continue
        rows[i], begins[i] = numbers[at + 1], at + 4
        at += 4 + 7 * numbers[at + 1]
    assert at == len(numbers)
    # The rows of all cases one after another: what stands before each case's own is no row.
    heads = np.array(begins) - 7 * (np.cumsum(rows) - rows)
    where = np.arange(7 * rows.sum()) + np.repeat(heads, 7 * rows)
    tokens = np.frombuffer(data, "<u4")[where].reshape(-1, 7).astype(np.int64)
    _count_characters(tokens, np.repeat(np.arange(count) % max(len(cases), 1), rows), cases)
    end = 0
    for i, begin in enumerate(begins):
        if not found[i].error:
            mine = tokens[end : end + rows[i]]
            found[i] = Encoded(mine, numbers[begin - 2], numbers[begin - 1])
            end += rows[i]
    return [found[i : i + len(cases)] for i in range(0, count, len(cases) or 1)]


def _count_characters(tokens: np.ndarray, case_of: np.ndarray, cases: Sequence[Case]) -> None:
    """Turn the places in bytes of ``tokens``, each of the case in its row, into characters."""
    texts_of = [text for case in cases for text in (case.text, case.pair or b"")]
    tables = [_places(text) for text in texts_of]
    sizes = np.array([len(table) for table in tables], np.int64)
    mine = 2 * case_of + (tokens[:, 4] != 0)
    places = tokens[:, 1:3]
    assert (places < sizes[mine][:, None]).all()
    first = (np.cumsum(sizes) - sizes)[mine]
    tokens[:, 1:3] = np.concatenate(tables)[places + first[:, None]]


@cache
def _places(data: bytes) -> np.ndarray:
    """The character that starts at each byte, -1 within one: no token begins or ends there."""
    ends = texts.character_ends(data)
    found = np.full(len(data) + 1, -1)
    found[[0, *ends]] = np.arange(len(ends) + 1)
    return found


def expected(*encodings: Any) -> np.ndarray:
    """The rows of what the package encoded, one after another, as ``Encoded.tokens``."""

    def column(name: str) -> Iterator[Any]:
        return chain.from_iterable(getattr(each, name) for each in encodings)

    rows = np.empty((sum(map(len, encodings)), 7), np.int64)
    rows[:, 0] = list(column("ids"))
    places = np.fromiter(chain.from_iterable(column("offsets")), np.int64, 2 * len(rows))
    rows[:, 1:3] = places.reshape(-1, 2)
    rows[:, 3] = [NO_WORD if word is None else word for word in column("word_ids")]
    rows[:, 4] = [sequence or 0 for sequence in column("sequence_ids")]
    rows[:, 5] = list(column("type_ids"))
    rows[:, 6] = list(column("special_tokens_mask"))
    return rows


def hold(cases: Sequence[Case], ours: Sequence[Encoded], encodings: Sequence[Any]) -> np.ndarray:
    """Hold the tokens of each case to the package's. Return how many of each are of its pair."""
    wanted = expected(*encodings)
    ends = np.cumsum([0, *map(len, encodings)])
    found = np.concatenate([Encoded().tokens, *(one.tokens for one in ours)])
    is_long = [len(one.tokens) for one in ours] == list(map(len, encodings))
    if not is_long or not np.array_equal(found, wanted):
        parts = np.split(wanted, ends[1:-1])
        for case, one, encoding, part in zip(cases, ours, encodings, parts, strict=True):
            assert np.array_equal(one.tokens, part), (case, encoding.tokens)
        raise AssertionError("no case differs by itself")
    return np.diff(np.cumsum([0, *(wanted[:, 4] != 0)])[ends])


def decoded(data: bytes | None) -> str:
    return (data or b"").decode("utf-8", "replace")


def reference(tokenizer: Any, cases: Sequence[Case]) -> list[Any]:
    inputs = [
        decoded(c.text) if c.pair is None else (decoded(c.text), decoded(c.pair)) for c in cases
    ]
    return list(tokenizer.encode_batch(inputs))


def check(driver: Path, path: Path, cases: Sequence[Case]) -> None:
    check_each(driver, [path], cases)


def check_each(driver: Path, paths: Sequence[Path], cases: Sequence[Case]) -> None:
    """Hold the tokens of the same texts by each of several tokenizers, in one process."""
    for path, ours in zip(paths, encode_each(driver, paths, cases), strict=True):
        tokenizer = tokenizers.Tokenizer.from_file(str(path))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        for case, encoded in zip(cases, ours, strict=True):
            assert encoded.error == "", (case, encoded.error)
        encodings = reference(tokenizer, cases)
        pairs = hold(cases, ours, encodings).tolist()
        for case, encoded, encoding, pair in zip(cases, ours, encodings, pairs, strict=True):
            assert (encoded.total, encoded.pair) == (len(encoding), pair), case


def check_truncated(driver: Path, path: Path, tokenizer: Any, cases: Sequence[Case]) -> None:
    """Hold texts that are cut, each to its limit by its strategy; what the package refuses is
    refused."""
    tokenizer.no_padding()
    alike: dict[tuple[int, int], list[tuple[Case, Encoded]]] = {}
    for case, encoded in zip(cases, encode(driver, path, cases), strict=True):
        alike.setdefault((case.max_tokens or 0, case.truncation), []).append((case, encoded))
    for (limit, strategy), ours in alike.items():
        tokenizer.enable_truncation(limit, strategy=STRATEGIES[strategy])
        for case, encoded in ours:
            if encoded.error:
                assert re.search("only the (first|second) text is cut", encoded.error)
                pair = None if case.pair is None else decoded(case.pair)
                with pytest.raises(Exception, match="Truncation error"):
                    tokenizer.encode(decoded(case.text), pair)
        cut = [(case, encoded) for case, encoded in ours if not encoded.error]
        if cut:
            whole, found = zip(*cut, strict=True)
            hold(whole, found, reference(tokenizer, whole))


def open_each(driver: Path, documents: Iterable[bytes]) -> list[tuple[int, str]]:
    data = b"".join(struct.pack("<I", len(each)) + each for each in documents)
    answer = run(driver, ["open"], data)
    found, at = [], 0
    while at < len(answer):
        _, code, length = struct.unpack_from("<3I", answer, at)
        found.append((code, answer[at + 12 : at + 12 + length].decode("utf-8", "replace")))
        at += 12 + -(-length // 4) * 4
    return found
