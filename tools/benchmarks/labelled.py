# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Texts with labels, one JSON object a line."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeopt.errors import InputError


@dataclass(frozen=True, kw_only=True, slots=True)
class Labelled:
    """Texts with their label (None if the data has none)."""

    texts: tuple[str, ...]
    labels: tuple[str | None, ...]


def read(path: Path) -> Labelled:
    """Read .jsonl or .jsonl.gz with ``text`` and maybe ``label``; InputError for other files."""
    opener: Any = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8") as file:
            rows = [json.loads(line) for line in file]
        return Labelled(
            texts=tuple(row["text"] for row in rows),
            labels=tuple(row.get("label") for row in rows),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
        raise InputError(
            f'expected an object with "text" on each line ({type(exc).__name__}: {exc})',
            where=str(path),
        ) from exc
