# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Try ``edgeopt compare`` on what has no difference, and on a planted one; write the counts.

    python -m tools.compare_experiment record BUNDLE FILE [--rounds N] [--busy N]
    python -m tools.compare_experiment judge FILE... [--note TEXT]

``record`` times an artifact of BUNDLE against itself in turns on this machine, for many rounds,
with so many busy processes of its own beside it. ``judge`` makes tries of the recordings, and
writes the page. A try is a stretch of neighbouring rounds from a drawn place (the end is followed
by the beginning), looked at after as many rounds as ``compare`` looks. Stretches share rounds, so
that more tries of one recording say little more. A slowdown is planted into the second side's
samples.
"""

from __future__ import annotations

import contextlib
import datetime
import itertools
import math
import os
import random
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median, stdev

import click

from edgeopt.measure import difference, trial
from edgeopt.measure.difference import LOOKS, SAME, SLOWER
from edgeopt.measure.statistics import CONFIDENCE
from tools.reference.markdown import table

PAGE = Path(__file__).parent.parent / "docs/reference/compare.md"
TRIES = 200
SLOWDOWN = 1.03
_SEED = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Tried:
    """What came of the tries of one recording, with one slowdown."""

    told: int
    wrong: int
    rounds: float
    most_rounds: int


@click.group()
def main() -> None:
    """Try ``edgeopt compare`` on what has no difference, and on a planted one."""


@main.command()
@click.argument("bundle")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--rounds", default=400)
@click.option("--busy", default=0, help="Busy processes of its own beside it.")
def record(bundle: str, file: Path, rounds: int, busy: int) -> None:
    """Time BUNDLE against itself on this machine for many rounds, and keep the samples in FILE."""
    from edgeopt.measure.compare import in_turns
    from edgeopt.measure.interleaved import Contender

    one = Contender(bundle=bundle)
    before = os.getloadavg()[0]
    with _busy(busy):
        in_turns(one, one, "host", rounds=rounds, output=file)
    click.echo(f"load before {before:.1f}, after {os.getloadavg()[0]:.1f}")


@contextlib.contextmanager
def _busy(count: int) -> Iterator[None]:
    """Keep ``count`` processes busy while the block runs."""
    spin = [sys.executable, "-c", "while True: pass"]
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            process = stack.enter_context(subprocess.Popen(spin))
            stack.callback(process.kill)
        yield


@main.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--note", default="", help="What else a reader of the page has to know.")
def judge(files: Sequence[Path], note: str) -> None:
    """Make tries of the recordings FILES, and write the page."""
    rows = []
    for file in files:
        found = trial.read(file)
        values = [difference.round_value(tuple(one.pairs())) for one in found.rounds]
        alike, slower = tried(values, 1.0), tried(values, SLOWDOWN)
        faster = tried(values, 1 / SLOWDOWN)
        runs = len(found.rounds[0].blocks[0].wall_ns) - 1
        rows.append(
            (
                file.stem.replace("-", " "),
                str(len(values)),
                f"{len(found.rounds[0].blocks) // 2} x {runs}",
                f"{_load(found.state_before)} to {_load(found.state_after)}",
                f"{stdev(values):.1%}",
                f"{_after(values):+.2f}",
                f"{alike.told} of {TRIES} ({alike.told / TRIES:.1%})",
                f"{slower.told - slower.wrong} of {TRIES} ({1 - _missed(slower):.1%})",
                f"{faster.told - faster.wrong} of {TRIES} ({1 - _missed(faster):.1%})",
                f"{alike.rounds:.0f}, {slower.rounds:.0f}",
            )
        )
    head = (
        "recording",
        "rounds",
        "pairs x runs",
        "load average",
        "spread of rounds",
        "like the one before",
        "false alarms",
        f"{SLOWDOWN - 1:.0%} slower found",
        f"{SLOWDOWN - 1:.0%} faster found",
        "rounds until the end: alike, slower",
    )
    more = f"\n{note}\n" if note else ""
    PAGE.write_text(_text(table(head, rows), found) + more, encoding="utf-8")
    click.echo(PAGE.read_text(encoding="utf-8"))


def _missed(found: Tried) -> float:
    return 1 - (found.told - found.wrong) / TRIES


def _load(state: object) -> str:
    return f"{state['load_1min']:.1f}" if isinstance(state, dict) and "load_1min" in state else "?"


def _after(values: Sequence[float]) -> float:
    """Return the correlation of each value's rank with the one before it."""
    order = sorted(range(len(values)), key=lambda i: values[i])
    ranks = [0.0] * len(values)
    for rank, i in enumerate(order):
        ranks[i] = rank - (len(values) - 1) / 2
    return sum(a * b for a, b in itertools.pairwise(ranks)) / sum(r * r for r in ranks)


def tried(values: Sequence[float], slowdown: float, seed: int = _SEED) -> Tried:
    """Return what ``compare`` says in ``TRIES`` tries of the rounds' ``values``."""
    draw = random.Random(seed)
    planted = math.log(slowdown)
    told = wrong = 0
    used = []
    for _ in range(TRIES):
        start = draw.randrange(len(values))
        taken = [values[(start + i) % len(values)] + planted for i in range(LOOKS[-1])]
        for look in LOOKS:
            effect = difference.paired(taken[:look], (1 - CONFIDENCE) / len(LOOKS))
            if difference.is_enough(effect):
                break
        told += effect.verdict != SAME
        wrong += effect.verdict != SAME and (effect.verdict == SLOWER) != (slowdown > 1)
        used.append(look)
    return Tried(told=told, wrong=wrong, rounds=median(used), most_rounds=max(used))


def _text(rows: str, found: trial.Trial) -> str:
    side = found.first
    what = f"{side.name} {side.engine_version}, {side.seq_len} tokens, {side.threads} thread"
    cores = len(found.board["cores"])
    looks = f"{', '.join(map(str, LOOKS[:-1]))} and {LOOKS[-1]}"
    return f"""<!-- Written by: python -m tools.compare_experiment -->

# How far compare can be trusted

`edgeopt compare` was tried where the truth is known: an artifact against itself, and the same with
a slowdown, or a gain, of {SLOWDOWN - 1:.0%} planted into the second side's samples. Of artifacts
that are alike it may tell apart at most 5 %, and it has to find the planted difference in at least
95 %. Written on {datetime.date.today()}.

Recorded were rounds of {what}, in turns on one machine of
{cores} cores, **which other work disturbed all the while**: no recording is of an idle machine. In
each round a process of each side is started anew, and their blocks of runs take turns. Busy
processes are the experiment's own, beside that other work.

{rows}
A try is a stretch of neighbouring rounds from a drawn place of the recording, looked at after
{looks} rounds, as `compare` does by default. There are {TRIES} tries of each, and
they share rounds: these are counts of what would have been said of this recording, not of
{TRIES} days. The spread is the standard deviation of a round's value, as a share. "Like the one
before" is the rank correlation of neighbouring rounds; the interval counts them as independent.
The planted difference is exact, in the samples: it tries the statistics, and not what makes a
program slower.
"""


if __name__ == "__main__":
    main()
