# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Time calls on this machine against each other: CPU time, shuffled, and undisturbed.

Each round calls all of them in a new order, so that what slows the machine for a while slows all;
only figures of one round are held against each other.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from edgeopt import progress

CLOCK = "process CPU time"
MAX_WALL_TO_CPU = 1.3
"""A call whose wall time is this far above its CPU time was disturbed, and is taken again."""

MIN_SAMPLE_NS = 3_000_000
"""The least time of a sample; what is called is repeated until it takes that long.

The clock and what else the process does would else be a good part of it.
"""

_TRIES = 5
_WARMUP = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Timings:
    """CPU times, ns, of each call by round, and how many of all of them something disturbed.

    A disturbed sample is the least of ``_TRIES`` that were all disturbed: it is too high, if wrong.
    """

    samples: dict[str, list[int]]
    disturbed: int


def interleaved(calls: Mapping[str, Callable[[int], object]], rounds: int, text: str) -> Timings:
    """Time each of ``calls`` in ``rounds`` rounds; each is called with the round's number.

    A note says how many samples stayed disturbed. CPU time is the whole process's: what is called
    should use one thread. Short calls are repeated within a sample, all equally often, and the
    sample is their mean. ``text`` is what progress calls it.
    """
    samples: dict[str, list[int]] = {name: [] for name in calls}
    shortest = MIN_SAMPLE_NS
    disturbed = 0
    order = list(calls)
    shuffle = random.Random(0).shuffle
    for name in order:
        for i in range(_WARMUP):
            began = time.process_time_ns()
            calls[name](i)
        shortest = min(shortest, max(1, time.process_time_ns() - began))
    times = -(-MIN_SAMPLE_NS // shortest)
    with progress.step(text) as step:
        for i in range(rounds):
            shuffle(order)
            for name in order:
                taken, quiet = _sample(calls[name], i, times)
                samples[name].append(taken)
                disturbed += not quiet
            step.update(i + 1, rounds)
    if disturbed:
        progress.note(
            f"{disturbed} of {rounds * len(calls)} samples were disturbed by what else ran here, "
            f"{_TRIES} times in a row: those are too high"
        )
    return Timings(samples=samples, disturbed=disturbed)


def _sample(call: Callable[[int], object], number: int, times: int) -> tuple[int, bool]:
    """Return the CPU time of a call, ns, and whether nothing disturbed it."""
    best = None
    for _ in range(_TRIES):
        wall, cpu = time.perf_counter_ns(), time.process_time_ns()
        for _ in range(times):
            call(number)
        wall, cpu = time.perf_counter_ns() - wall, time.process_time_ns() - cpu
        if wall <= MAX_WALL_TO_CPU * cpu:
            return cpu // times, True
        best = cpu if best is None else min(best, cpu)
    assert best is not None  # there was one try at least
    return best // times, False
