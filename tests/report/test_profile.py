# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

import io
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from edgeopt.measure.measurement import Measurement
from edgeopt.measure.report import report
from edgeopt.report.profile import render
from edgeopt.report.tables import size
from tests.measure.test_measurement import MEASUREMENT, RUN


def printed(measurement: Measurement) -> str:
    console = Console(file=io.StringIO(), width=200)
    render(report(measurement, Path("m.json")), console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_figures_are_recomputed_from_the_samples() -> None:
    run = report(MEASUREMENT, Path("m.json")).document()["runs"][0]
    assert run["latency_ns"] == {"p50": 2, "p90": None, "p99": None, "max": 3, "n": 3}
    assert run["throughput_per_s"] == 1e9 * 3 / 6
    assert run["cosine_min"] == 0.99
    assert run["emulated"] is True


def test_emulated_stands_beside_every_emulated_figure() -> None:
    lines = printed(MEASUREMENT).splitlines()
    start = next(i for i, line in enumerate(lines) if "p50" in line)
    header = lines[start : start + 2]
    figures = ("p50 ms", "max ms", "per s", "memory")
    assert all(name in header[0] for name in figures)
    assert header[1].split().count("emulated") == len(figures)
    assert "emulated" not in printed(replace(MEASUREMENT, emulated=False))


def test_a_percentile_without_the_samples_for_it_is_not_printed() -> None:
    def header(runs: int) -> str:
        return printed(replace(MEASUREMENT, runs=(replace(RUN, wall_ns=(1,) * runs),)))

    assert "p90" not in header(28).splitlines()[2]
    assert "too few runs for more percentiles: p90 takes 29, p99 takes 299" in header(28)
    assert "p90 ms" in header(29)
    assert "max ms" in header(298)
    assert "p99 takes 299" in header(298)
    assert "p99 ms" in header(299)
    assert "too few" not in header(299)
    assert "max" not in header(299)


def test_the_table_fits_into_80_columns() -> None:
    slow = replace(RUN, engine="openvino", wall_ns=(123_456_789_012,) * 1000)
    wide = replace(MEASUREMENT, runs=(replace(slow, artifact_bytes=10**11),))
    for line in printed(wide).splitlines():
        if "openvino" in line:
            assert len(line.rstrip()) <= 80
            assert "123457" in line


def test_outputs_that_disagree_have_no_latency() -> None:
    wrong = replace(RUN, wall_ns=(), cpu_ns=(), outputs_agree=False)
    m = replace(MEASUREMENT, runs=(wrong,))
    assert "DISAGREE" in printed(m)
    assert report(m, Path("m.json")).document()["runs"][0]["latency_ns"] is None


def test_what_was_not_measured_is_told() -> None:
    assert "not measured: tvm fp32: no library" in printed(MEASUREMENT)


def test_sizes_for_people() -> None:
    assert [size(n) for n in (0, 999, 1000, 23_400_000, 5 * 10**12)] == [
        "0 B",
        "999 B",
        "1.0 kB",
        "23.4 MB",
        "5000.0 GB",
    ]


def test_a_run_without_a_length_is_one_of_an_image() -> None:
    assert "16 tokens, " in printed(replace(MEASUREMENT, runs=(replace(RUN, seq_len=16),)))
    images = printed(replace(MEASUREMENT, runs=(replace(RUN, seq_len=0),)))
    assert "an image, " in images
    assert "tokens" not in images
