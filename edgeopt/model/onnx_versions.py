# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Rewrite an ONNX graph for an older opset and IR version than it was written in."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from edgeopt.errors import CompileError
from edgeopt.model.onnx_older import pad_everywhere, split_into
from edgeopt.model.onnx_read import nodes
from edgeopt.quiet import quiet

_DEPTH = 4
_NOTHING_HERE = {"saturate", "round_mode", "noop_with_empty_axes"}
"""Attributes that tell of eight-bit floats, or of axes that are not given, and else of nothing."""

_FLATTENED = ("Softmax", "LogSoftmax", "Hardmax")
"""Operators that before opset 13 took all axes from theirs on for one."""

_FOLDED = ("Constant", "Add", "Sub", "Mul", "Neg", "Mod", "Range", "Concat", "Unsqueeze", "Squeeze",
           "Reshape", "Cast", "Identity", "Gather", "Slice", "Where", "Less", "Size")  # fmt: skip
"""Operators of which axes are made inside the definitions of others."""

_CHANGED = {"Resize": 11, "RoiAlign": 16}
"""Operators that compute something else since the opset."""

_MODES = {"linear": "bilinear", "cubic": "bicubic"}
"""How GridSample's modes were called before opset 20."""

_SCATTERS = 11  # the opset of ScatterElements
_SPLITS = 13  # the opset from which a Split's sizes may be computed
_NAMED = 3  # nodes of an operator that are named


def opset_of(proto: Any) -> int:
    """Return the version of ONNX's own operators that ``proto`` is written in."""
    return max((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), default=1)


def lowered(proto: Any, opset: int, ir_version: int, where: str) -> Any:
    """Return ``proto`` at ``opset`` and ``ir_version``, or below if it already is.

    Operators that came later are replaced by what the ONNX specification defines them as (Gelu,
    Attention, LayerNormalization, ...). Of the rest most have only learnt more types since, and
    are kept, or are brought into their older form; if one is used in a way that the older version
    does not know, all goes through onnx.version_converter. Raises CompileError with the operator
    and the nodes that stand in the way.
    """
    import onnx

    if opset_of(proto) <= opset and proto.ir_version <= ir_version:
        return proto
    if opset_of(proto) > onnx.defs.onnx_opset_version() or proto.ir_version > onnx.IR_VERSION:
        raise CompileError(
            f"opset {opset_of(proto)}, IR version {proto.ir_version} are not known to onnx "
            f"{onnx.__version__}, which has {onnx.defs.onnx_opset_version()} and {onnx.IR_VERSION}",
            where=where,
            hint="Export it again at an older opset.",
        )
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    if opset_of(made) > opset:
        made = _rewritten(made, opset, where)
    made.ir_version = min(proto.ir_version, ir_version)
    return made


def _rewritten(proto: Any, opset: int, where: str) -> Any:
    import onnx
    import onnx.inliner
    import onnx.version_converter

    found = opset_of(proto)
    others = {o.domain: o.version for o in proto.opset_import if o.domain not in ("", "ai.onnx")}
    reason = ""
    try:
        with quiet():
            for _ in range(_DEPTH):  # a definition may use what came later as well
                later = [name for name in _later(proto, opset) if _is_defined(name, found)]
                if not later:
                    break
                _tell_types(proto)
                proto = onnx.inliner.inline_selected_functions(
                    proto, [("", name) for name in later], inline_schema_functions=True
                )
            if not _later(proto, opset):
                reason = _keep(proto, found, opset)
            if reason:
                _tell_types(proto)
                made = onnx.version_converter.convert_version(proto, opset)
                if not _left_over(made, opset):
                    proto, reason = made, ""
    # The converter and the inliner raise RuntimeError, or onnx's own kinds without a common base.
    except Exception as exc:  # noqa: BLE001
        lines = str(exc).strip().splitlines() or [type(exc).__name__]
        reason = reason or lines[0].rsplit("failed: ", 1)[-1][:200]
    if later := _later(proto, opset):
        reason = "; ".join(_named(proto, name) for name in later)
    if reason:
        raise CompileError(
            f"opset {found} cannot be rewritten as opset {opset} ({reason})",
            where=where,
            hint=f"Export it again at opset {opset} or lower.",
        )
    del proto.opset_import[:]
    proto.opset_import.extend(
        onnx.helper.make_opsetid(domain, version)
        for domain, version in {"": opset, **others}.items()
    )
    del proto.graph.value_info[:]
    return proto


