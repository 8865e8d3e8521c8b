# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Counts of small graphs, by hand."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from edgeopt.errors import InputError
from edgeopt.estimate.operators import Network

for name in ("onnx", "onnxruntime"):
    pytest.importorskip(name, reason="needs edgeopt[onnx]")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from edgeopt.estimate.onnx_operators import count  # noqa: E402

pytestmark = pytest.mark.heavy


def write(path: Path, nodes: list, inputs: dict, outputs: dict, weights: dict) -> Path:
    def ports(of: dict) -> list:
        return [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in of.items()]

    held = [numpy_helper.from_array(w.astype(np.float32), n) for n, w in weights.items()]
    graph = helper.make_graph(nodes, "g", ports(inputs), ports(outputs), held)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(made.SerializeToString())
    return path


def macs(network: Network) -> dict[str, int]:
    found: Counter[str] = Counter()
    for o in network.operators:
        found[o.kind] += o.macs
    return {kind: n for kind, n in found.items() if n}


def weights(network: Network) -> dict[str, int]:
    return {o.kind: o.weights for o in network.operators if o.weights}


def test_convolutions_are_told_apart(tmp_path: Path) -> None:
    path = write(
        tmp_path / "c.onnx",
        [
            helper.make_node("Conv", ["x", "full"], ["a"], pads=[1, 1, 1, 1], strides=[2, 2]),
            helper.make_node("Conv", ["a", "deep"], ["b"], pads=[1, 1, 1, 1], group=16),
            helper.make_node("Conv", ["b", "point"], ["y"]),
        ],
        {"x": ["batch", 3, 8, 8]},
        {"y": ["batch", 4, 4, 4]},
        {
            "full": np.ones((16, 3, 3, 3)),
            "deep": np.ones((16, 1, 3, 3)),
            "point": np.ones((4, 16, 1, 1)),
        },
    )
    found = count(path, None, 1, "c")
    assert macs(found) == {"conv": 16 * 27 * 16, "depthwise": 16 * 9 * 16, "pointwise": 16 * 16 * 4}
    assert weights(found) == {"conv": 432, "depthwise": 144, "pointwise": 64}
    assert found.kind == "cnn"
    (deep,) = (o for o in found.operators if o.kind == "depthwise")
    assert deep.elements == 2 * 16 * 16


def test_products_with_a_weight_are_told_from_those_of_activations(tmp_path: Path) -> None:
    path = write(
        tmp_path / "m.onnx",
        [
            helper.make_node("MatMul", ["x", "w"], ["q"]),
            helper.make_node("Transpose", ["x"], ["t"], perm=[0, 2, 1]),
            helper.make_node("MatMul", ["q", "t"], ["s"]),
            helper.make_node("Softmax", ["s"], ["y"], axis=-1),
        ],
        {"x": ["batch", "seq", 8]},
        {"y": ["batch", "seq", "seq"]},
        {"w": np.ones((8, 8))},
    )
    found = count(path, None, 5, "m")
    assert macs(found) == {"linear": 5 * 64, "matmul": 5 * 5 * 8}
    assert weights(found) == {"linear": 64}
    assert found.kind == "transformer"
    assert count(path, {"x": np.ones((1, 3, 8), np.float32)}, 0, "m").macs == 3 * 64 + 9 * 8


def test_what_does_not_run_is_told(tmp_path: Path) -> None:
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"bad\.onnx: onnxruntime does not run it: .*INVALID"):
        count(bad, None, 1, "bad")
