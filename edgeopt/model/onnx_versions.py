"""Rewrite an ONNX graph for an older opset and IR version than it was written in."""

from __future__ import annotations

from typing import Any

from edgeopt.errors import CompileError
from edgeopt.model.onnx_read import nodes
from edgeopt.quiet import quiet

_DEPTH = 4


def opset_of(proto: Any) -> int:
    """Return the version of ONNX's own operators that ``proto`` is written in."""
    return max((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), default=1)


def lowered(proto: Any, opset: int, ir_version: int, where: str) -> Any:
    """Return ``proto`` at ``opset`` and ``ir_version``, or below where it already is.

    Operators that came later are replaced by what the ONNX specification defines them as (Gelu,
    Attention, LayerNormalization, ...); the rest goes through onnx.version_converter. Raises
    CompileError with the operators that stand in the way.
    """
    import onnx

    if opset_of(proto) > opset:
        copy = onnx.ModelProto()
        copy.CopyFrom(proto)
        proto = _converted(copy, opset, where)
    if proto.ir_version > ir_version:
        stamped = onnx.ModelProto()
        stamped.CopyFrom(proto)
        stamped.ir_version = ir_version
        proto = stamped
    return proto


def _converted(proto: Any, opset: int, where: str) -> Any:
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
    have = {o.domain for o in proto.opset_import}
    proto.opset_import.extend(
        onnx.helper.make_opsetid(domain, version)
        for domain, version in others.items()
        if domain not in have
    )
    del proto.graph.value_info[:]
    return proto


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
