import json

import pytest

from edgeopt.errors import MeasurementError
from edgeopt.measure.agent import arguments, listen

LINES = [
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
    {"event": "samples", "first": 0, "wall_ns": [5, 6], "cpu_ns": [4, 5]},
    {"event": "samples", "first": 2, "wall_ns": [7], "cpu_ns": [6]},
    {"event": "memory", "rss_before_bytes": 1, "rss_loaded_bytes": 2, "peak_bytes": 3},
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
    assert report.peak_memory_bytes == 3
    assert report.outputs_agree
    assert [g.cosine for g in report.golden] == [0.999]
    assert counts == [2, 3]


def test_an_error_of_the_agent_is_told() -> None:
    event = {"event": "error", "where": "model.onnx", "message": "opset 99 is not supported"}
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
