# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Write edgeopt/runtime/src/tokenizer/unicode_tables.h from what the `tokenizers` package does.

The package's Rust crates know different versions of Unicode, and none is Python's own. So every
code point is asked of the package itself: what its normalizers make of it, and how its
pre-tokenizers split around it. Run it again after a change of the package's version:

    python tools/unicode-tables.py
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers

HEADER = Path(__file__).parents[1] / "edgeopt" / "runtime/src/tokenizer/unicode_tables.h"
CODES = [code for code in range(0x110000) if not 0xD800 <= code < 0xE000]
HANGUL = range(0xAC00, 0xD7A4)
IDEOGRAPHS = (range(0xF900, 0xFB00), range(0x2F800, 0x2FA20))
"""CJK compatibility ideographs: their canonical forms follow no order, so they get an array."""
RUNS_IN_BLOCK = 32
RECORDS_IN_BLOCK = 16


def bert(**options: bool) -> normalizers.Normalizer:
    """A BertNormalizer that does nothing but `options`."""
    settings = {"clean_text": False, "handle_chinese_chars": False}
    settings |= {"strip_accents": False, "lowercase": False}
    return normalizers.BertNormalizer(**(settings | options))


def mapped(normalizer: Any) -> dict[int, str]:
    """What `normalizer` makes of each code point by itself."""
    return {code: normalizer.normalize_str(chr(code)) for code in CODES}


def joins(pre_tokenizer: Any, before: str) -> set[int]:
    """The code points that `pre_tokenizer` does not part from `before`."""
    return {c for c in CODES if len(pre_tokenizer.pre_tokenize_str(before + chr(c))) == 1}


def combining_classes(decomposed: Mapping[int, str]) -> dict[int, int]:
    """The canonical combining class of each non-starter, by how NFD orders it beside others."""
    nfd = normalizers.NFD()

    def stays(text: str) -> bool:
        return bool(nfd.normalize_str(text) == text)

    low, high = chr(0x334), chr(0x345)  # the classes 1 and 240, in Unicode since its beginning
    found = [
        c
        for c in CODES
        if decomposed[c] == chr(c)
        and not (stays("a" + high + chr(c)) and stays("a" + chr(c) + low))
    ]
    one_of = {unicodedata.combining(chr(c)): chr(c) for c in reversed(found)}
    one_of.pop(0, None)
    classes = {}
    for code in found:
        (value,) = (
            k
            for k, mark in one_of.items()
            if stays("a" + mark + chr(code)) and stays("a" + chr(code) + mark)
        )
        classes[code] = value
    for code, text in decomposed.items():  # U+0340, U+0344 and such: of the first mark
        if text != chr(code) and ord(text[0]) in classes:
            classes[code] = classes[ord(text[0])]
    return classes


def word_characters() -> set[int]:
    r"""The package's \w: what keeps a `single_word` added token from being found beside it."""
    tokenizer = Tokenizer(models.WordPiece({"[UNK]": 0, "x": 1}, unk_token="[UNK]"))
    tokenizer.add_tokens([AddedToken("x", single_word=True, normalized=False)])
    return {c for c in CODES if len(tokenizer.encode("x" + chr(c)).ids) == 1}


def varint(value: int) -> bytes:
    """Groups of seven bits, the lowest first; bit 7 is set if more follow."""
    groups = []
    while True:
        value, low = value >> 7, value & 0x7F
        groups.append(low | (0x80 if value else 0))
        if not value:
            return bytes(groups)


def zigzag(value: int) -> int:
    """0, -1, 1, -2 ... as 0, 1, 2, 3 ..."""
    return value << 1 if value >= 0 else (-value << 1) - 1


def array(kind: str, name: str, values: Iterable[int]) -> str:
    """A C array."""
    lines, line = [f"static const {kind} {name}[] = {{"], "   "
    for value in values:
        text = f" {value},"
        if len(line) + len(text) > 100:
            lines.append(line)
            line = "   "
        line += text
    return "\n".join([*lines, line, "};"])


def class_tables(flags_of: Callable[[int], int]) -> str:
    """Runs of equal flags: varint(length << 4 | index of the flags)."""
    kinds: list[int] = []
    runs: list[tuple[int, int, int]] = []  # first, length, kind
    for code in range(0x110000):
        flags = flags_of(code)
        if runs and kinds[runs[-1][2]] == flags:
            first, length, kind = runs[-1]
            runs[-1] = (first, length + 1, kind)
            continue
        if flags not in kinds:
            kinds.append(flags)
        runs.append((code, 1, kinds.index(flags)))
    assert len(kinds) <= 16
    data, firsts, offsets = b"", [], []
    for index, (first, length, kind) in enumerate(runs):
        if index % RUNS_IN_BLOCK == 0:
            firsts.append(first)
            offsets.append(len(data))
        data += varint(length << 4 | kind)
    return "\n\n".join(
        (
            array("uint8_t", "class_flags", kinds),
            array("uint8_t", "class_runs", data),
            array("uint32_t", "class_firsts", firsts),
            array("uint16_t", "class_offsets", offsets),
        )
    )


