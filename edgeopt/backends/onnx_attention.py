# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Attention as one node of onnxruntime's, ``com.microsoft.MultiHeadAttention``.

What an exporter writes for the attention of a layer is some forty nodes: biases, reshapes with
their shapes, transposes, a mask that is added to all scores. One node does the same in FP32, the
biases of query, key and value among it; short texts gain by it. A pattern that is not known, or a
mask that is something else than which tokens there are, stays as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeopt.engines.elf import version_key

SINCE = "1.18"
"""The oldest onnxruntime that this was tried with (1.18.1, 1.21, 1.27 and 1.31 answer alike)."""

MASK = "attention_mask"
_MASKED = -1e30
"""What is added to the score of a token that is not there: its weight is then exactly 0."""
_LEAST_MASK = -1e4
_MASK_NAME = "edgeopt_present"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Attention:
    """One that was found: tensors of (batch, seq, hidden), and the biases' constants."""

    inputs: tuple[str, str, str]
    biases: tuple[str, str, str]
    heads: int
    scale: float
    mask: str
    output: str
    name: str


class _Graph:
    """The nodes of a graph by what they make, and its constants."""

    def __init__(self, graph: Any) -> None:
        from onnx import numpy_helper

        self.graph = graph
        self.makers = {name: node for node in graph.node for name in node.output}
        self.constants: dict[str, np.ndarray] = {
            tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer
        }
        for node in graph.node:
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                self.constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
        self.users: dict[str, list[Any]] = {}
        for node in graph.node:
            for name in node.input:
                self.users.setdefault(name, []).append(node)

    def made(self, name: str, *kinds: str) -> Any:
        """Return the node that makes ``name`` if it is of ``kinds``, else None."""
        node = self.makers.get(name)
        return node if node is not None and node.op_type in kinds else None

    def user(self, name: str, kind: str) -> Any:
        """Return the one user of ``name`` if it is a ``kind``, else None."""
        users = self.users.get(name, [])
        return users[0] if len(users) == 1 and users[0].op_type == kind else None

    def split(self, node: Any) -> tuple[str, np.ndarray] | None:
        """Return the input of ``node`` that is no constant, and the one that is."""
        for one, other in (node.input, reversed(node.input)):
            if other in self.constants and one not in self.constants:
                return str(one), self.constants[other]
        return None


def fuse_attention(model: Any, version: str) -> int:
    """Put one node in the place of each attention of the ModelProto ``model``, in place.

    ``version`` is the onnxruntime that it is for. Return how many were found.
    """
    from onnx import helper

    if version_key(version) < version_key(SINCE):
        return 0
    if MASK not in {value.name for value in model.graph.input}:
        return 0
    graph = _Graph(model.graph)
    found = [
        one
        for node in model.graph.node
        if node.op_type == "Softmax" and (one := _found(graph, node)) is not None
    ]
    masks = {one.mask for one in found}
    told = {name for name in masks if _tells_presence(model, name)}
    found = [one for one in found if one.mask in told]
    if not found:
        return 0
    made = {one.output: _nodes(model.graph, graph, one) for one in found}
    nodes = [helper.make_node("Cast", [MASK], [_MASK_NAME], name=_MASK_NAME, to=6)]  # int32
    for node in model.graph.node:
        nodes.append(made.get(node.output[0], node))
    _replace(model.graph, nodes)
    if "com.microsoft" not in {item.domain for item in model.opset_import}:
        model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return len(found)


def _found(graph: _Graph, softmax: Any) -> _Attention | None:
    """Return the attention whose weights ``softmax`` makes, None if it is of another form."""
    added = graph.made(softmax.input[0], "Add")
    weighted = graph.user(softmax.output[0], "MatMul")
    if added is None or weighted is None or weighted.input[0] != softmax.output[0]:
        return None
    scores, scale, mask = _scores(graph, added)
    if scores is None:
        return None
    turned = graph.user(weighted.output[0], "Transpose")
    joined = turned is not None and graph.user(turned.output[0], "Reshape")
    if not joined or _perm(turned) != (0, 2, 1, 3):
        return None
    parts = [
        _heads(graph, scores.input[0], (0, 2, 1, 3)),
        _heads(graph, scores.input[1], (0, 2, 3, 1)),
        _heads(graph, weighted.input[1], (0, 2, 1, 3)),
    ]
    known = [part for part in parts if part is not None]
    if len(known) != len(parts) or len({part[2] for part in known}) != 1:
        return None
    if len({len(graph.constants[part[1]]) for part in known}) != 1:
        return None
    (q, k, v), (q_bias, k_bias, v_bias) = (tuple(part[i] for part in known) for i in (0, 1))
    return _Attention(
        inputs=(str(q), str(k), str(v)),
        biases=(str(q_bias), str(k_bias), str(v_bias)),
        heads=known[0][2],
        scale=scale,
        mask=mask,
        output=joined.output[0],
        name=f"{joined.output[0]}_attention",
    )


