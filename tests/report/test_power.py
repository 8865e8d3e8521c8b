# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What a profile prints of energy and of the board's state."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edgeopt.measure.report import report
from edgeopt.power import sensors
from edgeopt.report.power import sensor_rows
from tests.measure.test_conditions import stat
from tests.measure.test_energy import RAIL, columns
from tests.measure.test_generating import GENERATION
from tests.measure.test_measurement import MEASUREMENT
from tests.measure.traces import reads, run, trace
from tests.power.test_sensors import HWMON, ORIN, battery
from tests.report.test_profile import printed

TRACE = trace(
    *columns(),
    reads("/proc/stat", stat(1.6)),
    rails=(RAIL,),
    total=("VDD_IN",),
    covers="what flows through VDD_IN",
    leaves_out="a fan",
)
REAL = replace(MEASUREMENT, emulated=False, grid_g_per_kwh=360.0)


def test_energy_is_printed_with_its_uncertainty_and_what_it_covers() -> None:
    text = printed(replace(REAL, runs=(run(TRACE, {"score": 0.9}),)))
    # twice the root of: gain, 0.5 % of 0.4 J; step, half of 8 mA at 5 V and 8 mV at 0.9 A, of the
    # run and of idling; all by the root of three
    assert "400.0 ± 4.5" in text
    assert "600.0 ±" in text
    assert "covers what flows through VDD_IN; leaves out a fan" in text
    assert "accuracy 0.9000, 2.25 a joule" in text
    assert "0.06 g CO2e a thousand inferences at 360 g/kWh" in text
    assert "synthetic" not in text


def test_energy_of_a_generator_is_of_answers_and_tokens() -> None:
    answers = replace(run(TRACE), generation=replace(GENERATION, token_ns=((10**7,) * 9,) * 100))
    m = replace(REAL, runs=(answers,))
    text = printed(m)
    assert "energy of an answer" in text
    assert "0.06 g CO2e a thousand answers at 360 g/kWh" in text
    assert "44.4 ± 0.5 mJ above idle for each new token" in text  # nine of them took 400
    found = report(m, Path("m.json")).document()["runs"][0]["generation"]
    assert found["energy_per_token_joules"] == pytest.approx(0.4 / 9)
    made_up = replace(TRACE, rails=(replace(RAIL, synthetic=True),))
    text = printed(replace(m, runs=(replace(answers, trace=made_up),)))
    assert "the prompt's share with it (synthetic, of no board)" in text


def test_a_disturbed_run_is_not_to_be_ranked() -> None:
    found = replace(REAL, runs=(run(TRACE),))
    text = printed(found)
    assert "onnx fp32: not to be ranked: other programs took 0.60 cores" in text
    assert "sampling the board took 0.033 % of one core" in text
    conditions = report(found, Path("m.json")).document()["runs"][0]["conditions"]
    assert conditions["fit"] is False
    # an emulated board's load is this machine's: nothing is judged by it
    document = report(replace(found, emulated=True), Path("m.json")).document()
    assert document["runs"][0]["conditions"] is None


def test_a_synthetic_figure_is_called_so() -> None:
    made_up = replace(TRACE, rails=(replace(RAIL, synthetic=True),))
    text = printed(replace(REAL, runs=(run(made_up),)))
    assert text.count("synthetic") == 5  # beside four figures, and in a line
    assert "registers without hardware" in text


def test_why_there_is_no_energy() -> None:
    missing = replace(TRACE, reads=TRACE.reads[:1])
    found = replace(REAL, runs=(run(missing),))
    assert "no energy of onnx fp32: VDD_IN: /x/curr1_input could not be read" in printed(found)
    document = report(found, Path("m.json")).document()["runs"][0]
    assert document["energy"] is None
    assert "could not be read" in document["no_energy"]


def test_sensors_of_a_board() -> None:
    found = sensors.of(ORIN | battery(status="Full"))
    rows = {name: (rails, text) for name, rails, text in sensor_rows(found, emulated=False)}
    assert rows["ina3221"][0] == "VDD_IN, VDD_CPU_GPU_CV, VDD_SOC"
    assert rows["ina3221"][1].startswith("whole: VDD_IN; what flows through VDD_IN; leaves out")
    assert rows["battery"][1].startswith("not used: battery tells what the device takes only if")
    stub = sensors.of(ORIN | {f"{HWMON}/device/../name": "SMBus stub driver"})
    (row,) = sensor_rows(stub, emulated=True)
    assert row[2].startswith("synthetic, no hardware")
    (row,) = sensor_rows(sensors.of(ORIN), emulated=True)
    assert row[2] == "not used: an emulated board has no power"
