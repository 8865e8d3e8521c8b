# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The lines of a profile on the board's state and on energy, and those of its sensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgeopt.measure.energy import EnergyReport, PerInference, RailEnergy
from edgeopt.measure.report import Report
from edgeopt.report.shown import one_line

if TYPE_CHECKING:
    from rich.console import Console

    from edgeopt.power.rail import Found

MOST_SHARE = 0.01
"""Of one core: the sampler is told to cost too much above it."""


def _say(console: Console, text: str, style: str | None = None) -> None:
    """Print a line as it is, however long, also in a pipe."""
    console.print(one_line(text), style=style, markup=False, highlight=False, soft_wrap=True)


def render_state(report: Report, console: Console) -> None:
    """Print which runs the board throttled or others disturbed, and what sampling it cost."""
    for item in report.runs:
        if item.conditions is not None and not item.conditions.fit:
            reasons = (*item.conditions.throttled, *item.conditions.disturbed)
            _say(
                console, f"{item.run.name}: not to be ranked: {'; '.join(reasons)}", style="yellow"
            )
    shares = [c.sampler_share for item in report.runs if (c := item.conditions) is not None]
    told = [share for share in shares if share is not None]
    if told:
        _say(
            console,
            f"sampling the board took {100 * max(told):.2g} % of one core",
            style="yellow" if max(told) > MOST_SHARE else None,
        )


def render_energy(report: Report, console: Console) -> None:
    """Print the energy of an inference by artifact, and what it covers and leaves out."""
    from rich.table import Table

    found = [(item.run.name, item.energy) for item in report.runs if item.energy is not None]
    if found:
        first = found[0][1]
        mark = "\nsynthetic" if first.synthetic else ""
        table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
        table.add_column("artifact", no_wrap=True)
        for name in (f"mJ above idle{mark}", f"mJ in all{mark}", f"W{mark}", f"idle W{mark}", "n"):
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column("rails")
        for name, energy in found:
            for told in [energy.total] if energy.total else energy.rails:
                table.add_row(name, *_cells(told), one_line(" + ".join(told.rails)))
        generated = any(item.run.generation is not None for item in report.runs)
        what = "an answer" if generated else "an inference"
        _say(console, f"energy of {what}", style="bold")
        console.print(table)
        console.print()
        _say(console, (f"covers {first.covers}; leaves out {first.leaves_out or 'nothing'}"))
        for name, energy in found:
            _render_derived(name, energy, report, console)
    for item in report.runs:
        if item.no_energy is not None:
            _say(console, (f"no energy of {item.run.name}: {item.no_energy}"), style="yellow")


def _cells(told: RailEnergy) -> tuple[str, ...]:
    return (
        _interval(told.net), _interval(told.gross), f"{told.run_w:.3f}", f"{told.idle_w:.3f}",
        str(told.samples),
    )  # fmt: skip


def _interval(value: PerInference) -> str:
    """Return millijoules with as many digits as the uncertainty has two of."""
    milli, half = 1e3 * value.joules, 1e3 * value.uncertainty
    digits = next((d for d in range(7) if half * 10**d >= 10), 6)
    return f"{milli:.{digits}f} ± {half:.{digits}f}"


def _render_derived(name: str, energy: EnergyReport, report: Report, console: Console) -> None:
    for told in [energy.total] if energy.total else energy.rails:
        largest = sorted(told.causes.items(), key=lambda item: -item[1])[:3]
        causes = ", ".join(f"{cause} {1e3 * value:.2g} mJ" for cause, value in largest)
        unknown = f"; in it is no error of {' and '.join(told.unknown)}" if told.unknown else ""
        _say(
            console,
            (f"{name}: ± is 95 %, of {causes or 'nothing'}{unknown} ({'; '.join(told.sources)})"),
        )
    if energy.score_per_joule is not None:
        _say(console, f"{name}: accuracy {energy.score:.4f}, {energy.score_per_joule:.4g} a joule")
    if energy.carbon_g is not None:
        generated = any(run.generation is not None for run in report.measurement.runs)
        calls = "answers" if generated else "inferences"
        grid = report.measurement.grid_g_per_kwh
        _say(
            console,
            f"{name}: {energy.carbon_g:.3g} g CO2e a thousand {calls} at {grid:g} g/kWh, of "
            "the whole energy",
        )
    if energy.synthetic:
        _say(
            console,
            f"{name}: its sensor is registers without hardware (i2c-stub): the figure is "
            "synthetic, no board's",
            style="yellow",
        )


def sensor_rows(found: Sequence[Found], emulated: bool) -> list[tuple[str, str, str]]:
    """Return a line for each power sensor of a board: name, rails, what it covers or why not."""
    rows = []
    for sensor in found:
        synthetic = bool(sensor.rails) and all(rail.synthetic for rail in sensor.rails)
        rails = ", ".join(rail.name for rail in sensor.rails)
        if sensor.refused is not None:
            rows.append((sensor.sensor, "", f"not used: {sensor.refused}"))
        elif emulated and not synthetic:
            rows.append((sensor.sensor, rails, "not used: an emulated board has no power"))
        else:
            whole = f"whole: {' + '.join(sensor.total)}; " if sensor.total else ""
            note = "synthetic, no hardware; " if synthetic else ""
            leaves = f"; leaves out {sensor.leaves_out}" if sensor.leaves_out else ""
            rows.append((sensor.sensor, rails, f"{note}{whole}{sensor.covers}{leaves}"))
    return rows
