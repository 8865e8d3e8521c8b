# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

import json

import pytest

from edgeopt.errors import MeasurementError
from edgeopt.measure.agent import arguments, listen

LINES: list[dict[str, object]] = [
    {"event": "hello", "agent": "0.1.0", "arch": "aarch64", "pid": 7},
    {"event": "engine", "engine": "onnx", "version": "1.31.1", "load_ns": 11},
    {
        "event": "golden",
        "directory": "g/0",
        "output": "logits",
        "cosine": 0.999,
        "max_abs_error": 0.01,
        "agrees": True,
    },
    {"event": "warmup", "ns": [100]},
    {
        "event": "samples",
        "first": 0,
        "begin_ns": 100,
        "end_ns": 111,
        "wall_ns": [5, 6],
        "cpu_ns": [4, 5],
    },
    {"event": "samples", "first": 2, "begin_ns": 120, "end_ns": 127, "wall_ns": [7], "cpu_ns": [6]},
    *(
        {
            "event": "memory",
            "phase": phase,
            "rss_bytes": 10 * place,
            "pss_bytes": 9 * place,
            "peak_bytes": 12 * place,
            "peak_is_of_phase": True,
        }
        for place, phase in enumerate(("before", "loaded", "first", "steady"), 1)
    ),
    {"event": "done", "outputs_agree": True},
]


def lines(events: list[dict[str, object]]) -> list[str]:
    return [json.dumps(event) for event in events]


def test_all_events_are_taken() -> None:
    counts: list[int] = []
    report = listen(lines(LINES), where="pi", sampled=counts.append)
    assert report.agent_version == "0.1.0"
    assert report.engine_version == "1.31.1"
    assert report.wall_ns == [5, 6, 7]
    assert report.cpu_ns == [4, 5, 6]
    memory = report.memory
    assert [p.rss_bytes for p in memory.all] == [10, 20, 30, 40]
    assert (memory.steady.pss_bytes, memory.steady.anonymous_bytes) == (36, None)
    assert memory.peak_bytes == 48
    assert report.outputs_agree
    assert [g.cosine for g in report.golden] == [0.999]
    assert counts == [2, 3]


def test_an_error_of_the_agent_is_told() -> None:
    event = {
        "event": "error",
        "where": "model.onnx",
        "message": "opset 99 is not supported",
    }
    with pytest.raises(
        MeasurementError, match=r"pi: model\.onnx: the agent failed: opset 99 is not supported"
    ):
        listen(lines([*LINES[:1], event]), where="pi")


def test_an_end_without_the_closing_line() -> None:
    with pytest.raises(MeasurementError, match="ended before it was done"):
        listen(lines(LINES[:-1]), where="pi")


@pytest.mark.parametrize("line", ["Illegal instruction", '{"event": "dance"}', '{"a": 1}', "[]"])
def test_a_line_that_is_not_the_protocol(line: str) -> None:
    with pytest.raises(MeasurementError, match="a line that is not its protocol"):
        listen([line], where="pi")


def test_the_command_line() -> None:
    words = arguments(
        agent="/b/agent",
        bundle="/b/bundle",
        engine="onnx",
        precision="int8",
        libraries="/b/bundle/lib",
        seq_len=32,
        threads=2,
        warmup=1,
        runs=5,
    )
    assert " ".join(words) == (
        "/b/agent run --bundle /b/bundle --engine onnx --precision int8 --libraries /b/bundle/lib "
        "--threads 2 --warmup 1 --runs 5 --seq-len 32"
    )


GOLDEN, SAMPLES, DONE = LINES[2], LINES[4], LINES[-1]


def changed(place: int, **change: object) -> list[dict[str, object]]:
    return [*LINES[:place], LINES[place] | change, *LINES[place + 1 :]]


@pytest.mark.parametrize(
    "events",
    [
        [*LINES, DONE],
        [*LINES, LINES[0]],
        [LINES[0], LINES[0]],
        [LINES[1], LINES[0]],
        LINES[1:],
        [LINES[0], *LINES[2:]],
        [*LINES[:6], DONE],
        [*LINES[:4], GOLDEN],
        [*LINES[:5], LINES[4]],
        [*LINES[:5], *[LINES[3]]],
        changed(1, load_ns=-1),
        changed(1, load_ns=True),
        changed(1, load_ns=2**80),
        changed(1, version=7),
        changed(2, cosine="1"),
        changed(2, agrees=1),
        changed(2, directory=None),
        changed(3, ns=[-1]),
        changed(3, ns=[1.5]),
        changed(3, ns="12"),
        changed(3, ns=7),
        changed(3, ns=[1] * 50),
        changed(4, wall_ns=[5, 6] * 50, cpu_ns=[5, 6] * 50),
        changed(4, cpu_ns=[4]),
        changed(5, first=9),
        changed(6, peak_bytes=-3),
        changed(6, peak_is_of_phase=1),
        changed(6, phase="loaded"),
        changed(6, phase="asleep"),
        [*LINES[:10], LINES[9], DONE],
        [*LINES[:9], DONE],
        [LINES[6], *LINES[:6], *LINES[7:]],
        changed(10, outputs_agree="yes"),
    ],
)
def test_what_an_agent_cannot_say_is_refused(events: list[dict[str, object]]) -> None:
    with pytest.raises(MeasurementError, match=r"^pi: the agent sent a line that is not its"):
        listen(lines(events), where="pi", warmup=1, runs=3)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "9" * 5000])
def test_a_number_that_is_none(number: str) -> None:
    line = json.dumps(GOLDEN).replace("0.999", number)
    with pytest.raises(MeasurementError, match="is not its protocol"):
        listen([*lines(LINES[:2]), line], where="pi")


def test_outputs_that_were_not_compared_are_no_outputs_that_agree() -> None:
    with pytest.raises(MeasurementError, match=r"compared no output with the golden ones$"):
        listen(lines([*LINES[:2], *LINES[3:]]), where="pi")
    with pytest.raises(MeasurementError, match=r"compared no output .* of g/1$"):
        listen(lines(LINES), where="pi", golden=["g/0", "g/1"])


@pytest.mark.parametrize("agree", [True, False])
def test_an_agent_that_contradicts_itself(agree: bool) -> None:
    with pytest.raises(MeasurementError, match="contradicts itself"):
        listen(
            lines([*changed(2, agrees=not agree)[:-1], DONE | {"outputs_agree": agree}]), where="pi"
        )


def test_what_disagrees_is_no_error() -> None:
    events = [
        *changed(2, agrees=False, cosine=None)[:3],
        *LINES[6:10],
        DONE | {"outputs_agree": False},
    ]
    report = listen(lines(events), where="pi", golden=["g/0"])
    assert not report.outputs_agree
    assert report.golden[0].cosine is None
