# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The agent's command ``operators``, under the sanitizers."""

import json

import pytest

from edgeopt.measure.profilers import Told, onnx
from tests.runtime.agent_runs import Case, Run

pytestmark = pytest.mark.heavy  # starts the agent for each


def operators(case: Case, *more: str) -> Run:
    _, *words = case.words("operators", "--warmup", "1", "--runs", "3", *more)
    return Run(case.program, *words)


def test_onnxruntime_writes_its_times_and_its_graph(case: Case) -> None:
    prefix = case.folder / "operators"
    done = operators(case, "--option", f"operators={prefix}", "--option", f"graph={prefix}")
    assert (done.status, done.stderr) == (0, "")
    assert [len(e["wall_ns"]) for e in done.all("samples")] == [1, 1, 1]
    assert len(done.all("operators")) == 2
    assert done.all("operator") == []
    assert done.events[-1] == {"event": "done", "outputs_agree": True}
    (written,) = case.folder.glob("operators_*.json")
    assert isinstance(json.loads(written.read_bytes()), list)
    found = onnx.calls(Told(files={".json": written.read_bytes()}), 3)
    assert sorted(call.type for call in found) == ["Cast", "Cast", "Mul", "Mul", "Unsqueeze"]
    assert all(call.total_ns >= 0 for call in found)
    assert prefix.stat().st_size > 0


def test_timed_runs_know_nothing_of_it(case: Case) -> None:
    done = case.run()
    assert done.all("operators") == []
    assert not list(case.folder.glob("operators*"))


def test_disagreeing_outputs_are_not_profiled(case: Case) -> None:
    case.write_golden(case.golden, -case.out)
    done = operators(case, "--option", f"operators={case.folder / 'operators'}")
    assert done.status == 0
    assert done.all("operators") == []
    assert done.events[-1] == {"event": "done", "outputs_agree": False}
