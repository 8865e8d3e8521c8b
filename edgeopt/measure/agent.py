# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Run the agent on a board and read what it says, line by line (JSON).

The agent times itself on the board's monotonic clock; this side never times anything.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, NoReturn

from edgeopt.errors import MeasurementError
from edgeopt.measure.measurement import GoldenResult
from edgeopt.measure.memory import PHASES, Memory, Phase
from edgeopt.measure.trace import MOST_READS, Gathered, Source
from edgeopt.model import MAIN

_ORDER = ("hello", "engine", "first", "golden", "warmup", "samples", "done")
_OFTEN = ("golden", "warmup", "samples")
_BESIDE = ("idle", "read", "sampler")  # of the sampler, at any time after hello
_MOST_CALLS, _MOST_GOLDEN = 1 << 24, 1 << 16
_MOST_NS = 1 << 62


@dataclass(slots=True)
class AgentReport:
    """What one run of the agent said; filled line by line."""

    agent_version: str = ""
    pid: int = 0
    engine_version: str = ""
    load_ns: int = 0
    first_ns: int = 0
    golden: list[GoldenResult] = field(default_factory=list)
    warmup_ns: list[int] = field(default_factory=list)
    wall_ns: list[int] = field(default_factory=list)
    cpu_ns: list[int] = field(default_factory=list)
    phases: list[Phase] = field(default_factory=list)
    outputs_agree: bool = False
    beside: Gathered = field(default_factory=Gathered)

    def forget_times(self) -> None:
        """Drop all that is no time, as the board's clock counts something else."""
        self.load_ns, self.first_ns = 0, 0
        for times in (self.warmup_ns, self.wall_ns, self.cpu_ns):
            times.clear()

    @property
    def memory(self) -> Memory:
        """What it took; only of a run that came to its end."""
        return Memory(**dict(zip(PHASES, self.phases, strict=True)))


def listen(
    lines: Iterable[str],
    *,
    where: str,
    sampled: Callable[[int], None] = lambda count: None,
    warmup: int = _MOST_CALLS,
    runs: int = _MOST_CALLS,
    golden: Collection[str] = (),
    sources: Sequence[Source] = (),
) -> AgentReport:
    """Read the agent's lines to the end and return what they say.

    ``sampled`` is called with the number of samples so far. Raises MeasurementError, naming
    ``where``, for an error that the agent tells, for a line that is not its protocol or is out of
    its order, for more calls than ``warmup`` and ``runs``, if an output of the directories
    ``golden`` was not compared, if it read anything but ``sources``, and if it ends without its
    closing line (killed, or the connection was lost).
    """
    report = AgentReport()
    beside = report.beside
    for column in (beside.begin_ns, beside.took_ns, beside.text):
        column.extend([] for _ in sources)
    beside.failures, beside.failure = [0] * len(sources), [""] * len(sources)
    last = ""
    heard = set()
    for line in lines:
        with protocol(line, where):
            event = event_of(line)
            kind = event["event"]
            if kind in _BESIDE:
                _take_beside(beside, event, sources, after=last)
                continue
            if kind not in ("error", "memory"):
                _check_order(kind, last)
            take(report, event, where)
            if len(report.warmup_ns) > warmup or len(report.wall_ns) > runs:
                raise ValueError("more calls than were asked for")
            last = last if kind == "memory" else kind
            heard.add(kind)
            if kind == "done" and (
                not heard >= {"hello", "engine"} or len(report.phases) < len(PHASES)
            ):
                raise ValueError("lines are missing")
        if kind == "samples":
            sampled(len(report.wall_ns))
    if last != "done":
        raise MeasurementError("the agent ended before it was done", where=where)
    missing = set(golden) - {result.directory for result in report.golden}
    if missing or not report.golden:
        raise MeasurementError(
            "the agent compared no output with the golden ones"
            + (f" of {min(missing)}" if missing else ""),
            where=where,
        )
    if report.outputs_agree != all(result.agrees for result in report.golden):
        raise MeasurementError("the agent contradicts itself on whether outputs agree", where=where)
    return report


class protocol:  # noqa: N801
    """A block that reads ``line``: what is wrong with it becomes a MeasurementError."""

    def __init__(self, line: str, where: str) -> None:
        self._line, self._where = line, where

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, (ValueError, KeyError, TypeError, RecursionError)):
            raise MeasurementError(
                f"the agent sent a line that is not its protocol: {self._line[:200]!r}",
                where=self._where,
            ) from error


def event_of(line: str) -> dict[str, Any]:
    """Return the JSON object of one line, whose ``event`` says what it is."""
    event = json.loads(line, parse_constant=_not_finite)
    if not isinstance(event, dict) or not isinstance(event["event"], str):
        raise ValueError("no event")
    return event


