# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Joules of an inference, out of raw texts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgeopt.boards.files import DENIED
from edgeopt.errors import InputError, MeasurementError
from edgeopt.measure import sampling
from edgeopt.measure.energy import METER, derive
from edgeopt.measure.trace import Metered, Reads
from edgeopt.power import sensors
from edgeopt.power.clock import Sync
from edgeopt.power.rail import Rail, Term
from tests.measure.traces import S, reads, run, trace
from tests.power.test_sensors import HWMON, ORIN, rapl

VOLT, AMPERE = "/x/in1_input", "/x/curr1_input"
RAIL = Rail(
    name="VDD_IN",
    sensor="ina3221",
    terms=(
        Term(what=VOLT, scale=1e-3, step=8e-3, gain=0.0025),
        Term(what=AMPERE, scale=1e-3, step=8e-3, gain=0.0025),
    ),
    source="a data sheet",
)


def currents(idle: int = 400, busy: int = 1200) -> list[str]:
    """Return texts each tenth of a second: idle until the run begins at 10 s, for 25 s."""
    return [str(idle if t < 99 else busy) for t in range(250)]


def columns() -> tuple[Reads, Reads]:
    return reads(VOLT, ["5000"] * 250, every_s=0.1), reads(AMPERE, currents(), every_s=0.1)


def test_energy_above_idle_of_an_inference() -> None:
    """A hundred calls in ten seconds at 6 W, and 2 W when idle: 0.4 J above it each."""
    timed = run(trace(*columns(), rails=(RAIL,), total=("VDD_IN",)), accuracy={"score": 0.9})
    found = derive(timed, grid_g_per_kwh=360)
    assert found is not None
    assert found.total is not None
    assert found.total.net.joules == pytest.approx(0.4)
    assert found.total.gross.joules == pytest.approx(0.6)
    assert (found.total.run_w, found.total.idle_w) == (pytest.approx(6), pytest.approx(2))
    # gain 0.5 % of 0.4 J and a step of 8 mA at 5 V, both by the root of three, twice
    assert 0.001 < found.total.net.uncertainty < 0.006
    assert found.score_per_joule == pytest.approx(0.9 / 0.4)
    assert found.carbon_g == pytest.approx(1000 * 0.6 / 3.6e6 * 360)
    assert not found.synthetic


def test_rails_that_are_no_whole_stand_each_for_itself() -> None:
    found = derive(run(trace(*columns(), rails=(RAIL,))))
    assert found is not None
    assert (found.total, found.score_per_joule, found.carbon_g) == (None, None, None)
    assert [rail.rails for rail in found.rails] == [("VDD_IN",)]


def test_without_rails_there_is_no_energy() -> None:
    assert derive(run(trace(*columns()))) is None
    assert derive(run(None)) is None


def test_a_missing_rail_is_an_error_and_no_zero() -> None:
    volt, ampere = columns()
    with pytest.raises(MeasurementError, match="/x/curr1_input could not be read"):
        derive(run(trace(volt, rails=(RAIL,), total=("VDD_IN",))))
    failing = replace(ampere, failures=2, failure="Remote I/O error")
    with pytest.raises(MeasurementError, match=r"could not be read 2 times \(Remote I/O error\)"):
        derive(run(trace(volt, failing, rails=(RAIL,), total=("VDD_IN",))))
    with pytest.raises(MeasurementError, match="has no rail VDD_SOC"):
        derive(run(trace(volt, ampere, rails=(RAIL,), total=("VDD_SOC",))))
    odd = replace(ampere, text=("nothing", *ampere.text[1:]))
    with pytest.raises(MeasurementError, match="tells no number where one is expected: 'nothing'"):
        derive(run(trace(volt, odd, rails=(RAIL,), total=("VDD_IN",))))


