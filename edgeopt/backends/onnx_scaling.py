"""Give every token its own scale in onnxruntime's dynamic INT8.

``DynamicQuantizeLinear`` has one scale for a whole activation, so that one loud token takes the
resolution from all the others. Dividing each token by its largest magnitude before the product
and multiplying after it leaves the product as it is, and lets that one scale fit all tokens.
LiteRT's INT8 kernels do the same inside.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

_TINY = 1e-6  # keeps a token that is all zero from a division by zero
_GELU_DEPTH = 0.17  # GELU's least value is -0.16997, so its maximum bounds its magnitude
_GELUS = ("Gelu", "BiasGelu", "FastGelu")


def scale_tokens(model: Any, opset: int, excluded: Sequence[str] = ()) -> int:
    """Scale the inputs of the weight MatMuls of the ModelProto ``model``, in place.

    Only products of an activation with a 2-D weight whose node is not ``excluded``; return how
    many inputs were scaled. The network computes the same as before up to float32 rounding.
    """
    from onnx import helper, numpy_helper

    graph = model.graph
    ranks = {tensor.name: len(tensor.dims) for tensor in graph.initializer}
    makers = {name: node.op_type for node in graph.node for name in node.output}
    scaled: set[str] = set()
    rewritten = []
    for node in list(graph.node):
        weighs = node.op_type == "MatMul" and ranks.get(node.input[1]) == 2
        if not weighs or node.name in excluded:
            rewritten.append(node)
            continue
        source, result = node.input[0], node.output[0]
        if source not in scaled:
            rewritten += _scale(source, makers.get(source) in _GELUS, opset)
            scaled.add(source)
        node.input[0] = f"{source}_even"
        node.output[0] = f"{result}_product"
        back = [f"{result}_product", f"{source}_scale"]
        rewritten += [node, helper.make_node("Mul", back, [result], name=result)]
    del graph.node[:]
    graph.node.extend(rewritten)
    for name, value in (
        ("edgeopt_tiny", np.array(_TINY, np.float32)),
        ("edgeopt_gelu_depth", np.array(_GELU_DEPTH, np.float32)),
        ("edgeopt_last_axis", np.array([-1], np.int64)),
    ):
        if any(name in node.input for node in rewritten):
            graph.initializer.append(numpy_helper.from_array(value, name))
    return len(scaled)


def _scale(source: str, is_gelu: bool, opset: int) -> list[Any]:
    """Return the nodes that make ``source_scale`` (batch, seq, 1) and ``source_even``."""
    from onnx import helper

    made = []
    magnitude, floor = source, "edgeopt_gelu_depth"
    if not is_gelu:
        magnitude, floor = f"{source}_abs", "edgeopt_tiny"
        made.append(helper.make_node("Abs", [source], [magnitude], name=magnitude))
    top, scale, even = (f"{source}_{part}" for part in ("top", "scale", "even"))
    if opset < 18:  # axes became an input with opset 18
        made.append(helper.make_node("ReduceMax", [magnitude], [top], name=top, axes=[-1]))
    else:
        axes = [magnitude, "edgeopt_last_axis"]
        made.append(helper.make_node("ReduceMax", axes, [top], name=top))
    return [
        *made,
        helper.make_node("Max", [top, floor], [scale], name=scale),
        helper.make_node("Div", [source, scale], [even], name=even),
    ]
