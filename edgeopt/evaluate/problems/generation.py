# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What a generator is asked about rows of data: to go on with prompts, or how likely texts are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from edgeopt.errors import InputError
from edgeopt.evaluate import rows as readers
from edgeopt.evaluate.problems.asked import Asked, some
from edgeopt.evaluate.problems.language import LastWord, Perplexity
from edgeopt.evaluate.problems.problem import Problem
from edgeopt.evaluate.problems.written import Written
from edgeopt.evaluate.rows import plain
from edgeopt.evaluate.rows.row import Row, Rows, text, texts
from edgeopt.model.answer import Continuation

TEXTS = ("text", "sentence", "content", "page")
PROMPTS = ("prompt", "source", "document", "article", "dialogue", "input", "question", *TEXTS)
EXPECTED = {
    "reference": "chrf",
    "references": "chrf",
    "translation": "bleu",
    "target": "bleu",
    "summary": "rouge_l",
    "highlights": "rouge_l",
    "answer": "exact_match",
    "answers": "exact_match",
    "completion": "chrf",
    "output": "chrf",
}
"""Columns of what is expected, each with the figure that is customary for it."""

_LAMBADA = "lambada"


def load(path: Path, asked: Asked) -> Problem:
    """Read the data at ``path`` for a generator.

    Rows with a column of expected texts are prompts; of a file whose name has "lambada" the last
    word is asked for; all other texts are judged as a whole. Raises InputError, with file and line,
    for wrong data.
    """
    rows = some(_rows(path), asked.limit)
    column = asked.columns.label or next((c for c in EXPECTED if rows.has(c)), None)
    if column is not None:
        return _written(rows, column, asked)
    if not asked.window:
        raise InputError(
            "has no column of expected texts, and an encoder-decoder answers a text with another",
            where=str(path),
            hint=f"Name one with --label, or call it {', '.join(EXPECTED)}. How likely a text is "
            "is asked of decoders.",
        )
    named = rows.column(asked.columns.text, TEXTS, "texts", "--text")
    if _LAMBADA in path.name.lower():
        return _judged(rows, named, asked, LastWord, _last_word)
    return _judged(rows, named, asked, Perplexity, _whole)


def _rows(path: Path) -> Rows:
    name = path.name.lower().removesuffix(".gz")
    if not path.is_file() or not name.endswith(plain.ENDINGS):
        return readers.read(path)
    found = tuple(plain.read(path))
    if not found:
        raise InputError("has no text", where=str(path))
    return Rows(path=path, rows=found)


def _written(rows: Rows, column: str, asked: Asked) -> Written:
    rows.column(column, (), "expected texts", "--label")
    prompts = rows.column(asked.columns.text, PROMPTS, "prompts", "--text")
    return Written(
        inputs=tuple(text(row, prompts) for row in rows.rows),
        places=tuple(row.where for row in rows.rows),
        expected=tuple(_expected(row, column) for row in rows.rows),
        main=EXPECTED.get(column, "chrf"),
    )


def _expected(row: Row, column: str) -> tuple[str, ...]:
    if not isinstance(row.values.get(column), list | tuple):
        return (text(row, column, blank=True),)
    found = texts(row, column)
    if not found:
        raise InputError(f"expected a text in {column!r}, found none", where=row.where)
    return found


def _whole(row: Row, column: str, window: int) -> Continuation:
    return Continuation(context="", text=text(row, column), window=window)


def _last_word(row: Row, column: str, window: int) -> Continuation:
    whole = text(row, column).strip()
    context, _, word = whole.rpartition(" ")
    if not context.strip():
        raise InputError(f"expected two words at least, found {whole!r}", where=row.where)
    return Continuation(context=context, text=f" {word}", window=window)


def _judged(
    rows: Rows,
    column: str,
    asked: Asked,
    kind: type[LastWord] | type[Perplexity],
    part: Callable[[Row, str, int], Continuation],
) -> Problem:
    return kind(
        inputs=tuple(part(row, column, asked.window) for row in rows.rows),
        places=tuple(row.where for row in rows.rows),
    )
