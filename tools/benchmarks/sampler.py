# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What the sampler costs a measurement on this machine: the same process with it and without.

Blocks of runs of one loaded artifact take turns (ABBA). For those without, the sampler is stopped
by a signal; it goes on for the others, and first reads what has become due. That is one read of
each source more in a block than it would do, so that the cost is rather told too high.
"""

from __future__ import annotations

import json
import math
import os
import random
import signal
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean

from edgeopt.boards import connect
from edgeopt.bundle import open_bundle
from edgeopt.deploy.provision import provide
from edgeopt.deploy.store import Store
from edgeopt.measure import agent, sampling, trace
from edgeopt.measure.blocks import BlockAgent
from edgeopt.measure.difference import Effect, paired, round_value
from edgeopt.measure.interleaved import WARMUP
from edgeopt.measure.session import intact, lengths_of, selected
from edgeopt.measure.state import read_state
from edgeopt.measure.trace import Source

Block = tuple[bool, tuple[int, ...], tuple[int, ...]]
"""Whether the sampler ran, and wall and CPU time of each run, ns."""

_PROBE = 5
_POWER_MS = 50
_LIKE_RAILS = (
    "swappiness",
    "dirty_ratio",
    "dirty_bytes",
    "page-cluster",
    "stat_interval",
    "laptop_mode",
)
"""Files of /proc/sys/vm that stand in for voltage and current of three rails."""


def measure(
    bundle: str, engine: str, precision: str, rounds: int, pairs: int, block_s: float, output: str
) -> None:
    """Time with the sampler and without in turns, write all samples, and print the ratios."""
    opened = intact(open_bundle(bundle))
    ((graph, part, artifact),) = selected(opened, [engine], [precision])
    taken: list[list[Block]] = []
    with connect("host") as board:
        store = Store(board.transport, board.facts)
        with store.in_use():
            provided = provide(part, board, store, artifact)
            plan = sampling.plan(board)
            rails = () if plan.power else _LIKE_RAILS
            more = (Source(what=f"/proc/sys/vm/{one}", every_ms=_POWER_MS) for one in rails)
            sources = (*plan.sources, *more)
            words = agent.arguments(
                command="blocks",
                agent=provided.agent,
                bundle=provided.bundle,
                engine=artifact.engine,
                precision=artifact.precision,
                libraries=provided.libraries,
                seq_len=lengths_of(opened, None)[graph],
                threads=1,
                warmup=WARMUP,
                runs=0,
                graph=graph,
            )
            words += trace.arguments(sources, 0)
            before = read_state(board.transport)
            for number in range(rounds):
                taken.append(_round(board.transport, words, pairs, block_s))
                if number:
                    print(f"{number + 1} rounds: {_text(taken)}", flush=True)
            after = read_state(board.transport)
    document = {
        "sources": [asdict(source) for source in sources],
        "state_before": before,
        "state_after": after,
        "rounds": taken,
    }
    Path(output).parent.mkdir(parents=True, exist_ok=True)
    Path(output).write_text(json.dumps(document))
    print(f"{len(sources)} sources, {_text(taken)}; samples: {output}")


def _round(transport: object, words: Sequence[str], pairs: int, block_s: float) -> list[Block]:
    blocks = []
    with BlockAgent(transport, words, "host") as running:  # type: ignore[arg-type]
        sampler = _child(running.report.pid)
        run_s = min(running.run(_PROBE)[0]) / 1e9
        runs = max(3, round(block_s / run_s))
        first = random.random() < 0.5
        try:
            for pair in range(pairs):
                for is_on in (first, not first) if pair % 2 == 0 else (not first, first):
                    os.kill(sampler, signal.SIGCONT if is_on else signal.SIGSTOP)
                    blocks.append((is_on, *running.run(runs)))
        finally:
            os.kill(sampler, signal.SIGCONT)
    return blocks


def _child(pid: int) -> int:
    """Return the agent's one child, the sampler."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    if len(found) != 1:
        raise SystemExit(f"expected one child of the agent, found {found}")
    return int(found[0])


def _text(rounds: Sequence[Sequence[Block]]) -> str:
    wall, mean, cpu = effects(rounds)
    return (
        f"with over without the sampler: medians {_shown(wall)}, means {_shown(mean)}, "
        f"CPU time {_shown(cpu)}"
    )


def effects(
    rounds: Sequence[Sequence[Block]],
) -> tuple[Effect, Effect, Effect]:
    """Return the effect of the sampler on medians of wall time, means of it, and of CPU time."""
    medians, means, cpus = [], [], []
    for blocks in rounds:
        pairs = [blocks[i : i + 2] for i in range(0, len(blocks), 2)]
        sides = [sorted(pair, key=lambda block: block[0]) for pair in pairs]  # off, on
        medians.append(round_value([(off[1], on[1]) for off, on in sides]))
        means.append(fmean(math.log(fmean(on[1]) / fmean(off[1])) for off, on in sides))
        cpus.append(fmean(math.log(fmean(on[2]) / fmean(off[2])) for off, on in sides))
    return paired(medians), paired(means), paired(cpus)


def _shown(effect: Effect) -> str:
    return (
        f"{effect.ratio - 1:+.2%} [{effect.low - 1:+.2%}, {effect.high - 1:+.2%}] "
        f"of {effect.units} rounds"
    )
