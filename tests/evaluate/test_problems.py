# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""From rows to what answers are held against: columns, labels, and what does not fit the model."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeopt import progress
from edgeopt.errors import InputError
from edgeopt.evaluate.problems import Asked, load
from edgeopt.evaluate.problems.problem import Problem
from edgeopt.evaluate.rows.row import Columns
from edgeopt.model import images
from edgeopt.model.tasks import (
    FEATURE_EXTRACTION,
    IMAGE_CLASSIFICATION,
    QUESTION_ANSWERING,
    SEQUENCE_CLASSIFICATION,
    TOKEN_CLASSIFICATION,
    Task,
)
from tests import labelled


@dataclass(frozen=True)
class Subject:
    task: Task = SEQUENCE_CLASSIFICATION
    labels: tuple[str, ...] = ("no", "yes")
    activation: str = "softmax"
    name: str = field(default="tiny")


SENTIMENT = Subject()
SCORED = Subject(labels=("score",), activation="none")
MANY = Subject(labels=("a", "b", "c"), activation="sigmoid")
TAGGED = Subject(task=TOKEN_CLASSIFICATION, labels=labelled.TAGS)
ASKED = Subject(task=QUESTION_ANSWERING, labels=(), activation="none")
EMBEDS = Subject(task=FEATURE_EXTRACTION, labels=(), activation="none")
PICTURES = Subject(task=IMAGE_CLASSIFICATION)


def loaded(path: Path, rows: list[dict[str, Any]], subject: Subject, **asked: Any) -> Any:
    labelled.lines(path, rows)
    columns = Columns(**{n: asked.pop(n) for n in ("text", "pair", "label") if n in asked})
    return load(path, subject, Asked(columns=columns, **asked))


def refused(path: Path, rows: list[dict[str, Any]], subject: Subject, **asked: Any) -> str:
    with pytest.raises(InputError) as caught:
        loaded(path, rows, subject, **asked)
    return str(caught.value).replace(str(path), "FILE")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.jsonl"


def test_labels_are_names_or_indices(path: Path) -> None:
    rows = [{"text": "a", "label": label} for label in ("yes", 0, "1", "no")]
    found = loaded(path, rows, SENTIMENT)
    assert found.expected.tolist() == [1, 0, 1, 0]
    assert found.unit(0) == (f"{path}: line 1", "a", "yes")
    assert (found.noun, found.main) == ("texts", "accuracy")
    named = loaded(path, [{"text": "a", "label": "good"}], SENTIMENT, labels=("bad", "good"))
    assert named.expected.tolist() == [1]


def test_columns_are_found_by_convention_or_named(path: Path) -> None:
    row = {"sentence1": "a", "sentence2": "b", "gold_label": 1}
    assert loaded(path, [row], SENTIMENT).inputs == (("a", "b"),)
    row = {"review": "a", "x": "b", "kind": 1}
    assert loaded(path, [row], SENTIMENT, label="kind").inputs == ("a",)
    found = loaded(path, [row], SENTIMENT, text="x", pair="review", label="kind")
    assert (found.inputs, found.noun) == ((("b", "a"),), "pairs")


def test_what_is_wrong_with_labels_is_told(path: Path) -> None:
    row = {"text": "a", "label": "yes"}
    for label, message in (
        (
            "yess",
            "FILE: line 2: has the label 'yess', which is not one of the model's 2 (no, yes); "
            "did you mean 'yes'?",
        ),
        (2, "FILE: line 2: has the label 2, which is not one of the model's 2 (no, yes)"),
        (-1, "FILE: line 2: has no label in 'label' (-1)"),
        (None, "FILE: line 2: has no label in 'label' (None)"),
        (True, "FILE: line 2: expected a label that is a name or an index, found True"),
        (0.5, "FILE: line 2: expected a label that is a name or an index, found 0.5"),
    ):
        assert refused(path, [row, row | {"label": label}], SENTIMENT) == message
    assert refused(path, [row], SENTIMENT, labels=("a",)) == (
        "labels: expected 2 names, found 1\ntiny has, in this order: no, yes"
    )


def test_what_is_wrong_with_columns_is_told(path: Path) -> None:
    row = {"body": "a", "label": 0}
    assert refused(path, [row], SENTIMENT) == (
        "FILE: has no column of texts (looked for text, sentence, content, review, comment_text)\n"
        "It has: body, label. Name one with --text COLUMN."
    )
    assert refused(path, [row], SENTIMENT, text="bodi") == (
        "FILE: has no column 'bodi'; did you mean 'body'?\nIt has: body, label"
    )
    row = {"text": "a", "label": 0}
    assert refused(path, [row, {"label": 1}], SENTIMENT) == (
        "FILE: line 2: has no 'text', which other rows have"
    )
    for text in (" ", 7):
        assert refused(path, [row, {"text": text, "label": 1}], SENTIMENT) == (
            f"FILE: line 2: expected a text in 'text', found {text!r}"
        )


