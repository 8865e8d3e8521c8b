# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What can be evaluated: one kind of answer a file, and how rows of data become it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np

from edgeopt.errors import InputError
from edgeopt.evaluate import rows as readers
from edgeopt.evaluate.data import LABELS, index_of
from edgeopt.evaluate.problems import generation, in_images
from edgeopt.evaluate.problems.answers import Answers
from edgeopt.evaluate.problems.asked import Asked, drawn, indexing, some
from edgeopt.evaluate.problems.classification import Classification
from edgeopt.evaluate.problems.correlation import Regression, Similarity
from edgeopt.evaluate.problems.entities import Entities, Entity, entities
from edgeopt.evaluate.problems.multilabel import MultiLabel
from edgeopt.evaluate.problems.problem import Dual, Problem, Subject
from edgeopt.evaluate.problems.retrieval import Retrieval
from edgeopt.evaluate.problems.zero_shot import ZeroShot
from edgeopt.evaluate.rows import folders, pictures
from edgeopt.evaluate.rows.row import Columns, Row, Rows, marked, number, several, text, texts
from edgeopt.fields import nearest
from edgeopt.model.answer import Text
from edgeopt.model.original import entity_of
from edgeopt.model.tasks import (
    IMAGE_FEATURE_EXTRACTION,
    TEXT_GENERATION,
    ZERO_SHOT_IMAGE_CLASSIFICATION,
    Result,
)

_IN_IMAGES: dict[Result, Callable[[Rows, Subject, Asked], Problem]] = {
    Result.BOXES: in_images.objects,
    Result.CLASS_MAP: in_images.class_maps,
}
PAIRS = (
    ("sentence1", "sentence2"),
    ("question1", "question2"),
    ("premise", "hypothesis"),
    ("text1", "text2"),
    ("text", "text_pair"),
    ("query", "passage"),
    ("query", "document"),
    ("question", "sentence"),
)
TEXTS = ("text", "sentence", "content", "review", "comment_text")
CAPTIONS = ("caption", "captions", "text", "title", "sentence", "sentences", "raw")
SCORES = ("score", "label", "similarity_score", "similarity", "labels")
TOKENS, TAGS, SPANS = ("tokens", "words"), ("ner_tags", "tags", "labels"), ("entities", "spans")
"""Columns that are found by convention, the first one that there is."""


def load(path: Path, subject: Subject, asked: Asked) -> Problem:
    """Read the data at ``path`` as what answers of ``subject`` are held against.

    Raises InputError, with file and line, where it is not of the task, or wrong.
    """
    if asked.labels and len(asked.labels) != len(subject.labels):
        raise InputError(
            f"expected {len(subject.labels)} names, found {len(asked.labels)}",
            where="labels",
            hint=f"{subject.name} has, in this order: {', '.join(subject.labels)}",
        )
    if subject.task == ZERO_SHOT_IMAGE_CLASSIFICATION:
        return _of_both(pictures.resolved(readers.read(path)), cast(Dual, subject), asked)
    if subject.task == TEXT_GENERATION:
        return generation.load(path, asked)
    if subject.task == IMAGE_FEATURE_EXTRACTION:
        raise InputError(
            f"{subject.name} is for {subject.task}, for which edgeopt has no figures yet",
            where=str(path),
            hint="'edgeopt compile --data FOLDER' compares its answers with transformers' on your "
            "images.",
        )
    if folders.is_corpus(path) and subject.task.result is Result.EMBEDDING:
        return _retrieval(path, asked)
    rows = readers.read(path)
    if subject.task.input == "image" and pictures.named(rows):
        rows = pictures.resolved(rows)
    if (subject.task.input == "image") != rows.has("image"):
        wanted = "a folder of images for each label" if subject.task.input == "image" else "texts"
        raise InputError(
            f"holds {'images' if rows.has('image') else 'no images'}, but {subject.name} is for "
            f"{subject.task} and takes {wanted}",
            where=str(path),
        )
    if subject.task.result in _IN_IMAGES:
        return _IN_IMAGES[subject.task.result](rows, subject, asked)
    built: dict[Result, Callable[[Rows, Subject, Asked], Problem]] = {
        Result.SCORES: _scores,
        Result.EMBEDDING: _similarity,
        Result.ENTITIES: _entities,
        Result.SPANS: _answers,
    }
    return built[subject.task.result](some(rows, asked.limit), subject, asked)


