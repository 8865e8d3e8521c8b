# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Labelled data of every kind is read; what is wrong is told with file and line."""

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from edgeopt.errors import InputError
from edgeopt.evaluate.rows import read
from edgeopt.evaluate.rows.folders import is_corpus, read_corpus
from edgeopt.model import images
from tests import labelled

TRICKY = ['a "quoted" word', "a, comma", "two\nlines", "ünïcode 日本"]


def refused(path: Path, message: str) -> None:
    """Hold that ``path`` is refused, and with what; FILE stands for the path."""
    with pytest.raises(InputError) as caught:
        read(path)
    assert str(caught.value) == message.replace("FILE", str(path))


def test_lines_of_json(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"text": text, "label": i} for i, text in enumerate(TRICKY)]
    path = labelled.lines(tmp_path / "a.jsonl", rows)
    path.write_text("\n" + path.read_text())
    found = read(path)
    assert [dict(row.values) for row in found.rows] == rows
    assert [row.where for row in found.rows] == [f"{path}: line {n}" for n in range(2, 6)]
    packed = tmp_path / "a.jsonl.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert [dict(row.values) for row in read(packed).rows] == rows
    listed = tmp_path / "a.json"
    listed.write_text(json.dumps(rows))
    assert [dict(row.values) for row in read(listed).rows] == rows
    assert read(listed).rows[1].where == f"{listed}: item 2"


