# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

import edgeopt
from edgeopt.boards import Board, connect
from edgeopt.boards.emulated import full_system, lifecycle
from edgeopt.boards.registry import DETERMINISTIC, BoardEntry
from edgeopt.errors import InputError, MeasurementError
from edgeopt.measure import measurement
from edgeopt.measure.compare import of_measurements
from edgeopt.measure.gate import gate
from edgeopt.measure.measurement import Measurement
from edgeopt.measure.report import report
from edgeopt.measure.system_counts import SystemCounts, check_board, of_clock
from edgeopt.report.profile import render
from edgeopt.target import load_target
from tests import busy_bundle
from tests.measure.test_measurement import MEASUREMENT, RUN

NAME = "test-counts"

# Ten inferences in a row of a board under way; the CPU clock's reads are outside of the other's.
INSTRUCTIONS = (
    *(105_876_304, 105_850_480, 105_826_960, 105_924_496, 105_810_656),
    *(105_819_136, 105_762_944, 105_795_312, 105_820_848, 105_723_344),
)
COUNTS = of_clock(INSTRUCTIONS, [n + 1200 for n in INSTRUCTIONS], 107_758_864, "pi")


def measured(counts: SystemCounts | None = COUNTS) -> Measurement:
    run = replace(
        RUN,
        load_ns=0,
        warmup_ns=(),
        wall_ns=(),
        cpu_ns=(),
        outputs_agree=counts is not None,
        system=counts,
    )
    return replace(MEASUREMENT, runs=(run,), deterministic=True)


