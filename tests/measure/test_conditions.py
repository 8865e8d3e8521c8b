# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import pytest

from edgeopt.boards.local import LocalTransport
from edgeopt.boards.transport import Completed
from edgeopt.errors import InputError, MeasurementError
from edgeopt.measure import conditions
from edgeopt.measure.conditions import judge
from tests.measure.traces import reads, run, trace

# A Raspberry Pi 4 under Raspberry Pi OS 12, by the names of Linux Documentation/ABI/testing.
ZONE = "/sys/class/thermal/thermal_zone0"
PI = {
    f"{ZONE}/type": "cpu-thermal",
    f"{ZONE}/temp": "48312",
    "/sys/class/thermal/cooling_device0/type": "cpufreq-cpu0",
    "/sys/class/thermal/cooling_device0/cur_state": "0",
    "/sys/class/thermal/cooling_device1/type": "pwm-fan",
    "/sys/class/thermal/cooling_device1/cur_state": "2",
    "/sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq": "1800000",
    "vcgencmd get_throttled": "throttled=0x0",
    "/proc/stat": "cpu  1 2 3 4 5 6 7 8 0 0\ncpu0 1 2 3 4 5 6 7 8 0 0",
    "/proc/meminfo": "MemTotal: 3882704 kB\nMemFree: 1 kB\nMemAvailable: 3282704 kB",
}


def stat(busy_cores: float, cores: int = 4, seconds: float = 30) -> list[str]:
    """Return /proc/stat each half second, in ticks of 10 ms, of a board so busy."""
    return [
        f"cpu {1000 + round(50 * busy_cores * t)} 0 0 {round(50 * (cores - busy_cores) * t)}"
        " 0 0 0 0 0 0"
        for t in range(int(seconds * 2))
    ]


def test_what_is_read_on_a_pi() -> None:
    found = {source.what: source for source in conditions.sources(PI)}
    assert list(found) == [
        f"{ZONE}/temp",
        "/sys/class/thermal/cooling_device0/cur_state",
        "/sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq",
        "vcgencmd get_throttled",
        "/proc/stat",
        "/proc/meminfo",
    ]
    kernel = PI | {"/sys/devices/platform/soc/soc:firmware/get_throttled": "0"}
    assert "vcgencmd get_throttled" not in [s.what for s in conditions.sources(kernel)]


def test_what_a_jetsons_tools_say_is_kept() -> None:
    text = "NV Power Mode: 15W\n0"
    assert conditions.told_once({"nvpmodel -q": text}) == {"nvpmodel -q": text}


def test_a_quiet_board() -> None:
    found = judge(
        run(
            trace(
                reads("/proc/stat", stat(1.03)),
                reads(f"{ZONE}/temp", ["47000"] * 30 + ["51000"] * 30),
                reads("/sys/x/policy0/scaling_cur_freq", ["600000"] * 15 + ["1800000"] * 45),
                reads("/proc/meminfo", ["MemAvailable: 3000 kB"] * 60),
                reads("vcgencmd get_throttled", ["throttled=0x50000"] * 60),  # before we came
            )
        ),
        4,
    )
    assert found is not None
    assert found.fit
    assert found.others_cores == pytest.approx(0.03, abs=0.01)
    assert found.temperature_c == {"thermal_zone0": 51.0}
    assert found.clock_khz == (1800000, 1800000)
    assert found.memory_available_bytes == 3000 * 1024
    assert found.sampler_share == pytest.approx(0.01 / 30)


def test_others_disturb() -> None:
    found = judge(run(trace(reads("/proc/stat", stat(1.5)))), 4)
    assert found is not None
    assert found.disturbed == ("other programs took 0.50 cores",)
    assert not found.fit
    own = judge(run(trace(reads("/proc/stat", stat(3.9))), cores=3.9), 4)
    assert own is not None
    assert own.disturbed == ()


@pytest.mark.parametrize(
    ("what", "texts", "told"),
    [
        ("vcgencmd get_throttled", ["throttled=0x0"] * 30 + ["throttled=0x4"] * 30, "throttled"),
        ("/sys/x/get_throttled", ["0"] * 30 + ["10000"] * 30, "under-voltage"),
        ("/x/cooling_device0/cur_state", ["0"] * 30 + ["3"] * 30, "cooling_device0 held it back"),
        ("/x/core_throttle_count", ["5"] * 30 + ["6"] * 30, "core_throttle_count rose"),
        ("/x/hwmon1/oc1_event_cnt", ["0"] * 30 + ["1"] * 30, "oc1_event_cnt rose"),
        (
            "/x/policy0/scaling_cur_freq",
            ["1800000"] * 30 + ["1500000"] * 30,
            "the clock fell from 1.80 to 1.50 GHz",
        ),
    ],
)
def test_a_board_that_held_itself_back(what: str, texts: list[str], told: str) -> None:
    found = judge(run(trace(reads(what, texts))), 4)
    assert found is not None
    assert found.throttled == (told,)
    assert not found.fit


def test_what_was_so_before_and_after_the_run_does_not_count() -> None:
    texts = ["3"] * 19 + ["0"] * 22 + ["3"] * 19
    found = judge(run(trace(reads("/x/cooling_device0/cur_state", texts))), 4)
    assert found is not None
    assert found.fit


def test_nothing_read_is_nothing_judged() -> None:
    assert judge(run(None), 4) is None
    assert judge(run(trace()), 4) is None


class _Warm(LocalTransport):
    """A board that gets cooler each time that it is asked."""

    def __init__(self, *degrees: float) -> None:
        self._degrees = list(degrees)

    def run(self, *words: object, **more: object) -> Completed:  # type: ignore[override]
        t = self._degrees.pop(0) if len(self._degrees) > 1 else self._degrees[0]
        text = f"load 0.1\ntemp cpu-thermal {t * 1000:.0f}\ntemp battery 90000\n"
        return Completed(exit_status=0, stdout=text.encode() if t else b"load 0.1\n", stderr=b"")


def test_cooling_waits_for_the_processor() -> None:
    assert conditions.cool(_Warm(60, 50, 44.5), 45, every_s=0) == 44.5
    with pytest.raises(
        MeasurementError, match=r"cpu-thermal is still at 60\.0 °C after 0 s, not 45"
    ):
        conditions.cool(_Warm(60), 45, limit_s=0, every_s=0)
    with pytest.raises(InputError, match="tells no temperature to cool down to"):
        conditions.cool(_Warm(0), 45)
