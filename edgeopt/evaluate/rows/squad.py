# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The JSON of SQuAD 1.1 and 2.0."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgeopt.errors import InputError
from edgeopt.evaluate.rows.row import Row


def read(found: dict[str, Any], path: Path) -> Iterator[Row]:
    """Yield a row for each question: question, context, answers (a list of texts, [] for none).

    ``found`` is what the file holds. Raises InputError, with the place, where it is not as SQuAD's.
    """
    for i, article in enumerate(_list(found, "data", str(path))):
        place = f"{path}: data[{i}]"
        for j, paragraph in enumerate(_list(article, "paragraphs", place)):
            inner = f"{place}.paragraphs[{j}]"
            context = _text(paragraph, "context", inner)
            for k, asked in enumerate(_list(paragraph, "qas", inner)):
                where = f"{inner}.qas[{k}]"
                impossible = isinstance(asked, dict) and asked.get("is_impossible") is True
                answers = [
                    _text(answer, "text", f"{where}.answers[{n}]")
                    for n, answer in enumerate(_list(asked, "answers", where))
                ]
                if not answers and not impossible and not _is_second(found):
                    raise InputError("has no answers", where=where)
                question = _text(asked, "question", where)
                values = {"question": question, "context": context}
                yield Row(where=where, values={**values, "answers": [] if impossible else answers})


def _is_second(found: dict[str, Any]) -> bool:
    """Tell whether questions may have no answer: in version 2.0 they may."""
    return str(found.get("version", "")).lstrip("v").startswith("2")


def _list(found: Any, key: str, where: str) -> list[Any]:
    value = found.get(key) if isinstance(found, dict) else None
    if not isinstance(value, list):
        raise InputError(f'expected an object with "{key}" that is a list', where=where)
    return value


def _text(found: Any, key: str, where: str) -> str:
    value = found.get(key) if isinstance(found, dict) else None
    if not isinstance(value, str):
        raise InputError(f'expected an object with "{key}" that is a string', where=where)
    return value
