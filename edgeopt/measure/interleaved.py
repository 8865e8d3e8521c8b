# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Time two artifacts in turns on one board: rounds of a process each, which run blocks by turns."""

from __future__ import annotations

import datetime
import random
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from edgeopt import progress
from edgeopt._version import __version__
from edgeopt.boards import Board, connect
from edgeopt.bundle import Bundle
from edgeopt.bundle.manifest import ArtifactEntry
from edgeopt.deploy.provision import Provided, check_architecture, provide, repaired
from edgeopt.deploy.store import Store
from edgeopt.errors import InputError, MeasurementError
from edgeopt.measure import agent, measurement, system_counts, trial
from edgeopt.measure.blocks import BlockAgent
from edgeopt.measure.difference import LOOKS
from edgeopt.measure.session import intact, lengths_of, selected
from edgeopt.measure.state import read_state
from edgeopt.measure.trial import FIRST, SECOND, Block, Round, Side, Trial

BLOCK_S = 0.025
"""About how long a block is: so short that what else the board does is alike in two of them."""

MIN_RUNS, MAX_RUNS = 3, 500
"""Runs of a block that count. One more comes before, which the other side has left cold."""

PAIRS = 12
"""Pairs of blocks in a round; fewer if a run takes long."""

_LEAST_PAIRS = 4
_PROBE = 5  # runs
_ROUND_S = 2.0
WARMUP, EMULATED_WARMUP = 5, 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Contender:
    """What is compared: the one artifact of ``bundle`` that these words select.

    ``engine`` and ``precision`` are None for any, ``threads`` for the target's.
    """

    bundle: str | Path | Bundle
    engine: str | None = None
    precision: str | None = None
    threads: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Ready:
    """A contender with all that running it takes. ``words`` is the agent's command line."""

    side: Side
    bundle: Bundle
    provided: Provided
    words: Sequence[str]
    where: str


@dataclass(frozen=True, kw_only=True, slots=True)
class _Plan:
    runs: int
    pairs: int


def take(
    first: Contender,
    second: Contender,
    board: str,
    *,
    output: Path,
    seq_len: int | None = None,
    graph: str | None = None,
    rounds: int | None = None,
    duration_s: float | None = None,
    decided: Callable[[Sequence[Round], int], bool],
) -> Trial:
    """Time both on ``board`` and write the trial to ``output``.

    Rounds go on until ``decided``, called with them and the number of looks after those of
    ``difference.LOOKS``, says so; ``rounds`` are done without a look instead. No round begins that
    would, as long as those before it, not end within ``duration_s``.

    Raises InputError for what does not select one artifact or for a length that one of them does
    not have, and as ``session.profile``.
    """
    measurement.check_place(output)
    chosen = [_chosen(one, seq_len, graph) for one in (first, second)]
    if len({length for *_, length in chosen}) > 1:
        raise InputError(
            f"{chosen[0][1].path} would be run on {chosen[0][3]} tokens, and {chosen[1][1].path} "
            f"on {chosen[1][3]}",
            where="compare",
            hint="Give a length that both have: --seq-len.",
        )
    started = datetime.datetime.now(datetime.UTC)
    with connect(board) as reached, ExitStack() as stack:
        system_counts.check_board(reached, deterministic=False)
        for _, part, _, _ in chosen:
            check_architecture(part, reached)
        store = Store(reached.transport, reached.facts)
        stack.enter_context(store.in_use())
        ready = [
            _ready(reached, store, one, found)
            for one, found in zip((first, second), chosen, strict=True)
        ]
        before = read_state(reached.transport)
        looks = (rounds,) if rounds else LOOKS
        taken, version, versions = _rounds(reached, store, ready, looks, duration_s, decided)
        sides = [
            Side(**asdict(one.side) | {"engine_version": told})
            for one, told in zip(ready, versions, strict=True)
        ]
        found = Trial(
            started_utc=started.isoformat(timespec="seconds"),
            edgeopt_version=__version__,
            agent_version=version,
            target=chosen[0][1].manifest.target.name,
            board_name=board,
            emulated=reached.emulated,
            board=asdict(reached.facts),
            first=sides[0],
            second=sides[1],
            planned=looks,
            rounds=tuple(taken),
            state_before=before,
            state_after=read_state(reached.transport),
        )
    trial.write(found, output)
    return found


_Chosen = tuple[str, Bundle, ArtifactEntry, int]


