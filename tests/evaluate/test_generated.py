# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Data for generators, and figures of texts on draws of them, against the field's libraries."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from edgeopt.errors import InputError
from edgeopt.evaluate.problems import generation
from edgeopt.evaluate.problems.asked import Asked
from edgeopt.evaluate.problems.language import LastWord, Perplexity
from edgeopt.evaluate.problems.written import Written
from edgeopt.evaluate.rows import plain
from edgeopt.evaluate.rows.row import Columns
from edgeopt.model.answer import Answer, Continuation

ASKED = Asked(window=64)


def test_texts_of_a_file_are_parted_by_blank_lines_or_titles(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("\n\none\nand more\n\n\n two\n")
    assert [(r.where, r.values["text"]) for r in plain.read(path)] == [
        (f"{path}: line 3", "one\nand more"),
        (f"{path}: line 7", " two"),
    ]
    path = tmp_path / "wiki.valid.raw"
    path.write_text(
        " \n = One = \n \n text \n = = Part = = \n more \n = Two = 2 = \n = Two = \n x\n"
    )
    first, second = plain.read(path)
    assert first.values["text"] == " = One = \n \n text \n = = Part = = \n more \n = Two = 2 = "
    assert (second.where, second.values["text"]) == (f"{path}: line 8", " = Two = \n x")


def test_columns_and_names_tell_what_is_asked(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"article": "Long.", "highlights": "Short."}\n')
    found = generation.load(rows, ASKED)
    assert isinstance(found, Written)
    assert (found.inputs, found.expected, found.main) == (("Long.",), (("Short.",),), "rouge_l")
    rows.write_text('{"text": "a b c"}\n')
    found = generation.load(rows, ASKED)
    assert isinstance(found, Perplexity)
    assert found.inputs == (Continuation(context="", text="a b c", window=64),)
    other = rows.rename(tmp_path / "lambada.jsonl")
    found = generation.load(other, ASKED)
    assert isinstance(found, LastWord)
    assert found.inputs == (Continuation(context="a b", text=" c", window=64),)
    assert found.unit(0) == (f"{other}: line 1", "...a b", "c")


@pytest.mark.parametrize(
    ("name", "content", "columns", "told"),
    [
        ("a.txt", " \n\n", Columns(), "has no text"),
        ("lambada.jsonl", '{"text": "one"}', Columns(), "expected two words at least"),
        ("a.jsonl", '{"label": 1}', Columns(), "has no column of texts"),
        ("a.jsonl", '{"text": "a", "target": []}', Columns(), "expected a text in 'target'"),
        ("a.jsonl", '{"text": "a", "target": 3}', Columns(), "expected a text in 'target'"),
        ("a.jsonl", '{"text": "a"}', Columns(label="gold"), "has no column 'gold'"),
    ],
)
def test_wrong_data_is_told(
    name: str, content: str, columns: Columns, told: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=told):
        generation.load(tmp_path / name, Asked(window=64, columns=columns))


def test_figures_of_a_draw_are_those_of_the_drawn_texts() -> None:
    sacrebleu = pytest.importorskip("sacrebleu", reason="needs edgeopt[evaluate]")
    rouge = pytest.importorskip("rouge_score.rouge_scorer", reason="needs edgeopt[evaluate]")
    got = ["the boat is late again today", "nothing of it", "a cat sat on the mat", ""]
    wanted = (
        ("the boat was late again today", "today the boat is late"),
        ("nothing of it",),
        ("the cat sat on a mat in the sun",),
        ("an answer",),
    )
    problem = Written(inputs=("p",) * 4, places=("x",) * 4, expected=wanted)
    found = problem.score([Answer(written=f" {text}\n") for text in got])
    drawn = [0, 0, 2, 1, 3]
    counts = np.bincount(drawn, minlength=4)[None].astype(np.float64)
    texts = [got[i] for i in drawn]
    padded = [[wanted[i][0] for i in drawn], [[*wanted[i], None][1] for i in drawn]]
    for name, score in (("bleu", sacrebleu.corpus_bleu), ("chrf", sacrebleu.corpus_chrf)):
        assert found.figures[name].at(counts)[0] == pytest.approx(score(texts, padded).score)
        whole = found.figures[name].at(np.ones((1, 4)))[0]
        assert found.figures[name].value == pytest.approx(whole)
    scorer = rouge.RougeScorer(["rougeL"], use_stemmer=True)
    best = [max(scorer.score(w, got[i])["rougeL"].fmeasure for w in wanted[i]) for i in range(4)]
    assert found.figures["rouge_l"].value == pytest.approx(np.mean(best))
    assert found.figures["exact_match"].value == 0.25
    assert list(np.argsort(found.loss)) == [1, 0, 2, 3]


def test_perplexities_are_of_all_texts_together() -> None:
    asked = [Continuation(context="", text=text, window=8) for text in ("one two", "é")]
    problem = Perplexity(inputs=tuple(asked), places=("x", "y"))
    answers = [Answer(losses=np.array([1.0, 2.0])), Answer(losses=np.array([]))]
    figures = problem.score(answers).figures
    assert figures["perplexity"].value == pytest.approx(math.exp(1.5))
    assert figures["word_perplexity"].value == pytest.approx(math.exp(1))
    assert figures["bits_per_byte"].value == pytest.approx(3 / math.log(2) / 9)
    assert figures["perplexity"].at(np.array([[2.0, 1.0]]))[0] == pytest.approx(math.exp(1.5))
    assert np.isnan(figures["perplexity"].at(np.array([[0.0, 2.0]]))[0])
