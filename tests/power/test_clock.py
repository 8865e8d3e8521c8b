# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from pathlib import Path

import pytest

from edgeopt.boards.local import LocalTransport
from edgeopt.errors import InputError, MeasurementError
from edgeopt.power import clock, csv_log
from edgeopt.power.clock import Sync, now_ns, offset

S = 10**9


def sync(board_s: float, sent_s: float, took_s: float) -> Sync:
    sent, received = int(sent_s * S), int((sent_s + took_s) * S)
    return Sync(
        board_ns=int(board_s * S), sent_ns=sent, received_ns=received,
        sent_utc_us=sent // 1000 + 7, received_utc_us=received // 1000 + 7,
    )  # fmt: skip


def test_the_offset_lies_in_the_round_trip() -> None:
    low, high = offset([sync(100, 40, 0.010)], 100 * S)
    assert (low, high) == (60 * S - 10_000_000, 60 * S)
    assert offset([sync(100, 40, 0.010)], 100 * S, utc=True) == (low - 7000, high - 7000)


def test_two_round_trips_bound_it_more_and_time_loosens_it() -> None:
    pair = [sync(100, 40, 0.010), sync(110.004, 50, 0.010)]
    low, high = offset(pair, 105 * S)
    drift = 5 * S * clock.DRIFT
    assert low == pytest.approx(60 * S - 6_000_000 - drift, abs=2_000)
    assert high == pytest.approx(60 * S + drift, abs=2_000)


def test_clocks_that_were_set() -> None:
    with pytest.raises(MeasurementError, match="contradict themselves"):
        offset([sync(100, 40, 0.001), sync(111, 50, 0.001)], 105 * S)
    with pytest.raises(MeasurementError, match="nothing is known"):
        offset([], 0)


@pytest.mark.heavy
def test_this_machines_clock_against_itself(agent: Path) -> None:
    found = clock.ask(LocalTransport(), str(agent))
    low, high = offset([found], found.board_ns)
    assert low <= 0 <= high
    assert found.sent_ns <= found.board_ns <= found.received_ns <= now_ns()


def log(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "log.csv"
    path.write_text(text)
    return path


def test_a_log(tmp_path: Path) -> None:
    path = log(tmp_path, "t,note,W\n1700000000.000000001,a,4.5\n1700000000.25,b,5e-1\n")
    found = csv_log.read(path, time="t", power="W")
    assert found.at_ns == (1700000000 * S + 1, 1700000000 * S + S // 4)
    assert found.text == ("4.5", "0.500000000")


@pytest.mark.parametrize(
    ("unit", "text"),
    [
        ("ms", "1700000000250"),
        ("ns", "1700000000250000000"),
        ("iso", "2023-11-14T22:13:20.250+00:00"),
        ("iso", "2023-11-14 22:13:20.25"),
        ("iso", "2023-11-14T23:13:20.250000+01:00"),
    ],
)
def test_units_of_time(tmp_path: Path, unit: str, text: str) -> None:
    path = log(tmp_path, f"t,W\n{text},1\n")
    assert csv_log.read(path, time="t", power="W", unit=unit).at_ns == (1700000000 * S + S // 4,)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("t,P\n1,2\n", r"has no column 'W' \(it has t, P\)"),
        ("t,W\n1,2\n0,2\n", r"log.csv:3: goes back in time"),
        ("t,W\n1,x\n", r"log.csv:2: 'x' is no power"),
        ("t,W\n1,nan\n", r"'nan' is no power"),
        ("t,W\nnow,1\n", r"'now' is no time in s"),
        ("t,W\n1\n", r"'' is no power"),
        ("", r"\(it has none\)"),
    ],
)
def test_what_is_no_log(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        csv_log.read(log(tmp_path, text), time="t", power="W")
