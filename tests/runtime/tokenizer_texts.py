# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Texts that are hard on a tokenizer, made from a seed."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from edgeopt.model import texts

SHIPPED = [
    json.loads(line)["text"]
    for line in (Path(texts.__file__).parent / "texts.jsonl").read_text("utf-8").splitlines()
]

RANGES = (
    (0x20, 0x7F),
    (0xA0, 0x180),  # Latin with accents
    (0x180, 0x250),
    (0x300, 0x370),  # combining marks
    (0x370, 0x400),  # Greek
    (0x400, 0x530),  # Cyrillic
    (0x531, 0x590),  # Armenian
    (0x591, 0x5F5),  # Hebrew with points
    (0x600, 0x700),  # Arabic
    (0x8A0, 0x900),
    (0x900, 0x980),  # Devanagari
    (0x980, 0xA00),  # Bengali: vowels in two parts
    (0xB80, 0xC00),  # Tamil
    (0xE00, 0xE80),  # Thai
    (0xF00, 0xFD0),  # Tibetan: marks that decompose into marks
    (0x1000, 0x10A0),
    (0x10A0, 0x1100),  # Georgian
    (0x1100, 0x1200),  # jamo
    (0x13A0, 0x1400),  # Cherokee
    (0x1B00, 0x1C00),  # Balinese and others: marks that are kept and move
    (0x1C80, 0x1CC0),
    (0x1D00, 0x1E00),
    (0x1E00, 0x2000),  # Latin additional, Greek extended
    (0x2000, 0x2070),  # spaces, joiners, directions
    (0x2070, 0x2400),
    (0x2600, 0x27C0),
    (0x2C00, 0x2E80),
    (0x3000, 0x3100),  # Kana
    (0x3130, 0x3400),
    (0x4E00, 0x4F00),  # Han
    (0xA640, 0xA700),
    (0xA720, 0xA980),
    (0xAB30, 0xABC0),  # Cherokee small letters
    (0xAC00, 0xD7A4),  # Hangul syllables
    (0xE000, 0xE010),  # private use
    (0xF900, 0xFB00),  # compatibility ideographs
    (0xFB00, 0xFE70),
    (0xFE70, 0x10000),
    (0x10400, 0x10450),  # Deseret
    (0x11000, 0x11480),
    (0x1D100, 0x1D200),  # musical symbols: decompositions with marks that are kept
    (0x1D400, 0x1D500),  # mathematical alphanumerics
    (0x1E000, 0x1E030),
    (0x1E900, 0x1E960),
    (0x1F1E6, 0x1F200),  # flags
    (0x1F300, 0x1F650),
    (0x20000, 0x20010),
    (0x2F800, 0x2FA20),
    (0xE0000, 0xE0080),
)
CONTROLS = "".join(map(chr, [*range(0x20), *range(0x7F, 0xA0), 0xAD, 0x200B, 0xFEFF, 0xFFFD]))
SPACES = "\t\n\x0b\x0c\r \x85\xa0\u1680\u2000\u2003\u200a\u2028\u2029\u202f\u205f\u3000"
MARKS = (
    "\u0301\u0302\u0327\u0334\u0345\u05b0\u064b\u0e38\u0f71\u0f72\u0f73\u0344\u1b44\u302e\u302f"
    "\ua953\U00011442\U0001d165\U0001d16d\U0001d15f\U0001d161\u08d4\u094d\u3099\u1dfb\U000116b6"
)
WORDS = (
    "don't", "I'LL", "we've", "they're", "she'd", "I'm", "it's", "'s", "''", "it'sn't",
    "3.14", "1,000", "\u0661\u0662", "\u2160\u00bd", "x=y[0];", "->", "#include <stdio.h>",
    "ΟΔΥΣΣΕΥΣ ς",
    "İstanbul", "ﬁne", "ǅ", "naïve", "nai\u0308ve", "한국어", "\u1112\u1161\u11ab",
    "日本語テキスト",
    "👩‍👩‍👧‍👦", "👍🏽", "🇩🇪🇫🇷", "\ufdd0\uffff", "\u212b\u2126", "豈更",
    "❤️‍🔥", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "क्षत्रिय", "\u0600123", "\u200b\u2060", "ﬁ\u0301", "™\u0308", "…!", "\ufdfa",
    "ＡＢＣ１２", "ﾊﾞﾊﾟ", "㎏㌔", "x²³½", "``quoted''", "▁", "▁▁a", "a▁b", "<0x41>", "it'ſ IT'S 'ReX",
    "\r\n\r\n", "\t\t x", "1234567", "١٢٣٤٥", "a\u0301\u0323\u0302",
)  # fmt: skip
SPECIALS = (
    "[MASK]", "[CLS]", "[SEP]", "[PAD]", "[UNK]", "[mask]", "[MASK", "</s>", "<s>", "<mask>",
    "<pad>",
    "<|endoftext|>", "<|STARTOFTEXT|>", "<|EndOfText|>",
    "<extra_id_7>", "<unk>NOTUSED", "<|begin_of_text|>", "<unk>", "<h1>",
    "Foo Bar", "foo bar", "FOO  BAR", "fóó bar", "solo", "SOLO", "left", "right", "both",
    "\ufffd!",
)  # fmt: skip
BROKEN = (
    b"\x80", b"\xff", b"\xc0\xaf", b"\xe2\x82", b"\xed\xa0\x80", b"\xed\xb0\x80", b"\xf0\x9f\x98",
    b"\xf4\x90\x80\x80", b"\xf8\x88", b"\xe0\x80\x80", b"\xc3", b"\xf0\x80", b"\xe2\x28\xa1",
)  # fmt: skip