def _scores(rows: Rows, subject: Subject, asked: Asked) -> Problem:
    inputs, noun = _inputs(rows, asked.columns)
    places = tuple(row.where for row in rows.rows)
    if len(subject.labels) == 1:
        column = rows.column(asked.columns.label, SCORES, "scores", "--label")
        expected = np.array([number(row, column) for row in rows.rows])
        return Regression(inputs=inputs, places=places, expected=expected, noun=noun)
    if subject.activation == "sigmoid":
        table = _table(rows, subject, asked)
        return MultiLabel(
            inputs=inputs, places=places, expected=table, classes=subject.labels, noun=noun
        )
    column = rows.column(asked.columns.label, LABELS, "labels", "--label")
    index = indexing(rows, column, subject, asked)
    values = [index(row.values.get(column), row.where) for row in rows.rows]
    return Classification(
        inputs=inputs,
        places=places,
        expected=np.array(values),
        classes=subject.labels,
        noun=noun,
        main=rows.figure if rows.figure and len(subject.labels) == 2 else "accuracy",
        top=subject.task.input == "image",
    )


def _table(rows: Rows, subject: Subject, asked: Asked) -> np.ndarray:
    """Return which labels each row has, bool (rows, labels).

    They are in a column for each label, of 0 and 1, or together in one.
    """
    known = asked.labels or subject.labels
    if asked.columns.label is None and rows.has(*known):
        return np.array([marked(row, known) for row in rows.rows])
    column = rows.column(asked.columns.label, LABELS, "labels", "--label")
    index = indexing(rows, column, subject, asked)
    table = np.zeros((len(rows.rows), len(known)), bool)
    for i, row in enumerate(rows.rows):
        for value in several(row, column, known):
            table[i, index(value, row.where)] = True
    return table


def _inputs(rows: Rows, columns: Columns) -> tuple[tuple[Any, ...], str]:
    """Return texts, pairs or images, and what they are called."""
    if rows.has("image"):
        return tuple(row.values["image"] for row in rows.rows), "images"
    pair = _pair(rows, columns)
    if pair is not None:
        first, second = pair
        found: list[Text] = [(text(row, first), text(row, second)) for row in rows.rows]
        return tuple(found), "pairs"
    column = rows.column(columns.text, TEXTS, "texts", "--text")
    return tuple(text(row, column) for row in rows.rows), "texts"


def _pair(rows: Rows, columns: Columns) -> tuple[str, str] | None:
    """Return the columns of pairs, None if rows have one text."""
    if columns.text is None and columns.pair is None:
        return next((pair for pair in PAIRS if rows.has(*pair)), None)
    if columns.pair is None:
        return None
    first = rows.column(columns.text, (*TEXTS, *(a for a, _ in PAIRS)), "texts", "--text")
    return first, rows.column(columns.pair, (), "second texts", "--pair")


def _of_both(rows: Rows, subject: Dual, asked: Asked) -> Problem:
    """Return what a dual encoder is asked: captions for their images, or images for their label."""
    columns = (*CAPTIONS, *([asked.columns.text] if asked.columns.text else ()))
    if any(rows.has(name) for name in columns) and asked.columns.label is None:
        return _captions(rows, asked)
    if subject.similarity is None:
        raise InputError("says no similarity of its embeddings", where=subject.name)
    rows = some(rows, asked.limit)
    column = rows.column(asked.columns.label, LABELS, "labels or captions", "--label or --text")
    found = [str(_named(row, column, rows)) for row in rows.rows]
    classes = asked.labels or tuple(sorted(set(found)))
    expected = [
        index_of(name, classes, row.where) for name, row in zip(found, rows.rows, strict=True)
    ]
    if len(classes) < 2:
        raise InputError(f"has the one label {classes[0]!r}", where=str(rows.path))
    return ZeroShot(
        prompts=tuple(
            template.replace("{}", name) for name in classes for template in asked.prompts
        ),
        images=Classification(
            inputs=tuple(row.values[pictures.IMAGE] for row in rows.rows),
            places=tuple(row.where for row in rows.rows),
            expected=np.array(expected),
            classes=classes,
            noun="images",
            top=True,
        ),
        similarity=subject.similarity,
        activation=subject.activation,
    )


