# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Time the operators of artifacts on a board, apart from the timed runs: profiling costs time.

Each round runs every artifact once in a process of its own, so that what changes on the board over
the rounds is alike in all of them.
"""

from __future__ import annotations

import contextlib
import posixpath
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from edgeopt import progress
from edgeopt.architectures import of_machine
from edgeopt.boards import Board
from edgeopt.boards.heartbeat import heartbeat
from edgeopt.bundle import Bundle
from edgeopt.bundle.manifest import ArtifactEntry
from edgeopt.errors import EdgeoptError, MeasurementError
from edgeopt.measure.agent import AgentReport, count, event_of, protocol, take, text
from edgeopt.measure.measurement import Run
from edgeopt.measure.operator_times import Operator, Operators
from edgeopt.measure.profilers import Call, Join, Joined, Told, profiler

ROUNDS, RUNS = 6, 20
"""Of an artifact; six rounds are as many as the first look of a comparison has."""
EMULATED_ROUNDS, EMULATED_RUNS = 2, 3
"""On an emulated board, whose times are no device's."""

_MOST_OPERATORS = 1 << 16
_MOST_BYTES = 512 << 20
"""Of onnxruntime's file, which has some 600 for each call of each operator."""

_SHORT_S, _LONG_S, _TIMEOUT_S = 60.0, 900.0, 4 * 3600.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Profiled:
    """An artifact that was measured: ``arguments`` makes the agent's command line."""

    bundle: Bundle
    artifact: ArtifactEntry
    seq_len: int
    arguments: Callable[..., list[str]]


@dataclass(slots=True)
class _Taken:
    """What the rounds of one artifact brought so far; ``failed`` is why there are no more."""

    rounds: list[list[Call]] = field(default_factory=list)
    wall_ns: list[tuple[int, ...]] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    failed: str = ""


def profiled(board: Board, runs: Sequence[Run], what: Sequence[Profiled]) -> list[Run]:
    """Return ``runs`` with their operators, or with why there are none.

    Only those are profiled whose outputs agree. No failure of one is raised: its times are there
    already.
    """
    rounds, count_ = (EMULATED_ROUNDS, EMULATED_RUNS) if board.emulated else (ROUNDS, RUNS)
    taken = [_Taken(failed="" if run.outputs_agree else "its outputs disagree") for run in runs]
    with progress.step(f"Timing operators, {rounds} rounds") as step:
        for number in range(rounds):
            step.update(number, rounds)
            for run, one, found in zip(runs, what, taken, strict=True):
                if not found.failed:
                    _round(board, run, one, found, count_)
    with progress.step("Joining operators and layers"):
        return [
            _with(board, run, one, found) for run, one, found in zip(runs, what, taken, strict=True)
        ]


def _round(board: Board, run: Run, one: Profiled, found: _Taken, runs: int) -> None:
    where = f"{board.entry.name}: operators of {run.name}"
    folder = posixpath.join(board.facts.home, ".edgeopt")  # on a disk, as /tmp may not be
    prefix = f"{folder}/operators-{secrets.token_hex(8)}"
    tool = profiler(run.engine)
    words = one.arguments(command="operators", runs=runs)
    for option in tool.options(prefix, first=not found.rounds):
        words += ["--option", option]
    try:
        try:
            told, wall_ns = _listen(board, words, where)
            told = replace(told, files=_files(board, prefix))
        finally:
            board.transport.run(["sh", "-c", 'rm -f "$0" "$0"[_.]*', prefix], timeout_s=_SHORT_S)
        if len(wall_ns) != runs:
            raise MeasurementError(f"the agent sent {len(wall_ns)} of {runs} runs", where=where)
        calls = tool.calls(told, runs)
    except EdgeoptError as exc:
        found.failed = exc.message
        return
    except (ValueError, KeyError, TypeError) as exc:
        found.failed = f"what {run.engine} told of operators cannot be read: {exc}"
        return
    if found.rounds and [(c.name, c.type) for c in found.rounds[0]] != [
        (c.name, c.type) for c in calls
    ]:
        found.failed = "its operators differ from process to process"
        return
    found.rounds.append(calls)
    found.wall_ns.append(wall_ns)
    found.files = found.files or dict(told.files)


def _listen(board: Board, words: list[str], where: str) -> tuple[Told, tuple[int, ...]]:
    """Run the agent; return what it told of operators, and each run's wall time, ns."""
    report, wall_ns = AgentReport(), list[int]()
    parts: list[list[Call]] = [[]]
    written = ""
    with (
        heartbeat() as stdin,
        contextlib.closing(
            board.transport.lines(words, stdin=stdin, timeout_s=_TIMEOUT_S)
        ) as lines,
    ):
        for line in lines:
            with protocol(line, where):
                event = event_of(line)
                match event["event"]:
                    case "operator" if "type" in event:
                        parts[-1].append(_call(event))
                        if len(parts[-1]) > _MOST_OPERATORS:
                            raise ValueError("too many operators")
                    case "operator":
                        written = text(event["name"])
                    case "operators":
                        parts.append([])
                    case _:
                        take(report, event, where)
                        wall_ns += report.wall_ns
                        report.wall_ns.clear()
                        report.cpu_ns.clear()
    if not report.outputs_agree:
        raise MeasurementError("outputs disagreed while operators were timed", where=where)
    if len(parts) != 3:
        raise MeasurementError("the agent told of no operators", where=where)
    return Told(before=parts[0], after=parts[1], report=written), tuple(wall_ns)


def _call(event: dict[str, Any]) -> Call:
    return Call(
        name=text(event["name"]),
        type=text(event["type"]),
        kernel=text(event["kernel"]),
        total_ns=count(event["ns"]),
    )


def _files(board: Board, prefix: str) -> dict[str, bytes]:
    """Return what the engine wrote under ``prefix`` on the board, by what follows it."""
    found = {}
    for end, script in (("", 'cat "$0"'), (".json", 'cat "$0"_*.json')):
        done = board.transport.run(
            ["sh", "-c", script, prefix], timeout_s=_LONG_S, limit_bytes=_MOST_BYTES
        )
        if done.exit_status == 0 and done.stdout:
            found[end] = done.stdout
    return found


def _with(board: Board, run: Run, one: Profiled, found: _Taken) -> Run:
    if found.failed:
        return replace(run, no_operators=found.failed)
    tool = profiler(run.engine)
    calls, unjoined = found.rounds[0], ""
    joined: Sequence[Joined] = [Joined()] * len(calls)
    is_here = board.facts.arch == of_machine(_machine())
    try:
        join = Join(
            bundle=one.bundle,
            artifact=one.artifact,
            seq_len=one.seq_len,
            files=found.files,
            is_here=is_here,
        )
        joined = tool.layers(join, calls)
    except EdgeoptError as exc:
        unjoined = exc.message
    operators = [
        Operator(
            name=call.name,
            type=call.type,
            kernel=call.kernel,
            total_ns=tuple(one_round[i].total_ns for one_round in found.rounds),
            layers=layers.layers,
            added=layers.added,
        )
        for i, (call, layers) in enumerate(zip(calls, joined, strict=True))
    ]
    told = tuple(one for one in operators if any(one.total_ns))
    return replace(
        run,
        operators=Operators(
            how=tool.HOW,
            resolution_ns=tool.RESOLUTION_NS,
            wall_ns=tuple(found.wall_ns),
            operators=told,
            unjoined=unjoined,
            unknown="" if is_here else tool.ELSEWHERE,
            below=len(operators) - len(told),
        ),
    )


def _machine() -> str:
    import platform

    return platform.machine()