def _not_finite(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON")


def count(value: Any, most: int = _MOST_NS) -> int:
    """Return ``value``, a whole number from 0 to ``most``. Raises ValueError for anything else."""
    if type(value) is not int or not 0 <= value <= most:
        raise ValueError(f"{value!r:.40} is no number of something")
    return value


def number(value: Any) -> float:
    """Return ``value``, a finite number. Raises ValueError for anything else."""
    if type(value) not in (int, float) or not math.isfinite(value):
        raise ValueError(f"{value!r:.40} is no number")
    return float(value)


def text(value: Any) -> str:
    """Return ``value``, a string. Raises ValueError for anything else."""
    if not isinstance(value, str):
        raise ValueError(f"{value!r:.40} is no text")
    return value


def flag(value: Any) -> bool:
    """Return ``value``, true or false. Raises ValueError for anything else."""
    if not isinstance(value, bool):
        raise ValueError(f"{value!r:.40} is neither true nor false")
    return value


def told_error(event: Mapping[str, Any]) -> tuple[str, str]:
    """Return where the agent's error is, and its message."""
    return text(event["where"]), text(event["message"])


def _check_order(kind: str, last: str) -> None:
    place, before = _ORDER.index(kind), _ORDER.index(last) if last else -1
    if place < before or (place == before and kind not in _OFTEN) or (place > 0 and before < 0):
        raise ValueError(f"{kind} after {last or 'nothing'}")


def take(report: AgentReport, event: dict[str, Any], where: str) -> None:
    """Add one event to ``report``. Raises what ``protocol`` knows, and MeasurementError."""
    match event["event"]:
        case "hello":
            report.agent_version = text(event["agent"])
            report.pid = count(event["pid"])
        case "engine":
            report.engine_version = text(event["version"])
            report.load_ns = count(event["load_ns"])
        case "first":
            report.first_ns = count(event["wall_ns"])
        case "golden":
            if len(report.golden) == _MOST_GOLDEN:
                raise ValueError("too many")
            report.golden.append(
                GoldenResult(
                    directory=text(event["directory"]),
                    output=text(event["output"]),
                    cosine=_or_none(event["cosine"]),
                    max_abs_error=_or_none(event["max_abs_error"]),
                    agrees=flag(event["agrees"]),
                )
            )
        case "warmup":
            report.warmup_ns += map(count, event["ns"])
        case "samples":
            wall_ns, cpu_ns = [[*map(count, event[name])] for name in ("wall_ns", "cpu_ns")]
            if count(event["first"]) != len(report.wall_ns) or len(wall_ns) != len(cpu_ns):
                raise ValueError("samples are missing")
            begin_ns, end_ns = count(event["begin_ns"]), count(event["end_ns"])
            report.beside.run = (begin_ns if not report.wall_ns else report.beside.run[0], end_ns)
            report.wall_ns += wall_ns
            report.cpu_ns += cpu_ns
        case "memory":
            if not report.agent_version or PHASES.index(event["phase"]) != len(report.phases):
                raise ValueError("is no next phase")
            report.phases.append(_phase(event))
        case "done":
            report.outputs_agree = flag(event["outputs_agree"])
        case "error":
            place, message = told_error(event)
            raise MeasurementError(f"the agent failed: {message}", where=f"{where}: {place}")


def _take_beside(
    beside: Gathered, event: dict[str, Any], sources: Sequence[Source], *, after: str
) -> None:
    """Add one event of the sampler, or of the time before the measurement, to ``beside``."""
    if not after:
        raise ValueError(f"{event['event']} after nothing")
    if event["event"] == "sampler":
        beside.sampler_cpu_ns = count(event["cpu_ns"])
        beside.sampler_ns = count(event["end_ns"]) - count(event["begin_ns"])
        return
    begin_ns, end_ns = count(event["begin_ns"]), count(event["end_ns"])
    if end_ns < begin_ns:
        raise ValueError("ends before it begins")
    if event["event"] == "idle":
        beside.idle = (begin_ns, end_ns)
        return
    place = count(event["source"], len(sources) - 1)
    beside.count += 1
    if beside.count > MOST_READS:
        raise ValueError("too many")
    if "error" in event:
        beside.failures[place] += 1
        beside.failure[place] = text(event["error"])[:200]
        return
    said = text(event["text"]).strip()
    if (keep := sources[place].keep) and (found := re.search(keep, said)):
        said = found[0]
    beside.begin_ns[place].append(begin_ns)
    beside.took_ns[place].append(end_ns - begin_ns)
    beside.text[place].append(said)


def _phase(event: Mapping[str, Any]) -> Phase:
    told = {
        one.name: count(event[one.name])
        for one in fields(Phase)
        if one.name.endswith("_bytes") and one.name in event
    }
    return Phase(**told, peak_is_of_phase=flag(event["peak_is_of_phase"]))


def _or_none(value: Any) -> float | None:
    return None if value is None else number(value)


def arguments(
    *,
    agent: str,
    bundle: str,
    engine: str,
    precision: str,
    libraries: str,
    seq_len: int,
    threads: int,
    warmup: int,
    runs: int,
    graph: str = MAIN,
    duration_ms: int = 0,
    batch: int = 1,
    command: str = "run",
) -> list[str]:
    """Return the agent's command line; ``seq_len`` is 0 for a model of images.

    It does ``runs``, of ``batch`` inputs each, and goes on until ``duration_ms`` are over.
    """
    words = [agent, command, "--bundle", bundle, "--engine", engine, "--precision", precision]
    words += ["--libraries", libraries, "--threads", str(threads)]
    words += ["--warmup", str(warmup), "--runs", str(runs)]
    if seq_len:
        words += ["--seq-len", str(seq_len)]
    if graph != MAIN:
        words += ["--graph", graph]
    if duration_ms:
        words += ["--duration-ms", str(duration_ms)]
    if batch > 1:
        words += ["--batch", str(batch)]
    return words