def _named(row: Row, column: str, rows: Rows) -> Any:
    """Return a label, by its name if the data says what numbers stand for."""
    value, names = row.values.get(column), rows.names.get(column)
    if names is not None and type(value) is int and 0 <= value < len(names):
        return names[value]
    if value is None or value == "":
        raise InputError(f"has no label in {column!r}", where=row.where)
    return value


def _captions(rows: Rows, asked: Asked) -> Problem:
    """Return captions that should find their images: each image once, whatever rows it is in."""
    column = rows.column(asked.columns.text, CAPTIONS, "captions", "--text")
    at: dict[Path, int] = {}
    places: list[str] = []
    asked_of: list[tuple[str, str, int]] = []
    for row in rows.rows:
        image = row.values[pictures.IMAGE]
        if image not in at:
            at[image] = len(at)
            places.append(row.where)
        value = row.values.get(column)
        several = texts(row, column) if isinstance(value, list | tuple) else (text(row, column),)
        asked_of += [(caption, row.where, at[image]) for caption in several]
    if len(at) < 2:
        raise InputError("two images are needed", where=str(rows.path))
    if asked.limit is not None and asked.limit < len(asked_of):
        asked_of = [asked_of[i] for i in drawn(len(asked_of), asked.limit)]
    return Retrieval(
        inputs=(*at, *(caption for caption, _, _ in asked_of)),
        places=(*places, *(where for _, where, _ in asked_of)),
        documents=len(at),
        ids=tuple(image.name for image in at),
        relevant=tuple({image: 1.0} for _, _, image in asked_of),
        noun="captions",
        main="recall_at_1",
        recalls=(1, 5, 10),
    )


def _similarity(rows: Rows, subject: Subject, asked: Asked) -> Problem:
    pair = _pair(rows, asked.columns)
    if pair is None:
        raise InputError(
            f"has no pairs of texts, and {subject.name} is for {subject.task}",
            where=str(rows.path),
            hint="Embeddings are evaluated on pairs with a score, or on a folder with corpus.jsonl,"
            f" queries.jsonl and qrels. It has the columns {', '.join(rows.columns)}; name those of"
            " pairs with --text and --pair.",
        )
    column = rows.column(asked.columns.label, SCORES, "scores", "--label")
    at: dict[str, int] = {}
    places, pairs = [], []
    for row in rows.rows:
        found = [text(row, name) for name in pair]
        for one in found:
            if one not in at:
                at[one] = len(at)
                places.append(row.where)
        pairs.append([at[one] for one in found])
    return Similarity(
        inputs=tuple(at),
        places=tuple(places),
        pairs=np.array(pairs),
        pair_places=tuple(row.where for row in rows.rows),
        expected=np.array([number(row, column) for row in rows.rows]),
    )


def _retrieval(path: Path, asked: Asked) -> Problem:
    found = folders.read_corpus(path)
    queries = [key for key in found.queries if key in found.gains]
    if asked.limit is not None and asked.limit < len(queries):
        queries = [queries[i] for i in drawn(len(queries), asked.limit)]
    at = {key: i for i, key in enumerate(found.documents)}
    documents = [_document(row) for row in found.documents.values()]
    asked_rows = [found.queries[key] for key in queries]
    return Retrieval(
        inputs=(*documents, *(text(row, "text") for row in asked_rows)),
        places=tuple(row.where for row in (*found.documents.values(), *asked_rows)),
        documents=len(documents),
        ids=tuple(at),
        relevant=tuple({at[d]: gain for d, gain in found.gains[key].items()} for key in queries),
    )


def _document(row: Row) -> str:
    """Return title and text, as BEIR joins them."""
    title = row.values.get("title") or ""
    if not isinstance(title, str):
        raise InputError(f'expected a text in "title", found {title!r}', where=row.where)
    return f"{title} {text(row, 'text', blank=True)}".strip()


_OfRow = tuple[str, tuple[tuple[int, int], ...] | None, tuple[Entity, ...]]
"""A text, where its words are, and its entities."""


