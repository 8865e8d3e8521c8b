# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""A comparison on this machine, of a bundle whose one artifact is a small graph."""

import threading
from pathlib import Path

import pytest

from edgeopt.errors import InputError, MeasurementError
from edgeopt.measure import trial
from edgeopt.measure.compare import in_turns, of_trial
from edgeopt.measure.interleaved import Contender
from edgeopt.measure.trial import FIRST, SECOND
from tests.runtime.agent_runs import Case, write_model

pytestmark = pytest.mark.heavy


@pytest.fixture
def case(tmp_path: Path) -> Case:
    made = Case(Path(), Path(), tmp_path)
    write_model(made.model)
    return made


def test_two_are_timed_in_turns(case: Case, tmp_path: Path) -> None:
    threads = threading.active_count()
    one = Contender(bundle=case.write())
    other = Contender(bundle=case.bundle, engine="onnx", precision="fp32", threads=2)
    found = in_turns(one, other, "host", rounds=2, output=tmp_path / "t.json")
    taken = trial.read(tmp_path / "t.json")
    assert of_trial(taken, tmp_path / "t.json").pairs == found.pairs
    assert found.pairs[0].effect.units == 2
    assert found.notes == ("the threads differ: 1 and 2",)
    assert taken.first.engine_version == "1.31.1"
    for one_round in taken.rounds:
        order = [block.side for block in one_round.blocks]
        assert len(order) == 24
        first, second = order[:2]
        assert {first, second} == {FIRST, SECOND}
        assert order == [first, second, second, first] * 6
        assert len({len(block.wall_ns) for block in one_round.blocks}) == 1
    assert threading.active_count() <= threads + 1  # one may be about to end


def test_what_is_wrong_is_never_timed(case: Case, tmp_path: Path) -> None:
    case.write_golden(case.golden, -case.out)
    one = Contender(bundle=case.write())
    with pytest.raises(MeasurementError, match="disagree with the golden ones: nothing is timed"):
        in_turns(one, one, "host", rounds=2, output=tmp_path / "t.json")
    assert not (tmp_path / "t.json").exists()


def test_what_selects_no_artifact_is_refused(case: Case, tmp_path: Path) -> None:
    one = Contender(bundle=case.write())
    with pytest.raises(InputError, match="has no tvm artifact"):
        in_turns(one, Contender(bundle=case.bundle, engine="tvm"), "host", output=tmp_path / "t")
    with pytest.raises(InputError, match="has no golden inputs of 9 tokens"):
        in_turns(one, one, "host", seq_len=9, output=tmp_path / "t")
