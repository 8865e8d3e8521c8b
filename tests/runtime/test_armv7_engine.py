# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""A 32-bit Arm board, whose onnxruntime is its Debian's: from the compiler to answers there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import edgeopt
from edgeopt import boards
from edgeopt.boards import enrol, registry
from edgeopt.boards.address import fingerprint
from edgeopt.boards.emulated import lifecycle, user_mode
from edgeopt.bundle import Bundle
from edgeopt.cli import cli
from edgeopt.errors import BoardError
from edgeopt.runtime.build import build_runtime
from edgeopt.target import load_target
from tests import checkpoints

pytest.importorskip("transformers", reason="needs edgeopt[torch]")
pytest.importorskip("onnxruntime", reason="needs edgeopt[onnx]")
pytest.importorskip("ziglang", reason="needs edgeopt[cross]")

pytestmark = [pytest.mark.heavy, pytest.mark.board]
FOLDER = "/usr/lib/arm-linux-gnueabihf"
TEXTS = ["a small board", "Größe, naïve, 32 bits"]


@pytest.fixture(scope="module")
def board() -> Iterator[str]:
    """An emulated Raspberry Pi 2, added by its address as a real one is."""
    if (reason := user_mode.missing("armv7")) is not None:
        pytest.skip(f"no 32-bit board here: {reason}")
    entry = lifecycle.up("test-pi2", load_target("raspberry-pi-2"))
    address = enrol.parse_address(f"{entry.user}@{entry.host}:{entry.port}", entry.key)
    enrol.add("old-pi", address, fingerprint=fingerprint(entry.host_key))
    yield "old-pi"
    registry.remove("old-pi")
    lifecycle.forget("test-pi2")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("armv7")
    checkpoint = checkpoints.write(folder / "checkpoint", "BertForSequenceClassification")
    return edgeopt.compile(checkpoint, "raspberry-pi-2", output=folder / "b")


def test_outputs_agree_on_the_board(board: str, bundle: Bundle, tmp_path: Path) -> None:
    report = edgeopt.profile(bundle, board, threads=1, warmup=0, runs=1, output=tmp_path / "m")
    assert not report.measurement.not_run
    runs = {run.precision: run for run in report.measurement.runs}
    assert runs.keys() == {"fp32", "int8"}
    assert all(run.outputs_agree and run.engine_version == "1.21.0" for run in runs.values())
    assert min(g.cosine or 0 for g in runs["fp32"].golden) > 0.9999
    assert min(g.cosine or 0 for g in runs["int8"].golden) > 0.98
    assert report.measurement.emulated  # though it was added as a board over SSH
    assert report.current == "/root/.edgeopt/current-checkpoint"


def test_texts_are_answered_as_transformers_does(board: str, bundle: Bundle) -> None:
    from transformers import pipeline

    read = edgeopt.read(bundle, TEXTS, board=board, precision="fp32")
    tool = pipeline("text-classification", model=str(bundle.path.parent / "checkpoint"), top_k=None)
    answers: Any = tool(TEXTS)
    for ours, theirs in zip(read.results, answers, strict=True):
        wanted = {label["label"]: label["score"] for label in theirs}
        assert {item.label: item.score for item in ours.items} == pytest.approx(wanted, abs=1e-5)


def test_an_app_finds_the_library_among_the_systems(board: str) -> None:
    """It is libonnxruntime.so.1.21, without a link of a shorter name; nobody tells where it is."""
    agent = build_runtime("armv7").agent
    with boards.connect(board) as found:
        found.transport.put(agent, "/root/agent", mode=0o755)
        words = ["/root/agent", "info", "--engine", "onnx"]
        done = found.transport.run(words, timeout_s=60)
    events = [json.loads(line) for line in done.stdout.splitlines()]
    (engine,) = (event for event in events if event["event"] == "engine")
    assert engine["version"] == "1.21.0"
    assert engine["library"].startswith(f"{FOLDER}/libonnxruntime.so.1.21")


def test_a_board_that_lacks_it_is_told_how_to_get_it(board: str, bundle: Bundle) -> None:
    command = "sudo apt install libonnxruntime1.21"
    with boards.connect(board) as found:
        places = found.facts.libraries
        assert places[0] == f"{FOLDER}/libonnxruntime.so.1.21"
        found.transport.run(["mv", *places, "/root"], timeout_s=60)
    try:
        said = CliRunner().invoke(cli, ["board", "check", board])
        assert said.exit_code == 1
        line = next(line for line in said.output.splitlines() if line.startswith("onnx"))
        assert line.split(maxsplit=3) == [
            "onnx", "1.21.0", "no", f"libonnxruntime1.21 1.21.0 is not installed there: {command}",
        ]  # fmt: skip
        with pytest.raises(BoardError, match=f"onnx fp32.*{command}"):
            edgeopt.profile(bundle, board)
    finally:
        with boards.connect(board) as found:
            away = [f"/root/{place.rpartition('/')[2]}" for place in places]
            found.transport.run(["mv", *away, FOLDER], timeout_s=60)
    assert CliRunner().invoke(cli, ["board", "check", board]).exit_code == 0