def _named(proto: Any, operator: str) -> str:
    """Return an operator with the names of the first nodes of it, if they have names."""
    names = [n.name or n.output[0] for n in nodes(proto.graph) if n.op_type == operator]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{operator}: {', '.join(names[:_NAMED])}{more}"


def _keep(proto: Any, found: int, opset: int) -> str:
    """Bring each operator into the form that ``opset`` has; return what cannot be, "" for nothing.

    An operator is in that form if the older version has its attributes and takes its inputs. What
    it computes is checked afterwards, as of every artifact, against the file as it came. The graph
    is left as it is if one cannot. Raises ValueError for what onnx's converter would not tell.
    """
    changes = []
    reason = ""
    facts = _Facts(proto)
    for graph in _graphs(proto.graph):
        for node in graph.node:
            if node.domain not in ("", "ai.onnx"):
                continue
            change = _change(graph, node, found, opset, facts)
            if isinstance(
                change, str
            ):  # of the others too it is seen whether they may be converted
                reason = reason or f"{node.op_type}: {node.name or node.output[0]} ({change})"
            elif change is not None:
                changes.append(change)
    for change in () if reason else changes:
        change()
    return reason


def _change(
    graph: Any, node: Any, found: int, opset: int, facts: _Facts
) -> Callable[[], None] | str | None:
    """Return what brings a node into the form of ``opset``, None for nothing, or why none does.

    Raises ValueError for what onnx's converter would not tell.
    """
    import onnx

    new: Any = onnx.defs.get_schema(node.op_type, found)
    old: Any = onnx.defs.get_schema(node.op_type, opset)
    if new.since_version == old.since_version:
        return None
    which = f"{node.op_type}: {node.name or node.output[0]}"
    given = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    strange = set(given) - set(old.attributes)
    usual = {name for name in strange if given[name] == _default(new, name)}
    set_: dict[str, Any] = {}
    for name in set(new.attributes) & set(old.attributes) - set(given):
        if _default(new, name) not in (None, _default(old, name)):
            set_[name] = _default(new, name)
    pads, inputs = False, len(node.input)
    if len(node.input) > old.max_input:
        if node.op_type == "Pad" and opset >= _SCATTERS:
            pads = True
        elif (name := _attribute_before(node.op_type)) in old.attributes and old.max_input == 1:
            held = facts.value(node.input[1])
            if held is None or not held.size:  # all axes, or none: by another attribute
                return f"its {name} are computed" if held is None else f"it has no {name}"
            set_[name] = [int(i) for i in held.reshape(-1)]
            inputs = 1
        else:
            return f"it has {len(node.input)} inputs, which was {old.max_input} at most"
    parts = 0
    if node.op_type == "Split" and "num_outputs" in strange and opset >= _SPLITS:
        usual.add("num_outputs")
        size, count = facts.size(node.input[0], given.get("axis", 0)), given["num_outputs"]
        parts = count if not size or size % count else 0  # equal parts are what it makes itself
    if node.op_type == "GridSample" and opset < 20 <= found:
        mode = given.get("mode", _default(new, "mode")).decode()
        set_["mode"] = _MODES.get(mode, mode)
    if left := strange - usual - _NOTHING_HERE:
        return ", ".join(sorted(left))
    if node.op_type in _FLATTENED and opset < 13 <= found:
        axis, rank = given.get("axis", -1), facts.rank(node.input[0])
        if axis not in (-1, (rank or 0) - 1):
            # The converter keeps the axis, and the answer is another one.
            raise ValueError(f"{which} (axis {axis} meant more before opset 13)")
        set_["axis"] = -1
    if opset < _CHANGED.get(node.op_type, 0) <= found:
        raise ValueError(f"{which} (computed otherwise before {_CHANGED[node.op_type]})")

    def apply() -> None:
        for i in reversed([i for i, a in enumerate(node.attribute) if a.name in strange]):
            del node.attribute[i]
        for name, value in set_.items():
            for i in reversed([i for i, a in enumerate(node.attribute) if a.name == name]):
                del node.attribute[i]
            node.attribute.append(onnx.helper.make_attribute(name, value))
        del node.input[inputs:]
        if pads:
            pad_everywhere(graph, node)
        if parts:
            split_into(graph, node, parts, given.get("axis", 0))

    return apply


