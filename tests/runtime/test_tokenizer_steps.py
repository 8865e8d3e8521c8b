# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Each normalizer, pre-tokenizer and model of the C tokenizer by itself, against the package.

A BPE without merges that falls back to bytes shows the text that it gets: its tokens are the bytes
of the normalised text, with the places in the original and the words that they are of.
"""

from __future__ import annotations

import base64
import json
import math
import random
import unicodedata
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.runtime import tokenizer_texts as texts
from tests.runtime.tokenizer_families import (
    GPT2,
    GPT4,
    QWEN2,
    added,
    byte_level,
    document,
    metaspace,
    precompiled,
    replace,
    sequence,
    split,
    unigram,
)
from tests.runtime.tokenizer_runs import (
    DRIVER,
    Case,
    build,
    check,
    check_each,
    encode,
    encode_each,
    tokenizers,
)
from tools.charsmap import charsmap

pytestmark = pytest.mark.heavy  # thousands of texts for each family and step

Json = dict[str, Any]


@pytest.fixture(scope="module")
def driver() -> Path:
    return build(DRIVER)


def mirror(**parts: Any) -> Json:
    """A tokenizer that shows what its normalizer and its pre-tokenizer make of a text."""
    vocabulary = {"<unk>": 0} | {f"<0x{byte:02X}>": byte + 1 for byte in range(256)}
    model = {"type": "BPE", "vocab": vocabulary, "merges": [], "byte_fallback": True}
    return document(model, **parts)


def custom(rules: dict[str, str]) -> Json:
    """A normalizer with another map of characters than sentencepiece's."""
    return {
        "type": "Precompiled",
        "precompiled_charsmap": base64.b64encode(charsmap(rules)).decode(),
    }


def held(driver: Path, folder: Path, made: Json, cases: Sequence[Case]) -> None:
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(made), "utf-8")
    check(driver, path, cases)


def every_text(seed: int, count: int) -> list[Case]:
    return [Case(text) for text in (*texts.fixed(), *texts.generated(seed, count))]


EVERY = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
_UNIFORM = (range(0x3400, 0xA000), range(0xAC80, 0xD780), range(0xE010, 0xF900))
_UNIFORM += (range(0x12000, 0x16000), range(0x17000, 0x1B000), range(0x1FC00, 0xE0000))
_UNIFORM += (range(0xE1000, 0x110000),)


@cache
def varied() -> list[int]:
    """All code points but most of the ideographs, syllables and private or unassigned ones."""
    return [c for c in EVERY if c % 101 == 0 or not any(c in block for block in _UNIFORM)]


def around_each(*forms: str) -> list[Case]:
    """Texts with each of ``varied`` in each form, where it stands for {}; 64 in a text."""
    made = []
    for form in forms:
        for at in range(0, len(varied()), 64):
            shown = "|".join(form.replace("{}", chr(c)) for c in varied()[at : at + 64])
            made.append(Case(shown.encode()))
    return made


NORMALIZERS: dict[str, Json] = {
    "nfc": {"type": "NFC"},
    "nfd": {"type": "NFD"},
    "nfkc": {"type": "NFKC"},
    "nfkd": {"type": "NFKD"},
    "nmt": {"type": "Nmt"},
    "lowercase": {"type": "Lowercase"},
    "strip-accents": {"type": "StripAccents"},
    "strip-left": {"type": "Strip", "strip_left": True, "strip_right": False},
    "strip-right": {"type": "Strip", "strip_left": False, "strip_right": True},
    "strip-both": {"type": "Strip", "strip_left": True, "strip_right": True},
    "prepend": {"type": "Prepend", "prepend": "▁é "},
    "replace-blank": replace("▁", string=" "),
    "replace-longer": replace("<quote>", string="''"),
    "replace-shorter": replace("", string="the"),
    "replace-overlapping": replace("b", string="aa"),
    "runs-of-blanks": replace("▁", regex=" {2,}"),
    "blanks": replace(" ", regex=" +"),
    "runs-of-spaces": replace(" ", regex=r"\s{2,}"),
    "spaces": replace("__", regex=r"\s+"),
    "space": replace("", regex=r"\s"),
    "line-ends": replace(" ", regex=r"[\n\r\t]"),
    "line-feeds": replace(" ", regex=r"\n"),
    "spaces-or-line-ends": replace(" ", regex=r"\s{2,}|[\n\r\t]"),
    "outer-blanks": replace("", regex=r"\A +| +\z"),
    "bert": {
        "type": "BertNormalizer",
        "clean_text": True,
        "handle_chinese_chars": True,
        "strip_accents": None,
        "lowercase": True,
    },
    "in-sequence": sequence(
        "normalizers",
        sequence("normalizers", {"type": "NFKD"}, replace("X", string="x")),
        {"type": "StripAccents"},
        {"type": "NFKC"},
        {"type": "Prepend", "prepend": "▁"},
        {"type": "NFC"},
        {"type": "Lowercase"},
        replace("▁▁", string=" "),
    ),
}


