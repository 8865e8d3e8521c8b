"""Run the agent on a board and read what it says, line by line (JSON).

The agent times itself on the board's monotonic clock; this side never times anything.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from edgeopt.errors import MeasurementError
from edgeopt.measure.measurement import GoldenResult


@dataclass(slots=True)
class AgentReport:
    """What one run of the agent said; filled line by line."""

    agent_version: str = ""
    engine_version: str = ""
    load_ns: int = 0
    golden: list[GoldenResult] = field(default_factory=list)
    warmup_ns: list[int] = field(default_factory=list)
    wall_ns: list[int] = field(default_factory=list)
    cpu_ns: list[int] = field(default_factory=list)
    rss_before_bytes: int = 0
    rss_loaded_bytes: int = 0
    peak_memory_bytes: int = 0
    outputs_agree: bool = False


def listen(
    lines: Iterable[str], *, where: str, sampled: Callable[[int], None] = lambda count: None
) -> AgentReport:
    """Read the agent's lines to the end and return what they say.

    ``sampled`` is called with the number of samples so far. Raises MeasurementError, naming
    ``where``, for an error that the agent tells, for a line that is not its protocol, and where
    it ends without its closing line (killed, or the connection was lost).
    """
    report = AgentReport()
    done = False
    for line in lines:
        try:
            event = json.loads(line)
            done = _take(report, event, where) or done
        except (ValueError, KeyError, TypeError) as exc:
            raise MeasurementError(
                f"the agent sent a line that is not its protocol: {line[:200]!r}", where=where
            ) from exc
        if event["event"] == "samples":
            sampled(len(report.wall_ns))
    if not done:
        raise MeasurementError("the agent ended before it was done", where=where)
    return report


def _take(report: AgentReport, event: dict[str, Any], where: str) -> bool:
    """Add one event to ``report``; True for the closing one."""
    match event["event"]:
        case "hello":
            report.agent_version = event["agent"]
        case "engine":
            report.engine_version = event["version"]
            report.load_ns = event["load_ns"]
        case "golden":
            report.golden.append(
                GoldenResult(
                    directory=event["directory"],
                    output=event["output"],
                    cosine=event["cosine"],
                    max_abs_error=event["max_abs_error"],
                    agrees=event["agrees"],
                )
            )
        case "warmup":
            report.warmup_ns += event["ns"]
        case "samples":
            report.wall_ns += event["wall_ns"]
            report.cpu_ns += event["cpu_ns"]
        case "memory":
            report.rss_before_bytes = event["rss_before_bytes"]
            report.rss_loaded_bytes = event["rss_loaded_bytes"]
            report.peak_memory_bytes = event["peak_bytes"]
        case "done":
            report.outputs_agree = event["outputs_agree"]
            return True
        case "error":
            raise MeasurementError(
                f"the agent failed: {event['message']}", where=f"{where}: {event['where']}"
            )
        case other:
            raise ValueError(f"unknown event {other!r}")
    return False


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
) -> list[str]:
    """Return the agent's command line; ``seq_len`` is 0 for a model of images."""
    words = [agent, "run", "--bundle", bundle, "--engine", engine, "--precision", precision]
    words += ["--libraries", libraries, "--threads", str(threads)]
    words += ["--warmup", str(warmup), "--runs", str(runs)]
    if seq_len:
        words += ["--seq-len", str(seq_len)]
    return words
