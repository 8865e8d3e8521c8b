# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Write edgeopt/runtime/src/tokenizer/unicode_tables.h from what the `tokenizers` package does.

The package's Rust crates know different versions of Unicode, and none is Python's own. So every
code point is asked of the package itself: what its normalizers make of it, and how its
pre-tokenizers split around it. Run it again after a change of the package's version:

    python tools/unicode-tables.py
"""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers

sys.path.insert(0, str(Path(__file__).parents[1]))
from tools.charsmap import charsmap

HEADER = Path(__file__).parents[1] / "edgeopt" / "runtime/src/tokenizer/unicode_tables.h"
CODES = [code for code in range(0x110000) if not 0xD800 <= code < 0xE000]
HANGUL = range(0xAC00, 0xD7A4)
IDEOGRAPHS = (range(0xF900, 0xFB00), range(0x2F800, 0x2FA20))
"""CJK compatibility ideographs: their canonical forms follow no order, so they get an array."""
RUNS_IN_BLOCK = 32
RECORDS_IN_BLOCK = 16
LONG = 7
"""Parts of a decomposition from which on their number does not stand beside the gap."""

ACUTE = "\u0301"
(OTHER, CONTROL, PREPEND, EXTEND, SPACING, JOINER, LINKER, CONSONANT, PICTOGRAPH) = range(9)
"""Kinds of a code point in a grapheme cluster, as unicode.h numbers them."""
MARK = 1 << 4
"""Beside the kind: StripAccents drops it."""


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


def keeps_acute(before: Callable[[str], str], base: str) -> set[int]:
    """The code points that `before` puts into one grapheme cluster with the `base` after it.

    Precompiled replaces clusters of fewer than six bytes by what their first characters map to: an
    acute after `base` goes with it unless something stands before `base` in its cluster.
    """
    precompiled = normalizers.Precompiled(charsmap({base: "-"}))
    return {
        c for c in CODES if precompiled.normalize_str(before(chr(c)) + base + ACUTE).endswith(ACUTE)
    }


def clusters() -> dict[int, int]:
    """What each code point is in a grapheme cluster, OTHER left out.

    Hangul is computed, by ranges; regional indicators need nothing, since a cluster with two of
    them, or with one and a mark, has six bytes or more.
    """
    joining = normalizers.Precompiled(charsmap({"a": "-"}))
    acute = normalizers.Precompiled(charsmap({ACUTE: "-"}))
    control = {c for c in CODES if acute.normalize_str(chr(c) + ACUTE + "\u0302") == chr(c) + "-"}
    joins = {c for c in CODES if joining.normalize_str("a" + chr(c)) == "-"}
    prepend = keeps_acute(lambda c: c, "a")
    extend = keeps_acute(lambda c: "\u00a9" + c + "\u200d", "\u00a9") & joins
    linker = keeps_acute(lambda c: "\u0915" + c, "\u0915") & joins
    between = keeps_acute(lambda c: "\u0915\u094d" + c, "\u0915") & joins
    consonant = keeps_acute(lambda c: c + "\u094d", "\u0915")
    pictograph = keeps_acute(lambda c: c + "\u200d", "\u00a9") - prepend
    # Between a consonant and its linker stands what extends, and the joiner, but no non-joiner.
    assert between == extend - {0x200C} | {0x200D}
    assert linker <= extend
    kinds = {c: SPACING for c in joins - extend} | {c: EXTEND for c in extend}
    kinds |= {c: LINKER for c in linker} | {0x200D: JOINER}
    for kind, codes in (
        (CONTROL, control),
        (PREPEND, prepend),
        (CONSONANT, consonant),
        (PICTOGRAPH, pictograph),
    ):
        assert not codes & set(kinds)
        kinds |= {c: kind for c in codes}
    return kinds


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


def class_tables(name: str, flags_of: Callable[[int], int]) -> str:
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
            array("uint8_t", f"{name}_flags", kinds),
            array("uint8_t", f"{name}_runs", data),
            array("uint32_t", f"{name}_firsts", firsts),
            array("uint16_t", f"{name}_offsets", offsets),
            f"static const struct code_classes {name}_classes = {{{name}_flags, {name}_runs,\n"
            f"    sizeof {name}_runs, {name}_firsts, {name}_offsets,\n"
            f"    sizeof {name}_offsets / sizeof *{name}_offsets}};",
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


def decompositions(
    nfd: Mapping[int, str], nfc: Mapping[int, str]
) -> tuple[dict[int, int], dict[int, int]]:
    """The canonical decompositions: the first part, to be looked up again, and the one after it.

    A code point that has the same parts as another one, which is what they compose to, has that one
    as its first part, and no second.
    """
    first: dict[int, int] = {}
    second: dict[int, int] = {}
    whole = {text: code for code, text in nfd.items() if len(text) > 1}
    whole |= {text: code for code, text in nfd.items() if len(text) > 1 and nfc[code] == chr(code)}
    for code, text in nfd.items():
        if text == chr(code) or code in HANGUL or any(code in r for r in IDEOGRAPHS):
            continue
        if len(text) == 1:
            first[code] = ord(text)
        elif whole[text] != code:
            first[code] = whole[text]
        else:
            first[code] = ord(text[0]) if len(text) == 2 else whole[text[:-1]]
            second[code] = ord(text[-1])
    return first, second


def compatible(
    nfd: Mapping[int, str], nfkd: Mapping[int, str]
) -> tuple[dict[int, int], dict[int, str]]:
    """What NFKD makes of the code points that NFD leaves as they are: how far on the one part is,
    and the parts if they are several."""
    parts = {c: nfkd[c] for c in CODES if nfd[c] == chr(c) != nfkd[c]}
    for code in CODES:
        if code not in HANGUL:
            assert nfkd[code] == "".join(parts.get(ord(part), part) for part in nfd[code])
    return (
        {c: ord(text) - c for c, text in parts.items() if len(text) == 1},
        {c: text for c, text in parts.items() if len(text) > 1},
    )


def part_tables(name: str, parts: Mapping[int, str]) -> str:
    """Records: varint(gap << 3 | count), from LONG on with varint(count - LONG) after it; then
    each part, less the one before it."""
    data, firsts, offsets = b"", [], []
    position = last = 0
    for index, (code, text) in enumerate(sorted(parts.items())):
        if index % RECORDS_IN_BLOCK == 0:
            firsts.append(code)
            offsets.append(len(data))
            position, last = code, 0
        data += varint((code - position) << 3 | min(len(text), LONG))
        if len(text) >= LONG:
            data += varint(len(text) - LONG)
        for part in map(ord, text):
            data += varint(zigzag(part - last))
            last = part
        position = code + 1
    return "\n\n".join(
        (
            array("uint8_t", f"{name}_records", data),
            array("uint32_t", f"{name}_firsts", firsts),
            array("uint16_t", f"{name}_offsets", offsets),
        )
    )


def main() -> None:
    """Write the header."""
    stripped = mapped(bert(strip_accents=True))
    cleaned = mapped(bert(clean_text=True))
    lowered = mapped(bert(lowercase=True))
    nfd, nfc = mapped(normalizers.NFD()), mapped(normalizers.NFC())
    combining = combining_classes(nfd)
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
    first, second = decompositions(nfd, nfc)
    single, several = compatible(nfd, mapped(normalizers.NFKD()))
    lower = {c: ord(t) - c for c, t in lowered.items() if len(t) == 1 and t != chr(c)}
    assert [c for c, text in lowered.items() if len(text) != 1] == [0x130]
    kinds = clusters()
    marks = mapped(normalizers.StripAccents())
    licence = HEADER.with_name("unicode.h").read_text().partition("*/\n")[0] + "*/\n"
    text = "\n\n".join(
        (
            f"{licence}"
            f"/* Written by tools/unicode-tables.py from tokenizers {tokenizers.__version__}.\n"
            " * Not to be edited. How to read the tables is in unicode.c; whose data\n"
            " * they hold, in THIRD_PARTY_NOTICES.txt. */",
            f"#define RUNS_IN_BLOCK {RUNS_IN_BLOCK}\n#define RECORDS_IN_BLOCK {RECORDS_IN_BLOCK}\n"
            f"#define LONG_PARTS {LONG}",
            class_tables("class", lambda c: sum((c in s) << bit for bit, s in enumerate(sets))),
            class_tables("cluster", lambda c: kinds.get(c, OTHER) | MARK * (marks.get(c) == "")),
            map_tables("combining", combining),
            map_tables("lower", lower),
            map_tables("first_part", {c: part - c for c, part in first.items()}),
            map_tables("second_part", second),
            ideograph_tables(nfd),
            map_tables("compatible", single),
            part_tables("several", several),
        )
    )
    HEADER.write_text(text + "\n")


if __name__ == "__main__":
    main()
