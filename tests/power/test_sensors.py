# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Sensors on what boards say: texts in the form that the named kernel documentation gives them."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from edgeopt.boards import files
from edgeopt.boards.local import LocalTransport
from edgeopt.power import sensors
from edgeopt.power.rail import Found

HWMON = "/sys/class/hwmon/hwmon3"

# NVIDIA L4T 32 on a Jetson Nano, drivers/staging/iio/meter/ina3221.c: milliwatts.
NANO_PLACE = "/sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0"
NANO = {
    f"{NANO_PLACE}/rail_name_0": "POM_5V_IN",
    f"{NANO_PLACE}/rail_name_1": "POM_5V_GPU",
    f"{NANO_PLACE}/rail_name_2": "POM_5V_CPU",
    f"{NANO_PLACE}/in_power0_input": "2281",
    f"{NANO_PLACE}/in_power1_input": "0",
    f"{NANO_PLACE}/in_power2_input": "487",
}

# Linux Documentation/hwmon/ina3221.rst on a Jetson Orin Nano: millivolts, milliamperes, microohms.
ORIN = {
    f"{HWMON}/name": "ina3221",
    f"{HWMON}/device/../name": "c240000.i2c",
    **{
        f"{HWMON}/{name}": text
        for name, text in {
            "in1_label": "VDD_IN",
            "in2_label": "VDD_CPU_GPU_CV",
            "in3_label": "VDD_SOC",
            "in1_input": "5008",
            "in2_input": "5000",
            "in3_input": "4992",
            "curr1_input": "1032",
            "curr2_input": "160",
            "curr3_input": "296",
            "shunt1_resistor": "5000",
            "shunt2_resistor": "5000",
            "shunt3_resistor": "5000",
        }.items()
    },
}

# Raspberry Pi 5, documentation of vcgencmd: pmic_read_adc.
PMIC = """ 3V7_WL_SW_A current(0)=0.09368929A
   3V3_SYS_A current(1)=0.08783370A
  VDD_CORE_A current(7)=6.22421000A
 3V7_WL_SW_V volt(8)=3.69977600V
   3V3_SYS_V volt(9)=3.31003300V
  VDD_CORE_V volt(15)=0.90000000V
     EXT5V_V volt(24)=5.06788000V
      BATT_V volt(25)=0.00000000V"""

# Android's kernel for Pixel, energy_value_show of the odpm driver: microwatt-seconds.
ODPM = """t=176090400
CH0(T=176090328)[S10M_VDD_TPU], 16862
CH1(T=176090328)[VSYS_PWR_MODEM], 168620176"""


def one(seen: dict[str, str], name: str) -> Found:
    (found,) = [sensor for sensor in sensors.of(seen) if sensor.sensor == name]
    return found


def test_a_jetson_nano() -> None:
    found = one(NANO, "ina3221_iio")
    assert [rail.name for rail in found.rails] == ["POM_5V_IN", "POM_5V_GPU", "POM_5V_CPU"]
    assert found.total == ("POM_5V_IN",)
    assert [rail.value(NANO) for rail in found.rails] == [2.281, 0.0, 0.487]
    assert found.rails[0].terms[0].gain == 0.005


def test_an_orin_by_label() -> None:
    found = one(ORIN, "ina3221")
    assert found.total == ("VDD_IN",)
    assert found.rails[0].value(ORIN) == pytest.approx(5.008 * 1.032)
    volt, ampere = found.rails[0].terms
    assert (volt.step, volt.gain, ampere.gain) == (8e-3, 0.0025, 0.0025)
    assert ampere.step == pytest.approx(40e-6 / 5e-3)  # 8 mA of a shunt of 5 mOhm
    assert ampere.offset == pytest.approx(80e-6 / 5e-3)
    assert not found.rails[0].synthetic


def test_an_agx_orin_has_no_input_and_is_the_sum_of_its_parts() -> None:
    names = ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0")
    seen = ORIN | {f"{HWMON}/in{n}_label": name for n, name in enumerate(names, 1)}
    assert one(seen, "ina3221").total == names