def test_numbers_of_a_dataset_stand_for_its_names(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="needs edgeopt[parquet]")
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs edgeopt[parquet]")

    def saved(names: list[str]) -> Path:
        features = {"label": {"names": names, "_type": "ClassLabel"}}
        told = {"huggingface": json.dumps({"info": {"features": features}})}
        table = pyarrow.table({"text": ["a", "b"], "label": [0, 1]})
        parquet.write_table(table.replace_schema_metadata(told), tmp_path / "a.parquet")
        return tmp_path / "a.parquet"

    def expected(names: list[str]) -> list[int]:
        found: Any = load(saved(names), SENTIMENT, Asked())
        return [int(i) for i in found.expected]

    assert expected(["yes", "no"]) == [1, 0]  # by name, in another order than the model's
    told: list[str] = []
    with progress.listen(lambda event: told.append(event.text)):
        assert expected(["neg", "pos"]) == [0, 1]
    assert told == [
        f"{tmp_path / 'a.parquet'}: its labels neg, pos are taken for no, yes, by number"
    ]
    with pytest.raises(InputError, match="has the labels a, b, c, but tiny has no, yes"):
        expected(["a", "b", "c"])


def test_many_labels_and_scores(path: Path) -> None:
    many = loaded(path, [{"text": "a", "labels": ["c", 0]}, {"text": "b", "labels": []}], MANY)
    assert many.expected.tolist() == [[True, False, True], [False] * 3]
    assert many.unit(0)[2] == "a, c"
    assert refused(path, [{"text": "a", "labels": None}], MANY) == (
        "FILE: line 1: expected labels in 'labels', found None"
    )
    assert refused(path, [{"text": "a", "labels": "[c"}], MANY) == (
        "FILE: line 1: expected a list of labels in 'labels', found '[c'"
    )
    scored = loaded(path, [{"sentence1": "a", "sentence2": "b", "score": "2.5"}], SCORED)
    assert scored.expected.tolist() == [2.5]
    for score in ("x", None, True, "nan"):
        assert refused(path, [{"text": "a", "score": score}], SCORED) == (
            f"FILE: line 1: expected a number in 'score', found {score!r}"
        )


@pytest.mark.parametrize(
    "written", ["a|c", "a; c", "0,2", "['a', 'c']", "[0, 2]", '["c", "a"]', " a , c ", ["a", 2]]
)
def test_many_labels_in_one_column(path: Path, written: Any) -> None:
    found = loaded(path, [{"text": "t", "labels": written}, {"text": "t", "labels": ""}], MANY)
    assert found.expected.tolist() == [[True, False, True], [False] * 3]


def test_a_label_with_a_comma_in_it_is_one(path: Path) -> None:
    subject = Subject(labels=("a", "b, or c"), activation="sigmoid")
    found = loaded(path, [{"text": "t", "labels": "b, or c"}, {"text": "t", "labels": 0}], subject)
    assert found.expected.tolist() == [[False, True], [True, False]]


def test_a_column_for_each_label(tmp_path: Path) -> None:
    table = tmp_path / "a.csv"
    table.write_text("id,comment_text,a,b,c\n7,one,1,0,1\n8,two,0,0.0,0\n9,three,False,true,0\n")
    found: Any = load(table, MANY, Asked())
    assert found.inputs == ("one", "two", "three")
    assert found.expected.tolist() == [[True, False, True], [False] * 3, [False, True, False]]
    table.write_text("text,x,y,z\none,1,0,-1\n")
    with pytest.raises(InputError, match=r"line 2: expected 0 or 1 in 'z', found '-1'"):
        load(table, MANY, Asked(labels=("x", "y", "z")))


def test_words_are_joined_and_their_tags_are_entities(path: Path) -> None:
    row = {"tokens": ["The", "EU", "net"], "tags": ["O", "B-LIB", "I-LIB"]}
    numbered = {"tokens": ["a"], "tags": [3]}
    found = loaded(path, [row, numbered], TAGGED)
    assert found.inputs == ("The EU net", "a")
    assert found.words[0] == ((0, 3), (4, 6), (7, 10))
    assert found.expected == ((("LIB", 1, 3),), (("NET", 0, 1),))
    assert found.unit(0)[2] == "LIB 'EU net'"
    assert refused(path, [row | {"tags": ["O", "B-PER", "O"]}], TAGGED) == (
        "FILE: line 1: has the entity 'PER', which is not one of the model's (LIB, NET)"
    )
    assert refused(path, [row | {"tags": ["O"]}], TAGGED) == (
        "FILE: line 1: expected a tag for each of 3 words in 'tags', found 1 tags"
    )