def test_a_counter_that_wraps() -> None:
    what = "/x/energy_uj"
    rail = Rail(
        name="package-0", sensor="rapl", terms=(Term(what=what, scale=1e-6),), source="none",
        quantity="energy", wraps_j=50.0,
    )  # fmt: skip
    joules = [2.0 * t / 10 if t < 99 else 19.8 + 6.0 * (t - 99) / 10 for t in range(250)]
    column = reads(what, [str(round(j % 50 * 1e6)) for j in joules], every_s=0.1)
    found = derive(run(trace(column, rails=(rail,), total=("package-0",))))
    assert found is not None
    assert found.total is not None
    assert found.total.net.joules == pytest.approx(0.4, rel=1e-3)


def test_an_external_meter_on_its_own_clock() -> None:
    """This machine's clock is 1000 s ahead; the round trips leave 10 ms open."""
    asked = Sync(board_ns=5 * S, sent_ns=1005 * S - S // 100, received_ns=1005 * S, sent_utc_us=0,
                 received_utc_us=0)  # fmt: skip
    times = [int((1000 + t / 5) * S) for t in range(125)]
    metered = Metered(
        meter="command:meter", scale_w=0.001, gain=0.01, begin_ns=tuple(times),
        took_ns=(0,) * 125, text=tuple("2000" if t < 1009.95 * S else "6000" for t in times),
    )  # fmt: skip
    timed = run(
        trace(*columns(), rails=(RAIL,), total=("VDD_IN",), metered=metered, clock=(asked,))
    )
    found = derive(timed)
    assert found is not None
    assert found.total is not None
    assert found.total.rails == (METER,)
    assert found.total.net.joules == pytest.approx(0.4, rel=0.01)
    assert found.total.causes["clock"] > 0
    assert abs(found.total.net.joules - 0.4) < found.total.net.uncertainty
    assert len(found.rails) == 2
    lost = replace(metered, failure="does not answer")
    assert timed.trace is not None
    with pytest.raises(MeasurementError, match="does not answer"):
        derive(replace(timed, trace=replace(timed.trace, metered=lost)))


def test_the_whole_is_what_a_sensor_says_it_is() -> None:
    found = sensors.of(ORIN | rapl())
    fields, sources = sampling.choose(found, (), emulated=False, where="orin")
    assert fields["total"] == ("VDD_IN",)
    assert [rail.name for rail in fields["rails"]] == ["VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC"]
    assert {source.what for source in sources} == {
        f"{HWMON}/{kind}{n}_input" for kind in ("in", "curr") for n in (1, 2, 3)
    }


def test_rails_of_ones_own_choice() -> None:
    fields, sources = sampling.choose(
        sensors.of(ORIN | rapl()), ("VDD_SOC", "package-0"), emulated=False, where="orin"
    )
    assert fields["total"] == ("VDD_SOC", "package-0")
    assert len(sources) == 3
    with pytest.raises(InputError, match=r"has no rail 'VDD'") as caught:
        sampling.choose(sensors.of(ORIN), ("VDD",), emulated=False, where="orin")
    assert caught.value.hint == "Its rails are VDD_IN, VDD_CPU_GPU_CV, VDD_SOC."
    with pytest.raises(InputError, match="sudo chmod"):
        sampling.choose(
            sensors.of(rapl(energy_uj=DENIED)), ("package-0",), emulated=False, where="pc"
        )


def test_an_emulated_board_has_no_power_but_a_synthetic_one() -> None:
    assert sampling.choose(sensors.of(ORIN), (), emulated=True, where="pi") == ({}, ())
    stub = sensors.of(ORIN | {f"{HWMON}/device/../name": "SMBus stub driver"})
    fields, _ = sampling.choose(stub, (), emulated=True, where="pi")
    assert all(rail.synthetic for rail in fields["rails"])
    with pytest.raises(InputError) as caught:
        sampling.choose(sensors.of(ORIN), ("VDD_IN",), emulated=True, where="pi")
    assert caught.value.hint == "An emulated board has no power."
