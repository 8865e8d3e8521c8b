# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Trials of a graph in an engine: what comes of it, and that no engine takes this process along."""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeopt.support.trial import Engines, Outcome, Trial, engines
from edgeopt.support.worker import difference
from edgeopt.target import load_target

onnx = pytest.importorskip("onnx", reason="needs edgeopt[onnx]")
pytest.importorskip("onnxruntime", reason="needs edgeopt[onnx]")

pytestmark = pytest.mark.heavy

X = np.array([[-1.0, 2.0]], np.float32)


@pytest.fixture(scope="module")
def pool() -> Iterator[Engines]:
    with engines() as opened:
        yield opened


@pytest.fixture
def trial(tmp_path: Path) -> Trial:
    """Return a trial of y = x + x in onnxruntime."""
    ports = [
        onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, ["batch", 2]) for n in "xy"
    ]
    node = onnx.helper.make_node("Add", ["x", "x"], ["y"])
    graph = onnx.helper.make_graph([node], "twice", ports[:1], ports[1:])
    opsets = [onnx.helper.make_opsetid("", 17)]
    file = tmp_path / "twice.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8), file)
    spec = next(s for s in load_target("host").engines if s.engine == "onnx")
    return Trial(spec=spec, file=file, inputs={"x": X}, expected=[X + X])


def test_it_agrees(pool: Engines, trial: Trial) -> None:
    assert pool.run(trial) == Outcome(stage="agrees")


def test_it_runs_if_nothing_is_expected(pool: Engines, trial: Trial) -> None:
    assert pool.run(replace(trial, expected=None)) == Outcome(stage="runs")


def test_it_differs(pool: Engines, trial: Trial) -> None:
    found = pool.run(replace(trial, expected=[X]))
    assert found == Outcome(stage="differs", reason="2 of 2 values are off, such as -2 for -1")


def test_it_does_not_run_on_these_inputs(pool: Engines, trial: Trial) -> None:
    found = pool.run(replace(trial, inputs={"x": X[0]}))
    assert found.stage == "fails"
    assert "Invalid rank for input: x Got: 1 Expected: 2" in found.reason


def test_it_is_refused(pool: Engines, trial: Trial) -> None:
    trial.file.write_bytes(b"no model")
    found = pool.run(trial)
    assert (found.stage, str(trial.file.parent) in found.reason) == ("refused", False)


def test_a_target_of_a_lower_opset_gets_it_rewritten_or_refused(
    pool: Engines, trial: Trial
) -> None:
    proto = onnx.load(trial.file)
    proto.opset_import[0].version, proto.ir_version = 26, 13
    onnx.save(proto, trial.file)
    assert pool.run(trial).stage == "agrees"
    proto.graph.node[0].op_type = "BitwiseAnd"
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.elem_type = onnx.TensorProto.INT32
    onnx.save(proto, trial.file)
    found = pool.run(trial)
    assert found.reason == "opset 26 cannot be rewritten as opset 17 (BitwiseAnd: y)"
    assert found.hint == "Export it again at opset 17 or lower."


def test_an_engine_without_a_route_from_onnx_says_so(pool: Engines, trial: Trial) -> None:
    spec = next(s for s in load_target("host").engines if s.engine == "tflite")
    found = pool.run(replace(trial, spec=spec))
    assert found.stage == "refused"
    assert found.reason == "tflite artifacts are made of a checkpoint, not of an .onnx file"


class Ending:
    """Ends the process that it is sent to, as an engine does that crashes."""

    def __reduce__(self) -> tuple[Callable[[int], Any], tuple[int]]:
        return os._exit, (7,)


def test_an_engine_that_ends_its_process_fails_and_the_next_trial_runs(trial: Trial) -> None:
    with engines() as pool:
        ended = pool.run(replace(trial, inputs={"x": Ending()}))
        assert ended == Outcome(stage="fails", reason="onnx ended the process with 7")
        assert pool.run(trial).stage == "agrees"


def test_an_engine_that_hangs_fails_and_its_process_is_ended(trial: Trial) -> None:
    with engines(timeout_s=0.01) as pool:
        assert pool.run(trial) == Outcome(stage="fails", reason="took more than 0.01 s")


@pytest.mark.parametrize(
    ("found", "expected", "said"),
    [
        ([X], [X, X], "1 outputs, expected 2"),
        ([X], [X.T], "shape (1, 2), expected (2, 1)"),
        ([X], [X.astype(np.float64)], "float32, expected float64"),
        ([np.array([np.nan])], [np.array([np.nan])], ""),
        ([np.array([np.inf])], [np.array([1.0])], "1 of 1 values are off, such as inf for 1"),
        ([np.array([1, 2])], [np.array([1, 3])], "1 of 2 values are off, such as 2 for 3"),
        ([[X]], [[X]], ""),
        ([X], [[X]], "a tensor, expected a sequence"),
        ([None], [X], "no value"),
        ([np.array(["a"], object)], [np.array(["b"])], "1 of 1 values are off, such as a for b"),
    ],
)
def test_a_difference_is_told(found: list[Any], expected: list[Any], said: str) -> None:
    assert difference(found, expected, 1e-3, 1e-5) == said