@pytest.mark.parametrize("name", NORMALIZERS)
def test_normalizers(driver: Path, tmp_path: Path, name: str) -> None:
    cases = every_text(21, 1500)
    if name in ("nfc", "nfkc"):
        cases += around_each("{}", "a{}", "{}\u0301\u0323")
    elif name in ("nfd", "nfkd"):  # test_tokenizer.py has each code point by itself
        cases += around_each("{}\u0301\u0323")
    held(driver, tmp_path, mirror(normalizer=NORMALIZERS[name]), cases)


def test_every_composition_and_what_comes_in_between(driver: Path, tmp_path: Path) -> None:
    """Marks that are blocked, that go with what they follow, and that change places."""
    rng = random.Random(22)
    marks = [chr(c) for c in range(0x300, 0x370)] + list(texts.MARKS)
    marks += [chr(c) for c in EVERY if c > 0x370 and unicodedata.combining(chr(c))][::3]
    bases = [chr(c) for c in EVERY if unicodedata.decomposition(chr(c))] + list("aAoOeE\u0928ᄀ각")
    made = []
    for _ in range(4000):
        text = ""
        for _ in range(rng.randint(1, 5)):
            text += rng.choice(bases) if rng.random() < 0.9 else ""
            text += "".join(rng.choice(marks) for _ in range(rng.choice((0, 1, 1, 2, 3, 6))))
            text += rng.choice(("", "", "\u1161", "\u11a8", "x"))
        made.append(Case(text.encode()))
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        held(driver, tmp_path, mirror(normalizer={"type": form}), made)


# ---- Precompiled ----


def test_each_code_point_through_the_map_of_sentencepiece(driver: Path, tmp_path: Path) -> None:
    made = mirror(normalizer=precompiled())
    held(driver, tmp_path, made, around_each("{}", "a{}", "{}\u0301", "™{}x"))
    held(driver, tmp_path, made, every_text(23, 3000))


def test_grapheme_clusters(driver: Path, tmp_path: Path) -> None:
    """What is in one cluster with what, told by what a map makes of the cluster as a whole."""
    rules = {"a": "-", "\u00a9": "(c)", "\u0301": "'", "\u0915": "k", "\u1100": "g", "\u1161": "A"}
    rules |= {"\u11a8": "G", "\u200d": "", "\r": "R", "\U0001f1e6": "F", "\u0600": ""}
    made = mirror(normalizer=custom(rules))
    forms = ("a{}", "{}a\u0301", "{}\u0301\u0302", "\u00a9{}\u200d\u00a9\u0301", "{}\u200d©\u0301")
    forms += ("\u0915{}\u0915\u0301", "\u0915\u094d{}\u0915\u0301", "{}\u094d\u0915\u0301")
    forms += ("{}\u1100\u0301", "{}\u1161\u0301", "{}\u11a8\u0301", "\u1100{}\u0301", "\r{}\n")
    held(driver, tmp_path, made, around_each(*forms))
    rng = random.Random(24)
    alphabet = (
        "a©\u0301\u0302\u0915\u0924\u094d\u09cd\u200d\u200c\u0600\u0903\u1100\u1161\u11a8가각"
    )
    alphabet += "\r\n\u0007\U0001f1e6\U0001f468\U0001f3fd\ufe0f\u0e33\U00016d67 x\U000110bd"
    cases = [
        Case("".join(rng.choice(alphabet) for _ in range(rng.randint(1, 14))).encode())
        for _ in range(8000)
    ]
    held(driver, tmp_path, made, cases)


def test_replacements_that_add_and_take_away(driver: Path, tmp_path: Path) -> None:
    rules = {"a": "", "b": "xyz", "c": "d", "é": "é", "ﬁ": "fi", "日": "", "d\u0301": "D"}
    rules |= {"ef": "E", "e": "e" * 18, "\ufdfa": "", "gh": "", "\u0301": "", "ij": "JI"}
    made = mirror(normalizer=custom(rules))
    rng = random.Random(25)
    alphabet = "abcdefghij é\u0301\u0302ﬁ日\ufdfa"
    cases = [
        Case("".join(rng.choice(alphabet) for _ in range(rng.randint(0, 12))).encode(), None, 999)
        for _ in range(6000)
    ]
    held(driver, tmp_path, made, cases)


