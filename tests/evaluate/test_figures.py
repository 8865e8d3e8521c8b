# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Figures, against the libraries of the field, on all units and on units drawn again."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeopt.evaluate.measured import Measured, Scored
from edgeopt.evaluate.problems.answers import Answers, best, exact, overlap
from edgeopt.evaluate.problems.classification import Classification
from edgeopt.evaluate.problems.correlation import Regression, Similarity
from edgeopt.evaluate.problems.entities import Entities, by_words, entities
from edgeopt.evaluate.problems.multilabel import MultiLabel
from edgeopt.evaluate.problems.retrieval import Retrieval
from edgeopt.model.answer import Answer, Span
from tests.lazily import lazily

metrics = lazily("sklearn.metrics", reason="needs edgeopt[evaluate]")
stats = lazily("scipy.stats", reason="needs edgeopt[evaluate]")

UNITS = 60


def texts(count: int = UNITS) -> tuple[str, ...]:
    return tuple(f"text {i}" for i in range(count))


def places(count: int = UNITS) -> tuple[str, ...]:
    return tuple(f"x: line {i}" for i in range(count))


def check(measured: Measured, of: Callable[[np.ndarray], float], units: int) -> None:
    """Hold a figure to the library's, on all units and on 20 draws of them."""
    assert measured.value == pytest.approx(of(np.arange(units)), abs=1e-12)
    draw = np.random.default_rng(5)
    for _ in range(20):
        rows = draw.integers(0, units, units)
        counts = np.bincount(rows, minlength=units).astype(float)[None]
        assert measured.at(counts)[0] == pytest.approx(of(rows), abs=1e-12)


@pytest.mark.parametrize("classes", [2, 3, 8])
def test_one_label_is_scored_as_by_scikit_learn(classes: int) -> None:
    draw = np.random.default_rng(classes)
    expected = draw.integers(0, classes, UNITS)
    scores = draw.random((UNITS, classes)) + np.eye(classes)[expected] * 0.4
    names = tuple(f"c{i}" for i in range(classes))
    problem = Classification(
        inputs=texts(), places=places(), expected=expected, classes=names, top=True
    )
    found = problem.score([Answer(scores=tuple(row)) for row in scores]).figures
    got = scores.argmax(1)
    of: dict[str, Callable[[np.ndarray], float]] = {
        "accuracy": lambda r: metrics.accuracy_score(expected[r], got[r]),
        "f1_macro": lambda r: metrics.f1_score(
            expected[r], got[r], average="macro", zero_division=0
        ),
        "mcc": lambda r: metrics.matthews_corrcoef(expected[r], got[r]),
    }
    if classes == 2:
        of["f1"] = lambda r: metrics.f1_score(expected[r], got[r], zero_division=0)
    if classes > 5:
        of["top_5"] = lambda r: metrics.top_k_accuracy_score(
            expected[r], scores[r], k=5, labels=range(classes)
        )
    assert set(found) == set(of) == set(problem.names)
    for name, figure in of.items():
        check(found[name], figure, UNITS)


def test_what_one_class_alone_is_answered_has_no_correlation() -> None:
    expected = np.array([0, 1, 1, 0])
    problem = Classification(
        inputs=texts(4), places=places(4), expected=expected, classes=("a", "b")
    )
    found = problem.score([Answer(scores=(0.9, 0.1))] * 4).figures
    assert (found["mcc"].value, found["f1"].value, found["accuracy"].value) == (0.0, 0.0, 0.5)


def test_one_label_alone_is_scored_without_a_warning() -> None:
    problem = Classification(
        inputs=texts(4), places=places(4), expected=np.array([1] * 4), classes=("a", "b")
    )
    found = problem.score([Answer(scores=(0.1, 0.9))] * 4).figures
    assert {name: one.value for name, one in found.items()} == {
        "accuracy": 1.0,
        "f1": 1.0,
        "f1_macro": 1.0,
        "mcc": 0.0,
    }


def test_many_labels_are_scored_as_by_scikit_learn() -> None:
    draw = np.random.default_rng(0)
    expected = draw.random((UNITS, 4)) < 0.3
    expected[:, 3] = False  # of which none is expected
    scores = np.clip(0.6 * expected + draw.random((UNITS, 4)) * 0.6, 0, 1)
    scores[:, 0] = scores[:, 0].round(1)  # with equal ones
    problem = MultiLabel(
        inputs=texts(), places=places(), expected=expected, classes=("a", "b", "c", "d")
    )
    found = problem.score([Answer(scores=tuple(row)) for row in scores]).figures
    got = scores >= 0.5

    def f1(average: str) -> Callable[[np.ndarray], float]:
        return lambda r: metrics.f1_score(expected[r], got[r], average=average, zero_division=0)

    check(found["f1_micro"], f1("micro"), UNITS)
    check(found["f1_macro"], f1("macro"), UNITS)
    check(found["accuracy"], lambda r: metrics.accuracy_score(expected[r], got[r]), UNITS)

    def mean_average_precision(r: np.ndarray) -> float:
        there = [i for i in range(4) if expected[r, i].any()]
        each = [metrics.average_precision_score(expected[r, i], scores[r, i]) for i in there]
        return float(np.mean(each))

    check(found["mean_average_precision"], mean_average_precision, UNITS)