@pytest.mark.parametrize("change", [{"in2_enable": "0"}, {"in2_label": "NC"}, {"curr2_input": ""}])
def test_a_channel_that_measures_nothing_is_no_rail(change: dict[str, str]) -> None:
    seen = ORIN | {f"{HWMON}/{name}": text for name, text in change.items()}
    assert [rail.name for rail in one(seen, "ina3221").rails] == ["VDD_IN", "VDD_SOC"]


def test_a_stub_is_synthetic() -> None:
    seen = ORIN | {f"{HWMON}/device/../name": "SMBus stub driver"}
    assert all(rail.synthetic for rail in one(seen, "ina3221").rails)


@pytest.mark.parametrize(
    ("chip", "gain", "step_w"),
    [("ina219", 0.01, 0.002), ("ina226", 0.002, 0.000625), ("ina228", 0.001, None)],
)
def test_an_ina2xx(chip: str, gain: float, step_w: float | None) -> None:
    """Linux Documentation/hwmon/ina2xx.rst: power1_input in microwatts, shunt of 0.1 ohm."""
    seen = {
        f"{HWMON}/name": chip,
        f"{HWMON}/in0_input": "5",
        f"{HWMON}/in1_input": "5072",
        f"{HWMON}/curr1_input": "412",
        f"{HWMON}/power1_input": "2090000",
        f"{HWMON}/shunt_resistor": "100000",
    }
    found = one(seen, chip)
    (rail,) = found.rails
    assert (rail.value(seen), found.total) == (2.09, (rail.name,))
    assert rail.terms[0].gain == gain
    assert rail.terms[0].step == (pytest.approx(step_w) if step_w else None)


def test_any_hwmon_voltage_and_current() -> None:
    seen = {
        f"{HWMON}/name": "some_monitor",
        f"{HWMON}/in1_input": "12000",
        f"{HWMON}/curr1_input": "500",
        f"{HWMON}/in2_input": "3300",
    }
    found = one(seen, "some_monitor")
    assert [rail.value(seen) for rail in found.rails] == [6.0]
    assert found.rails[0].terms[0].gain is None


@pytest.mark.parametrize("name", ["BAT0", "ucsi_source_psy_USBC000:001", "cpu_thermal"])
def test_what_is_no_power_of_the_board(name: str) -> None:
    seen = {f"{HWMON}/name": name, f"{HWMON}/in0_input": "12000"}
    seen |= {} if name == "cpu_thermal" else {f"{HWMON}/curr0_input": "900"}
    assert sensors.of(seen) == ()


def test_a_raspberry_pi_5_sums_its_rails_and_says_what_it_leaves_out() -> None:
    seen = {"vcgencmd pmic_read_adc": PMIC}
    found = one(seen, "pmic")
    assert found.total == ("3V7_WL_SW", "3V3_SYS", "VDD_CORE")
    total = sum(rail.value(seen) for rail in found.rails)
    assert total == pytest.approx(0.09368929 * 3.699776 + 0.0878337 * 3.310033 + 6.22421 * 0.9)
    assert "USB devices" in found.leaves_out
    # the agent sends control characters as blanks
    blank = {"vcgencmd pmic_read_adc": PMIC.replace("\n", " ")}
    assert sum(rail.value(blank) for rail in found.rails) == pytest.approx(total)


@pytest.mark.parametrize("text", ['error=1 error_msg="Command not registered"', files.DENIED, ""])
def test_a_raspberry_pi_without_the_chip(text: str) -> None:
    assert sensors.of({"vcgencmd pmic_read_adc": text}) == ()


def test_a_pixel() -> None:
    place = "/sys/bus/iio/devices/iio:device0"
    seen = {f"{place}/name": "s2mpg12-odpm", f"{place}/energy_value": ODPM}
    found = one(seen, "odpm")
    assert [(r.name, r.quantity) for r in found.rails] == [
        ("S10M_VDD_TPU", "energy"), ("VSYS_PWR_MODEM", "energy"),
    ]  # fmt: skip
    assert [rail.value(seen) for rail in found.rails] == pytest.approx([0.016862, 168.620176])
    assert found.total == ()
    refused = one(seen | {f"{place}/energy_value": files.DENIED}, "odpm").refused
    assert refused is not None
    assert "adb root" in refused


