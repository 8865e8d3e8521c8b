# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Texts of others as a terminal may show them: what would steer it stands there as an escape.

A label, a file's name, what a board says of itself: any of them may hold a control character, a
sequence that begins with one, or a mark that turns the direction of what is read (C0 and C1 of
ISO 6429, Unicode's bidirectional formatting characters).
"""

from __future__ import annotations

import re

_STEERS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
_BREAKS = re.compile("[\t\n]")


def plain(text: str) -> str:
    """Return ``text`` with an escape for each character that steers; lines and tabs stay."""
    return _STEERS.sub(_escaped, text)


def one_line(text: str) -> str:
    """Return ``text`` as ``plain`` does, its line ends and tabs as escapes too."""
    return _BREAKS.sub(_escaped, plain(text))


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape", "surrogatepass").decode("ascii")