def correlations(scored: Scored, expected: np.ndarray, got: np.ndarray) -> None:
    for name, of in (("spearman", stats.spearmanr), ("pearson", stats.pearsonr)):
        check(scored.figures[name], lambda r, of=of: of(expected[r], got[r]).statistic, UNITS)


def test_scores_correlate_as_by_scipy() -> None:
    draw = np.random.default_rng(1)
    expected = draw.integers(0, 6, UNITS).astype(float)  # with equal ones
    got = np.round(expected + draw.normal(size=UNITS), 1)
    problem = Regression(inputs=texts(), places=places(), expected=expected)
    correlations(problem.score([Answer(scores=(s,)) for s in got]), expected, got)


def test_a_constant_correlates_with_nothing() -> None:
    problem = Regression(inputs=texts(4), places=places(4), expected=np.arange(4.0))
    for constant in (0.0, 0.1):
        found = problem.score([Answer(scores=(constant,))] * 4).figures
        assert [f.value for f in found.values()] == [None, None]
        assert np.isnan([f.at(np.ones((1, 4)))[0] for f in found.values()]).all()


def test_pairs_correlate_by_their_cosine() -> None:
    draw = np.random.default_rng(2)
    vectors = draw.normal(size=(70, 8)).astype(np.float32)
    at = np.array([draw.choice(70, 2, replace=False) for _ in range(UNITS)])
    expected = draw.random(UNITS)
    problem = Similarity(
        inputs=texts(70),
        places=places(70),
        pairs=at,
        pair_places=places(),
        expected=expected,
    )
    a, b = vectors[at[:, 0]].astype(float), vectors[at[:, 1]].astype(float)
    got = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    correlations(problem.score([Answer(vector=v) for v in vectors]), expected, got)
    some = np.ones(70, bool)
    some[at[0, 0]] = False
    left = problem.answered(some)
    assert len(left) == int((at != at[0, 0]).all(1).sum())
    assert all(left.inputs[i] == problem.inputs[j] for i, j in zip(
        left.pairs[0], at[(at != at[0, 0]).all(1)][0], strict=True))  # fmt: skip


PREFIXED = ("O", "B-PER", "I-PER", "E-PER", "S-PER", "B-LOC", "I-LOC", "S-LOC", "E-LOC")


def test_entities_of_tags_are_those_of_seqeval() -> None:
    sequence = pytest.importorskip(
        "seqeval.metrics.sequence_labeling", reason="seqeval is not installed"
    )
    draw = np.random.default_rng(3)
    for some in (PREFIXED[:3] + PREFIXED[5:7], PREFIXED):
        for _ in range(500):
            tags = [str(t) for t in draw.choice(some, draw.integers(1, 12))]
            expected = [(kind, begin, end + 1) for kind, begin, end in sequence.get_entities(tags)]
            assert entities(tags) == expected, tags


def test_entities_are_counted_as_by_seqeval() -> None:
    seqeval = pytest.importorskip("seqeval.metrics", reason="seqeval is not installed")
    draw = np.random.default_rng(4)
    some = ("O", "O", "B-PER", "I-PER", "B-LOC", "I-LOC")
    wanted = [[str(t) for t in draw.choice(some, 8)] for _ in range(UNITS)]
    tagged = [[t if draw.random() < 0.8 else str(draw.choice(some)) for t in row] for row in wanted]
    words = tuple((3 * i, 3 * i + 2) for i in range(8))  # "aa aa aa"
    text = " ".join(["aa"] * 8)
    problem = Entities(
        inputs=(text,) * UNITS,
        places=places(),
        expected=tuple(tuple(entities(row)) for row in wanted),
        words=(words,) * UNITS,
    )
    answers = [
        Answer(
            spans=tuple(
                Span(label=kind, score=1.0, begin=words[begin][0], end=words[end - 1][1])
                for kind, begin, end in entities(row)
            )
        )
        for row in tagged
    ]
    scored = problem.score(answers)

    def of(name: str) -> Callable[[np.ndarray], float]:
        def figure(rows: np.ndarray) -> float:
            sides = [[side[i] for i in rows] for side in (wanted, tagged)]
            return float(getattr(seqeval, f"{name}_score")(*sides))

        return figure

    for name in ("f1", "precision", "recall"):
        check(scored.figures[name], of(name), UNITS)
    report = seqeval.classification_report(wanted, tagged, output_dict=True)
    for kind in ("PER", "LOC"):
        assert scored.by_label[kind][1]["f1"].value == pytest.approx(report[kind]["f1-score"])
        assert scored.by_label[kind][0] == report[kind]["support"]


