# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Cut an ONNX graph into models of one operator each, with the values that flow through it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeopt.model import onnx_call
from edgeopt.model.onnx_adapt import reads

_SIZES = ("Shape", "Size")
_HELD = 64  # values of a tensor that is handed to an operator as a constant


@dataclass(frozen=True, kw_only=True, slots=True)
class Single:
    """A model of one operator; its inputs, and what onnxruntime gives for them, if it runs there.

    ``operator`` has its domain if that is not ONNX's; ``form`` is alike for nodes that one trial
    stands for; ``node`` is its name, or its first output's.
    """

    operator: str
    node: str
    form: str
    model: Any
    inputs: Mapping[str, Any]
    expected: list[Any] | None


def name_of(node: Any) -> str:
    """Return an operator's name, with its domain if that is not ONNX's own."""
    own = node.domain in ("", "ai.onnx")
    return str(node.op_type if own else f"{node.domain}.{node.op_type}")


def values(proto: Any, inputs: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return all that flows through the graph for ``inputs`` by name, None if it does not run.

    onnxruntime gives it, on the graph as it is, without what it would fuse.
    """
    import onnx

    made = onnx.ModelProto()
    made.CopyFrom(proto)
    have = {v.name for v in made.graph.output}
    names = [n for node in made.graph.node for n in node.output if n and n not in have]
    made.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    try:
        session = onnx_call.open_session(made.SerializeToString(), optimize=False)
        found = session.run(None, dict(inputs))
    # onnxruntime's exceptions have no common base, and protobuf has its own for over 2 GB.
    except Exception:  # noqa: BLE001
        return None
    return dict(zip([v.name for v in made.graph.output], found, strict=True)) | dict(inputs)


def guessed(proto: Any, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return values of the types and sizes that onnx infers, for a graph that does not run."""
    import onnx

    made = onnx.ModelProto()
    made.CopyFrom(proto)
    for value in made.graph.input:
        if isinstance(inputs.get(value.name), np.ndarray):
            kind = onnx.helper.np_dtype_to_tensor_dtype(inputs[value.name].dtype)
            shape = inputs[value.name].shape
            value.CopyFrom(onnx.helper.make_tensor_value_info(value.name, kind, shape))
    inferred = onnx.shape_inference.infer_shapes(made, data_prop=True).graph
    rng = np.random.default_rng(0)
    found: dict[str, Any] = {}
    for value in (*inferred.input, *inferred.value_info, *inferred.output):
        kind = value.type.tensor_type
        sizes = [d.dim_value for d in kind.shape.dim]
        if not kind.HasField("shape") or not all(sizes) or np.prod(sizes, dtype=float) > 1 << 24:
            continue
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
        drawn = rng.normal(size=sizes) if dtype.kind in "fV" else np.ones(sizes)
        found[value.name] = np.asarray(drawn).astype(dtype)
    return found


def singles(proto: Any, flowing: Mapping[str, Any], *, ran: bool) -> Iterator[Single]:
    """Yield a model for each operator of the graph whose inputs are in ``flowing``.

    What depends on the inputs' sizes alone, and is small, is a constant in it: engines compute it
    before they run. ``ran`` tells that the values are onnxruntime's, and outputs are to be alike.
    """
    import onnx

    stored = {t.name: onnx.numpy_helper.to_array(t) for t in proto.graph.initializer}
    known = set(stored)
    for node in proto.graph.node:
        used = [n for n in dict.fromkeys(reads(node)) if n and (n in stored or n in flowing)]
        inner = {n for n in reads(node) if n} - set(node.input)
        missing = [n for n in node.input if n and n not in used]
        if node.op_type in _SIZES or all(n in known for n in used):
            known.update(node.output)
        if node.op_type == "Constant":
            value = next((a.t for a in node.attribute if a.name == "value"), None)
            if value is not None:
                stored[node.output[0]] = onnx.numpy_helper.to_array(value)
            elif ran:
                stored[node.output[0]] = flowing[node.output[0]]
        if missing or node.op_type == "Constant":
            continue
        held = {
            n: stored.get(n, flowing.get(n))
            for n in used
            if n in known and _is_small(n, stored, flowing)
        }
        given = {n: flowing[n] for n in used if n not in held}
        outputs = [n for n in node.output if n]
        expected = [flowing[n] for n in outputs] if ran else None
        model = _model(
            proto,
            node,
            held,
            given,
            dict(zip(outputs, expected or [None] * len(outputs), strict=True)),
        )
        if model is None:
            continue
        yield Single(
            operator=name_of(node),
            node=node.name or node.output[0],
            form=_form(node, held, given, bool(inner)),
            model=model,
            inputs=given,
            expected=expected,
        )


def _is_small(name: str, stored: Mapping[str, Any], flowing: Mapping[str, Any]) -> bool:
    value = stored.get(name, flowing.get(name))
    return name in stored or (isinstance(value, np.ndarray) and value.size <= _HELD)


def _form(node: Any, held: Mapping[str, Any], given: Mapping[str, Any], inner: bool) -> str:
    def shown(name: str) -> str:
        if name in given:
            value = given[name]
            return f"{value.dtype}{value.shape}" if isinstance(value, np.ndarray) else "sequence"
        value = np.asarray(held[name])
        if value.size <= _HELD and value.dtype.kind in "iub":
            return f"={value.tolist()}"
        return f"={value.dtype}{value.shape}"

    attributes = sorted(a.SerializeToString(deterministic=True).hex() for a in node.attribute)
    names = [*node.input, *(sorted({*held, *given} - set(node.input)) if inner else ())]
    shapes = [shown(n) if n in given or n in held else "" for n in names]
    return "|".join((name_of(node), *attributes, *shapes))


def _model(
    proto: Any,
    node: Any,
    held: Mapping[str, Any],
    given: Mapping[str, Any],
    outputs: Mapping[str, Any],
) -> Any | None:
    from onnx import helper, numpy_helper

    types: dict[str, Any] = {n: _type(value) for n, value in {**given, **outputs}.items()}
    if any(types[name] is None for name in given):
        return None
    made = helper.make_graph(
        [node],
        "single",
        [helper.make_value_info(name, types[name]) for name in given],
        [
            helper.make_value_info(name, types[name]) if types[name] else _untyped(name)
            for name in outputs
        ],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in held.items()],
    )
    model = helper.make_model(
        made, opset_imports=list(proto.opset_import), ir_version=proto.ir_version
    )
    model.functions.extend(proto.functions)
    return model


def _untyped(name: str) -> Any:
    from onnx import ValueInfoProto

    return ValueInfoProto(name=name)


def _type(value: Any) -> Any | None:
    from onnx import helper

    if isinstance(value, list):
        inner = _type(value[0]) if value else None
        return helper.make_sequence_type_proto(inner) if inner else None
    if not isinstance(value, np.ndarray):
        return None
    kind = helper.np_dtype_to_tensor_dtype(value.dtype)
    return helper.make_tensor_type_proto(kind, value.shape)