def test_damaged_maps(driver: Path, tmp_path: Path) -> None:
    """Any bytes are a map, or are refused; none is read outside itself."""
    rng = random.Random(26)
    whole = bytearray(charsmap({"ab": "x", "é": "yy", "a": "", "日本": "z"}))
    paths = [tmp_path / f"{i}.json" for i in range(60)]
    for path in paths:
        bad = bytearray(whole)
        for _ in range(rng.randint(1, 30)):
            bad[rng.randrange(4, 4096)] = rng.randrange(256)
        bad[4:8] = whole[4:8] if rng.random() < 0.7 else bad[4:8]
        map_ = {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(bad).decode()}
        path.write_text(json.dumps(mirror(normalizer=map_)))
    encode_each(driver, paths, [Case("ab é 日本 aéb".encode()), Case(bytes(range(256)))])


def test_a_text_that_grows_more_than_any_is_refused(driver: Path, tmp_path: Path) -> None:
    twice = sequence("normalizers", custom({"a": "b" * 18}), replace("cc", string="b"))
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(mirror(normalizer=twice)))
    short, long = encode(driver, path, [Case(b"xyz", None, 500), Case(b"a" * 50, None, 5000)])
    assert len(short.tokens) == 3
    assert long.error == "has more characters once normalised than there is memory set aside for"


# ---- pre-tokenizers ----


BEHAVIORS = ("Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous")
SPLITS = {"string": {"string": "a"}, "two": {"string": "the"}, "spaces": {"regex": r"\s+"}}
SPLITS |= {"gpt2": {"regex": GPT2}, "gpt4": {"regex": GPT4}, "qwen2": {"regex": QWEN2}}


@pytest.mark.parametrize("pattern", SPLITS)
@pytest.mark.parametrize("invert", [True, False])
def test_splits(driver: Path, tmp_path: Path, pattern: str, invert: bool) -> None:
    cases = [*every_text(27, 250), Case(b"aaxxaabaa a"), Case(b"a"), Case(b"xa"), Case(b"thethe")]
    for behavior in BEHAVIORS:
        splitter = split(behavior, invert=invert, **SPLITS[pattern])
        held(driver, tmp_path, mirror(pre_tokenizer=splitter), cases)


PRE_TOKENIZERS: dict[str, Json] = {
    "bert": {"type": "BertPreTokenizer"},
    "whitespace": {"type": "Whitespace"},
    "whitespace-split": {"type": "WhitespaceSplit"},
    "punctuation": {"type": "Punctuation"},
    "metaspace-always": metaspace(),
    "metaspace-first": metaspace("first"),
    "metaspace-never": metaspace("never"),
    "metaspace-whole": metaspace("first", split=False),
    "metaspace-old": {"type": "Metaspace", "replacement": "▁", "add_prefix_space": True},
    "metaspace-letter": {"type": "Metaspace", "replacement": "a", "prepend_scheme": "always"},
    "words": sequence("pretokenizers", {"type": "WhitespaceSplit"}, metaspace()),
    "signs": sequence("pretokenizers", {"type": "Punctuation"}, metaspace()),
    "each": sequence(
        "pretokenizers",
        split("Isolated", string="e"),
        {"type": "Punctuation", "behavior": "Contiguous"},
        metaspace(split=False),
        split("Removed", string="a"),
        metaspace("first"),
    ),
    "none": sequence("pretokenizers"),
}


@pytest.mark.parametrize("name", PRE_TOKENIZERS)
def test_pre_tokenizers(driver: Path, tmp_path: Path, name: str) -> None:
    cases = every_text(28, 1000)
    parts = {"pre_tokenizer": PRE_TOKENIZERS[name]}
    held(driver, tmp_path, mirror(**parts), cases)
    strip = {"type": "Strip", "strip_left": True, "strip_right": True}
    tokens = [added(257, "solo", single_word=True, normalized=True), added(258, "X ", rstrip=True)]
    held(driver, tmp_path, mirror(normalizer=strip, added_tokens=tokens, **parts), cases)


@pytest.mark.parametrize("pattern", [GPT4, QWEN2])
def test_each_code_point_beside_what_a_pattern_tells_apart(
    driver: Path, tmp_path: Path, pattern: str
) -> None:
    made = mirror(pre_tokenizer=split("Isolated", regex=pattern))
    forms = ("a{}a", "1{}1", " {} ", "!{}!", "'{}", "'{}s", "'L{}", "\n{}\n")
    held(driver, tmp_path, made, around_each(*forms))


def test_each_word_of_bytes_gets_the_space_before_it(driver: Path, tmp_path: Path) -> None:
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    model = {"type": "BPE", "vocab": {c: i for i, c in enumerate(alphabet)}, "merges": []}
    for regex in (True, False):
        steps = (split("Isolated", string="a"), byte_level(prefix=True, regex=regex))
        made = document(
            model,
            pre_tokenizer=sequence("pretokenizers", *steps),
            post_processor=byte_level(prefix=True),
        )
        held(driver, tmp_path, made, every_text(29, 500))
        made["normalizer"] = {"type": "NFC"}
        held(driver, tmp_path, made, every_text(30, 500))


# ---- models ----