def printed(m: Measurement, path: Path) -> str:
    console = Console(file=io.StringIO(), width=200)
    render(report(m, path), console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def held(folder: Path, m: Measurement, most: int) -> str:
    """Return what a gate of ``system_instructions`` says of ``m``."""
    (folder / "m.json").unlink(missing_ok=True)
    measurement.write(m, folder / "m.json")
    (folder / "b.toml").write_text(f"[counters]\nsystem_instructions = {most}\n")
    (check,) = gate(folder / "b.toml", [folder / "m.json"]).checks
    return f"{check.status}: {check.text}"


def test_the_median_inference_is_told_with_its_bounds() -> None:
    assert COUNTS.per_inference == 105_819_136
    assert COUNTS.within == (105_762_944, 105_876_304)  # the second of ten from each end
    assert COUNTS.elsewhere == 0
    with pytest.raises(MeasurementError, match="pi: the board's clock does not count instructions"):
        of_clock([160, 0], [160, 0], 160, "pi")


def test_a_measurement_keeps_them_and_shows_no_time(tmp_path: Path) -> None:
    path, m = tmp_path / "m.json", measured()
    measurement.write(m, path)
    assert measurement.read(path) == m
    text = printed(m, path)
    row = next(line for line in text.splitlines() if line.startswith("onnx int8"))
    assert row.split()[2:7] == ["105,819,136", "-0.05%", "+0.05%", "107,758,864", "10"]
    assert "on all cores; no time" in text
    assert "tell no device's latency" in text
    assert not re.search(r"\bms\b|\d s\b|per s|p50|load", text)
    told = report(m, path).document()
    assert told["deterministic"] is True
    (run,) = told["runs"]
    assert run["system"] == {
        "emulated": True,
        "inferences": 10,
        "instructions": 105_819_136,
        "low": 105_762_944,
        "high": 105_876_304,
        "first_inference": 107_758_864,
        "elsewhere": 0.0,
    }
    assert {key for key in run if key.endswith("_ns") and run[key] is not None} == set()
    with pytest.raises(InputError, match="holds no timed artifact"):
        of_measurements(path, path)


def test_what_disagrees_was_not_counted(tmp_path: Path) -> None:
    row = next(x for x in printed(measured(None), tmp_path).splitlines() if x.startswith("onnx"))
    assert row.split()[2:6] == ["-"] * 4
    assert row.rstrip().endswith("DISAGREE")


def test_other_programs_meanwhile_are_told_and_pass_no_gate(tmp_path: Path) -> None:
    busy = replace(COUNTS, held=tuple(round(0.97 * n) for n in INSTRUCTIONS))
    assert "onnx int8: in 3.0% of it other programs ran, or all waited" in printed(
        measured(busy), tmp_path
    )
    assert held(tmp_path, measured(busy), 200_000_000).startswith("cannot tell: ")


@pytest.mark.parametrize(
    ("most", "status"),
    [(105_876_304, "kept"), (105_876_303, "cannot tell"), (105_762_943, "broken")],
)
def test_a_budget_holds_the_bound(tmp_path: Path, most: int, status: str) -> None:
    assert held(tmp_path, measured(), most).startswith(
        f"{status}: system_instructions is 105,819,136 (105,762,944 to 105,876,304), at most "
    )


def test_what_lacks_them_says_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is of no deterministic board") as caught:
        held(tmp_path, MEASUREMENT, 9)
    assert "--deterministic, for system_instructions" in str(caught.value.hint)
    (tmp_path / "n.toml").write_text("[counters]\ninstructions = 9\n")
    measurement.write(measured(), tmp_path / "n.json")
    with pytest.raises(InputError, match="by the board's clock, without QEMU's plugin"):
        gate(tmp_path / "n.toml", [tmp_path / "n.json"])


def test_counts_of_other_inferences_are_no_measurement(tmp_path: Path) -> None:
    measurement.write(measured(), tmp_path / "m.json")
    document = json.loads((tmp_path / "m.json").read_text())
    document["runs"][0]["system"]["held"].pop()
    (tmp_path / "m.json").write_text(json.dumps(document))
    with pytest.raises(MeasurementError, match="not of the same inferences"):
        measurement.read(tmp_path / "m.json")


def test_a_board_has_time_or_counts() -> None:
    with connect("host") as host:
        check_board(host, deterministic=False)
        with pytest.raises(InputError, match="tells time") as caught:
            check_board(host, deterministic=True)
        assert "--mode deterministic" in str(caught.value.hint)
        entry = BoardEntry(name="pi", kind="emulated", mode=DETERMINISTIC)
        counting = Board(entry=entry, transport=host.transport, facts=host.facts)
        check_board(counting, deterministic=True)
        assert counting.beat_s > host.beat_s  # each beat is counted there
        with pytest.raises(InputError, match="pi: its clock counts instructions"):
            check_board(counting, deterministic=False)


@pytest.mark.parametrize(
    ("asked", "option"),
    [
        ({"duration_s": 9.0}, "--duration"),
        ({"data": "texts.txt"}, "--data"),
        ({"with_operators": True}, "--operators"),
        ({"instances": 2}, "--instances"),
        ({"cool_to_c": 45.0}, "--cool-to"),
        ({"rails": ["VDD"]}, "--rail"),
        ({"rules": "mlperf-tiny"}, "--rules"),
    ],
)
def test_what_takes_time_is_refused_beside_it(asked: dict[str, object], option: str) -> None:
    with pytest.raises(InputError, match=f"{option} takes time"):
        edgeopt.profile("none", "pi", deterministic=True, **asked)  # type: ignore[arg-type]


@pytest.mark.heavy
@pytest.mark.board
def test_two_boots_count_the_same_with_one_thread_and_with_four(tmp_path: Path) -> None:
    if (reason := full_system.missing()) is not None:
        pytest.skip(f"no full-system board here: {reason}")
    pytest.importorskip("ziglang", reason="ziglang is not installed")
    path, target = busy_bundle.write(tmp_path / "bundle"), load_target("raspberry-pi-4")
    found: dict[int, list[SystemCounts]] = {1: [], 4: []}
    try:
        for boot in range(2):
            entry = lifecycle.up(NAME, target, mode=DETERMINISTIC)
            assert "its clock counts instructions" in str(entry.note)
            for threads, counts in found.items():
                done = edgeopt.profile(
                    path, NAME, deterministic=True, threads=threads, runs=15,
                    output=tmp_path / f"{boot}-{threads}.json",
                )  # fmt: skip
                (item,) = done.runs
                assert (item.latency, item.run.wall_ns, item.run.load_ns) == (None, (), 0)
                assert item.run.system is not None
                counts.append(item.run.system)
            with pytest.raises(InputError, match="nothing there can be timed"):
                edgeopt.profile(path, NAME, output=tmp_path / "none.json")
            lifecycle.down(NAME)
    finally:
        lifecycle.forget(NAME)
    for first, second in found.values():
        assert first.per_inference == pytest.approx(second.per_inference, rel=0.001)
        # A product of two matrices takes so many multiply-adds of four lanes at least.
        assert first.per_inference > 2 * busy_bundle.N**3 / 4
        assert first.elsewhere < 0.01
