# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""``edgeopt energy``: a measurement and what a meter logged, from files to figures."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from edgeopt.cli import cli
from edgeopt.cli.output import run as command
from edgeopt.measure import measurement
from edgeopt.power.clock import Sync
from tests.measure.test_measurement import MEASUREMENT
from tests.measure.traces import S, run, trace

UTC_S = 1_700_000_000
"""The time of day when the board's clock was at nothing."""


@pytest.fixture
def measured(tmp_path: Path) -> Path:
    at = [(UTC_S + s) * 10**6 for s in (0, 21)]
    clock = tuple(
        Sync(board_ns=s * S, sent_ns=s * S, received_ns=s * S, sent_utc_us=utc, received_utc_us=utc)
        for s, utc in zip((0, 21), at, strict=True)
    )
    timed = run(trace(clock=clock))
    path = tmp_path / "m.json"
    measurement.write(replace(MEASUREMENT, emulated=False, runs=(timed,), not_run=()), path)
    return path


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A meter's log, a row each tenth of a second: 2 W, and from 9.95 s on 6 W."""
    path = tmp_path / "log.csv"
    rows = [f"{UTC_S + t / 10:.3f},{'2.00' if t < 99.5 else '6.00'}\n" for t in range(250)]
    path.write_text("time,power\n" + "".join(rows))
    return path


def test_the_energy_of_a_log(measured: Path, log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "energy",
        str(measured),
        "--csv",
        str(log),
        "--error",
        "0.5",
        "--grid",
        "360",
        "--json",
    ]
    assert command(cli, words) == 0
    (told,) = json.loads(capsys.readouterr().out)["runs"]
    energy = told["energy"]
    assert energy["total"]["net"]["joules"] == pytest.approx(0.4, rel=0.01)
    assert energy["carbon_g"] == pytest.approx(0.06, rel=0.01)
    assert measurement.read(measured).runs[0].trace is not None  # the file stays as it was
    # half a second either way: it shows
    assert command(cli, [*words, "--clock", "-0.5", "0.5"]) == 0
    (loose,) = json.loads(capsys.readouterr().out)["runs"]
    assert loose["energy"]["total"]["causes"]["clock"] > 5 * energy["total"]["causes"].get(
        "clock", 0
    )
    assert loose["energy"]["total"]["net"]["uncertainty"] > energy["total"]["net"]["uncertainty"]


def test_a_log_of_another_hour_has_no_energy(
    measured: Path, log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["energy", str(measured), "--csv", str(log), "--clock", "3600", "3600"]
    assert command(cli, words) == 0
    assert "no energy of onnx fp32: meter: has 0 samples within 10.000 s" in capsys.readouterr().out


def test_what_is_no_clock(measured: Path, log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(cli, ["energy", str(measured), "--csv", str(log), "--clock", "2", "1"]) != 0
    assert "--clock: 2 is above 1" in capsys.readouterr().err
