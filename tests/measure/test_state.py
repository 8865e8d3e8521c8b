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
