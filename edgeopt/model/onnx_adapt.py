# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Rewrite an ONNX graph into the form that every backend takes, with the same answers.

That form: float32 weights in one file; int64 inputs under our names, in our order, each of them
used; the task's outputs alone, float32, under our names; batch and length either free, as "batch"
and "seq", or sizes; no functions and no sparse weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgeopt.model.onnx_call import POSITIONS, OnnxFile
from edgeopt.model.onnx_read import nodes
from edgeopt.model.signature import Signature, TensorSpec

_HALVES = (10, 16)  # TensorProto.FLOAT16 and BFLOAT16
_FLOAT, _INT64 = 1, 7  # of TensorProto
_DTYPES = ("to", "dtype", "stash_type", "softmax_precision", "output_dtype")


def has_halves(proto: Any) -> bool:
    """Tell whether weights, inputs or outputs are in half precision."""
    graph = proto.graph
    ports = [v.type.tensor_type.elem_type for v in (*graph.input, *graph.output)]
    return any(kind in _HALVES for kind in (*(t.data_type for t in graph.initializer), *ports))


def used_inputs(proto: Any) -> set[str]:
    """Return the names of the graph's inputs that an output depends on."""
    graph = proto.graph
    stored = {t.name for t in graph.initializer}
    read = {name for node in _in_order(graph) for name in reads(node)}
    return {v.name for v in graph.input if v.name in read and v.name not in stored}


def adapted(proto: Any, file: OnnxFile, signature: Signature) -> Any | None:
    """Return a new ModelProto in that form, or None if ``proto`` has it already."""
    import onnx
    import onnx.inliner

    if _is_adapted(proto, file, signature):
        return None
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    if made.functions:
        made = onnx.inliner.inline_local_functions(made)
    graph = made.graph
    _densify(graph)
    if has_halves(made):
        _to_float32(graph)
    del graph.value_info[:]
    _inputs(graph, file, signature.inputs)
    _outputs(graph, file, signature.outputs)
    _drop_unused(graph)
    return made


def _is_adapted(proto: Any, file: OnnxFile, signature: Signature) -> bool:
    graph = proto.graph
    ports = [(f.name, f.ours, f.dtype) for f in file.feeds]
    wanted = [(t.name, t.name, t.dtype) for t in signature.inputs]
    dims = [_dims(v) for v in graph.input]
    return (
        not proto.functions
        and not graph.sparse_initializer
        and not has_halves(proto)
        and [v.name for v in graph.input] == [name for name, _, _ in ports]
        and ports == wanted
        and [v.name for v in graph.output] == list(file.outputs)
        and list(file.outputs) == [t.name for t in signature.outputs]
        and all(v.type.tensor_type.elem_type == _FLOAT for v in graph.output)
        and not file.column
        and _is_in_order(graph)
        # One symbol for both dimensions, or none, leaves nothing to fix a length by.
        and all(d == dims[0] and len(set(d)) == 2 and all(d) for d in dims)
    )


def _is_in_order(graph: Any) -> bool:
    made = {name for node in graph.node for name in node.output}
    seen: set[str] = set()
    for node in graph.node:
        if any(name in made and name not in seen for name in node.input):
            return False
        seen.update(node.output)
    return True


def _dims(value: Any) -> list[str | int]:
    dims = value.type.tensor_type.shape.dim
    return [d.dim_value if d.HasField("dim_value") else d.dim_param for d in dims]


def _densify(graph: Any) -> None:
    from onnx import numpy_helper

    for sparse in graph.sparse_initializer:
        dense = np.zeros(tuple(sparse.dims), numpy_helper.to_array(sparse.values).dtype)
        at = numpy_helper.to_array(sparse.indices)
        places = np.unravel_index(at, dense.shape) if at.ndim == 1 else tuple(at.T)
        dense[places] = numpy_helper.to_array(sparse.values)
        graph.initializer.append(numpy_helper.from_array(dense, sparse.values.name))
    del graph.sparse_initializer[:]


def _to_float32(graph: Any) -> None:
    """Turn half precision into float32: weights, constants, casts, inputs and outputs."""
    for tensor in graph.initializer:
        _widen(tensor)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                _widen(attribute.t)
            if attribute.name in _DTYPES and attribute.i in _HALVES:
                attribute.i = _FLOAT
            for inner in (*([attribute.g] if attribute.HasField("g") else ()), *attribute.graphs):
                _to_float32(inner)
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.elem_type in _HALVES:
            value.type.tensor_type.elem_type = _FLOAT
    del graph.value_info[:]


def _widen(tensor: Any) -> None:
    from onnx import numpy_helper

    if tensor.data_type in _HALVES:
        wide = numpy_helper.to_array(tensor).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(wide, tensor.name))


def _inputs(graph: Any, file: OnnxFile, specs: Sequence[TensorSpec]) -> None:
    """Give the graph our inputs, and make of them what it takes."""
    from onnx import helper

    taken = _names(graph)
    direct = {f.name for f in file.feeds if f.dtype == "int64" and f.ours != POSITIONS}
    given = {f.name for f in file.feeds}
    renamed = {t.name: _fresh(t.name, taken) for t in specs if t.name in taken - given}
    for one in file.feeds:
        renamed[one.name] = one.ours if one.name in direct else _fresh(one.name, taken)
    rename(graph, renamed)
    first = []
    for one in file.feeds:
        if one.name in direct:
            continue
        # Half precision was made float32 before.
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(one.dtype.replace("float16", "float32")))
        source = one.ours
        if one.ours == POSITIONS:
            nodes_, source = _positions(graph, taken)
            first += nodes_
        first.append(helper.make_node("Cast", [source], [renamed[one.name]], to=kind))
    for i, node in enumerate(first):
        graph.node.insert(i, node)
    del graph.input[:]
    graph.input.extend(helper.make_tensor_value_info(t.name, _INT64, t.dims) for t in specs)