def _attribute_before(operator: str) -> str:
    """Return which attribute an operator's second input was, "" for others."""
    if operator.startswith("Reduce") or operator in ("Squeeze", "Unsqueeze"):
        return "axes"
    return "split" if operator == "Split" else ""


def _default(schema: Any, name: str) -> Any:
    import onnx

    value = schema.attributes[name].default_value if name in schema.attributes else None
    if value is None or value.type == onnx.AttributeProto.UNDEFINED:
        return None
    return onnx.helper.get_attribute_value(value)


class _Facts:
    """What is known of a graph before it runs: constants, and what onnx infers of sizes."""

    def __init__(self, proto: Any) -> None:
        self._proto = proto
        self._made = {name: node for node in nodes(proto.graph) for name in node.output}
        self._weights = {t.name: t for t in proto.graph.initializer}

    @functools.cached_property
    def _types(self) -> dict[str, Any]:
        import onnx

        graph = onnx.shape_inference.infer_shapes(self._proto, data_prop=True).graph
        ports = (*graph.input, *graph.value_info, *graph.output)
        found = {v.name: v.type.tensor_type for v in ports}
        return {name: kind for name, kind in found.items() if kind.HasField("shape")}

    def rank(self, name: str) -> int | None:
        """Return how many dimensions a value has, None if that is not known."""
        return len(self._types[name].shape.dim) if name in self._types else None

    def size(self, name: str, axis: int) -> int:
        """Return how long an axis is, 0 if that is not known."""
        if name not in self._types:
            return 0
        dims = self._types[name].shape.dim
        return int(dims[axis].dim_value) if -len(dims) <= axis < len(dims) else 0

    def value(self, name: str) -> np.ndarray | None:
        """Return a value that constants and ranks alone decide, None for another."""
        from onnx import helper, numpy_helper
        from onnx.reference import ReferenceEvaluator

        if name in self._weights:
            return numpy_helper.to_array(self._weights[name])
        node = self._made.get(name)
        if node is None or node.domain not in ("", "ai.onnx"):
            return None
        if node.op_type == "Size" and (shape := self._made.get(node.input[0])) is not None:
            rank = self.rank(shape.input[0])
            if shape.op_type == "Shape" and not shape.attribute and rank is not None:
                return np.array(rank)
        if node.op_type not in _FOLDED or len(node.output) > 1:
            return None
        given = {str(n): self.value(n) for n in node.input if n}
        if any(value is None for value in given.values()):
            return None
        inputs = [helper.make_value_info(n, helper.make_tensor_type_proto(0, None)) for n in given]
        output = helper.make_value_info(name, helper.make_tensor_type_proto(0, None))
        graph = helper.make_graph([node], "one", inputs, [output])
        model = helper.make_model(graph, opset_imports=list(self._proto.opset_import))
        (found,) = ReferenceEvaluator(model).run(None, given)
        return np.asarray(found)


def _left_over(proto: Any, opset: int) -> bool:
    """Tell whether a node has attributes that ``opset`` does not know, as the converter leaves."""
    import onnx

    for node in nodes(proto.graph):
        if node.domain in ("", "ai.onnx"):
            schema: Any = onnx.defs.get_schema(node.op_type, opset)
            if {a.name for a in node.attribute} - set(schema.attributes):
                return True
    return False


def _graphs(graph: Any) -> Iterator[Any]:
    """Yield ``graph`` and the graphs inside its nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else ()), *attribute.graphs):
                yield from _graphs(inner)


def _tell_types(proto: Any) -> None:
    """Declare the weights' types, which the inliner asks for, and no sizes of temporaries."""
    import onnx

    del proto.graph.value_info[:]
    proto.graph.value_info.extend(
        onnx.helper.make_tensor_value_info(t.name, t.data_type, t.dims)
        for t in proto.graph.initializer
    )


def _later(proto: Any, opset: int) -> list[str]:
    """Return the operators that opset ``opset`` does not have yet."""
    import onnx

    since: dict[str, int] = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        if schema.domain == "":
            since[schema.name] = min(since.get(schema.name, 1 << 30), schema.since_version)
    names = {n.op_type for n in nodes(proto.graph) if n.domain in ("", "ai.onnx")}
    return [name for name in sorted(names) if since.get(name, 0) > opset]


def _is_defined(name: str, opset: int) -> bool:
    import onnx

    schema: Any = onnx.defs.get_schema(name, opset)
    return bool(schema.has_function or schema.has_context_dependent_function)
