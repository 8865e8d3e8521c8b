# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Graphs brought to an older opset: with the same answers, or refused with the node's name.

What is right is what onnxruntime gives for the graph as it was written.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from edgeopt.errors import CompileError
from edgeopt.model.onnx_versions import lowered, opset_of

onnx = pytest.importorskip("onnx", reason="needs edgeopt[onnx]")
ort = pytest.importorskip("onnxruntime", reason="needs edgeopt[onnx]")

FLOAT = onnx.TensorProto.FLOAT
X = np.random.default_rng(0).normal(size=(1, 2, 6, 8)).astype(np.float32)
node = onnx.helper.make_node


def model(opset: int, nodes: Sequence[Any], **arrays: np.ndarray) -> Any:
    """Return nodes from x to y, both (batch, 2, seq, 8), with ``arrays`` as weights."""
    ports = [
        onnx.helper.make_tensor_value_info(name, FLOAT, dims)
        for name, dims in (("x", ["batch", 2, "seq", 8]), ("y", None))
    ]
    graph = onnx.helper.make_graph(
        nodes,
        "tiny",
        ports[:1],
        ports[1:],
        [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    opsets = [onnx.helper.make_opsetid("", opset)]
    return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10)


def ask(proto: Any) -> np.ndarray:
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x": X})
    return np.asarray(found)


ATTENTION = [
    node("Shape", ["x"], ["length"], start=2, end=3),
    node("Concat", ["length", "length"], ["square"], axis=0),
    node("Expand", ["true", "square"], ["mask"]),
    node("Attention", ["x", "x", "x", "mask"], ["y"], name="attend"),
]
SAME = {
    "a Pad that names its axes": (
        18, 17,
        [node("Pad", ["x", "pads", "", "axes"], ["y"], name="pad")],
        {"pads": np.array([1, 0, 2, 3]), "axes": np.array([-2, 1])},
    ),
    "attention of opset 24, masked": (
        24, 17, ATTENTION, {"true": np.array(True)},
    ),
    "root mean square normalisation": (
        23, 17,
        [node("RMSNormalization", ["x", "scale"], ["y"])],
        {"scale": np.linspace(1, 2, 8, dtype=np.float32)},
    ),
    "rotated positions": (
        23, 17,
        [node("RotaryEmbedding", ["x", "cos", "sin"], ["y"])],
        {n: np.random.default_rng(1).normal(size=(1, 6, 4)).astype(np.float32)
         for n in ("cos", "sin")},
    ),
    "a Split into equal parts": (
        18, 13,
        [node("Split", ["x"], ["a", "b"], axis=-1, num_outputs=2), node("Add", ["a", "b"], ["y"])],
        {},
    ),
    "a Split whose last part is shorter": (
        18, 13,
        [node("Split", ["x"], ["a", "b", "c"], axis=-1, num_outputs=3),
         node("Concat", ["c", "a", "b"], ["y"], axis=3)],
        {},
    ),
    "softmax over the last axis, once no default": (13, 12, [node("Softmax", ["x"], ["y"])], {}),
    "softmax over the last axis by its number": (
        13, 12, [node("Softmax", ["x"], ["y"], axis=3)], {},
    ),
    "axes that became an input": (
        13, 12,
        [node("ReduceSum", ["x", "axes"], ["sum"], keepdims=0),
         node("Unsqueeze", ["sum", "axes"], ["y"])],
        {"axes": np.array([1])},
    ),
    "an attribute that is as it always was": (
        14, 13, [node("Reshape", ["x", "flat"], ["y"], allowzero=0)], {"flat": np.array([0, -1])},
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", SAME)
def test_an_older_opset_gives_the_same_answers(kind: str) -> None:
    opset, older, nodes, arrays = SAME[kind]
    proto = model(opset, nodes, **arrays)
    made = lowered(proto, older, 8, "tiny.onnx")
    assert (opset_of(made), made.ir_version, opset_of(proto)) == (older, 8, opset)
    np.testing.assert_allclose(ask(made), ask(proto), rtol=0, atol=1e-6)


CAST = node("Cast", ["x"], ["whole"], to=onnx.TensorProto.INT32)
BACK = node("Cast", ["bits"], ["y"], to=FLOAT)
REFUSED = {
    "an operator that came later": (
        18, 17,
        [CAST, node("BitwiseNot", ["whole"], ["bits"], name="/layer/flip"), BACK],
        {},
        "opset 18 cannot be rewritten as opset 17 (BitwiseNot: /layer/flip)",
    ),
    "softmax over several axes": (
        13, 12, [node("Softmax", ["x"], ["y"], axis=1, name="/scores")], {},
        "opset 13 cannot be rewritten as opset 12 "
        "(Softmax: /scores (axis 1 meant more before opset 13))",
    ),
    "softmax behind another that is in the way": (
        13, 12,
        [node("Shape", ["x"], ["sizes"]),
         node("Slice", ["sizes", "one", "two"], ["axes"]),
         node("ReduceSum", ["x", "axes"], ["sum"], keepdims=1),
         node("Softmax", ["sum"], ["y"], axis=0, name="/scores")],
        {"one": np.array([1]), "two": np.array([2])},
        "opset 13 cannot be rewritten as opset 12 "
        "(Softmax: /scores (axis 0 meant more before opset 13))",
    ),
    "an attribute that the converter would leave in": (
        19, 17,
        [node("AveragePool", ["x"], ["y"], kernel_shape=[2, 2], dilations=[2, 2], name="pool")],
        {},
        "opset 19 cannot be rewritten as opset 17 (AveragePool: pool (dilations))",
    ),
    "axes that are computed": (
        18, 17,
        [node("Shape", ["x"], ["rank"], end=1), node("ReduceMax", ["x", "rank"], ["y"])],
        {},
        "opset 18 cannot be rewritten as opset 17 (ReduceMax: y (its axes are computed))",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_lowered_is_named_with_its_node(kind: str) -> None:
    opset, older, nodes, arrays, message = REFUSED[kind]
    with pytest.raises(CompileError) as caught:
        lowered(model(opset, nodes, **arrays), older, 8, "tiny.onnx")
    assert caught.value.message == message
    assert caught.value.hint == f"Export it again at opset {older} or lower."


def test_an_operator_of_many_nodes_names_the_first() -> None:
    chain = [CAST]
    for i in range(5):
        before = chain[-1].output[0]
        chain.append(node("BitwiseNot", [before], [f"b{i}"], name=f"flip{i}"))
    chain.append(node("Cast", ["b4"], ["y"], to=FLOAT))
    with pytest.raises(CompileError, match=r"\(BitwiseNot: flip0, flip1, flip2 and 2 more\)"):
        lowered(model(18, chain), 17, 8, "tiny.onnx")


def test_inside_a_branch_as_well() -> None:
    then = onnx.helper.make_graph(
        [node("Pad", ["x", "pads", "", "axes"], ["padded"])],
        "then", [], [onnx.helper.make_tensor_value_info("padded", FLOAT, None)],
    )  # fmt: skip
    other = onnx.helper.make_graph(
        [node("Neg", ["x"], ["turned"])],
        "else", [], [onnx.helper.make_tensor_value_info("turned", FLOAT, None)],
    )  # fmt: skip
    nodes = [node("If", ["yes"], ["y"], then_branch=then, else_branch=other)]
    arrays = {"pads": np.array([2, 1]), "axes": np.array([2]), "yes": np.array(True)}
    proto = model(18, nodes, **arrays)
    np.testing.assert_array_equal(ask(lowered(proto, 17, 8, "tiny.onnx")), ask(proto))
