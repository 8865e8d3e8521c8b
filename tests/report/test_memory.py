# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

import io
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from edgeopt.measure.measurement import Measurement
from edgeopt.measure.report import report
from edgeopt.report.memory import render
from tests.measure.test_measurement import MEASUREMENT, RUN
from tests.measure.test_memory import MEMORY, TOLD


def printed(measurement: Measurement) -> list[str]:
    console = Console(file=io.StringIO(), width=80)
    render(report(measurement, Path("m.json")), console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_a_row_fits_80_columns_and_has_a_dash_for_what_is_not_known() -> None:
    large = replace(MEMORY, first=replace(MEMORY.first, rss_bytes=1_234_567_890))
    wide = replace(TOLD, engine="openvino", precision="fp32", memory=large)
    first, second, row, *rest = printed(replace(MEASUREMENT, runs=(wide,), emulated=False))
    assert row.split() == [
        *("openvino", "fp32", "2.0", "40.0", "1235", "64.0", "70.0", "50.0", "21.0", "45.0"),
        "10.0",
    ]
    assert first.split() == ["RSS", "PSS", "unbacked", "unbacked", "mapped"]
    assert second.split()[-3:] == ["loaded", "steady", "steady"]
    assert "emulat" not in "".join(rest)
    blind = replace(MEMORY, steady=replace(MEMORY.steady, pss_bytes=None))
    assert " - " in printed(replace(MEASUREMENT, runs=(replace(TOLD, memory=blind),)))[2]


def test_the_arena_of_an_engine_that_tells_it_is_shown() -> None:
    steady = replace(MEMORY.steady, arena_bytes=50_000_000)
    told = replace(MEMORY, loaded=replace(MEMORY.loaded, arena_bytes=40_000_000), steady=steady)
    lines = printed(replace(MEASUREMENT, runs=(replace(TOLD, memory=told), RUN)))
    assert "onnx int8: its arena took 40.0 MB when loaded (packed weights), 50.0 steady" in lines


def test_nothing_is_printed_of_an_older_measurement() -> None:
    assert printed(replace(MEASUREMENT, runs=(RUN,))) == []


def test_what_was_swapped_or_is_over_the_budget_or_emulated_is_told() -> None:
    swapped = replace(MEMORY, first=replace(MEMORY.first, swap_bytes=8_000_000))
    run = replace(TOLD, memory=swapped)
    m = replace(MEASUREMENT, runs=(run,), emulated=False, memory_budget_mib=1.0)
    lines = printed(m)
    assert "onnx int8: 8.0 MB of it were swapped out, and are not resident" in lines
    assert any("the budget of the target" in line for line in lines)
    lines = printed(replace(m, emulated=True))
    assert lines[1].startswith("emulated")
    assert any("holds the emulator" in line for line in lines)
