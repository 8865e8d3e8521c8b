# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Operators of foreign .onnx files in the engines, against onnxruntime on the same graph."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeopt import backends
from edgeopt.errors import CompileError
from edgeopt.target import load_target

onnx = pytest.importorskip("onnx", reason="needs edgeopt[onnx]")
ort = pytest.importorskip("onnxruntime", reason="needs edgeopt[onnx]")

pytestmark = pytest.mark.heavy

FLOAT, INT64 = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64
node = onnx.helper.make_node
X = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)


def write(folder: Path, nodes: Sequence[Any], outputs: Sequence[str], **inputs: np.ndarray) -> Path:
    ports = [
        onnx.helper.make_tensor_value_info(
            name, FLOAT if value.dtype == np.float32 else INT64, value.shape
        )
        for name, value in inputs.items()
    ]
    made = onnx.helper.make_graph(
        nodes, "tiny", ports, [onnx.helper.make_tensor_value_info(n, FLOAT, None) for n in outputs]
    )
    opsets = [onnx.helper.make_opsetid("", 17)]
    path = folder / "tiny.onnx"
    onnx.save(onnx.helper.make_model(made, opset_imports=opsets, ir_version=8), path)
    return path


def run(engine: str, path: Path, folder: Path, **inputs: np.ndarray) -> list[Any]:
    spec = next(s for s in load_target("host").engines if s.engine == engine)
    return backends.open_onnx(engine, path, inputs, spec, folder)(inputs)


def expected(path: Path, **inputs: np.ndarray) -> list[Any]:
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found: list[Any] = session.run(None, inputs)
    return found


FORMS: dict[str, tuple[list[Any], dict[str, np.ndarray]]] = {
    "indices that count from the end": (
        [node("GatherElements", ["x", "i"], ["y"], axis=1)],
        {"x": X, "i": np.array([[-1, 0], [3, -4], [-2, 1]])},
    ),
    "one number for all": (
        [node("ReduceSum", ["x"], ["y"], keepdims=0)],
        {"x": X},
    ),
    "names that are no identifiers": (
        [node("Add", ["/net/x:0", "/net/x:0"], ["y"])],
        {"/net/x:0": X},
    ),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("engine", ["onnx", "openvino", "tvm"])
def test_it_gives_what_onnxruntime_gives(engine: str, form: str, tmp_path: Path) -> None:
    if find_spec("openvino") is None:
        pytest.skip("needs edgeopt[openvino]")
    pytest.importorskip("tvm", reason="needs edgeopt[tvm]")
    nodes, inputs = FORMS[form]
    path = write(tmp_path, nodes, ["y"], **inputs)
    (found,) = run(engine, path, tmp_path, **inputs)
    np.testing.assert_allclose(found, expected(path, **inputs)[0], rtol=0, atol=1e-6)


def test_tvm_refuses_outputs_that_it_would_give_as_zeros(tmp_path: Path) -> None:
    pytest.importorskip("tvm", reason="needs edgeopt[tvm]")
    nodes = [node("LayerNormalization", ["x", "scale"], ["y", "mean"], name="/norm")]
    inputs = {"x": X, "scale": np.ones(4, np.float32)}
    path = write(tmp_path, nodes, ["y", "mean"], **inputs)
    with pytest.raises(CompileError, match=r"computes LayerNormalization without mean \(/norm\)"):
        run("tvm", path, tmp_path, **inputs)
    path = write(tmp_path, nodes, ["y"], **inputs)  # nothing reads the mean
    (found,) = run("tvm", path, tmp_path, **inputs)
    np.testing.assert_allclose(found, expected(path, **inputs)[0], rtol=0, atol=1e-5)


def test_what_openvino_does_not_convert_is_named(tmp_path: Path) -> None:
    if find_spec("openvino") is None:
        pytest.skip("needs edgeopt[openvino]")
    path = write(tmp_path, [node("Det", ["x"], ["y"])], ["y"], x=X[:, :3])
    with pytest.raises(CompileError, match=r"No conversion rule found for operations: Det-\d+\)"):
        run("openvino", path, tmp_path, x=X[:, :3])