@pytest.mark.parametrize("ending", ["csv", "tsv"])
def test_tables_are_read_as_they_are_written(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.writer(file, delimiter="," if ending == "csv" else "\t")
        writer.writerows([["text", "kind"], *([text, "x"] for text in TRICKY)])
    found = read(path)
    assert [row.values for row in found.rows] == [{"text": t, "kind": "x"} for t in TRICKY]
    # The third one has two lines.
    numbers = [row.where.removeprefix(f"{path}: line ") for row in found.rows]
    assert numbers == ["2", "3", "4", "6"]
    assert found.layout == ""


GLUE = {
    "CoLA": (None, ["gj04", "1", "", 'He said "no.']),
    "SST-2": ("sentence\tlabel", ['a "fine film', "1"]),
    "MRPC": ("Quality\t#1 ID\t#2 ID\t#1 String\t#2 String", ["1", "7", "8", 'A "b', "A c"]),
    "STS-B": (
        "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore",
        ["0", "main", "M", "2012", "1", "none", "none", 'A "b', "A c", "3.75"],
    ),
    "QNLI": ("index\tquestion\tsentence\tlabel", ["0", "Who?", 'A "b', "entailment"]),
    "RTE or WNLI": ("index\tsentence1\tsentence2\tlabel", ["0", 'A "b', "A c", "not_entailment"]),
    "MNLI": (
        "index\tpromptID\tpairID\tgenre\tsentence1_binary_parse\tsentence2_binary_parse\t"
        "sentence1_parse\tsentence2_parse\tsentence1\tsentence2\tlabel1\tlabel2\tgold_label",
        ["0", "1", "1n", "fiction", "(", "(", "(", "(", 'A "b', "A c", "neutral", "", "neutral"],
    ),
    "QQP": (
        "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate",
        ["0", "1", "2", 'A "b', "A c", "1"],
    ),
}
SENTENCES = {"CoLA": ["sentence"], "SST-2": ["sentence"]}
LABELS = {
    "CoLA": "1", "SST-2": "1", "MRPC": "1", "STS-B": "3.75", "QNLI": "entailment",
    "RTE or WNLI": "not_entailment", "MNLI": "neutral", "QQP": "1",
}  # fmt: skip
FIGURES = {"CoLA": "mcc", "MRPC": "f1", "QQP": "f1"}


@pytest.mark.parametrize("name", GLUE)
def test_the_tables_of_glue_are_read_as_they_are_shipped(tmp_path: Path, name: str) -> None:
    header, fields = GLUE[name]
    path = tmp_path / "dev.tsv"
    row = "\t".join(fields)
    path.write_text("".join(f"{line}\n" for line in ([header, row] if header else [row])))
    found = read(path)
    assert (found.layout, found.figure) == (name, FIGURES.get(name, ""))
    (only,) = found.rows
    assert only.values["label"] == LABELS[name]
    texts = [only.values[column] for column in SENTENCES.get(name, ["sentence1", "sentence2"])]
    assert '"' in "".join(texts)  # which is a character like others
    assert only.where == f"{path}: line {2 if header else 1}"


def test_what_is_wrong_with_a_table_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,label\na,1\nb\n")
    refused(
        path,
        "FILE: line 3: has 1 fields, but line 1 names 2\n"
        "The first line has the names of the columns.",
    )
    path.write_text('text,label\na,1\n"b" c,1\n')
    refused(
        path,
        "FILE: line 3: cannot be read (',' expected after '\"')\n"
        'A quote within a quoted field is written twice ("").',
    )
    path.write_text("text,text\na,1\n")
    refused(path, "FILE: line 1: has the column 'text' twice")
    path.write_text("text,label\n")
    refused(path, "FILE: has no rows")
    path.write_bytes(b"text\n\xff\n")
    refused(path, "FILE: is not UTF-8 text (invalid start byte)")


def test_what_is_wrong_with_json_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a"}\n{"text"\n')
    refused(path, "FILE: line 2: is not JSON (Expecting ':' delimiter: line 1 column 8 (char 7))")
    path.write_text("[1]\n")
    refused(path, "FILE: line 1: expected an object")
    path = tmp_path / "a.json"
    path.write_text('{"rows": []}')
    refused(
        path,
        'FILE: expected a list of objects, an object with "data", as SQuAD has, or one with '
        '"images", "annotations" and "categories", as COCO has',
    )
    path = tmp_path / "a.xml"
    path.write_text("")
    with pytest.raises(InputError, match=r"a\.xml: is of no kind that is read\nLabelled data is"):
        read(path)
    refused(tmp_path / "nothing.csv", "FILE: is not there")


@pytest.mark.parametrize("version", ["1.1", "2.0"])
def test_squad(tmp_path: Path, version: str) -> None:
    path = labelled.squad(tmp_path / "dev.json", 6, version=version)
    found = read(path)
    answers = [row.values["answers"] for row in found.rows]
    assert [len(one) for one in answers] == ([0, 2, 2] * 2 if version == "2.0" else [2] * 6)
    for row in found.rows:
        assert all(answer in row.values["context"] for answer in row.values["answers"])
    assert found.rows[1].where == f"{path}: data[1].paragraphs[0].qas[0]"


def test_what_is_wrong_with_squad_is_told(tmp_path: Path) -> None:
    path = tmp_path / "dev.json"
    asked: dict[str, Any] = {"question": "q", "answers": []}
    document = {"version": "1.1", "data": [{"paragraphs": [{"context": "c", "qas": [asked]}]}]}
    path.write_text(json.dumps(document))
    refused(path, "FILE: data[0].paragraphs[0].qas[0]: has no answers")
    asked["answers"] = [{"answer_start": 0}]
    path.write_text(json.dumps(document))
    refused(
        path,
        "FILE: data[0].paragraphs[0].qas[0].answers[0]: "
        'expected an object with "text" that is a string',
    )


def test_words_with_tags(tmp_path: Path) -> None:
    path = tmp_path / "dev.conll"
    path.write_text("-DOCSTART- -X- O O\n\nThe DT I-NP O\nEU NNP B-NP B-ORG\n\n\nit\tO\n")
    first, second = read(path).rows
    assert first.values == {"tokens": ["The", "EU"], "tags": ["O", "B-ORG"]}
    assert (first.where, second.where) == (f"{path}: line 3", f"{path}: line 7")
    path.write_text("The O\nEU\n")
    refused(
        path, "FILE: line 2: expected a word and its tag\nA blank line stands between sentences."
    )
    made = read(labelled.conll(tmp_path / "made.txt", 7))
    assert (len(made.rows), made.layout) == (7, "CoNLL")


def test_images_in_a_folder_for_each_label(tmp_path: Path) -> None:
    refused(
        tmp_path,
        "FILE: has no folders\n"
        "Put the images of each label into a folder that has the label's name.",
    )
    for name in ("net", "games"):
        (tmp_path / name).mkdir()
    refused(
        tmp_path,
        f"{tmp_path / 'games'}: has no images (looked for .ppm, .png, .jpg, .jpeg)\n"
        "A folder is for a model of images; one of texts takes a file of texts.",
    )
    for name, image in zip(("net", "games"), images.make_images(2), strict=True):
        head = f"P6 {image.shape[1]} {image.shape[0]} 255\n".encode()
        (tmp_path / name / "a.ppm").write_bytes(head + image.tobytes())
    assert [row.values for row in read(tmp_path).rows] == [
        {"image": tmp_path / name / "a.ppm", "label": name} for name in ("games", "net")
    ]


def test_a_corpus_with_queries(tmp_path: Path) -> None:
    folder = labelled.corpus(tmp_path / "c", 20)
    assert is_corpus(folder)
    found = read_corpus(folder)
    assert len(found.documents) == 20
    assert set(found.gains) == {f"q{i}" for i in range(0, 20, 2)}
    assert found.gains["q4"] == {"d4": 1.0, "d5": 1.0}
    table = folder / "qrels" / "test.tsv"
    for line, message in (
        ("q0\tnone\t1", "names 'none', which is not in corpus.jsonl"),
        ("none\td0\t1", "names 'none', which is not in queries.jsonl"),
        ("q0\td0\tx", "expected a number in 'score', found 'x'"),
    ):
        table.write_text(f"query-id\tcorpus-id\tscore\n{line}\n")
        with pytest.raises(InputError) as caught:
            read_corpus(folder)
        assert str(caught.value) == f"{table}: line 2: {message}"
    table.write_text("query-id\tcorpus-id\tscore\nq0\td0\t0\n")
    with pytest.raises(InputError, match="has no query with a document above 0"):
        read_corpus(folder)
    table.rename(folder / "qrels" / "a.tsv")
    (folder / "qrels" / "b.tsv").write_text("")
    with pytest.raises(InputError, match=r"qrels: has 2 tables, and none is test\.tsv"):
        read_corpus(folder)


def test_parquet_and_what_numbers_stand_for(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="needs edgeopt[parquet]")
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs edgeopt[parquet]")
    features = {
        "label": {"names": ["no", "yes"], "_type": "ClassLabel"},
        "tags": {"feature": {"names": ["O", "B-X"], "_type": "ClassLabel"}, "_type": "List"},
    }
    told = json.dumps({"info": {"features": features}})
    table = pyarrow.table({"text": TRICKY, "label": [0, 1, 1, 0], "tags": [[0, 1]] * 4})
    path = tmp_path / "a.parquet"
    parquet.write_table(table.replace_schema_metadata({"huggingface": told}), path)
    found = read(path)
    assert [row.values["text"] for row in found.rows] == TRICKY
    assert found.names == {"label": ("no", "yes"), "tags": ("O", "B-X")}
    assert found.rows[2].where == f"{path}: row 3"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match=r"a\.parquet: cannot be read as Parquet \("):
        read(path)