def _word(rng: random.Random) -> str:
    kind = rng.random()
    if kind < 0.35:
        low, high = rng.choice(RANGES)
        return "".join(chr(rng.randrange(low, high)) for _ in range(rng.randint(1, 8)))
    if kind < 0.5:
        base = chr(rng.randrange(*rng.choice(RANGES)))
        return base + "".join(rng.choice(MARKS) for _ in range(rng.randint(1, 6)))
    if kind < 0.6:
        return rng.choice(SPECIALS)
    if kind < 0.72:
        return rng.choice(WORDS)
    if kind < 0.92:
        words = rng.choice(SHIPPED).split()
        start = rng.randrange(len(words))
        text = " ".join(words[start : start + rng.randint(1, 4)])
        return text.upper() if rng.random() < 0.2 else text
    return "".join(rng.choice(CONTROLS) for _ in range(rng.randint(1, 3)))


def _text(rng: random.Random) -> bytes:
    data = b""
    for _ in range(rng.randint(0, 12)):
        data += _word(rng).encode("utf-8", "surrogatepass")
        if rng.random() < 0.05:
            data += rng.choice(BROKEN)
        if rng.random() < 0.6:
            data += (" " if rng.random() < 0.7 else rng.choice(SPACES)).encode() * rng.choice(
                (1, 1, 1, 2, 3)
            )
    return data


def fixed() -> list[bytes]:
    """Texts worth trying by themselves."""
    made = [
        b"",
        b" ",
        b"   ",
        b"\n",
        b"\x00",
        b"\n\n a",
        b" \n",
        SPACES.encode(),
        CONTROLS.encode(),
    ]
    made += [text.encode() for text in SHIPPED]
    made += [word.encode("utf-8") for word in (*WORDS, *SPECIALS)]
    made += [b"x" + word.encode() + b"y" for word in SPECIALS]
    made += [b"  " + word.encode() + b"  " for word in SPECIALS]
    made += [*BROKEN, *(b"a" + broken + b"b" for broken in BROKEN)]
    made += [b"a" * n for n in (99, 100, 101, 300, 10_000)]
    made += ["é".encode() * n for n in (99, 100, 101)]
    made += [b" " * 1000, b"ab" * 5000, "漢字".encode() * 1000, b"'" * 500, b"[MASK]" * 200]
    return made


@cache
def generated(seed: int, count: int) -> tuple[bytes, ...]:
    rng = random.Random(seed)
    return tuple(_text(rng) for _ in range(count))


def pairs(seed: int, count: int) -> list[tuple[bytes, bytes]]:
    """Two texts each, of which one is often empty or much longer."""
    rng = random.Random(seed)

    def side() -> bytes:
        return b" ".join(_text(rng) for _ in range(rng.choice((0, 1, 1, 3))))

    return [(side(), side()) for _ in range(count)]


def character_ends(data: bytes) -> Sequence[int]:
    """Where each character of ``data.decode(errors="replace")`` ends in ``data``."""
    if data.isascii():
        return range(1, len(data) + 1)
    ends: list[int] = []
    start = 0
    while start < len(data):
        try:
            valid, stop, broken = data[start:].decode(), len(data), False
        except UnicodeDecodeError as exc:
            valid = data[start : start + exc.start].decode()
            stop, broken = start + exc.end, True
        for character in valid:
            start += len(character.encode())
            ends.append(start)
        if broken:
            ends.append(stop)
        start = stop
    return ends
