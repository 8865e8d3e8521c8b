# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

import io
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from edgeopt.measure.batched import Batched
from edgeopt.measure.measurement import Measurement, Served
from edgeopt.measure.report import Report, report
from edgeopt.report.profile import render
from edgeopt.report.tables import size
from tests.measure.test_measurement import MEASUREMENT, RUN


def printed(measurement: Measurement, took_ns: int = 0) -> str:
    return shown(report(measurement, Path("m.json"), None, took_ns))


def shown(found: Report) -> str:
    console = Console(file=io.StringIO(), width=200)
    render(found, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_figures_are_recomputed_from_the_samples() -> None:
    run = report(MEASUREMENT, Path("m.json")).document()["runs"][0]
    figures = {"p50": 2, "p90": None, "p99": None, "max": 3, "n": 3}
    assert {name: run["latency_ns"][name] for name in figures} == figures
    assert run["latency_ns"]["p50_bounds"] == (None, None)
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


def test_starts_are_told_apart_from_the_steady_state() -> None:
    times = (90, 80, *(10, 11, 12) * 100)
    run = replace(RUN, warmup_ns=(), wall_ns=times, cpu_ns=times, load_ns=7, first_ns=40)
    m = replace(MEASUREMENT, runs=(run,), emulated=False)
    found = report(m, Path("m.json")).document()["runs"][0]
    assert (found["load_ns"], found["first_inference_ns"], found["cold_start_ns"]) == (7, 40, 47)
    assert (found["warmup_runs"], found["steady_runs"]) == (2, 300)
    assert found["latency_ns"]["max"] == 12
    assert (found["drift"], found["modes"]) == (None, [])
    text = printed(m)
    assert "onnx int8: 2 runs until it was steady, 0 were meant: 2 samples left out" in text
    assert "p50 within" in text


def test_what_a_session_takes_beside_its_timed_runs_is_told() -> None:
    second = 1_000_000_000
    times = {"warmup_ns": (second,), "wall_ns": (second,) * 3, "cpu_ns": (second,) * 3}
    spent = {"load_ns": second // 2, "session_ns": 5 * second}
    run = replace(RUN, **times, **spent, deploy_ns=3 * second, upload_ns=2 * second)
    m = replace(MEASUREMENT, runs=(run, replace(run, precision="fp32")))
    text = (
        "took 18.0 s: timed runs 8.0, loads 1.0, checks 1.0, deploying 2.0, upload 4.0, "
        "all else 2.0\nwithout the upload 1.75 times its timed runs\n"
    )
    assert text in printed(m, 18 * second)
    found = report(m, Path("m.json"), None, 18 * second).document()["took_ns"]
    assert found == {
        "all": 18 * second,
        "timed": 8 * second,
        "load": second,
        "checks": second,
        "deploy": 2 * second,
        "upload": 4 * second,
        "besides": 0,
        "ratio": 1.75,
    }
    more = report(m, Path("m.json"), None, 18 * second, second)
    assert more.took is not None
    assert more.took.ratio == 1.625
    assert "what else was asked for 1.0, all else 1.0\n" in shown(more)
    assert "took" not in printed(m)
    assert report(m, Path("m.json")).document()["took_ns"] is None
    nothing = replace(m, runs=(replace(run, wall_ns=(), warmup_ns=()),))
    assert "took" not in printed(nothing, 18 * second)


def test_batches_stand_beside_single_runs() -> None:
    batched = Batched(
        batch=4,
        load_ns=1,
        warmup_ns=(),
        wall_ns=(20_000_000,) * 10,
        peak_memory_bytes=10**8,
        cosine_min=0.99,
        outputs_agree=True,
    )
    wrong = replace(batched, batch=8, wall_ns=(), cosine_min=None, outputs_agree=False)
    run = replace(RUN, wall_ns=(10_000_000,) * 10, batches=(batched, wrong))
    none = replace(RUN, precision="fp32", no_batches="it takes one input at a time")
    m = replace(MEASUREMENT, runs=(run, none), emulated=False)
    text = printed(m)
    rows = {line.split("  ")[0]: line.split()[3:] for line in text.splitlines()}
    assert rows["onnx int8, 4"] == ["200", "100", "20.0", "100.0", "MB", "agree"]
    assert rows["onnx int8, 8"] == ["-", "100", "-", "100.0", "MB", "DISAGREE"]
    assert "onnx fp32: not in batches: it takes one input at a time" in text
    found = report(m, Path("m.json")).document()["runs"]
    assert [one["throughput_per_s"] for one in found[0]["batches"]] == [200, None]
    assert found[0]["batches"][0]["latency_ns"]["p50"] == 20_000_000
    assert (found[1]["batches"], found[1]["no_batches"]) == ([], "it takes one input at a time")


def test_the_users_own_texts_have_a_mean_and_what_tail_they_support() -> None:
    served = Served(
        data="t.txt", wall_ns=(*(1_000_000,) * 39, 21_000_000), tokens=(4,) * 39 + (9,), cut=1
    )
    m = replace(MEASUREMENT, runs=(replace(RUN, served=served),))
    assert (
        "onnx int8: 40 texts of t.txt as served, 4 to 9 tokens, 1 of them cut: mean 1.50 ms, "
        "p50 1.00, p90 1.00, max 21.0 (emulated)"
    ) in printed(m)
    found = report(m, Path("m.json")).document()["runs"][0]["served"]
    assert (found["mean_ns"], found["texts"], found["tokens"]) == (1_500_000, 40, [4, 9])


def test_what_is_odd_in_the_times_is_told() -> None:
    steps = tuple(1000 + i for i in range(400))
    text = printed(replace(MEASUREMENT, runs=(replace(RUN, wall_ns=steps, warmup_ns=()),)))
    assert "its times drift by +" in text
    assert "runs are like those before them" in text
    levels = (1000, 2000, 1001, 1002, 2001) * 40
    text = printed(replace(MEASUREMENT, runs=(replace(RUN, wall_ns=levels, warmup_ns=()),)))
    assert "its times keep to two levels: 60% about" in text
    score = replace(RUN, wall_ns=(5_000_000,) * 64, rules="mlperf-single-stream")
    text = printed(replace(MEASUREMENT, runs=(score,)))
    assert "by the rules of mlperf-single-stream, and no result of theirs: 5.00 ms" in text


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
