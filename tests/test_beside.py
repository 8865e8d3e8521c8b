# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""A process beside this one ends with the block, with what it started, and with this process."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edgeopt import beside, progress
from edgeopt.retention import start_ticks

pytestmark = pytest.mark.skipif(
    beside.cores() < 2 or not sys.platform.startswith("linux"), reason="needs two cores and /proc"
)

MODULE = "tests.beside_work"


def until(holds: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end, what
        time.sleep(0.02)


def pids(place: Path) -> list[int]:
    """Return the process and what it started, once both run."""
    until((place / "pids").is_file, "nothing was started")
    return [int(pid) for pid in (place / "pids").read_text().split()]


def ended(pids: list[int]) -> bool:
    return all(start_ticks(pid) is None for pid in pids)


def test_it_ends_with_the_block(tmp_path: Path) -> None:
    with beside.beside(MODULE, str(tmp_path)):
        started = pids(tmp_path)
        assert not ended(started)
    until(lambda: ended(started), "still runs")


def test_it_ends_if_the_block_is_interrupted(tmp_path: Path) -> None:
    started: list[int] = []

    def work() -> None:
        with beside.beside(MODULE, str(tmp_path)):
            started.extend(pids(tmp_path))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    until(lambda: ended(started), "still runs")


def test_it_ends_if_this_process_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys, time; from edgeopt.beside import beside\n"
        "with beside(*sys.argv[1:]): time.sleep(600)"
    )
    own = subprocess.Popen(
        [sys.executable, "-c", code, MODULE, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    try:
        started = pids(tmp_path)
    finally:
        own.send_signal(signal.SIGKILL)
        own.wait()
    until(lambda: ended(started), "still runs")


def test_a_process_that_fails_disturbs_nothing(tmp_path: Path) -> None:
    with beside.beside("tests.no_such_module", b"x" * (1 << 20)):
        pass


def test_on_one_core_nothing_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        with beside.beside(MODULE, str(tmp_path)):
            time.sleep(0.5)
    finally:
        os.sched_setaffinity(0, before)
    assert not list(tmp_path.iterdir())


def test_notes_are_given_and_all_else_is_told() -> None:
    told = []
    with progress.listen(lambda event: told.append((event.state, event.text))):
        with progress.noted() as notes:
            progress.note("slow loops")
            with progress.step("Compiling"):
                pass
        progress.note("skipped")
    assert notes == ["slow loops"]
    assert told == [("begin", "Compiling"), ("end", "Compiling"), ("note", "skipped")]