def test_a_folder_that_datasets_saved(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="needs edgeopt[parquet]")
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    datasets.disable_progress_bars()
    kinds = datasets.Features(
        {
            "text": datasets.Value("string"),
            "label": datasets.ClassLabel(names=["no", "yes"]),
            "answers": {"text": datasets.List(datasets.Value("string"))},
        }
    )
    columns = {"text": TRICKY, "label": [0, 1, 1, 0], "answers": [{"text": ["a"]}] * 4}
    one = datasets.Dataset.from_dict(columns, features=kinds).select([2, 0, 3])
    one.save_to_disk(str(tmp_path / "one"))
    found = read(tmp_path / "one")
    assert [row.values["text"] for row in found.rows] == [TRICKY[i] for i in (2, 0, 3)]
    assert found.rows[0].values["answers"] == {"text": ["a"]}
    assert found.names == {"label": ("no", "yes")}
    both = tmp_path / "both"
    datasets.DatasetDict({"train": one, "test": one}).save_to_disk(str(both))
    refused(both, f"FILE: has 2 splits\nGive one of them: {both / 'train'}, {both / 'test'}")
    assert len(read(both / "test").rows) == 3
    (both / "test" / "data-00000-of-00001.arrow").write_bytes(b"no")
    with pytest.raises(InputError, match=r"data-00000-of-00001\.arrow: cannot be read \("):
        read(both / "test")


def test_a_folder_that_names_files_elsewhere_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="needs edgeopt[parquet]")
    folder = tmp_path / "a"
    folder.mkdir()
    state = folder / "state.json"
    state.write_text(json.dumps({"_data_files": [{"filename": "../b.arrow"}]}))
    refused(folder, f"{state}: names '../b.arrow', which is not in its folder")
