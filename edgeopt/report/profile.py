# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The table of a profile."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from edgeopt.measure.measurement import Served
from edgeopt.measure.report import Report, RunReport
from edgeopt.measure.statistics import Bounds, needed
from edgeopt.report import (
    batched,
    counters,
    generation,
    instances,
    memory,
    operators,
    system_counts,
)
from edgeopt.report.power import render_energy, render_state
from edgeopt.report.tables import ms, size

if TYPE_CHECKING:
    from rich.console import Console


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _supported(report: Report) -> list[str]:
    """Return the figures that some run has samples enough for; the largest stands in for p99."""
    timed = [item.latency for item in report.runs if item.latency]
    shown = ["p50"] + [p for p in ("p90", "p99") if any(getattr(t, p) is not None for t in timed)]
    return shown if "p99" in shown else [*shown, "max"]


def _lengths(report: Report) -> list[int]:
    return [run.seq_len for run in report.measurement.runs]


def render(report: Report, console: Console) -> None:
    """Print the table; ``emulated`` stands beside every figure that an emulated board gave."""
    m = report.measurement
    if m.runs:
        calls = dict.fromkeys(f"{n} tokens" if n else "an image" for n in _lengths(report))
        what = generation.head(report) if generation.is_of(report) else " and ".join(calls)
        threads = _plural(m.runs[0].threads, "thread")
        console.print(f"{m.board_name}: {what}, {threads}\n")
    if m.deterministic:
        system_counts.render(m, console)
        memory.render(report, console)
    else:
        _render_times(report, console)
    reasons: dict[str, list[str]] = {}
    for absent in m.not_run:
        reasons.setdefault(absent.reason, []).append(absent.name)
    for reason, names in reasons.items():
        console.print(f"not measured: {', '.join(names)}: {reason}", style="yellow")
    if m.deterministic:
        console.print(
            f"{m.board_name} is emulated, and its clock counts instructions: an index of an "
            "artifact before a change and after it. They tell no device's latency.",
            style="yellow",
        )
    elif m.emulated:
        console.print(
            f"{m.board_name} is emulated: its times and memory are the emulator's, not a device's. "
            "Whether it runs and what it computes is as on the device.",
            style="yellow",
        )
    if took := _took(report):
        console.print(took)
    console.print(f"raw measurement: {report.path}")
    if report.current is not None:
        console.print(f"an app on {m.board_name} opens: {report.current}")


def _render_times(report: Report, console: Console) -> None:
    """Print the times of each artifact, and all that was read beside them."""
    m = report.measurement
    shown = _supported(report)
    if generation.is_of(report):
        generation.render(report, console)
    else:
        _render_latencies(report, shown, console)
    lacking = [name for name in ("p90", "p99") if name not in shown]
    if report.runs and lacking:
        runs = ", ".join(f"{name} takes {needed(int(name[1:]) / 100)}" for name in lacking)
        console.print(f"too few runs for more percentiles: {runs}")
    _tell_course(report, console, m.emulated)
    batched.render(report, console)
    instances.render(report, console)
    memory.render(report, console)
    render_energy(report, console)
    render_state(report, console)
    counters.render(m, console)
    operators.render(report, console)


def _render_latencies(report: Report, shown: Sequence[str], console: Console) -> None:
    from rich.table import Table
    from rich.text import Text

    m = report.measurement
    mark = "\nemulated" if m.emulated else ""
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("artifact", no_wrap=True)
    for name in (*(f"{name} ms{mark}" for name in shown), "n", f"per s{mark}"):
        table.add_column(Text(name), justify="right", no_wrap=True)
    for name in (f"memory{mark}", "size", "outputs"):
        table.add_column(Text(name), justify="right", no_wrap=True)
    for item in report.runs:
        run, times = item.run, item.latency
        table.add_row(
            run.name,
            *(ms(getattr(times, name, None)) for name in shown),
            str(item.steady),
            f"{item.throughput_per_s:.3g}" if item.throughput_per_s else "-",
            size(run.peak_memory_bytes),
            size(run.artifact_bytes),
            Text("agree") if run.outputs_agree else Text("DISAGREE", "red"),
        )
    console.print(table)
    console.print()


