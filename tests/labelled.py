# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Labelled data of every kind, made by a seeded generator: no data set is copied."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from edgeopt.model import texts
from tests.checkpoints import LABELS, WORDS

TAGS = ("O", "B-LIB", "I-LIB", "B-NET", "I-NET")


def sentence(generator: np.random.Generator, low: int = 2, high: int = 24) -> str:
    return " ".join(generator.choice(WORDS, generator.integers(low, high)))


def lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def classes(path: Path, count: int = 120, seed: int = 0) -> Path:
    draw = np.random.default_rng(seed)
    rows = [{"text": sentence(draw), "label": str(draw.choice(LABELS))} for _ in range(count)]
    return lines(path, rows)


def conll(path: Path, count: int = 40, seed: int = 0) -> Path:
    """Sentences with random tags: adjacent entities, and "I-" behind "O" as in IOB1."""
    draw = np.random.default_rng(seed)
    out = ["-DOCSTART- -X- O O", ""]
    for _ in range(count):
        for word in sentence(draw).split():
            out.append(f"{word} NN B-NP {draw.choice(TAGS)}")
        out.append("")
    path.write_text("\n".join(out), encoding="utf-8")
    return path


def squad(path: Path, count: int = 40, *, version: str = "1.1", words: int = 60) -> Path:
    """Questions on contexts of 8 to ``words`` words; in version 2.0 each third has no answer."""
    draw = np.random.default_rng(1)
    articles = []
    for i in range(count):
        context = sentence(draw, 8, words)
        parts = context.split()
        answers = []
        for _ in range(2):
            first = int(draw.integers(0, len(parts) - 2))
            text = " ".join(parts[first : first + int(draw.integers(1, 4))])
            answers.append({"text": text, "answer_start": context.find(text)})
        asked: dict[str, Any] = {"id": str(i), "question": sentence(draw, 2, 5) + "?"}
        if version == "2.0":
            asked["is_impossible"] = i % 3 == 0
        asked["answers"] = [] if asked.get("is_impossible") else answers
        articles.append({"title": "t", "paragraphs": [{"context": context, "qas": [asked]}]})
    path.write_text(json.dumps({"version": f"v{version}", "data": articles}), encoding="utf-8")
    return path


def english(count: int) -> list[str]:
    """Return the first words of texts that edgeopt ships, no two the same."""
    shipped = [text for text in texts.read_texts(None, 1000) if text.isascii()]
    whole = [" ".join(text.split()[:24]) for text in shipped if len(text.split()) >= 8]
    return list(dict.fromkeys(whole))[:count]


def pairs(path: Path, count: int = 60, seed: int = 0) -> Path:
    """Pairs of sentences of which a part of the words is another's; the score is the rest."""
    draw = np.random.default_rng(seed)
    found = english(count)
    rows = []
    for i, text in enumerate(found):
        words, others = text.split(), found[(i + 7) % len(found)].split()
        changed = draw.random(len(words)) < draw.random()
        second = [str(draw.choice(others)) if c else w for w, c in zip(words, changed, strict=True)]
        score = round(5 * (1 - float(changed.mean())), 2)
        rows.append({"sentence1": text, "sentence2": " ".join(second), "score": score})
    return lines(path, rows)


def corpus(folder: Path, count: int = 60, seed: int = 0) -> Path:
    """A corpus in BEIR's layout; queries are some words of one document, and of another's."""
    draw = np.random.default_rng(seed)
    folder.mkdir()
    (folder / "qrels").mkdir()
    found = english(count)
    documents = [{"_id": f"d{i}", "title": "", "text": text} for i, text in enumerate(found)]
    queries, table = [], ["query-id\tcorpus-id\tscore"]
    for i in range(0, len(found), 2):
        near = (i + 1) % len(found)
        own, other = found[i].split(), found[near].split()
        words = [*draw.choice(own, 3), *draw.choice(other, 1)]
        queries.append({"_id": f"q{i}", "text": " ".join(map(str, words))})
        table += [f"q{i}\td{i}\t1", f"q{i}\td{near}\t1"]
    queries.append({"_id": "unjudged", "text": "nothing"})
    lines(folder / "corpus.jsonl", documents)
    lines(folder / "queries.jsonl", queries)
    (folder / "qrels" / "test.tsv").write_text("\n".join(table) + "\n")
    return folder
