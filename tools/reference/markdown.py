# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Markdown out of values and docstrings."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Sequence


def literal(text: str) -> str:
    """Return ``text`` as inline code."""
    return f"`{text}`" if text else ""


def code(text: str, language: str) -> str:
    """Return ``text`` as a block of code."""
    return f"```{language}\n{text.rstrip()}\n```"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; a bar in a cell is escaped."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(
        "| " + " | ".join(" ".join(cell.replace("|", "\\|").split()) for cell in line) + " |\n"
        for line in lines
    )


def prose(docstring: str | None) -> str:
    """Return a docstring as Markdown: its double backquotes become single ones."""
    return re.sub(r"``(.+?)``", r"`\1`", inspect.cleandoc(docstring or ""))
