# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Energy out of samples of waveforms whose integral is known."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest

from edgeopt.errors import MeasurementError
from edgeopt.power.energy import Series, above, added, over, unwrapped

S = 10**9


def sampled(
    power: Callable[[float], float], seconds: float = 42, every_s: float = 0.05, **more: float
) -> Series:
    """Sample ``power`` as the agent does: half an interval early to half one late, for 2 ms."""
    chance = random.Random(7)
    times = [0.0]
    while times[-1] < seconds:
        times.append(times[-1] + every_s * chance.uniform(0.5, 1.5))
    return Series(
        name="rail", quantity="power",
        begin_ns=[int((t - 0.001) * S) for t in times],
        end_ns=[int((t + 0.001) * S) for t in times],
        values=[power(t) for t in times], **more,  # type: ignore[arg-type]
    )  # fmt: skip


def test_a_power_in_step_with_the_sampler_is_not_hidden() -> None:
    """Bursts of 25 ms in each 50: taken at equal distances they would be always or never seen."""
    found = over(sampled(lambda t: 6.0 if t % 0.05 < 0.025 else 2.0), 1 * S, 41 * S)
    assert found.joules == pytest.approx(160, rel=0.05)
    assert abs(found.joules - 160) < 2 * found.uncertainty


WAVES: dict[str, tuple[Callable[[float], float], Callable[[float], float]]] = {
    "constant": (lambda t: 5.0, lambda t: 5 * t),
    "ramp": (lambda t: 2 + t, lambda t: 2 * t + t * t / 2),
    "sine": (
        lambda t: 4 + 2 * math.sin(2 * math.pi * t / 0.9),
        lambda t: 4 * t - 2 * 0.9 / (2 * math.pi) * math.cos(2 * math.pi * t / 0.9),
    ),
    "square": (  # bursts of 0.31 s of every 0.7 s
        lambda t: 6.0 if t % 0.7 < 0.31 else 2.0,
        lambda t: 2 * t + 4 * ((t // 0.7) * 0.31 + min(t % 0.7, 0.31)),
    ),
    "heating": (lambda t: 5 - 2 * math.exp(-t / 3), lambda t: 5 * t + 6 * math.exp(-t / 3)),
}


@pytest.mark.parametrize("name", WAVES)
def test_a_waveform_is_within_1_percent_and_within_its_uncertainty(name: str) -> None:
    power, integral = WAVES[name]
    found = over(sampled(power), 1 * S, 41 * S)
    truth = integral(41) - integral(1)
    assert found.joules == pytest.approx(truth, rel=0.01)
    assert abs(found.joules - truth) <= max(2 * found.uncertainty, 1e-9)


def test_noise_is_in_the_uncertainty_as_often_as_it_says() -> None:
    """Of 200 noisy runs about 95 % lie within twice the standard uncertainty."""
    chance = random.Random(1)
    within = 0
    for _ in range(200):
        series = sampled(lambda t: chance.gauss(5, 1), seconds=4)
        found = over(series, 1 * S, 3 * S)
        within += abs(found.joules - 10) <= 2 * found.uncertainty
    assert 180 <= within <= 200


def test_a_slow_drift_is_no_noise() -> None:
    assert over(sampled(lambda t: 2 + t), S, 11 * S).causes["sampling"] < 0.05


def test_errors_of_the_data_sheet_do_not_average_out() -> None:
    series = sampled(lambda t: 4.0, gain=0.005, offset=0.08, step=0.04)
    found = over(series, S, 11 * S)
    assert found.causes["gain"] == pytest.approx(40 * 0.005 / math.sqrt(3))
    assert found.causes["offset"] == pytest.approx(0.8 / math.sqrt(3))
    assert found.causes["step"] == pytest.approx(0.2 / math.sqrt(3))
    net = above(found, over(series, S, 4 * S))
    assert net.joules == pytest.approx(0, abs=1e-9)
    assert net.causes["offset"] == net.causes["gain"] == 0  # the same in both


def test_idle_is_taken_off() -> None:
    series = sampled(lambda t: 2.0 if t < 5 else 6.0, gain=0.01)
    net = above(over(series, 6 * S, 11 * S), over(series, S, 4 * S))
    assert net.joules == pytest.approx(20)
    assert net.causes["gain"] == pytest.approx(20 * 0.01 / math.sqrt(3))


def test_a_step_at_the_edge_is_uncertain_by_the_interval() -> None:
    found = over(sampled(lambda t: 2.0 if t < 5 else 6.0, every_s=0.5), 5 * S, 10 * S)
    assert abs(found.joules - 30) <= 4 * 0.75
    assert 0.3 < found.causes["edges"] < 1.2


def test_rails_add_up() -> None:
    one = over(sampled(lambda t: 2.0, gain=0.01), S, 11 * S)
    two = over(sampled(lambda t: 3.0, gain=0.01), S, 11 * S)
    both = added([one, two])
    assert both.joules == pytest.approx(50)
    assert both.causes["gain"] == pytest.approx(one.causes["gain"] + two.causes["gain"])


def test_a_clock_that_is_off_shifts_the_run() -> None:
    series = sampled(lambda t: 2.0 if t < 5 else 6.0)
    known, loose = (over(series, 4 * S, 6 * S, ns) for ns in (0, 200_000_000))
    assert "clock" not in known.causes
    # 0.2 s more of 6 W and less of 2 W, each way
    assert loose.causes["clock"] == pytest.approx(0.8 / math.sqrt(3), rel=0.05)
    with pytest.raises(
        MeasurementError, match=r"clock is known to ±2000.0 ms, and it was not read"
    ):
        over(series, S, 41 * S, 2 * S)


@pytest.mark.parametrize(("begin", "end"), [(-1, 5), (5, 43)])
def test_nothing_is_extrapolated(begin: int, end: int) -> None:
    with pytest.raises(MeasurementError, match="needs one there and one on each side"):
        over(sampled(lambda t: 1.0), begin * S, end * S)


def test_a_run_between_two_samples_has_no_energy() -> None:
    with pytest.raises(MeasurementError, match=r"has 0 samples within 0\.010 s"):
        over(sampled(lambda t: 1.0, every_s=1), int(5.6 * S), int(5.61 * S))


def test_a_counter_is_read_off() -> None:
    times = [i * S // 10 for i in range(100)]
    joules = [(3.0 * t / S) % 7 for t in times]  # it wraps at 7 J
    series = Series(
        name="package-0", quantity="energy", begin_ns=times, end_ns=times,
        values=unwrapped(joules, 7), step=61e-6,
    )  # fmt: skip
    found = over(series, int(1.23 * S), int(8.77 * S))
    assert found.joules == pytest.approx(3 * 7.54)
    assert found.uncertainty < 0.3


def test_a_counter_that_goes_back_and_does_not_wrap() -> None:
    with pytest.raises(MeasurementError, match="went back from 3 to 1 J"):
        unwrapped([2, 3, 1], 0)