def battery(**change: str) -> dict[str, str]:
    """Linux Documentation/ABI/testing/sysfs-class-power: microvolts, microamperes."""
    texts = {"type": "Battery", "status": "Discharging", "voltage_now": "3970000"}
    texts |= {"current_now": "-412000"} | change
    return {f"/sys/class/power_supply/battery/{name}": text for name, text in texts.items()}


def test_a_battery_that_discharges() -> None:
    seen = battery()
    found = one(seen, "battery")
    assert found.rails[0].value(seen) == pytest.approx(3.97 * 0.412)
    assert one(battery(power_now="1500000"), "battery").rails[0].terms[0].what.endswith("power_now")


@pytest.mark.parametrize(
    ("seen", "why"),
    [
        (battery(status="Charging"), "it is charging"),
        (battery(status="Full"), "it is full"),
        (
            battery()
            | {
                "/sys/class/power_supply/usb/type": "USB",
                "/sys/class/power_supply/usb/online": "1",
            },
            "usb gives power",
        ),
    ],
)
def test_a_battery_is_refused_on_a_charger(seen: dict[str, str], why: str) -> None:
    found = one(seen, "battery")
    assert found.refused is not None
    assert why in found.refused
    assert found.rails == ()


def rapl(**change: str) -> dict[str, str]:
    """Linux Documentation/power/powercap/powercap.rst."""
    place = "/sys/class/powercap/intel-rapl:0"
    seen = {
        f"{place}/name": "package-0",
        f"{place}/energy_uj": "18299061",
        f"{place}/max_energy_range_uj": "262143328850",
        f"{place}:0/name": "core",
        f"{place}:0/energy_uj": "8299061",
        f"{place}:0/max_energy_range_uj": "262143328850",
    }
    return seen | {f"{place}/{name}": text for name, text in change.items()}


def test_rapl() -> None:
    found = one(rapl(), "rapl")
    assert [rail.name for rail in found.rails] == ["package-0", "package-0 core"]
    assert found.total == ("package-0",)
    assert found.rails[0].value(rapl()) == pytest.approx(18.299061)
    assert found.rails[0].wraps_j == pytest.approx(262143.32885)


def test_rapl_without_permission_says_what_to_do() -> None:
    refused = one(rapl(energy_uj=files.DENIED), "rapl").refused
    assert refused is not None
    assert "sudo chmod a+r" in refused


def test_rapl_of_this_machine() -> None:
    found = [s for s in sensors.find(LocalTransport()) if s.sensor == "rapl"]
    if not found or found[0].refused:
        pytest.skip(
            "this machine shows no RAPL counters" + (f": {found[0].refused}" if found else "")
        )
    assert found[0].total


def test_the_board_is_looked_at_in_one_go(tmp_path: Path) -> None:
    """By the shell script itself: blanks, no line end, unreadable files, a command that fails."""
    for name, text in {"a": "one\n", "b": "two\nlines", "c": "", "d e": "3\n"}.items():
        (tmp_path / name).write_text(text)
    seen = files.look(
        LocalTransport(), [f"{tmp_path}/[a-c]", f"{tmp_path}/none*"],
        ["echo four", "false now", "no-such-program x"],
    )  # fmt: skip
    assert seen == {
        f"{tmp_path}/a": "one",
        f"{tmp_path}/b": "two\nlines",
        f"{tmp_path}/c": "",
        "echo four": "four",
        "false now": files.DENIED,
    }
    if os.geteuid():
        (tmp_path / "a").chmod(0)
        assert files.look(LocalTransport(), [f"{tmp_path}/a"]) == {f"{tmp_path}/a": files.DENIED}


def test_every_sensor_names_where_its_errors_are_published() -> None:
    for seen in (NANO, ORIN, {"vcgencmd pmic_read_adc": PMIC}, battery(), rapl()):
        for sensor in sensors.of(seen):
            for rail in sensor.rails:
                told = any(term.gain is not None for term in rail.terms)
                assert re.search(r"SBOS|SLYS" if told else "^no ", rail.source), rail.source