def test_bytes_that_are_missing_to_fall_back_to(driver: Path, tmp_path: Path) -> None:
    """The package puts the bytes of a character before what is unknown before it."""
    rng = random.Random(31)
    cases = every_text(32, 300)
    cases += [Case("".join(rng.choice("aéñ日x ") for _ in range(9)).encode()) for _ in range(400)]
    for unknown, fuse in (("<unk>", True), ("<unk>", False), (None, False)):
        made = mirror()
        made["model"] |= {"unk_token": unknown, "fuse_unk": fuse}
        vocabulary = made["model"]["vocab"]
        for byte in (0x61, 0xA9, 0xE6):
            del vocabulary[f"<0x{byte:02X}>"]
        kept = {token: i for i, token in enumerate([*vocabulary, "x", "é", "xx", "x<unk>"])}
        made["model"] |= {"vocab": kept, "merges": [["x", "x"]]}
        held(driver, tmp_path, made, cases)
        made["model"]["ignore_merges"] = True
        held(driver, tmp_path, made, cases)


def test_ways_of_the_same_score(driver: Path, tmp_path: Path) -> None:
    """Few scores, so that there are many best ways; the first that was found stays."""
    rng = random.Random(33)
    for _ in range(12):
        words = {"".join(rng.choice("abc日") for _ in range(rng.randint(1, 5))) for _ in range(60)}
        scores = (-1.0, -2.0, -0.5, 0.0, 3.0, -1.0000000000000002)
        vocabulary = [["<unk>", 0.0]] + [[word, rng.choice(scores)] for word in sorted(words)]
        vocabulary += [["ab", -7.0], ["<unk>", -1.0], ["", 0.0], ["dd", -30.0], ["<0x64>", 0.0]]
        vocabulary += [["de", -40.0]]
        made = document(unigram(vocabulary, 0, byte_fallback=rng.random() < 0.5))
        cases = [
            Case("".join(rng.choice("aabbccde日<unk>") for _ in range(rng.randint(1, 30))).encode())
            for _ in range(400)
        ]
        held(driver, tmp_path, made, cases)


def test_scores_are_read_as_the_package_reads_them(driver: Path, tmp_path: Path) -> None:
    """Two ways whose scores differ by a unit in the last place, where the nearest number to each
    decimal would take the other."""
    rng = random.Random(34)
    paths = []

    def text(*scores: str) -> str:
        pieces = zip(("<unk>", "a", "b", "ab"), ("0", *scores), strict=True)
        vocabulary = ", ".join(f'["{piece}", {score}]' for piece, score in pieces)
        made = json.dumps(document(unigram([], 0)))
        return made.replace('"vocab": []', f'"vocab": [{vocabulary}]')

    for _ in range(60):
        first, second = (
            f"-{rng.choice((0, 1, 9, 123456789))}.{rng.randrange(10**n):0{n}}"
            for n in (rng.randint(1, 25), rng.randint(1, 25))
        )
        first += rng.choice(("", "", "", "e-5", "E+2", "e300", "e-320"))
        loaded = json.loads(tokenizers.Tokenizer.from_str(text(first, second, "1")).to_str())
        total = sum(score for _, score in loaded["model"]["vocab"][1:3])
        for whole in (total, math.nextafter(total, 0), math.nextafter(total, -math.inf)):
            paths.append(tmp_path / f"{len(paths)}.json")
            paths[-1].write_text(text(first, second, repr(whole)))
    check_each(driver, paths, [Case(b"ab"), Case(b"abab b a")])


def test_scores_may_be_the_nearest_numbers(driver: Path, tmp_path: Path) -> None:
    """As edgeopt writes them for what transformers loads into a model by itself."""
    rng = random.Random(35)
    paths, wanted = [], []
    told = 0
    for _ in range(120):
        first, second = (-rng.choice((0.01, 1, 10, 100)) * rng.random() for _ in range(2))
        total = first + second
        for whole in (total, math.nextafter(total, 0), math.nextafter(total, -math.inf)):
            pieces = [("<unk>", 0.0), ("a", first), ("b", second), ("ab", whole)]
            judge = tokenizers.Tokenizer(tokenizers.models.Unigram(pieces, 0))
            made = document(unigram([list(piece) for piece in pieces], 0))
            loaded = tokenizers.Tokenizer.from_str(json.dumps(made))
            made["model"]["exact_scores"] = True
            paths.append(tmp_path / f"{len(paths)}.json")
            paths[-1].write_text(json.dumps(made))
            wanted.append(judge.encode("ab").ids)
            told += judge.encode("ab").ids != loaded.encode("ab").ids
    for (found,), ids in zip(encode_each(driver, paths, [Case(b"ab")]), wanted, strict=True):
        assert [token[0] for token in found.tokens] == ids
    assert told > 10  # so that reading them as the package does would not pass
