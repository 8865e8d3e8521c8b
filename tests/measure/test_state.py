# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

import pytest

from edgeopt.measure.state import parse


def test_a_pi() -> None:
    text = """load 0.25 0.10 0.05 1/123 4567
temp cpu-thermal 48312
freq 1800000 ondemand
freq 600000 ondemand
"""
    assert parse(text) == {
        "load_1min": 0.25,
        "temperature_c": {"cpu-thermal": 48.312},
        "cpu_khz": [1800000, 600000],
        "governors": ["ondemand", "ondemand"],
    }


def test_a_board_without_sensors() -> None:
    assert parse("load 1.00 1 1 1/1 1\ntemp\n") == {"load_1min": 1.0}


@pytest.mark.parametrize(
    "line",
    [
        "load none",
        "load nan",
        "load inf",
        "load -1",
        "load 1e9",
        "load \u0661",
        f"load {'9' * 5000}",
        "",
        "temp cpu-thermal x",
        "temp cpu-thermal -999999",
        "temp cpu-thermal 99999999999",
        "freq x ondemand",
        "freq -1 ondemand",
        "freq 1 2 3",
        "\x1b[2J",
    ],
)
def test_what_is_no_value_is_left_out(line: str) -> None:
    assert parse(f"{line}\ntemp gpu -5000\n") == {"temperature_c": {"gpu": -5.0}}


def test_a_flood_is_bounded() -> None:
    found = parse("".join(f"temp z{n} 1\nfreq {n} {'g' * 900}\n" for n in range(9000)))
    assert len(found["temperature_c"]) == len(found["cpu_khz"]) == 4096
    assert max(map(len, found["governors"])) == 64