def _took(report: Report) -> str:
    """Return how long the session took, and what for; "" if that is not known."""
    took = report.took
    if took is None:
        return ""
    parts = {
        "timed runs": took.timed,
        "loads": took.load,
        "checks": took.checks,
        "deploying": took.deploy,
        "upload": took.upload,
    }
    if took.besides:
        parts["what else was asked for"] = took.besides
    parts["all else"] = took.all - sum(parts.values())
    told = ", ".join(f"{name} {ns / 1e9:.1f}" for name, ns in parts.items())
    without = "the upload and what else was asked for" if took.besides else "the upload"
    return (
        f"took {took.all / 1e9:.1f} s: {told}\n"
        f"without {without} {took.ratio:.2f} times its timed runs"
    )


def _bounded(value: int | None, bounds: Bounds) -> str:
    if value is None or bounds == (None, None):
        return "-"
    low, high = (ms(end) if end is not None else "?" for end in bounds)
    return f"{low}-{high}"


def _has_bounds(report: Report, name: str) -> bool:
    times = [item.latency for item in report.runs if item.latency]
    return any(getattr(t, f"{name}_bounds") != (None, None) for t in times)


def _tell_course(report: Report, console: Console, emulated: bool) -> None:
    """Print bounds of the percentiles, the starts, and what was odd in the times."""
    from rich.table import Table
    from rich.text import Text

    mark = "\nemulated" if emulated else ""
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("artifact", no_wrap=True)
    # A generator's table has bounds of its own.
    names = [] if generation.is_of(report) else _supported(report)
    shown = [name for name in names if name != "max" and _has_bounds(report, name)]
    heads = [f"{name} within{mark}" for name in shown]
    for head in (f"load{mark}", f"first run{mark}", *heads):
        table.add_column(Text(head), justify="right", no_wrap=True)
    for item in report.runs:
        if times := item.latency:
            table.add_row(
                item.run.name,
                ms(item.run.load_ns),
                ms(item.run.first_ns or None),
                *(_bounded(getattr(times, n), getattr(times, f"{n}_bounds")) for n in shown),
            )
    if table.row_count:
        console.print(table)
        console.print("ms; each bound holds by itself with 95 % confidence" if shown else "ms")
        console.print()
    for item in report.runs:
        if item.run.served:
            console.print(f"{item.run.name}: {_served(item.run.served, emulated)}")
    for item in report.runs:
        for line in _odd(item):
            console.print(f"{item.run.name}: {line}", style="yellow")
        if item.score:
            figure = (
                f"{ms(item.score.latency_ns)} ms"
                if item.score.per_s is None
                else f"{item.score.per_s:.4g} per s"
            )
            console.print(
                f"{item.run.name}: by the rules of {item.score.rules}, and no result of theirs: "
                f"{figure} ({item.score.text})"
            )


def _served(served: Served, emulated: bool) -> str:
    """Return what the user's texts took, with the percentiles that so many texts support."""
    times = served.latency
    figures = [
        f"{name} {ms(getattr(times, name))}"
        for name in ("p50", "p90", "p99")
        if getattr(times, name) is not None
    ]
    cut = f", {served.cut} of them cut" if served.cut else ""
    return (
        f"{_plural(len(served.wall_ns), 'text')} of {served.data} as served, "
        f"{min(served.tokens)} to {max(served.tokens)} tokens{cut}: "
        f"mean {ms(round(served.mean_ns))} ms, {', '.join(figures)}, max {ms(times.max)}"
        + (" (emulated)" if emulated else "")
    )


def _odd(item: RunReport) -> Iterator[str]:
    """Yield what a reader of its figures has to know."""
    found, warmed = item.course, len(item.run.warmup_ns)
    if found.warmup is None:
        yield "its times never became steady: the figures are of all runs"
    elif found.warmup > warmed:
        yield (
            f"{found.warmup} runs until it was steady, {warmed} were meant: "
            f"{_plural(found.warmup - warmed, 'sample')} left out"
        )
    if found.drift is not None:
        yield f"its times drift by {found.drift:+.1%} from the first steady run to the last"
    if found.modes:
        yield "its times keep to two levels: " + " and ".join(
            f"{mode.share:.0%} about {ms(mode.value_ns)} ms" for mode in found.modes
        )
    if item.latency and item.latency.independent < item.latency.n / 2:
        yield (
            f"runs are like those before them: {item.latency.n} tell of the median as much as "
            f"{item.latency.independent} independent ones, and bounds are as wide"
        )
