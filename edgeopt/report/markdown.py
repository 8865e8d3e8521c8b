# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Markdown as GitHub renders it, out of texts of others and out of figures."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from edgeopt.report.shown import one_line

_MARKUP = re.compile(r"([\\`*\[\]<>|#~$&]|(?<!\w)_|_(?!\w)|:(?=//))")


def text(value: object) -> str:
    """Return ``value`` so that it stands there as it is: no markup, link or line end in it."""
    return _MARKUP.sub(r"\\\1", one_line(str(value)))


def code(value: object) -> str:
    """Return inline code; in a table a bar has to be escaped even there."""
    return f"`{one_line(str(value)).replace('`', chr(39)).replace('|', chr(92) + '|')}`"


def block(lines: Sequence[str], language: str) -> str:
    """Return lines as a block of code, in a fence that is longer than any that they hold."""
    kept = [one_line(line) for line in lines]
    ticks = (len(found) for line in kept for found in re.findall("`+", line))
    fence = "`" * max([3, *(count + 1 for count in ticks)])
    return "\n".join([f"{fence}{language}", *kept, fence])


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], words: Sequence[int] = (0,)) -> str:
    """Return a table; the columns ``words`` stand to the left, those of figures to the right."""
    rule = ["---" if i in words else "---:" for i in range(len(heads))]
    return "\n".join("| " + " | ".join(line) + " |" for line in (heads, rule, *rows))
