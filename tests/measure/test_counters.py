# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from edgeopt.boards.emulated.caches import Level
from edgeopt.boards.registry import BoardEntry
from edgeopt.cli import cli
from edgeopt.errors import InputError, MeasurementError
from edgeopt.measure import measurement
from edgeopt.measure.counters import CLASSES, CacheCounts, CacheLevel, Counters, of_lines
from edgeopt.measure.gate import gate
from edgeopt.measure.report import report
from edgeopt.report.profile import render
from tests import checkpoints
from tests.measure.test_measurement import MEASUREMENT, RUN

COUNTERS = Counters(
    instructions=(2_000_400, 2_000_000, 2_000_800, 2_009_000),
    classes={
        "load": (400_400, 400_000, 400_800, 409_000),
        "vector_load": (600_000,) * 4,
        "dot": (1_000_000,) * 4,
    },
)


def lines(*marks: int) -> str:
    """Return what the plugin writes if all instructions are integer ones."""
    return "".join(f"{mark} {mark} {'0 ' * (len(CLASSES) - 1)}\n" for mark in marks)


def test_an_inference_is_what_lies_between_two_marks() -> None:
    text = lines(100, 900, 1000, 1500, 1600, 2104, 2200, 2703)
    found = of_lines(text, warmup=1, runs=3, where="pi")
    assert found.instructions == (500, 504, 503)
    assert (found.per_inference, found.spread) == (503, 4 / 503)
    assert found.by_class == {name: 503 * (name == "integer") for name in CLASSES}
    assert of_lines("5\n7\n", warmup=0, runs=1, where="pi") == Counters(instructions=(2,))


LEVELS = (Level(name="l1d", kib=32, ways=2), Level(name="l2", kib=1024, ways=16))
CACHES = CacheCounts(
    line_bytes=64,
    levels=(
        CacheLevel(name="l1d", kib=32, ways=2, refills=(80_010, 80_000, 80_020, 80_030)),
        CacheLevel(name="l2", kib=1024, ways=16, refills=(50_010, 50_000, 50_020, 50_030)),
    ),
    write_backs=(10_010, 10_000, 10_020, 10_030),
)


def test_lines_of_caches_follow_the_instructions() -> None:
    text = "100 9 5 2\n600 29 15 4\n"
    found = of_lines(text, warmup=0, runs=1, where="pi", levels=LEVELS)
    assert (found.per_inference, found.refills) == (500, {"l1d": 20, "l2": 10})
    assert found.memory_bytes == (10 * 64, 2 * 64)
    assert (found.classes, Counters(instructions=(5,)).memory_bytes) == ({}, None)
    classes = lines(100, 600).splitlines()
    text = f"{classes[0]} 9 5 2\n{classes[1]} 29 15 4\n"
    with_classes = of_lines(text, warmup=0, runs=1, where="pi", levels=LEVELS)
    assert (with_classes.by_class["integer"], with_classes.caches) == (500, found.caches)
    with pytest.raises(MeasurementError, match="contradicts itself"):
        of_lines("100 9 5 2\n600 8 15 4\n", warmup=0, runs=1, where="pi", levels=LEVELS)


def test_what_caches_moved_is_kept_shown_and_held_to_a_budget(tmp_path: Path) -> None:
    m = replace(MEASUREMENT, runs=(replace(RUN, counters=replace(COUNTERS, caches=CACHES)),))
    measurement.write(m, tmp_path / "m.json")
    assert measurement.read(tmp_path / "m.json") == m
    found = report(m, tmp_path / "m.json")
    told = found.document()["runs"][0]["counters"]["caches"]
    assert (told["memory_read_bytes"], told["memory_written_bytes"]) == (50_010 * 64, 10_010 * 64)
    assert told["levels"][0] == {"name": "l1d", "kib": 32, "ways": 2, "refills": 80_010}
    console = Console(file=io.StringIO(), width=80)
    render(found, console)
    assert isinstance(console.file, io.StringIO)
    printed = console.file.getvalue()
    assert "\nonnx int8  80,010  50,010  3.2     0.6\n" in re.sub(" +\n", "\n", printed)
    assert "a model of l1d 32 KiB, l2 1024 KiB, emulated" in printed
    (tmp_path / "b.toml").write_text("[counters]\nmemory_mb = 3.8\n")
    held = gate(tmp_path / "b.toml", [tmp_path / "m.json"])
    assert not held.passed
    assert [check.text for check in held.checks] == ["memory_mb is 3.841, at most 3.8 is allowed"]
    measurement.write(
        replace(MEASUREMENT, runs=(replace(RUN, counters=COUNTERS),)), tmp_path / "n.json"
    )
    with pytest.raises(InputError, match="was counted without --cache-model"):
        gate(tmp_path / "b.toml", [tmp_path / "n.json"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has 0 lines, and 4 were expected"),
        (lines(1, 2, 3), "has 3 lines"),
        ("1\n2\n3 1\n4\n", "has 4 lines"),
        ("1\n2\n3\nx\n", "cannot be read"),
        ("1\n2\n3\n3\n", "contradicts itself"),
        (lines(1, 2, 3) + f"9 4 {'0 ' * (len(CLASSES) - 1)}\n", "contradicts itself"),
    ],
)
def test_what_is_no_count_is_an_error(text: str, message: str) -> None:
    with pytest.raises(MeasurementError, match=message):
        of_lines(text, warmup=1, runs=1, where="pi")