def _chosen(one: Contender, seq_len: int | None, graph: str | None) -> _Chosen:
    """Return the graph, its bundle, the artifact, and what length it is run at."""
    bundle = intact(one.bundle)
    engines, precisions = [[w] if w else [] for w in (one.engine, one.precision)]
    found = [item for item in selected(bundle, engines, precisions) if graph in (None, item[0])]
    if len(found) != 1:
        names = [measurement.shown(g, a.engine, a.precision) for g, _, a in found]
        raise InputError(
            f"{len(found)} artifacts fit, and one is compared with one"
            + (f": {', '.join(names)}" if names else ""),
            where=str(bundle.path),
            hint="Name it, as in BUNDLE@onnx,int8.",
        )
    ((name, part, artifact),) = found
    length = lengths_of(bundle, seq_len)[name]
    lengths = artifact.artifact.main.seq_lens
    if lengths and length not in lengths:
        raise InputError(
            f"{artifact.engine} {artifact.precision} takes {', '.join(map(str, lengths))} tokens, "
            f"not {length}",
            where=str(bundle.path),
        )
    return name, part, artifact, length


def _ready(board: Board, store: Store, one: Contender, chosen: _Chosen) -> _Ready:
    name, part, artifact, length = chosen
    provided = provide(part, board, store, artifact)
    target = part.manifest.target
    threads = one.threads or min(target.threads, len(board.facts.cores) or 1)
    return _Ready(
        side=Side(
            bundle_name=part.manifest.name,
            bundle_digest=part.manifest.digest,
            graph=name,
            engine=artifact.engine,
            engine_version=artifact.engine_version,
            precision=artifact.precision,
            threads=threads,
            seq_len=length,
            artifact_bytes=artifact.bytes,
        ),
        bundle=part,
        provided=provided,
        where=f"{board.entry.name}: {artifact.engine} {artifact.precision}",
        words=agent.arguments(
            command="blocks",
            agent=provided.agent,
            bundle=provided.bundle,
            engine=artifact.engine,
            precision=artifact.precision,
            libraries=provided.libraries,
            seq_len=length,
            threads=threads,
            warmup=EMULATED_WARMUP if board.emulated else WARMUP,
            runs=0,
            graph=name,
        ),
    )


def _rounds(
    board: Board,
    store: Store,
    ready: Sequence[_Ready],
    looks: Sequence[int],
    duration_s: float | None,
    decided: Callable[[Sequence[Round], int], bool],
) -> tuple[list[Round], str, list[str]]:
    """Return the rounds, the agent's version and the engines'."""
    taken: list[Round] = []
    version, versions = "", ["", ""]
    plan: _Plan | None = None
    draw = random.Random()
    began = time.monotonic()
    names = " and ".join(dict.fromkeys(one.side.name for one in ready))
    with progress.step(f"Timing {names} in turns on {board.entry.name}") as step:
        for number, look in enumerate(looks):
            while len(taken) < look:
                spent_s = time.monotonic() - began
                if duration_s and taken and spent_s * (1 + 1 / len(taken)) > duration_s:
                    return taken, version, versions
                with ExitStack() as stack:
                    # Who is loaded first may have the better memory: it is drawn.
                    agents: dict[str, BlockAgent] = {}
                    for side in draw.sample((FIRST, SECOND), 2):
                        one = ready[side == SECOND]
                        agents[side] = _started(board, store, one, stack)
                    reports = [agents[side].report for side in (FIRST, SECOND)]
                    if plan is None:
                        plan = _plan([agents[side].run(_PROBE)[0] for side in agents])
                    taken.append(_round(agents, plan, draw))
                    version = reports[0].agent_version
                    versions = [report.engine_version for report in reports]
                step.update(len(taken), looks[-1])
            if decided(taken, number):
                break
    return taken, version, versions


def _started(board: Board, store: Store, one: _Ready, stack: ExitStack) -> BlockAgent:
    """Start the agent; if the board's disk damaged something, mend that and start it again."""
    try:
        return stack.enter_context(BlockAgent(board.transport, one.words, one.where))
    except MeasurementError:
        if not repaired(one.bundle, store, one.provided):
            raise
        return stack.enter_context(BlockAgent(board.transport, one.words, one.where))


def _plan(probes: Sequence[Sequence[int]]) -> _Plan:
    """Return how many runs a block has, by the slower of two probes, and how many pairs a round.

    By the shortest run: what else runs on the board makes the others long, and blocks of a few such
    runs have no middle.
    """
    run_s = max(min(times) for times in probes) / 1e9
    runs = min(max(round(BLOCK_S / run_s), MIN_RUNS), MAX_RUNS)
    pairs = round(_ROUND_S / (2 * (runs + 1) * run_s))
    return _Plan(runs=runs, pairs=min(max(pairs, _LEAST_PAIRS), PAIRS) // 2 * 2)


def _round(agents: dict[str, BlockAgent], plan: _Plan, draw: random.Random) -> Round:
    """Run pairs of blocks, each the other way round than the one before: ABBA and so on."""
    order = draw.sample((FIRST, SECOND), 2)
    blocks = []
    for number in range(plan.pairs):
        for side in order if number % 2 == 0 else reversed(order):
            wall_ns, cpu_ns = agents[side].run(plan.runs + 1)
            blocks.append(Block(side=side, wall_ns=wall_ns, cpu_ns=cpu_ns))
    return Round(blocks=tuple(blocks))
