"""Time calls on this machine against each other: CPU time, shuffled, and undisturbed.

Each round calls all of them in a new order, so that what slows the machine for a while slows all;
only figures of one round are held against each other.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping

from edgeopt import progress

CLOCK = "process CPU time"
MAX_WALL_TO_CPU = 1.3
"""A call whose wall time is this far above its CPU time was disturbed, and is taken again."""

MIN_SAMPLE_NS = 3_000_000
"""What is called takes this long at least for a sample, if need be several times over: the clock
and what else the process does would else be a good part of it."""

_TRIES = 5
_WARMUP = 3


def interleaved(
    calls: Mapping[str, Callable[[int], object]], rounds: int, text: str
) -> dict[str, list[int]]:
    """Return ``rounds`` CPU times of each of ``calls``, ns; each is called with the round's number.

    CPU time is the whole process's: what is called should use one thread. Short calls are repeated
    within a sample, all equally often, and the sample is their mean. ``text`` is what progress
    calls it.
    """
    samples: dict[str, list[int]] = {name: [] for name in calls}
    shortest = MIN_SAMPLE_NS
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
                samples[name].append(_undisturbed(calls[name], i, times))
            step.update(i + 1, rounds)
    return samples


def _undisturbed(call: Callable[[int], object], number: int, times: int) -> int:
    best = None
    for _ in range(_TRIES):
        wall, cpu = time.perf_counter_ns(), time.process_time_ns()
        for _ in range(times):
            call(number)
        wall, cpu = time.perf_counter_ns() - wall, time.process_time_ns() - cpu
        if wall <= MAX_WALL_TO_CPU * cpu:
            return cpu // times
        best = cpu if best is None else min(best, cpu)
    assert best is not None  # there was one try at least
    return best // times
