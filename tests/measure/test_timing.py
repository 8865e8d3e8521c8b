# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What a timing says of samples that something else disturbed."""

import os
import subprocess
import sys
import time

import pytest

from edgeopt import progress
from edgeopt.measure import timing


def busy(_: int) -> None:
    end = time.process_time_ns() + timing.MIN_SAMPLE_NS
    while time.process_time_ns() < end:
        pass


def test_samples_that_wait_are_counted_as_disturbed_and_told() -> None:
    """What sleeps uses no CPU meanwhile: as what waits for a core that others hold."""

    def waits(i: int) -> None:
        busy(i)
        time.sleep(2 * timing.MIN_SAMPLE_NS / 1e9)

    told: list[str] = []
    with progress.listen(lambda event: told.append(event.text)):
        found = timing.interleaved({"a": waits}, 2, "Timing")
    assert found.disturbed == 2
    assert len(found.samples["a"]) == 2
    assert any("2 of 2 samples were disturbed" in text for text in told)


@pytest.mark.heavy
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cannot choose a core here")
def test_another_process_on_the_same_core_disturbs() -> None:
    cores = os.sched_getaffinity(0)
    core = min(cores)
    other = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        os.sched_setaffinity(other.pid, {core})
        os.sched_setaffinity(0, {core})
        time.sleep(0.2)
        long = {"a": lambda i: [busy(i) for _ in range(20)]}
        assert timing.interleaved(long, 3, "Timing").disturbed > 0
    finally:
        os.sched_setaffinity(0, cores)
        other.kill()
        other.wait()
