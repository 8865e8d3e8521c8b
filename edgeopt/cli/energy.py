# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""``edgeopt energy``."""

from __future__ import annotations

from pathlib import Path

import click

from edgeopt.cli.output import emit, json_option


@click.command()
@click.argument("measurement")
@click.option("--csv", "log", help="What a meter logged meanwhile.")
@click.option("--time", "time", default="time", show_default=True, help="Its column of times.")
@click.option("--power", default="power", show_default=True, help="Its column of power.")
@click.option(
    "--unit",
    type=click.Choice(["s", "ms", "us", "ns", "iso"]),
    default="s",
    show_default=True,
    help="Of the times, since 1970 in UTC.",
)
@click.option(
    "--clock",
    type=float,
    nargs=2,
    metavar="LOW HIGH",
    default=(0.0, 0.0),
    help="This machine's clock less the meter's, in seconds, is between these [0 0].",
)
@click.option("--scale", type=float, default=1.0, help="Watts by the number in the column [1].")
@click.option("--error", type=click.FloatRange(0, 100), metavar="PERCENT", help="The meter's.")
@click.option("--grid", type=click.FloatRange(0), metavar="G", help="CO2e of a kWh, in grams.")
@json_option
def energy(
    measurement: str,
    log: str | None,
    time: str,
    power: str,
    unit: str,
    clock: tuple[float, float],
    scale: float,
    error: float | None,
    grid: float | None,
    as_json: bool,
) -> None:
    """Compute the energy of an inference again, out of a MEASUREMENT and what a meter logged.

    The board's clock was bracketed by this machine's while it was measured; the meter's may be
    off by --clock. How much of the figure hangs on that is in its uncertainty.
    """
    from edgeopt.measure.logged import with_log
    from edgeopt.measure.measurement import read
    from edgeopt.measure.report import report
    from edgeopt.power import csv_log
    from edgeopt.report.profile import render

    found = read(Path(measurement))
    logged = csv_log.read(Path(log), time=time, power=power, unit=unit) if log else None
    gain = None if error is None else error / 100
    found = with_log(found, logged, clock_s=clock, scale_w=scale, gain=gain, grid=grid)
    told = report(found, Path(measurement))
    emit(told.document(), as_json, lambda console: render(told, console))
