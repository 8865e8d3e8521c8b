# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""``edgeopt cascade`` and ``edgeopt run --cascade``: two tiny bundles, from files to answers."""

import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import edgeopt
from edgeopt.cli import cli
from edgeopt.cli.output import run
from edgeopt.model.checkpoint import save
from edgeopt.model.importer import import_model
from edgeopt.run.early_exit import load
from tests import checkpoints
from tests.bundle import conftest
from tests.bundle.conftest import make_bundle, sources
from tests.lazily import lazily

__all__ = ["make_bundle", "sources"]  # fixtures

for name in ("transformers", "onnxruntime", "ziglang"):
    lazily(name, reason=f"needs {name}")
pytestmark = pytest.mark.heavy

TEXTS = tuple(" ".join(words) for words in itertools.permutations(checkpoints.WORDS, 2))
LOOSE = ("--max-drop", "0.2")  # that few texts show no less
NOISE = 0.02
Edgeopt = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Paths of two bundles that agree on most texts.

    A network with noise in its weights stands for a small one that was distilled of the network.
    """
    import torch

    folder = tmp_path_factory.mktemp("pair")
    small = import_model(checkpoints.write(folder / "large"))
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in small.module.parameters():
            weight += NOISE * torch.randn_like(weight)
    save(small, folder / "small", folder / "large")
    for name in ("small", "large"):
        edgeopt.compile(
            folder / name,
            "host",
            output=folder / f"{name}.edgeopt",
            engines=["onnx"],
            precisions=["fp32"],
        )
    return str(folder / "small.edgeopt"), str(folder / "large.edgeopt")


@pytest.fixture
def edgeopt_(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Edgeopt:
    """Run a command in an empty directory with ``texts.jsonl``; return code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    Path("texts.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in TEXTS))

    def call(*words: str) -> tuple[int, str, str]:
        code = run(cli, words)
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return call


def test_the_cascade_that_was_found_is_the_one_that_runs(
    pair: tuple[str, str], edgeopt_: Edgeopt
) -> None:
    code, shown, _ = edgeopt_("cascade", *pair, "--data", "texts.jsonl", *LOOSE)
    assert code == 0
    found = load(Path("cascade.json"))
    digests = [edgeopt.open_bundle(path).manifest.digest for path in pair]
    assert [found.first.digest, found.second.digest] == digests
    assert (found.chosen_on, found.texts, found.accuracy_second) == (66, 66, 1.0)
    assert 0 < found.early < 1
    assert f"{100 * found.early:.1f} % of the texts leave early" in shown

    alone = [edgeopt.read(path, TEXTS).results for path in pair]
    code, shown, _ = edgeopt_(
        "run", pair[0], *TEXTS, "--cascade", "cascade.json", "--large", pair[1], "--json"
    )
    assert code == 0
    document: dict[str, Any] = json.loads(shown)
    assert document["first"]["engine"] == document["second"]["engine"] == "onnx"
    assert 0 < sum(document["early"]) < len(TEXTS)
    for result, early, one, two in zip(document["results"], document["early"], *alone, strict=True):
        assert result["items"][0]["label"] == (one if early else two).items[0].label
    sure, unsure = (TEXTS[document["early"].index(early)] for early in (True, False))
    code, shown, _ = edgeopt_(
        "run", pair[0], sure, unsure, "--cascade", "cascade.json", "--large", pair[1]
    )
    lines = shown.splitlines()
    assert lines[0].startswith("small: ")
    assert lines[2].startswith("large: ")
    assert lines[4].startswith("small answered 1: onnx ")

    # The labels that the large one gives are the labels that stand in for none.
    labelled = zip(TEXTS, alone[1], strict=True)
    rows = [json.dumps({"text": t, "label": r.items[0].label}) + "\n" for t, r in labelled]
    Path("labelled.jsonl").write_text("".join(rows))
    assert edgeopt.cascade(*pair, "labelled.jsonl", max_drop=0.2) == replace(
        found, measure="accuracy"
    )


def test_a_cascade_of_other_bundles_is_refused(pair: tuple[str, str], edgeopt_: Edgeopt) -> None:
    small, large = pair
    assert edgeopt_("cascade", large, large, "--data", "texts.jsonl", *LOOSE)[0] == 0
    code, _, error = edgeopt_("run", small, "a", "--cascade", "cascade.json", "--large", large)
    digests = [edgeopt.open_bundle(path).manifest.digest[:12] for path in (large, small)]
    assert code == 2
    assert error.startswith(
        f"error: cascade.json: was found for the bundle large {digests[0]}, but {small} is small"
        f" {digests[1]}\n"
    )
    code, _, error = edgeopt_("run", small, "a", "--cascade", "cascade.json")
    assert (code, "--cascade and --large go together" in error) == (2, True)


def test_where_nothing_is_shown_no_file_is_written(
    pair: tuple[str, str], edgeopt_: Edgeopt
) -> None:
    small, large = (edgeopt.read(path, TEXTS).results for path in pair)
    wrong = [
        json.dumps({"text": text, "label": right.items[0].label}) + "\n"
        for text, found, right in zip(TEXTS, small, large, strict=True)
        if found.items[0].label != right.items[0].label
    ]
    Path("wrong.jsonl").write_text("".join(wrong) * 30)
    code, shown, _ = edgeopt_("cascade", *pair, "--data", "wrong.jsonl", *LOOSE)
    assert (code, Path("cascade.json").exists()) == (1, False)
    assert "not shown: " in shown
    code, shown, _ = edgeopt_("cascade", *pair, "--data", "wrong.jsonl", *LOOSE, "--json")
    document = json.loads(shown)
    assert (code, document["path"], document["early"]) == (1, None, 0.0)
    assert (document["accuracy_first"], document["accuracy"]) == (0.0, 1.0)


def test_wrong_inputs_are_told_before_anything_runs(
    pair: tuple[str, str], edgeopt_: Edgeopt, make_bundle: conftest.MakeBundle
) -> None:
    code, _, error = edgeopt_("cascade", *pair, "--data", "texts.jsonl")
    assert code == 2
    assert error.startswith("error: texts.jsonl: has 132 texts, but 460 are needed at the least")
    other = str(make_bundle().path)
    code, _, error = edgeopt_("cascade", other, pair[1], "--data", "texts.jsonl")
    assert code == 2
    expected = f"{other}: has other labels (no, yes) than {pair[1]} (games, libs, net)"
    assert error.startswith(f"error: {expected}")
    code, _, error = edgeopt_("cascade", *pair, "--data", "texts.jsonl", "-o", "no/where.json")
    assert (code, error) == (
        2,
        "error: no/where.json: cannot be written (No such file or directory)\n",
    )