def _positions(graph: Any, taken: set[str]) -> tuple[list[Any], str]:
    """Return nodes that make 0, 1, 2, ... for each text of input_ids, and the name of that."""
    from onnx import helper, numpy_helper

    shape, axis, ones, one, counted, positions = (
        _fresh(f"positions_{n}", taken) for n in ("shape", "axis", "ones", "one", "counted", "all")
    )
    graph.initializer.append(numpy_helper.from_array(np.array(1, np.int64), axis))
    graph.initializer.append(numpy_helper.from_array(np.array([1], np.int64), one))
    filled = helper.make_tensor("", _INT64, [1], [1])
    made = [
        helper.make_node("Shape", ["input_ids"], [shape]),
        helper.make_node("ConstantOfShape", [shape], [ones], value=filled),
        helper.make_node("CumSum", [ones, axis], [counted]),
        helper.make_node("Sub", [counted, one], [positions]),
    ]
    return made, positions


def _outputs(graph: Any, file: OnnxFile, specs: Sequence[TensorSpec]) -> None:
    """Leave the task's outputs alone, float32 and under our names."""
    from onnx import helper, numpy_helper

    taken = _names(graph)
    kinds = {v.name: v.type.tensor_type.elem_type for v in graph.output}
    stored = {v.name for v in (*graph.input, *graph.initializer)}
    direct = {n for n in file.outputs if kinds[n] == _FLOAT and n not in stored and not file.column}
    ours = dict(zip(file.outputs, (t.name for t in specs), strict=True))
    renamed = {n: _fresh(n, taken) for n in ours.values() if n in taken - set(ours) - stored}
    for name in file.outputs:
        if name in direct:
            renamed[name] = ours[name]
        elif name not in stored:
            renamed[name] = _fresh(name, taken)
    rename(graph, renamed)
    for name in file.outputs:
        source = renamed.get(name, name)
        if file.column:
            shape, column = _fresh("column_shape", taken), _fresh("column", taken)
            graph.initializer.append(numpy_helper.from_array(np.array([-1, 1], np.int64), shape))
            graph.node.append(helper.make_node("Reshape", [source, shape], [column]))
            source = column
        if name not in direct:
            graph.node.append(helper.make_node("Cast", [source], [ours[name]], to=_FLOAT))
    del graph.output[:]
    graph.output.extend(helper.make_tensor_value_info(t.name, _FLOAT, t.dims) for t in specs)


def _names(graph: Any) -> set[str]:
    found = {v.name for v in (*graph.input, *graph.output, *graph.initializer)}
    return found | {name for node in nodes(graph) for name in (*node.input, *node.output)}


def _fresh(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    taken.add(name)
    return name


def rename(graph: Any, names: Mapping[str, str]) -> None:
    """Rename values everywhere in ``graph``, but for its inputs and outputs as they are listed."""
    for tensor in graph.initializer:
        tensor.name = names.get(tensor.name, tensor.name)
    for node in nodes(graph):
        for side in (node.input, node.output):
            for i, name in enumerate(side):
                if name in names:
                    side[i] = names[name]
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else ()), *attribute.graphs):
                for value in inner.output:  # what an inner graph hands on may be one of ours
                    value.name = names.get(value.name, value.name)


def _in_order(graph: Any) -> list[Any]:
    """Return the operators that the outputs need, each behind those that it reads."""
    made = {name: node for node in graph.node for name in node.output if name}
    order: list[Any] = []
    placed: set[int] = set()
    waiting = [(made[v.name], False) for v in reversed(graph.output) if v.name in made]
    while waiting:
        node, ready = waiting.pop()
        if id(node) in placed:
            continue
        if ready:
            placed.add(id(node))
            order.append(node)
            continue
        waiting.append((node, True))
        waiting += [(made[n], False) for n in reversed(reads(node)) if n in made]
    return order


def reads(node: Any) -> list[str]:
    """Return the names that ``node``, or a graph inside it, may read of the graph around."""
    names = list(node.input)
    for attribute in node.attribute:
        for inner in (*([attribute.g] if attribute.HasField("g") else ()), *attribute.graphs):
            names += [name for one in nodes(inner) for name in one.input]
            names += [value.name for value in inner.output]
    return names


def _drop_unused(graph: Any) -> None:
    """Drop the operators and weights that no output needs; put the rest in the order of the call.

    onnxruntime's own converter to FP16 leaves them out of order.
    """
    from onnx import NodeProto

    kept = []
    for node in _in_order(graph):
        copy = NodeProto()
        copy.CopyFrom(node)
        kept.append(copy)
    needed = {name for node in kept for name in reads(node)} | {v.name for v in graph.output}
    del graph.node[:]
    graph.node.extend(kept)
    for i in reversed([i for i, t in enumerate(graph.initializer) if t.name not in needed]):
        del graph.initializer[i]
