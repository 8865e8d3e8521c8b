# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""A card's two files: the page, and the JSON of the same name."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeopt.errors import InputError
from edgeopt.report.card import KIND
from edgeopt.report.card_page import MARK, page

FOLDER = "cards"

_WORD = re.compile(r"[^A-Za-z0-9._-]+")


def places(card: Mapping[str, Any], output: str | Path | None) -> tuple[Path, Path]:
    """Return the page's file and the JSON's: ``output`` if it ends in .md, else below it.

    Raises InputError for a file of another kind.
    """
    place = Path(output or FOLDER)
    if place.suffix != ".md":
        if place.suffix in (".html", ".json", ".txt") or place.is_file():
            raise InputError(
                "is no folder, and no .md file",
                where=str(place),
                hint="A card is a page of Markdown, with the JSON of the same name beside it.",
            )
        word = _WORD.sub("-", f"{card['model']['name']}-{card['board']['name']}").strip("-.")
        place = place / f"{word or KIND}.md"
    return place, place.with_suffix(".json")


def write(card: Mapping[str, Any], place: Path, beside: Path) -> None:
    """Write the page and the JSON, each in one rename.

    Raises InputError if one of them exists and is no card, or cannot be written.
    """
    for path, is_card in ((place, _is_page), (beside, _is_document)):
        try:
            if path.exists() and not is_card(path.read_text(encoding="utf-8")):
                raise InputError(
                    "exists and is no card",
                    where=str(path),
                    hint="Give another place with --output.",
                )
        except (OSError, ValueError) as exc:
            raise InputError(f"cannot be read: {exc}", where=str(path)) from exc
    _replace(beside, json.dumps(card, indent=1, allow_nan=False) + "\n")
    _replace(place, page(card))


def _is_page(text: str) -> bool:
    return text.startswith(MARK)


def _is_document(text: str) -> bool:
    try:
        found = json.loads(text)
    except ValueError:
        return False
    return isinstance(found, dict) and found.get("kind") == KIND


def _replace(path: Path, text: str) -> None:
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
        temporary = None
    except OSError as exc:
        raise InputError(f"cannot be written ({exc.strerror})", where=str(path)) from exc
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
