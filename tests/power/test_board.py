# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""``edgeopt profile`` with a real kernel's INA3221 driver, on registers without hardware.

The full-system emulated board has no power: what is shown is that the way from the driver's files
to joules is right, and that the figure is called synthetic.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

import edgeopt
from edgeopt.boards import open_transport
from edgeopt.boards.emulated import full_system, lifecycle
from edgeopt.boards.transport import Transport
from edgeopt.errors import BoardError, InputError, MissingDependencyError
from edgeopt.measure import measurement
from edgeopt.measure.metering import MeterPlan
from edgeopt.report.profile import render
from edgeopt.target import load_target
from tests import busy_bundle
from tests.power import chips

pytestmark = [pytest.mark.heavy, pytest.mark.board]

NAME, FOLDER = "test-power", "/root/chips"
VOLT, IDLE_A, BUSY_A = 5.08, 0.4, 0.8

# The current doubles once the agent has an engine in its memory: as on a board, idling is less.
_LOAD = """
cd $1; bus=$2; idle=$3; busy=$4; now=
while [ -e registers ]; do
  kib=$(ps -C edgeopt-agent -o rss= | sort -n | tail -n 1)
  [ "${kib:-0}" -gt 12000 ] && ampere=$busy || ampere=$idle
  [ "$ampere" = "$now" ] || ./registers $bus 0x40 0x01 $ampere
  now=$ampere
  sleep 0.1
done
"""


@pytest.fixture(scope="module")
def wired() -> Iterator[Transport]:
    """A full-system board whose kernel has an INA3221."""
    if (reason := full_system.missing()) is not None:
        pytest.skip(f"no full-system board here: {reason}")
    pytest.importorskip("ziglang", reason="ziglang is not installed")
    try:
        entry = lifecycle.up(NAME, load_target("raspberry-pi-4"), mode="full-system")
        chips.modules()
    except (BoardError, MissingDependencyError) as exc:
        pytest.skip(f"no full-system board with its kernel's sources here: {exc}")
    try:
        with open_transport(entry) as transport:
            bus = chips.load(transport, FOLDER, chips.channel(VOLT, IDLE_A))
            currents = [chips.channel(VOLT, ampere)[1] for ampere in (IDLE_A, BUSY_A)]
            start = 'nohup sh -c "$0" sh "$@" > /dev/null 2>&1 < /dev/null &'
            transport.run(["sh", "-c", start, _LOAD, FOLDER, bus, *currents], timeout_s=30)
            yield transport
    finally:
        lifecycle.forget(NAME)


def test_a_kernels_ina3221_becomes_joules_that_are_called_synthetic(
    wired: Transport, tmp_path: Path
) -> None:
    path = busy_bundle.write(tmp_path / "bundle")
    with pytest.raises(InputError, match=r"has no rail 'VDD_IN'") as caught:
        edgeopt.profile(path, NAME, runs=1, rails=["VDD_IN"], output=tmp_path / "none.json")
    assert "hwmon0.1" in str(caught.value.hint)
    found = edgeopt.profile(
        path, NAME, threads=1, warmup=1, runs=15, rails=["hwmon0.1"], grid_g_per_kwh=400,
        output=tmp_path / "m.json",
    )  # fmt: skip
    (run,) = found.runs
    assert run.no_energy is None
    assert run.energy is not None
    assert run.energy.synthetic
    total = run.energy.total
    assert total is not None
    assert total.run_w == pytest.approx(VOLT * BUSY_A, rel=0.01)
    assert total.idle_w == pytest.approx(VOLT * IDLE_A, rel=0.01)
    trace = run.run.trace
    assert trace is not None
    seconds = (trace.run_end_ns - trace.run_begin_ns) / 1e9 / 15
    assert total.gross.joules == pytest.approx(VOLT * BUSY_A * seconds, rel=0.01)
    assert total.net.joules == pytest.approx(VOLT * (BUSY_A - IDLE_A) * seconds, rel=0.01)
    # 4 mA and 8 mV of step, 0.25 % of gain each: some percent, not nothing and not half of it
    assert 0.005 < total.net.uncertainty / total.net.joules < 0.2
    assert measurement.read(tmp_path / "m.json").runs[0].trace == trace
    console = Console(file=io.StringIO(), width=200)
    render(found, console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "synthetic" in shown
    assert "registers without hardware" in shown
    with pytest.raises(InputError, match="is emulated and has no power: a meter would measure"):
        edgeopt.profile(
            path, NAME, runs=1, output=tmp_path / "none.json",
            meter=MeterPlan(address="command:echo 1"),
        )  # fmt: skip
