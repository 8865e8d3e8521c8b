# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""A measurement with what a meter logged meanwhile, put together after the fact."""

from __future__ import annotations

from dataclasses import replace

from edgeopt.errors import InputError
from edgeopt.measure.measurement import Measurement
from edgeopt.measure.trace import Metered
from edgeopt.power.csv_log import Log


def with_log(
    measurement: Measurement,
    log: Log | None,
    *,
    clock_s: tuple[float, float] = (0.0, 0.0),
    scale_w: float = 1.0,
    gain: float | None = None,
    grid: float | None = None,
) -> Measurement:
    """Return ``measurement`` with ``log`` beside each run, and another carbon factor if given.

    The time of day here less the meter's is between the two of ``clock_s``. Raises InputError for
    an emulated board, and if those are in the wrong order.
    """
    low, high = (int(s * 1e9) for s in clock_s)
    if low > high:
        raise InputError(f"{clock_s[0]:g} is above {clock_s[1]:g}", where="--clock")
    if log is not None and measurement.emulated:
        raise InputError("is emulated and has no power", where=measurement.board_name)
    runs = measurement.runs
    if log is not None:
        shift = (low + high) // 2
        metered = Metered(
            meter="log",
            scale_w=scale_w,
            gain=gain,
            begin_ns=tuple(at + shift for at in log.at_ns),
            took_ns=(0,) * len(log.at_ns),
            text=log.text,
            utc=True,
            apart_ns=(high - low + 1) // 2,
        )
        runs = tuple(
            run if run.trace is None else replace(run, trace=replace(run.trace, metered=metered))
            for run in runs
        )
    factor = measurement.grid_g_per_kwh if grid is None else grid
    return replace(measurement, runs=runs, grid_g_per_kwh=factor)
