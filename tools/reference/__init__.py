# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The pages of docs/reference that are written from the code."""

from __future__ import annotations

import importlib
from pathlib import Path

FOLDER = Path(__file__).parent.parent.parent / "docs" / "reference"
MARK = "<!-- Written from the code by tools/docs: change it there. -->\n\n"
_WRITERS = ("commands", "recipes", "targets", "bundle", "header", "python", "exits", "estimates")


def pages() -> dict[str, str]:
    """Return the text of each page, by its path below ``FOLDER``."""
    found: dict[str, str] = {}
    for name in _WRITERS:
        found |= importlib.import_module(f"tools.reference.{name}").pages()
    return {name: MARK + text for name, text in found.items()}