def test_entities_in_characters(path: Path) -> None:
    row = {"text": "The EU net", "entities": [{"start": 4, "end": 6, "label": "NET"}]}
    found = loaded(path, [row], TAGGED)
    assert (found.expected, found.words) == (((("NET", 4, 6),),), (None,))
    assert found.unit(0)[2] == "NET 'EU'"
    row["entities"] = [{"start": 4, "end": 11, "label": "NET"}]
    assert refused(path, [row], TAGGED) == (
        "FILE: line 1: has an entity at 4 to 11, and 10 characters"
    )
    row["entities"] = "NET"
    assert refused(path, [row], TAGGED) == (
        'FILE: line 1: expected a list of {"start", "end", "label"} in \'entities\', found None'
    )


def test_answers_however_they_are_written(path: Path) -> None:
    row = {"question": "q", "context": "a cat"}
    for answers in ({"text": ["cat"]}, ["cat"], [{"text": "cat", "answer_start": 2}], "cat"):
        assert loaded(path, [row | {"answers": answers}], ASKED).expected == (("cat",),)
    for none in ({"text": []}, [], ""):
        found = loaded(path, [row | {"answers": none}], ASKED)
        assert (found.expected, found.labels) == (((),), ("has none",))
    assert refused(path, [row | {"answers": 7}], ASKED) == (
        "FILE: line 1: expected answers in 'answers', found 7"
    )


def test_pairs_of_texts_are_embedded_once_each(path: Path) -> None:
    rows = [
        {"sentence1": "a", "sentence2": "b", "score": 1},
        {"sentence1": "b", "sentence2": "c", "score": 2},
    ]
    found = loaded(path, rows, EMBEDS)
    assert found.inputs == ("a", "b", "c")
    assert found.pairs.tolist() == [[0, 1], [1, 2]]
    assert found.lengths(np.array([1.0, 2.0, 4.0])).tolist() == [3.0, 6.0]
    assert refused(path, [{"text": "a", "label": 1}], EMBEDS).startswith(
        "FILE: has no pairs of texts, and tiny is for feature-extraction\nEmbeddings are evaluated"
    )


def test_a_corpus_comes_before_its_queries(tmp_path: Path) -> None:
    folder = labelled.corpus(tmp_path / "c", 20)
    found: Any = load(folder, EMBEDS, Asked())
    assert (found.documents, len(found), len(found.inputs)) == (20, 10, 30)
    assert found.unit(1)[2] == "d2, d3"
    assert found.names == ("ndcg_at_10", "mrr_at_10", "map", "recall_at_10")
    few: Any = load(folder, EMBEDS, Asked(limit=3))
    assert (few.documents, len(few)) == (20, 3)
    answered = np.ones(30, bool)
    answered[21] = False
    assert found.answered(answered).inputs == found.inputs[:21] + found.inputs[22:]
    answered[4] = False
    with pytest.raises(InputError, match=r"corpus\.jsonl: line 5: the original's tool does not"):
        found.answered(answered)


def test_a_limit_draws_the_same_rows_every_time(path: Path) -> None:
    labelled.classes(path)
    subject = Subject(labels=labelled.LABELS)
    some: list[Problem] = [load(path, subject, Asked(limit=10)) for _ in range(2)]
    assert len(some[0]) == 10
    assert some[0].places == some[1].places
    numbers = [int(place.rsplit(" ", 1)[1]) for place in some[0].places]
    assert numbers == sorted(numbers) != list(range(1, 11))


def test_data_of_another_kind_is_refused(tmp_path: Path, path: Path) -> None:
    rows = [{"text": "a", "label": 0}]
    assert refused(path, rows, PICTURES) == (
        "FILE: holds no images, but tiny is for image-classification and takes a folder of images "
        "for each label"
    )
    folder = tmp_path / "images"
    (folder / "no").mkdir(parents=True)
    image = images.make_images(1)[0]
    head = f"P6 {image.shape[1]} {image.shape[0]} 255\n".encode()
    (folder / "no" / "a.ppm").write_bytes(head + image.tobytes())
    found = load(folder, PICTURES, Asked())
    assert (found.noun, list(found.inputs)) == ("images", [folder / "no" / "a.ppm"])
    with pytest.raises(InputError) as caught:
        load(folder, SENTIMENT, Asked())
    assert str(caught.value) == (
        f"{folder}: holds images, but tiny is for sequence-classification and takes texts"
    )


def test_cola_is_judged_by_its_own_figure(tmp_path: Path) -> None:
    path = tmp_path / "dev.tsv"
    path.write_text("gj04\t1\t\tA.\ngj04\t0\t*\tB.\n")
    assert load(path, SENTIMENT, Asked()).main == "mcc"
