# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What the agent reads beside a run: files and commands, on the clock that also times the run."""

from __future__ import annotations

import itertools
import json
import subprocess
from pathlib import Path

import pytest

from edgeopt.measure import trace
from edgeopt.measure.agent import listen
from edgeopt.measure.trace import Source
from tests.runtime.agent_runs import Case, Run

pytestmark = pytest.mark.heavy


def test_files_and_commands_are_read_around_the_run(case: Case, tmp_path: Path) -> None:
    power = tmp_path / "power"
    power.write_text("2281\n")
    sources = (
        Source(what=str(power), every_ms=20),
        Source(what="cat; echo three $((1 + 2))", every_ms=40),
        Source(what=str(power), every_ms=20),
        Source(what="exit 3", every_ms=50),
        Source(what="/proc/stat", every_ms=100, keep="^cpu [0-9 ]+[0-9]"),
    )
    done = case.run("--runs", "3", *trace.arguments(sources, 400))
    assert (done.status, done.stderr) == (0, "")
    lines = [event for event in done.events if event["event"] == "read"]
    assert {event["source"] for event in lines} == set(range(5))
    told = listen(map(_line, done.events), where="host", sources=sources)
    found = trace.of(told.beside, sources)
    first, command, second, failing, stat = found.reads
    assert set(first.text) == {"2281"}
    assert set(command.text) == {"three 3"}  # and no input of ours was read
    assert (failing.text, failing.failure) == ((), "Exec format error")
    assert failing.failures >= 2
    assert all(text.startswith("cpu ") for text in stat.text)
    # Idle, then the run, both within what was read.
    assert found.idle_end_ns - found.idle_begin_ns >= 400_000_000
    assert found.idle_end_ns < found.run_begin_ns < found.run_end_ns
    for reads in (first, command, stat):
        assert reads.end_ns[-1] >= found.run_end_ns
        assert reads.begin_ns[0] < found.idle_begin_ns + 100_000_000
    # Those of one interval go together, at uneven distances of 20 ms on average.
    assert len(first.text) == len(second.text)
    rounds = itertools.pairwise(first.begin_ns)
    for (begin, following), at in zip(rounds, second.begin_ns, strict=False):
        assert begin < at < following
    idle = [t for t in first.begin_ns if t < found.idle_end_ns]
    distances = [b - a for a, b in itertools.pairwise(idle)]
    assert max(distances) > 1.3 * min(distances)
    assert 0 < found.sampler_cpu_ns < found.sampler_ns


def test_the_timed_process_is_another(case: Case, tmp_path: Path) -> None:
    """What the sampler takes is not in the measured CPU time, and ends with the agent."""
    burns = "i=0; while [ $i -lt 3000 ]; do i=$((i+1)); done; echo"
    sources = (Source(what=burns, every_ms=1),)
    done = case.run("--runs", "300", *trace.arguments(sources, 100))
    samples = done.all("samples")
    cpu = sum(ns for event in samples for ns in event["cpu_ns"])
    assert done.one("sampler")["cpu_ns"] > cpu
    left = subprocess.run(["pgrep", "-f", str(case.folder)], capture_output=True, check=False)
    assert left.stdout == b""


def test_a_file_that_is_missing_is_an_error_and_no_zero(case: Case, tmp_path: Path) -> None:
    done = case.run("--read", f"50={tmp_path}/none")
    assert done.status == 1
    error = done.one("error")
    assert error["where"] == f"{tmp_path}/none"
    assert error["message"] == "cannot be read every 50 ms"


@pytest.mark.parametrize("word", ["=/proc/stat", "50", "0=/proc/stat", "x=/proc/stat"])
def test_what_is_no_interval_is_refused(case: Case, word: str) -> None:
    assert case.run("--read", word).status in (1, 2)


def test_the_clock_answers_each_line(agent: Path) -> None:
    done = Run(agent, "clock", text="\n")
    assert [event["event"] for event in done.events] == ["hello", "clock"]
    assert done.events[1]["ns"] > 0


def _line(event: dict[str, object]) -> str:
    return json.dumps(event)
