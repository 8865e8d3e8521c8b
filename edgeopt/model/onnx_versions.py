# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Rewrite an ONNX graph for an older opset and IR version than it was written in."""

from __future__ import annotations

from typing import Any

from edgeopt.errors import CompileError
from edgeopt.model.onnx_read import nodes
from edgeopt.quiet import quiet

_DEPTH = 4
_NOTHING_HERE = {"saturate", "round_mode", "noop_with_empty_axes"}
"""Attributes that tell of eight-bit floats, or of axes that are not given, and else of nothing."""


def opset_of(proto: Any) -> int:
    """Return the version of ONNX's own operators that ``proto`` is written in."""
    return max((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), default=1)


def lowered(proto: Any, opset: int, ir_version: int, where: str) -> Any:
    """Return ``proto`` at ``opset`` and ``ir_version``, or below if it already is.

    Operators that came later are replaced by what the ONNX specification defines them as (Gelu,
    Attention, LayerNormalization, ...). Of the rest most have only learnt more types since, and
    are kept; if one is used in a way that the older version does not know, all goes through
    onnx.version_converter. Raises CompileError with what stands in the way.
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
            if not _later(proto, opset) and not _kept(proto, found, opset):
                _tell_types(proto)
                proto = onnx.version_converter.convert_version(proto, opset)
    # The converter and the inliner raise RuntimeError, or onnx's own kinds without a common base.
    except Exception as exc:  # noqa: BLE001
        lines = str(exc).strip().splitlines() or [type(exc).__name__]
        reason = lines[0].rsplit("failed: ", 1)[-1][:200]
    later = _later(proto, opset)
    if reason or later:
        raise CompileError(
            f"opset {found} cannot be rewritten as opset {opset} ({', '.join(later) or reason})",
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


def _kept(proto: Any, found: int, opset: int) -> bool:
    """Bring each operator into the form that ``opset`` has; False, nothing done, if one cannot.

    An operator is in that form if the older version has its attributes and takes its inputs. What
    it computes is checked afterwards, as of every artifact, against the file as it came.
    """
    import onnx

    weights = {t.name: t for t in proto.graph.initializer}
    for node in nodes(proto.graph):
        if node.op_type == "Constant":
            value = next((a.t for a in node.attribute if a.name == "value"), None)
            weights[node.output[0]] = value
    changes = []
    for node in nodes(proto.graph):
        if node.domain not in ("", "ai.onnx"):
            continue
        new = onnx.defs.get_schema(node.op_type, found)
        old: Any = onnx.defs.get_schema(node.op_type, opset)
        if new.since_version == old.since_version:
            continue
        strange = {a.name for a in node.attribute} - set(old.attributes)
        axes = None
        if len(node.input) > old.max_input:
            tensor = weights.get(node.input[1]) if node.op_type.startswith("Reduce") else None
            if tensor is None or "axes" not in old.attributes:
                return False
            axes = [int(i) for i in onnx.numpy_helper.to_array(tensor).reshape(-1)]
            if not axes:  # all of them, or none: by another attribute
                return False
        if node.op_type == "Split" and "num_outputs" in strange:
            return False  # the last part may be a shorter one
        if strange - _NOTHING_HERE:
            return False
        changes.append((node, strange, axes))
    for node, strange, axes in changes:
        for i in reversed([i for i, a in enumerate(node.attribute) if a.name in strange]):
            del node.attribute[i]
        if axes is not None:
            del node.input[1:]
            node.attribute.append(onnx.helper.make_attribute("axes", axes))
    return True


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