def test_a_finding_has_the_words_that_begin_in_it() -> None:
    words = [(0, 4), (5, 9), (10, 14)]

    def found(begin: int, end: int) -> list[tuple[str, int, int]]:
        return by_words([Span(label="B-PER", score=1.0, begin=begin, end=end)], words)

    assert found(0, 9) == [("PER", 0, 2)]
    assert found(2, 9) == [("PER", 1, 2)]  # which begins inside of the first
    assert found(5, 12) == [("PER", 1, 3)]
    assert found(6, 9) == []


OFFICIAL: dict[str, Any] = json.loads((Path(__file__).parent / "squad_scores.json").read_text())


def test_answers_are_compared_as_by_the_official_script() -> None:
    """Which transformers carried until 5: ``squad_scores.json`` says which one gave the figures."""
    assert len(OFFICIAL["answers"]) > 300
    for expected, got, same, near in OFFICIAL["answers"]:
        assert best(exact, expected, got) == same, (expected, got)
        assert best(overlap, expected, got) == pytest.approx(near), (expected, got)


@pytest.mark.parametrize("number", range(len(OFFICIAL["tests"])))
def test_no_answer_counts_as_by_the_official_script(number: int) -> None:
    case = OFFICIAL["tests"][number]
    count = len(case["contexts"])
    problem = Answers(
        inputs=tuple(("what?", context) for context in case["contexts"]),
        places=places(count),
        expected=tuple(tuple(found) for found in case["expected"]),
    )
    answers = [
        Answer(spans=(Span(label="", score=score, begin=begin, end=end),))
        for begin, end, score in case["spans"]
    ]
    scored = problem.score(answers)
    assert scored.figures["f1"].value == pytest.approx(case["best_f1"] / 100)
    assert scored.figures["f1"].value == pytest.approx(case["f1"] / 100)
    assert scored.figures["exact_match"].value == pytest.approx(case["exact"] / 100)
    assert scored.note.startswith("an answer below ")
    below, same, near = case["fixed"]
    fixed = Answers(
        inputs=problem.inputs,
        places=problem.places,
        expected=problem.expected,
        no_answer_below=below,
    ).score(answers)
    assert fixed.figures["f1"].value == pytest.approx(near / 100)
    assert fixed.figures["exact_match"].value == pytest.approx(same / 100)


def test_an_answer_that_a_tool_does_not_find_is_none() -> None:
    problem = Answers(
        inputs=(("q", "a cat"), ("q", "a dog")), places=places(2), expected=(("cat",), ())
    )
    found = problem.score([Answer(spans=()), Answer(spans=())])
    assert found.got == ("no answer", "no answer")
    assert found.figures["exact_match"].value == 0.5


def test_what_is_found_for_queries_is_scored_as_by_its_definition() -> None:
    draw = np.random.default_rng(6)
    documents, queries = 150, 30
    vectors = draw.normal(size=(documents + queries, 16))
    relevant = []
    for i in range(queries):
        chosen = draw.choice(documents, 4, replace=False)
        vectors[documents + i] += 0.8 * vectors[chosen[:2]].sum(0)
        relevant.append({int(d): float(g) for d, g in zip(chosen, (2, 1, 1, 3), strict=True)})
    problem = Retrieval(
        inputs=texts(documents + queries),
        places=places(documents + queries),
        documents=documents,
        ids=tuple(f"d{i}" for i in range(documents)),
        relevant=tuple(relevant),
    )
    found = problem.score([Answer(vector=v) for v in vectors]).figures
    even = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    near = even[documents:] @ even[:documents].T
    gains = np.array([[row.get(d, 0.0) for d in range(documents)] for row in relevant])
    order = np.argsort(-near, 1)
    ranked = np.take_along_axis(gains, order, 1)
    ndcg = [metrics.ndcg_score(g[None], n[None], k=10) for g, n in zip(gains, near, strict=True)]
    places_of = [np.flatnonzero(row > 0) for row in ranked]
    reciprocal = [1 / (p[0] + 1) if p[0] < 10 else 0.0 for p in places_of]
    average = [np.mean(np.arange(1, len(p) + 1) / (p + 1)) for p in places_of]
    for name, each in (
        ("ndcg_at_10", np.array(ndcg)),
        ("mrr_at_10", np.array(reciprocal)),
        ("map", np.array(average)),
        ("recall_at_10", np.array([(p < 10).mean() for p in places_of])),
        ("recall_at_100", np.array([(p < 100).mean() for p in places_of])),
    ):
        check(found[name], lambda r, each=each: float(each[r].mean()), queries)
    assert tuple(found) == problem.names