def ranges(values: Mapping[int, int]) -> list[tuple[int, int, int, int]]:
    """(first, count, step, value) of equal values one or two code points apart."""
    found: list[tuple[int, int, int, int]] = []
    for code, value in sorted(values.items()):
        if found:
            first, count, step, before = found[-1]
            gap = code - first - (count - 1) * step
            if value == before and (gap == step or (count == 1 and gap == 2)):
                found[-1] = (first, count + 1, gap, value)
                continue
        found.append((code, 1, 1, value))
    return found


def map_tables(name: str, values: Mapping[int, int]) -> str:
    """Ranges: varint(gap << 1 | more), if more varint(count - 2 << 1 | step - 1), value's step."""
    data, firsts, offsets = b"", [], []
    position = last_value = 0
    for index, (first, count, step, value) in enumerate(ranges(values)):
        if index % RECORDS_IN_BLOCK == 0:
            firsts.append(first)
            offsets.append(len(data))
            position, last_value = first, 0
        data += varint((first - position) << 1 | (count > 1))
        if count > 1:
            data += varint((count - 2) << 1 | (step - 1))
        data += varint(zigzag(value - last_value))
        position, last_value = first + (count - 1) * step + 1, value
    tables = (
        array("uint8_t", f"{name}_records", data),
        array("uint32_t", f"{name}_firsts", firsts),
        array("uint16_t", f"{name}_offsets", offsets),
    )
    entry = (
        f"static const struct code_map {name}_map = {{{name}_records, sizeof {name}_records,\n"
        f"    {name}_firsts, {name}_offsets,\n"
        f"    sizeof {name}_offsets / sizeof *{name}_offsets}};"
    )
    return "\n\n".join((*tables, entry))


def ideograph_tables(stripped: Mapping[int, str]) -> str:
    """The lower 16 bits of each canonical form (0: itself), and bits for those of plane 2."""
    low, plane = [], []
    for codes in IDEOGRAPHS:
        for code in codes:
            (target,) = (ord(c) for c in stripped[code])
            assert target >> 16 in (0, 2)
            low.append(0 if target == code else target & 0xFFFF)
            plane.append(0 if target == code else target >> 17)
    bits = [sum(plane[i + j] << j for j in range(8)) for i in range(0, len(plane), 8)]
    return "\n\n".join(
        (array("uint16_t", "ideograph_low", low), array("uint8_t", "ideograph_plane2", bits))
    )


def decompositions(stripped: Mapping[int, str]) -> tuple[dict[int, int], dict[int, int]]:
    """What is left of each code point without its accents.

    That is its first part, to be looked up again, and the one after it.
    """
    first: dict[int, int] = {}
    second: dict[int, int] = {}
    whole = {text: code for code, text in stripped.items() if len(text) == 2}
    for code, text in stripped.items():
        if text in ("", chr(code)) or code in HANGUL or any(code in r for r in IDEOGRAPHS):
            continue
        first[code] = ord(text[0]) if len(text) < 3 else whole[text[:2]]
        if len(text) > 1:
            second[code] = ord(text[-1])
    return first, second


def main() -> None:
    """Write the header."""
    stripped = mapped(bert(strip_accents=True))
    cleaned = mapped(bert(clean_text=True))
    lowered = mapped(bert(lowercase=True))
    combining = combining_classes(mapped(normalizers.NFD()))
    punctuation = pre_tokenizers.BertPreTokenizer()
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    sets: Sequence[set[int]] = (  # bit 0 and up of the flags that unicode.h names
        {c for c in CODES if cleaned[c] == ""},
        {c for c in CODES if len(punctuation.pre_tokenize_str(f"a{chr(c)}a")) == 3},
        {c for c in CODES if stripped[c] == ""},
        joins(byte_level, "a"),
        joins(byte_level, "1"),
        word_characters(),
        set(combining),
    )
    first, second = decompositions(stripped)
    lower = {c: ord(t) - c for c, t in lowered.items() if len(t) == 1 and t != chr(c)}
    assert [c for c, text in lowered.items() if len(text) != 1] == [0x130]
    assert not any(c in lower for c in combining)
    licence = HEADER.with_name("unicode.h").read_text().partition("*/\n")[0] + "*/\n"
    text = "\n\n".join(
        (
            f"{licence}"
            f"/* Written by tools/unicode-tables.py from tokenizers {tokenizers.__version__}.\n"
            " * Not to be edited. How to read the tables is in unicode.c; whose data\n"
            " * they hold, in THIRD_PARTY_NOTICES.txt. */",
            f"#define RUNS_IN_BLOCK {RUNS_IN_BLOCK}\n#define RECORDS_IN_BLOCK {RECORDS_IN_BLOCK}",
            class_tables(lambda c: sum((c in s) << bit for bit, s in enumerate(sets))),
            map_tables("combining", combining),
            map_tables("lower", lower),
            map_tables("first_part", first),
            map_tables("second_part", second),
            ideograph_tables(stripped),
        )
    )
    HEADER.write_text(text + "\n")


if __name__ == "__main__":
    main()
