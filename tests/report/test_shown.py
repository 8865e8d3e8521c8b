# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What steers a terminal is told by Unicode's own classes, as Python's library knows them."""

import sys
import unicodedata

import pytest

from edgeopt.report.shown import one_line, plain

DIRECTION = {"LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI"}


@pytest.mark.heavy
def test_every_control_character_and_turn_of_direction_is_escaped() -> None:
    for code in range(sys.maxunicode + 1):
        letter = chr(code)
        steers = (
            unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp")
            or unicodedata.bidirectional(letter) in DIRECTION
            or letter in "\u061c\u200e\u200f"  # the marks, of no width
        )
        assert (plain(letter) != letter) == (steers and letter not in "\t\n"), hex(code)
        assert one_line(letter).isascii() or one_line(letter) == letter
        assert not steers or one_line(letter).isprintable(), hex(code)


def test_escapes_are_those_of_python() -> None:
    assert plain("a\x1b[31mb\x9bc\u202ed\x07\r\n\te") == "a\\x1b[31mb\\x9bc\\u202ed\\x07\\r\n\te"
    assert one_line("a\tb\nc\\n") == "a\\tb\\nc\\n"
    assert plain("größe 模型 👩\u200d🔬") == "größe 模型 👩\u200d🔬"
