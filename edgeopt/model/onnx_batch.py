# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Rewrite a graph that takes a fixed number of texts at once for one text."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeopt.model.onnx_read import nodes


def of_one(proto: Any, batch: int) -> Any:
    """Return a copy of ``proto``, which takes ``batch`` texts, that may take one.

    The batch becomes 1 as the first dimension of an input, and of a shape that is a constant. Of
    constants with a row for each text, which are alike or indices, the first row is left. Whether
    the answers are the same is for the caller to see: nothing tells a batch from another size.
    """
    import onnx
    from onnx import numpy_helper

    made = onnx.ModelProto()
    made.CopyFrom(proto)
    graph = made.graph
    del graph.value_info[:]
    held = {t.name for t in graph.initializer}
    for value in graph.input:
        if value.name not in held:
            value.type.tensor_type.shape.dim[0].dim_value = 1
    for value in graph.output:
        value.type.tensor_type.ClearField("shape")
    values = list(graph.initializer)
    for node in nodes(graph):
        if node.op_type == "Constant":
            values += [a.t for a in node.attribute if a.name == "value"]
    for tensor in values:
        array = numpy_helper.to_array(tensor)
        whole = array.dtype.kind == "i"
        if whole and array.ndim == 1 and array.size > 1 and array[0] == batch:
            one = np.concatenate([[1], array[1:]]).astype(array.dtype)
        elif array.ndim > 1 and len(array) == batch and (whole or (array == array[:1]).all()):
            one = array[:1]
        else:
            continue
        tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(one), tensor.name))
    return made
