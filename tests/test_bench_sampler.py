# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What the sampler costs, on times whose difference is planted, and on this machine."""

import json
import math
import random
from pathlib import Path

import pytest

from tests.runtime.agent_runs import Case, write_model
from tools.benchmarks.sampler import Block, effects, measure


def block(is_on: bool, slower: float, draw: random.Random) -> Block:
    factor = 1 + slower * is_on
    times = tuple(round(1e6 * factor * math.exp(draw.gauss(0, 0.01))) for _ in range(50))
    return is_on, times, times


def test_a_planted_cost_is_found_in_whatever_order() -> None:
    draw = random.Random(0)
    for slower in (0.0, 0.02):
        rounds = [
            [block(is_on, slower, draw) for is_on in (True, False, False, True)] for _ in range(10)
        ]
        for effect in effects(rounds):
            assert effect.ratio - 1 == pytest.approx(slower, abs=0.003)
            assert effect.low < effect.ratio < effect.high < effect.low + 0.01


@pytest.mark.heavy
def test_it_runs_here(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    case = Case(Path(), Path(), tmp_path)
    write_model(case.model)
    output = tmp_path / "s.json"
    measure(str(case.write()), "onnx", "fp32", 2, 2, 0.05, str(output))
    found = json.loads(output.read_text())
    assert [[one[0] for one in blocks] in ([True, False, False, True], [False, True, True, False])
            for blocks in found["rounds"]] == [True, True]  # fmt: skip
    assert len({source["what"] for source in found["sources"]}) >= 2
    assert "with over without the sampler: medians" in capsys.readouterr().out
