# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest

from edgeopt.errors import InputError, MeasurementError
from edgeopt.measure import measurement
from edgeopt.measure.compare import kind_of, of_measurements, of_trial
from edgeopt.measure.difference import SAME, SESSIONS, SLOWER
from edgeopt.measure.trial import FIRST, SECOND, Block, Round, Side, Trial, read, write
from tests.measure.test_measurement import MEASUREMENT, RUN

SIDE = Side(
    bundle_name="tiny",
    bundle_digest="0" * 64,
    graph="main",
    engine="onnx",
    engine_version="1.31.1",
    precision="fp32",
    threads=1,
    seq_len=32,
    artifact_bytes=4,
)


def block(side: str, time_ns: int) -> Block:
    """A block whose first run took very long, as the other side had the caches before it."""
    return Block(side=side, wall_ns=(9 * time_ns, time_ns, time_ns), cpu_ns=(1, 1, 1))


def trial(slowdown: float = 1.0, rounds: int = 6) -> Trial:
    """A trial whose rounds scatter by 1 %, in a fixed seed."""
    draw = random.Random(0)
    taken = []
    for _ in range(rounds):
        a, b = (round(1e6 * f * draw.gauss(1, 0.01)) for f in (1.0, slowdown))
        order = (block(FIRST, a), block(SECOND, b), block(SECOND, b), block(FIRST, a))
        taken.append(Round(blocks=order))
    return Trial(
        started_utc="2026-01-01T00:00:00+00:00",
        edgeopt_version="0.1.0",
        agent_version="0.1.0",
        target="host",
        board_name="pi",
        emulated=False,
        board={"arch": "aarch64"},
        first=SIDE,
        second=replace(SIDE, precision="int8"),
        planned=(6, 9),
        rounds=tuple(taken),
        state_before={},
        state_after={},
    )


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    write(trial(), path)
    assert read(path) == trial()
    assert kind_of(path) == "trial"
    with pytest.raises(MeasurementError, match="is not a measurement of schema version 1"):
        measurement.read(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 2}, "is not a trial of schema version 1"),
        ({"rounds": [{"blocks": []}]}, "rounds.0.: is not of pairs of blocks"),
        ({"rounds": [{"blocks": [{"side": "third", "wall_ns": [1], "cpu_ns": [1]}]}]}, "third"),
        ({"emulated": "no"}, "emulated: expected true or false"),
    ],
)
def test_a_damaged_trial(tmp_path: Path, change: dict[str, object], message: str) -> None:
    path = tmp_path / "t.json"
    write(trial(), path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(MeasurementError, match=message):
        read(path)


def test_a_slower_side_is_told_with_its_interval() -> None:
    found = of_trial(trial(1.05), Path("t.json"))
    (pair,) = found.pairs
    assert found.verdict(pair) == SLOWER
    assert pair.effect.low < 1.05 < pair.effect.high
    assert pair.effect.units == 6
    assert pair.effect.error == pytest.approx(0.025)  # of two looks
    assert pair.runs == (24, 24)  # without the first of each block
    assert pair.more_units is None
    assert found.document()["pairs"][0]["verdict"] == "slower"


def test_sides_that_are_alike_are_not_told_apart() -> None:
    found = of_trial(trial(), Path("t.json"))
    assert found.verdict(found.pairs[0]) == SAME
    assert found.pairs[0].more_units != 0
    with pytest.raises(InputError, match="has 1 round, and two are the fewest"):
        of_trial(trial(rounds=1), Path("t.json"))


def session(tmp_path: Path, name: str, center: float, **changes: object) -> Path:
    draw = random.Random(name)
    times = tuple(round(1e6 * draw.gauss(center, 0.02)) for _ in range(200))
    run = replace(RUN, wall_ns=times, cpu_ns=times)
    known = {key: changes.pop(key) for key in list(changes) if hasattr(run, key)}
    path = tmp_path / f"{name}.json"
    made = replace(MEASUREMENT, emulated=False, runs=(replace(run, **known),))  # type: ignore[arg-type]
    measurement.write(replace(made, **changes), path)  # type: ignore[arg-type]
    return path


def test_two_sessions_give_no_verdict_on_the_artifacts(tmp_path: Path) -> None:
    one = session(tmp_path, "a", 1.0)
    found = of_measurements(one, session(tmp_path, "b", 1.1))
    assert not found.in_turns
    assert found.verdict(found.pairs[0]) == SESSIONS
    assert found.document()["interval_covers_sessions"] is False
    assert found.pairs[0].effect.low < 1.1 < found.pairs[0].effect.high
    alike = of_measurements(one, session(tmp_path, "c", 1.0))
    assert alike.verdict(alike.pairs[0]) == SAME
    assert alike.notes == ()


def test_what_differs_besides_is_told(tmp_path: Path) -> None:
    one = session(tmp_path, "a", 1.0)
    other = session(tmp_path, "b", 1.0, board_name="other", threads=4, bundle_digest="1" * 64)
    assert of_measurements(one, other).notes == (
        "the boards differ: pi and other",
        "the bundles differ: tiny 00000000 and tiny 11111111",
        "the threads differ: 1 and 4",
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"emulated": True}, "is of an emulated board and the other is not"),
        ({"seq_len": 64}, "ran on 32 tokens there, and on 64 in"),
        ({"wall_ns": ()}, "holds no timed artifact"),
        ({"wall_ns": (1, 2, 3)}, "has 3 runs, too few to say how they scatter"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    one = session(tmp_path, "a", 1.0)
    with pytest.raises(InputError, match=message):
        of_measurements(one, session(tmp_path, "b", 1.0, **changes))


def test_artifacts_that_both_hold_share_the_risk(tmp_path: Path) -> None:
    runs = tuple(
        replace(RUN, wall_ns=tuple(range(1000, 1060)), precision=p) for p in ("fp32", "int8")
    )
    paths = [tmp_path / "a.json", tmp_path / "b.json"]
    for path in paths:
        measurement.write(replace(MEASUREMENT, runs=runs), path)
    found = of_measurements(*paths)
    assert [p.first.precision for p in found.pairs] == ["fp32", "int8"]
    assert found.pairs[0].effect.error == pytest.approx(0.025)
    assert [p.first.precision for p in of_measurements(*paths, precisions=["int8"]).pairs] == [
        "int8"
    ]
