# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from edgeopt.errors import MeasurementError
from edgeopt.measure import measurement
from edgeopt.measure.instances import Instance, Instances
from edgeopt.measure.report import report
from edgeopt.report.instances import render
from tests.measure.test_measurement import MEASUREMENT, RUN

MS = 1_000_000


def instance(begin_ms: int, *wall_ms: int, gap_ms: int = 0, pss: int | None = 30) -> Instance:
    return Instance(
        begin_ns=begin_ms * MS,
        end_ns=(begin_ms + sum(wall_ms) + gap_ms) * MS,
        wall_ns=tuple(ms * MS for ms in wall_ms),
        rss_bytes=40,
        pss_bytes=pss,
    )


def test_throughput_is_of_the_time_in_which_all_ran() -> None:
    # 0-100 and 50-150: in 50-100 are five runs of the first, and two and a half of the second.
    found = Instances(
        threads=1, instances=(instance(0, *(10,) * 10), instance(50, 20, 20, 20, 20, 20))
    )
    assert found.window_ns == (50 * MS, 100 * MS)
    assert found.inferences == pytest.approx(7.5)
    assert found.throughput_per_s == pytest.approx(150)
    latencies = [one and (one.n, one.p50) for one in found.latencies]
    assert latencies == [(5, 10 * MS), (2, 20 * MS)]
    assert (found.rss_bytes, found.pss_bytes) == (80, 60)


def test_what_lies_between_runs_is_in_the_window() -> None:
    one = instance(0, *(10,) * 10, gap_ms=100)
    found = Instances(threads=1, instances=(one, one))
    assert found.throughput_per_s == pytest.approx(100)  # not 200: it idled half of the time


def test_the_window_begins_when_the_last_is_steady() -> None:
    warm = instance(0, *(10,) * 40)
    cold = instance(0, 90, 80, *(10,) * 40)
    assert cold.steady_from() == 2
    found = Instances(threads=2, instances=(warm, cold))
    assert found.is_steady
    assert found.window_ns == (170 * MS, 400 * MS)
    assert found.throughput_per_s == pytest.approx(200)


def test_what_was_never_steady_is_told() -> None:
    late = instance(0, *((20, 21) * 60), *((10, 11) * 40))
    assert late.steady_from() is None
    found = Instances(threads=1, instances=(late, late))
    assert not found.is_steady
    assert found.window_ns == (0, late.end_ns)


def test_without_a_common_time_nothing_is_told() -> None:
    found = Instances(threads=1, instances=(instance(0, 10), instance(20, 10, pss=None)))
    assert found.window_ns is found.throughput_per_s is found.pss_bytes is None
    assert found.latencies == (None, None)
    assert found.inferences == 0


def test_none_at_all_are_no_instances(tmp_path: Path) -> None:
    run = replace(RUN, instances=Instances(threads=1, instances=()))
    path = tmp_path / "m.json"
    measurement.write(replace(MEASUREMENT, runs=(run,)), path)
    with pytest.raises(MeasurementError, match="instances: expected one or more"):
        measurement.read(path)


def test_it_is_kept_and_shown(tmp_path: Path) -> None:
    found = Instances(threads=3, instances=(instance(0, *(10,) * 10), instance(5, *(10,) * 10)))
    m = replace(MEASUREMENT, runs=(replace(RUN, instances=found), RUN), emulated=False)
    path = tmp_path / "m.json"
    measurement.write(m, path)
    assert measurement.read(path).runs[0].instances == found
    first, second = report(m, path).document()["runs"]
    assert first["instances"]["count"] == 2
    assert first["instances"]["throughput_per_s"] == pytest.approx(200)
    assert first["instances"]["window_ns"] == 95 * MS
    assert second["instances"] is None
    killed = replace(RUN, no_instances="host: killed")
    console = Console(file=io.StringIO(), width=80)
    render(report(replace(m, runs=(killed,)), path), console)
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue() == "onnx int8: not several at once: host: killed\n"
    for emulated in (False, True):
        console = Console(file=io.StringIO(), width=80)
        render(report(replace(m, emulated=emulated), path), console)
        assert isinstance(console.file, io.StringIO)
        text = console.file.getvalue()
        assert "onnx int8" in text
        assert "2 processes at once, 3 threads each" in text
        assert ("emulated" in text) == emulated
        assert max(map(len, text.splitlines())) <= 80