def _entities(rows: Rows, subject: Subject, asked: Asked) -> Problem:
    types = {entity_of(label) for label in subject.labels} - {"O"}
    found: list[_OfRow] = []
    by_words = asked.columns.text is not None or rows.has(TOKENS[0]) or rows.has(TOKENS[1])
    for row in rows.rows:
        of_row = _words(row, rows, subject, asked) if by_words else _characters(row, rows, asked)
        for kind, _, _ in of_row[2]:
            if kind not in types:
                raise InputError(
                    f"has the entity {kind!r}, which is not one of the model's "
                    f"({', '.join(sorted(types))}){nearest(kind, tuple(types))}",
                    where=row.where,
                )
        found.append(of_row)
    return Entities(
        inputs=tuple(text_of_row for text_of_row, _, _ in found),
        places=tuple(row.where for row in rows.rows),
        expected=tuple(expected for _, _, expected in found),
        words=tuple(words for _, words, _ in found),
    )


def _words(row: Row, rows: Rows, subject: Subject, asked: Asked) -> _OfRow:
    """Return the words joined by blanks, where each is, and the entities of their tags."""
    tokens = texts(row, rows.column(asked.columns.text, TOKENS, "words", "--text"))
    column = rows.column(asked.columns.label, TAGS, "tags", "--label")
    names = rows.names.get(column, subject.labels)
    found = row.values.get(column)
    if not isinstance(found, list | tuple) or len(found) != len(tokens):
        what = f"{len(found)} tags" if isinstance(found, list | tuple) else repr(found)
        raise InputError(
            f"expected a tag for each of {len(tokens)} words in {column!r}, found {what}",
            where=row.where,
        )
    tags = []
    for tag in found:
        if type(tag) is int and 0 <= tag < len(names):
            tag = names[tag]
        if not isinstance(tag, str):
            raise InputError(f"expected a tag, found {tag!r}", where=row.where)
        tags.append(tag)
    ends = np.cumsum([len(token) + 1 for token in tokens]) - 1
    places = tuple((int(e) - len(t), int(e)) for t, e in zip(tokens, ends, strict=True))
    return " ".join(tokens), places, tuple(entities(tags))


def _characters(row: Row, rows: Rows, asked: Asked) -> _OfRow:
    """Return a text and its entities in characters."""
    whole = text(row, rows.column(None, TEXTS, "texts", "--text"))
    column = rows.column(asked.columns.label, SPANS, "entities", "--label")
    found = row.values.get(column)
    kept: list[Entity] = []
    for one in found if isinstance(found, list | tuple) else [None]:
        span = one if isinstance(one, dict) else {}
        begin, end, kind = span.get("start"), span.get("end"), span.get("label")
        if type(begin) is not int or type(end) is not int or not isinstance(kind, str):
            raise InputError(
                f'expected a list of {{"start", "end", "label"}} in {column!r}, found {one!r}',
                where=row.where,
            )
        if not 0 <= begin < end <= len(whole):
            raise InputError(
                f"has an entity at {begin} to {end}, and {len(whole)} characters", where=row.where
            )
        kept.append((kind, begin, end))
    return whole, None, tuple(kept)


def _answers(rows: Rows, subject: Subject, asked: Asked) -> Problem:
    columns = asked.columns
    question = rows.column(columns.text, ("question",), "questions", "--text")
    context = rows.column(columns.pair, ("context",), "contexts", "--pair")
    column = rows.column(columns.label, ("answers", "answer"), "answers", "--label")
    return Answers(
        inputs=tuple((text(row, question), text(row, context)) for row in rows.rows),
        places=tuple(row.where for row in rows.rows),
        expected=tuple(_expected(row, column) for row in rows.rows),
        no_answer_below=asked.no_answer_below,
    )


def _expected(row: Row, column: str) -> tuple[str, ...]:
    """Return the answers, however they are written: texts, objects with one, an object of lists."""
    found = row.values.get(column)
    if isinstance(found, dict):
        found = found.get("text")
    if isinstance(found, str):
        found = [found] if found.strip() else []
    if not isinstance(found, list | tuple):
        raise InputError(f"expected answers in {column!r}, found {found!r}", where=row.where)
    kept = [one.get("text") if isinstance(one, dict) else one for one in found]
    answers = tuple(one for one in kept if isinstance(one, str))
    if len(answers) < len(kept):
        raise InputError(f"expected answers in {column!r}, found {found!r}", where=row.where)
    return answers