def test_a_measurement_keeps_counts_and_shows_no_time_of_them(tmp_path: Path) -> None:
    m = replace(MEASUREMENT, runs=(replace(RUN, counters=COUNTERS),))
    measurement.write(m, tmp_path / "m.json")
    assert measurement.read(tmp_path / "m.json") == m
    found = report(m, tmp_path / "m.json")
    told = found.document()["runs"][0]["counters"]
    assert (told["emulated"], told["instructions"]) == (True, 2_000_400)
    assert told["classes"] == {"load": 400_400, "vector_load": 600_000, "dot": 1_000_000}
    console = Console(file=io.StringIO(), width=80)
    render(found, console)
    assert isinstance(console.file, io.StringIO)
    printed = console.file.getvalue()
    _, below = printed.split("  instructions ", 1)
    _, heads, row, text, *_ = below.splitlines()
    classes = ["integer", "branch", "load", "store", "vector", "multiply-add", "dot"]
    assert heads.split() == ["artifact", "emulated", *classes]
    assert row.split() == ["onnx", "int8", "2.00", "0", "0", "1.00", "0", "0", "0", "1.00"]
    assert text == "millions of instructions an inference, emulated, one thread; no time"
    assert "onnx int8: its inferences differ by up to 0.45% in instructions; " in printed


def test_counts_of_other_inferences_are_no_measurement(tmp_path: Path) -> None:
    m = replace(MEASUREMENT, runs=(replace(RUN, counters=COUNTERS),))
    measurement.write(m, tmp_path / "m.json")
    document = json.loads((tmp_path / "m.json").read_text())
    document["runs"][0]["counters"]["classes"]["dot"].pop()
    (tmp_path / "m.json").write_text(json.dumps(document))
    with pytest.raises(MeasurementError, match="not of the same inferences"):
        measurement.read(tmp_path / "m.json")


@pytest.mark.parametrize(
    ("most", "passed", "shown"), [(2_000_400, True, "2,000,400"), (2_000_399, False, "2,000,399")]
)
def test_a_budget_holds_the_median_count(
    tmp_path: Path, most: int, passed: bool, shown: str
) -> None:
    m = replace(MEASUREMENT, runs=(replace(RUN, counters=COUNTERS),))
    measurement.write(m, tmp_path / "m.json")
    (tmp_path / "b.toml").write_text(f"[counters]\ninstructions = {most}\n")
    found = gate(tmp_path / "b.toml", [tmp_path / "m.json"])
    assert found.passed == passed
    text = f"instructions is 2,000,400, at most {shown} is allowed"
    assert [check.text for check in found.checks] == [text]


def test_a_measurement_without_counts_is_told_how_to_get_them(tmp_path: Path) -> None:
    measurement.write(MEASUREMENT, tmp_path / "m.json")
    (tmp_path / "b.toml").write_text("[counters]\ninstructions = 9\n")
    with pytest.raises(InputError, match="edgeopt profile BUNDLE --board NAME --counters"):
        gate(tmp_path / "b.toml", [tmp_path / "m.json"])


@pytest.mark.heavy
@pytest.mark.board
def test_two_sessions_count_the_same(emulated_board: BoardEntry, tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="needs edgeopt[torch]")
    pytest.importorskip("onnxruntime", reason="needs edgeopt[onnx]")
    pytest.importorskip("ziglang", reason="needs edgeopt[cross]")
    import edgeopt

    checkpoint = checkpoints.write(tmp_path / "checkpoint", "BertForSequenceClassification")
    bundle = edgeopt.compile(
        checkpoint,
        "raspberry-pi-4",
        output=tmp_path / "b",
        engines=["onnx"],
        precisions=["fp32"],
    )
    words = ["profile", str(bundle.path), "--board", emulated_board.name, "--cache-model", "--json"]
    words += ["--runs", "1", "--warmup", "0"]
    found = []
    for name in ("first.json", "second.json"):
        done = CliRunner().invoke(cli, [*words, "-o", str(tmp_path / name)])
        assert done.exit_code == 0, done.output
        found.append(json.loads(done.stdout)["runs"][0]["counters"])
    first, second = found
    assert first["emulated"] is True
    assert first["instructions"] == pytest.approx(second["instructions"], rel=0.001)
    assert sum(first["classes"].values()) == first["instructions"]
    # Its layers multiply at least so often, four lanes an instruction.
    assert first["classes"]["multiply_add"] > 50_000
    assert first["classes"]["dot"] == 0  # a Cortex-A72 has none
    moved = [found["caches"]["levels"][0]["refills"] for found in (first, second)]
    assert moved[0] == pytest.approx(moved[1], rel=0.001)
    done = CliRunner().invoke(cli, [*words, "--board", "host", "-o", str(tmp_path / "host.json")])
    assert "--counters is for user-mode emulated boards" in str(done.exception)
