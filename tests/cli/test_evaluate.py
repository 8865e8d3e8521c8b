# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""``edgeopt evaluate``: what is printed, how it ends, and what an interruption leaves."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import edgeopt
from edgeopt.cli import cli
from edgeopt.cli.output import run
from tests import checkpoints, labelled
from tests.interrupt import INTERRUPT
from tests.lazily import lazily

for name in ("transformers", "onnxruntime", "ziglang", "sklearn"):
    lazily(name, reason=f"needs {name}")

pytestmark = pytest.mark.heavy

Edgeopt = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny checkpoint and its bundle."""
    folder = tmp_path_factory.mktemp("evaluate")
    checkpoints.write(folder / "tiny")
    edgeopt.compile(
        folder / "tiny",
        "host",
        output=folder / "tiny.edgeopt",
        engines=["onnx"],
        precisions=["fp32"],
    )
    return folder


@pytest.fixture
def edgeopt_(
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Edgeopt:
    """Run a command in a folder with ``dev.jsonl`` alone; return code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    labelled.classes(Path("dev.jsonl"), 120)

    def call(*words: str | Path) -> tuple[int, str, str]:
        code = run(cli, ["evaluate", *map(str, words)])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return call


def test_a_table_and_a_document_have_the_same_figures(home: Path, edgeopt_: Edgeopt) -> None:
    words = [home / "tiny.edgeopt", "--data", "dev.jsonl", "--original", home / "tiny"]
    code, shown, told = edgeopt_(*words, "--json")
    document: dict[str, Any] = json.loads(shown)
    assert code == 0
    assert "Running onnx fp32 on 120 inputs" in told
    (artifact,) = document["artifacts"]
    figure = artifact["figures"]["accuracy"]
    assert document["main"] == "accuracy"
    assert figure["difference"]["verdict"] == "cannot tell apart"
    assert len(artifact["worst"]) == 3

    code, shown, _ = edgeopt_(*words, "--worst", "1")
    lines = shown.splitlines()
    assert code == 0
    assert lines[0] == "tiny: 120 texts of dev.jsonl"
    row = next(line for line in lines if line.startswith("onnx fp32"))
    assert row.split()[2] == f"{figure['value']:.4f}"
    assert row.rstrip().endswith("cannot tell apart")
    assert f"original: {document['original']['name']}" in shown
    for one in document["slices"]:
        assert any(f" {one['name']} " in line and f" {one['units']} " in line for line in lines)
    mistake = artifact["worst"][0]
    assert f"{mistake['where']}: {mistake['text']}" in lines
    assert f"    expected  {mistake['expected']}" in lines
    assert artifact["worst"][1]["where"] not in shown
    assert list(Path.cwd().iterdir()) == [Path.cwd() / "dev.jsonl"]


def test_without_an_original_figures_stand_alone(home: Path, edgeopt_: Edgeopt) -> None:
    code, shown, _ = edgeopt_(home / "tiny.edgeopt", "-d", "dev.jsonl", "--metric", "f1_macro")
    assert code == 0
    assert "original" not in shown
    assert "F1 macro by" in shown
    assert "tell apart" not in shown


def test_wrong_input_is_told_with_what_to_do(home: Path, edgeopt_: Edgeopt) -> None:
    bundle = home / "tiny.edgeopt"
    Path("bad.csv").write_text("text,label\na,games\nb,sport\n")
    for words, expected in (
        (
            [bundle, "-d", "bad.csv"],
            "error: bad.csv: line 3: has the label 'sport', which is not one of the model's 3 "
            "(games, libs, net)",
        ),
        (
            [bundle, "-d", "dev.jsonl", "--labels", "a,b"],
            "error: labels: expected 3 names, found 2\ntiny has, in this order: games, libs, net",
        ),
        (
            [bundle, "-d", "dev.jsonl", "--metric", "f2"],
            "error: metric: there is no 'f2' of these answers\nThere are: accuracy, f1_macro, mcc",
        ),
        (
            [bundle, "-d", "dev.jsonl", "-e", "tvm"],
            f"error: {bundle}: has no tvm artifact\nIt holds: onnx fp32",
        ),
        ([bundle, "-d", "nowhere.csv"], "error: nowhere.csv: is not there"),
        (
            [bundle, "-d", "dev.jsonl", "--no-answer-below", "2"],
            "error: no_answer_below: expected a score from 0 to 1, found 2",
        ),
    ):
        code, shown, told = edgeopt_(*words)
        assert (code, shown) == (2, "")
        assert told.splitlines()[-len(expected.splitlines()) :] == expected.splitlines()
    code, shown, _ = edgeopt_(bundle, "-d", "bad.csv", "--json")
    assert (code, json.loads(shown)["error"]["where"]) == (2, "bad.csv: line 3")


def test_names_of_the_data_stand_for_labels(home: Path, edgeopt_: Edgeopt) -> None:
    names = dict(zip(checkpoints.LABELS, "abc", strict=True))
    rows = [json.loads(line) for line in Path("dev.jsonl").read_text().splitlines()]
    lines = [f"{row['text']},{names[row['label']]}" for row in rows]
    Path("own.csv").write_text("\n".join(["body,kind", *lines]) + "\n")
    words = [home / "tiny.edgeopt", "-d", "own.csv", "--labels", "a,b,c", "--json"]
    code, shown, _ = edgeopt_(*words, "--text", "body", "--label", "kind")
    assert code == 0
    _, plain, _ = edgeopt_(home / "tiny.edgeopt", "-d", "dev.jsonl", "--json")
    own, expected = (json.loads(text)["artifacts"][0]["figures"] for text in (shown, plain))
    assert own == expected
    code, _, told = edgeopt_(*words, "--label", "kind")
    assert code == 2
    assert "error: own.csv: has no column of texts (looked for text, " in told


def test_without_the_libraries_one_line_says_what_to_install(
    home: Path, edgeopt_: Edgeopt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.metrics", None)
    code, _, told = edgeopt_(home / "tiny.edgeopt", "-d", "dev.jsonl")
    assert code == 3
    assert told.splitlines()[-1] == "Install it with: pip install 'edgeopt[evaluate]'"


def test_an_interruption_leaves_nothing(home: Path, tmp_path: Path) -> None:
    labelled.classes(tmp_path / "dev.jsonl", 50_000)
    cache = tmp_path / "cache"
    words = ["evaluate", str(home / "tiny.edgeopt"), "--original", str(home / "tiny")]
    process = subprocess.Popen(
        [sys.executable, "-m", "edgeopt", *words, "-d", "dev.jsonl"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"EDGEOPT_CACHE": str(cache)},
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("Asking "):
            break
    process.send_signal(INTERRUPT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "dev.jsonl"]
    assert [path for path in cache.glob("answers/*") if path.suffix != ".lock"] == []