def _scores(graph: _Graph, added: Any) -> tuple[Any, float, str]:
    """Return the product of query and key, by what it is multiplied, and the mask's name."""
    for one, mask in (added.input, reversed(added.input)):
        scale, name = 1.0, str(one)
        node = graph.made(name, "Mul", "Div")
        if node is not None and (parted := graph.split(node)) is not None and parted[1].size == 1:
            name, value = parted[0], float(parted[1].reshape(()))
            if node.op_type == "Div" and node.input[1] not in graph.constants:
                continue
            scale = value if node.op_type == "Mul" else 1 / value
        product = graph.made(name, "MatMul")
        if product is not None and not set(product.input) & set(graph.constants):
            return product, scale, str(mask)
    return None, 1.0, ""


def _heads(graph: _Graph, name: str, perm: tuple[int, ...]) -> tuple[str, str, int] | None:
    """Return what is parted into heads before its bias is added, the bias, and how many heads."""
    turned = graph.made(name, "Transpose")
    if turned is None or _perm(turned) != perm:
        return None
    parted = graph.made(turned.input[0], "Reshape")
    biased = parted is not None and graph.made(parted.input[0], "Add")
    if not biased:
        return None
    pair = graph.split(biased)
    if pair is None or pair[1].ndim != 1:
        return None
    heads = _head_count(graph, parted.input[1], len(pair[1]))
    if heads is None:
        return None
    bias = next(one for one in biased.input if one != pair[0])
    return pair[0], str(bias), heads


def _head_count(graph: _Graph, shape: str, hidden: int) -> int | None:
    """Return the heads of a shape (batch, seq, heads, width) of which one may be -1."""
    if shape in graph.constants:
        sizes = graph.constants[shape].reshape(-1).tolist()[2:]
    else:
        joined = graph.made(shape, "Concat")
        told = [graph.constants.get(name) for name in joined.input] if joined is not None else []
        sizes = [int(size) for part in told if part is not None for size in part.reshape(-1)]
    if len(sizes) != 2 or max(sizes) <= 0:
        return None
    heads, width = sizes
    heads = heads if heads > 0 else hidden // width
    return heads if heads and hidden % heads == 0 and width in (-1, hidden // heads) else None


def _perm(node: Any) -> tuple[int, ...]:
    return tuple(next((item.ints for item in node.attribute if item.name == "perm"), ()))


def _tells_presence(model: Any, mask: str) -> bool:
    """Tell whether the tensor ``mask`` is 0 for a token that is there, and far below for others.

    It is computed, for one text, from ``attention_mask`` alone; else the answer is no.
    """
    import onnx
    import onnxruntime as ort

    makers = {name: node for node in model.graph.node for name in node.output}
    wanted, nodes, inputs = [mask], [], set()
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    seen = set()
    while wanted:
        name = wanted.pop()
        if name in seen or not name:
            continue
        seen.add(name)
        node = makers.get(name)
        if node is not None:
            nodes.append(node)
            wanted += node.input
        elif name not in constants:
            inputs.add(name)
    if inputs != {MASK}:
        return False
    order = {id(node): i for i, node in enumerate(model.graph.node)}
    part = onnx.helper.make_graph(
        sorted({id(n): n for n in nodes}.values(), key=lambda node: order[id(node)]),
        "mask",
        [value for value in model.graph.input if value.name == MASK],
        [onnx.ValueInfoProto(name=mask)],
        initializer=[constants[name] for name in seen if name in constants],
    )
    proto = onnx.helper.make_model(part, opset_imports=model.opset_import)
    proto.ir_version = model.ir_version
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {MASK: np.array([[1, 1, 0]], np.int64)})
    if found.shape != (1, 1, 1, 3):
        return False
    there, gone = found[0, 0, 0, :2], found[0, 0, 0, 2]
    return bool((there == 0).all() and gone <= _LEAST_MASK)


def _nodes(proto: Any, graph: _Graph, one: _Attention) -> Any:
    """Return the node of an attention; its biases become one constant of ``proto``."""
    from onnx import helper, numpy_helper

    bias = np.concatenate([graph.constants[name] for name in one.biases]).astype(np.float32)
    name = f"{one.name}_bias"
    proto.initializer.append(numpy_helper.from_array(bias, name))
    return helper.make_node(
        "MultiHeadAttention",
        [*one.inputs, name, _MASK_NAME],
        [one.output],
        name=one.name,
        domain="com.microsoft",
        num_heads=one.heads,
        scale=one.scale,
        mask_filter_value=_MASKED,
    )


def _replace(graph: Any, nodes: list[Any]) -> None:
    """Let ``graph`` have those of ``nodes`` that its outputs need, and only their constants."""
    wanted = {value.name for value in graph.output}
    kept = []
    for node in reversed(nodes):
        if wanted & set(node.output):
            kept.append(node)
            wanted |= set(node.input)
    del graph.node[:]
    graph.node.extend(kept[::-1])
    constants = [tensor for tensor in graph.initializer if tensor.name in wanted]
    del graph.initializer[:]
    graph.initializer.extend(constants)
