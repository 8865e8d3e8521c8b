# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Which engines of a target run an ``.onnx`` file, and which of its operators stand in the way.

Each engine is asked itself: first for the whole file, on one call whose answers are onnxruntime's
for the file as it came, then, if that fails, for each operator of the graph by itself, with the
values that flow through it. A file that ``edgeopt compile`` takes is tried as that makes it.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from edgeopt import backends, cache, closure, progress, values
from edgeopt.errors import CompileError, EdgeoptError, InputError, MissingDependencyError
from edgeopt.extras import require
from edgeopt.fields import Table
from edgeopt.model import Model, OnnxSource, onnx_call, onnx_read, reference, samples
from edgeopt.model.importer import import_model
from edgeopt.model.onnx_versions import opset_of
from edgeopt.model.signature import NO_LENGTH
from edgeopt.support import onnx_nodes
from edgeopt.support.onnx_nodes import Single
from edgeopt.support.report import EngineSupport, Operator, Support
from edgeopt.support.trial import Engines, Outcome, Trial, engines
from edgeopt.target import EngineSpec, Target

SIZES = (8, 16, 32, 64, 224, 1)
"""What free dimensions are tried with, until onnxruntime runs the file."""

_PACKAGES = {"onnx": "onnxruntime", "openvino": "openvino", "tvm": "apache-tvm"}
_NAMED = 5  # nodes of an operator that are named
_RECORD = "support.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Call:
    """The graph that the engines get, one call of it, and what it should answer, if known."""

    proto: Any
    inputs: Mapping[str, Any]
    expected: Sequence[Any] | None
    text: str


def inspect(path: Path, target: Target, chosen: Sequence[str] = ()) -> Support:
    """Return what the engines of ``target``, or those ``chosen``, make of the file.

    One that is not installed here is "not tried". Raises InputError if the file is damaged or an
    engine is not the target's, and MissingDependencyError if onnxruntime is not installed.
    """
    require("onnxruntime", "onnx")
    specs = _specs(target, chosen)
    proto, _ = onnx_read.read(path)
    model, refused = _imported(path)
    call = _as_imported(model, target) if model else _as_it_came(proto)
    needs = {"opset": opset_of(proto), "ir_version": int(proto.ir_version)}
    used = {n.domain for n in onnx_read.nodes(proto.graph)} - {"", "ai.onnx"}
    domains = {o.domain: int(o.version) for o in proto.opset_import if o.domain in used}
    with engines() as pool, tempfile.TemporaryDirectory(prefix="edgeopt-inspect-") as folder:
        asked = tuple(_engine(call, spec, needs, pool, Path(folder)) for spec in specs)
    stored = {t.name for t in proto.graph.initializer}
    return Support(
        file=str(path),
        format="onnx",
        versions=needs | domains,
        inputs=tuple(_port(v) for v in proto.graph.input if v.name not in stored),
        outputs=tuple(_port(v) for v in proto.graph.output),
        operators=dict(
            Counter(map(onnx_nodes.name_of, onnx_read.nodes(proto.graph))).most_common()
        ),
        target=target.name,
        task=model.task.name if model else None,
        refusal=refused.message if refused else "",
        hint=(refused.hint or "") if refused else "",
        tried_as=call.text,
        engines=asked,
    )


def _port(value: Any) -> str:
    """Return an input or output as ``name int64 (batch, seq)``."""
    import onnx

    kind = value.type.tensor_type
    if not value.type.HasField("tensor_type"):
        return f"{value.name} {value.type.WhichOneof('value')}"
    name = onnx.TensorProto.DataType.Name(kind.elem_type).lower()
    if not kind.HasField("shape"):
        return f"{value.name} {name}"
    dims = (str(d.dim_value) if d.HasField("dim_value") else d.dim_param for d in kind.shape.dim)
    return f"{value.name} {name} ({', '.join(dim or '?' for dim in dims)})"


def _specs(target: Target, chosen: Sequence[str]) -> list[EngineSpec]:
    known = {spec.engine: spec for spec in target.engines}
    if strange := [name for name in chosen if name not in known]:
        raise InputError(
            f"{target.name} has no engine {', '.join(strange)}; it has {', '.join(known)}",
            where=target.path,
        )
    return [spec for name, spec in known.items() if name in chosen or not chosen]


def _imported(path: Path) -> tuple[Model | None, EdgeoptError | None]:
    try:
        return import_model(path), None
    except (InputError, CompileError) as exc:
        return None, exc


def _as_imported(model: Model, target: Target) -> _Call:
    onnx = require("onnx", "onnx")
    source = model.main.source
    assert isinstance(source, OnnxSource)
    lengths = backends.static_lengths(model, target) or (model.text.max_seq_len,)
    length = lengths[0]
    (batch,) = samples.calls(model, samples.shipped(model, 1), length)
    inputs = {spec.name: batch[spec.name] for spec in model.main.signature.inputs}
    (answer,) = reference.run(model, [batch])
    shown = f"a text of {length} tokens" if length != NO_LENGTH else "an image"
    return _Call(
        proto=onnx.load(str(source.path)),
        inputs=inputs,
        expected=[answer[spec.name] for spec in model.main.signature.outputs],
        text=f"as edgeopt compile makes it, on {shown}, against onnxruntime on the file as it came",
    )


def _as_it_came(proto: Any) -> _Call:
    """Return a call with made-up inputs, of sizes at which onnxruntime runs the file, if any."""
    first: Mapping[str, Any] | None = None
    try:
        session = onnx_call.open_session(proto.SerializeToString())
    # onnxruntime's exceptions have no common base, and protobuf has its own for over 2 GB.
    except Exception:  # noqa: BLE001
        session = None
    for size in SIZES:
        inputs = _made_up(proto, size)
        if inputs is None:
            break
        first = first or inputs
        if session is None:
            continue
        try:
            found = session.run(None, dict(inputs))
        except Exception:  # noqa: BLE001
            continue
        return _Call(
            proto=proto,
            inputs=inputs,
            expected=found,
            text=f"as it came, on made-up inputs (free dimensions {size}), against onnxruntime",
        )
    return _Call(
        proto=proto,
        inputs=first or {},
        expected=None,
        text="as it came; onnxruntime does not run it here, so no answers are compared",
    )


def _made_up(proto: Any, size: int) -> dict[str, Any] | None:
    """Return an input for each that the graph takes, None if one is no tensor.

    A free first dimension, the batch, is 1. Integers are 1, which a mask and most tables take.
    """
    import onnx

    rng = np.random.default_rng(0)
    stored = {t.name for t in proto.graph.initializer}
    found: dict[str, Any] = {}
    for value in proto.graph.input:
        kind = value.type.tensor_type
        if value.name in stored:
            continue
        if not value.type.HasField("tensor_type"):
            return None
        sizes = [
            d.dim_value if d.HasField("dim_value") else (size if i else 1)
            for i, d in enumerate(kind.shape.dim)
        ]
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
        if dtype.kind in "fcV":
            found[value.name] = rng.normal(size=sizes).astype(dtype)
        elif dtype.kind == "O":
            found[value.name] = np.full(sizes, "a", dtype=object)
        else:
            found[value.name] = np.ones(sizes, dtype)
    return found


def _engine(
    call: _Call, spec: EngineSpec, needs: Mapping[str, int], pool: Engines, folder: Path
) -> EngineSupport:
    """Return what one engine makes of the file (cached by content)."""

    def build(directory: Path) -> None:
        with progress.step(f"Asking {spec.engine}") as step:
            made = _asked(call, spec, needs, pool, folder, step)
        (directory / _RECORD).write_text(json.dumps(values.write(made)))

    key = cache.key(
        call=_digest(call),
        spec=asdict(spec),
        code=closure.code(__name__, "edgeopt.support.worker"),
        backend=backends.code(spec.engine),
    )
    try:
        path = cache.entry("support", key, build) / _RECORD
    except MissingDependencyError as exc:
        return _told(
            spec, needs, None, Outcome(stage="not tried", reason=exc.message, hint=exc.hint or "")
        )
    return values.read(EngineSupport, Table(json.loads(path.read_text()), file=str(path)))


def _digest(call: _Call) -> str:
    found = hashlib.sha256(call.proto.SerializeToString(deterministic=True))
    for name, value in sorted(call.inputs.items()):
        found.update(f"{name} {value.dtype} {value.shape}".encode())
        found.update(str(value.tolist()).encode() if value.dtype == object else value.tobytes())
    return found.hexdigest()


def _asked(
    call: _Call,
    spec: EngineSpec,
    needs: Mapping[str, int],
    pool: Engines,
    folder: Path,
    step: progress.Step,
) -> EngineSupport:
    onnx = require("onnx", "onnx")
    file = folder / "model.onnx"
    onnx.save(call.proto, str(file))
    whole = pool.run(Trial(spec=spec, file=file, inputs=call.inputs, expected=call.expected))
    found: tuple[Operator, ...] = ()
    if not _is_well(whole) and backends.takes_onnx(spec.engine):
        found = _operators(call, spec, pool, folder, step)
    if found and not whole.hint:
        whole = replace(whole, hint=_advice(spec, [o.name for o in found]))
    return _told(spec, needs, _here(spec.engine), whole, found)


def _told(
    spec: EngineSpec,
    needs: Mapping[str, int],
    tried: str | None,
    whole: Outcome,
    operators: tuple[Operator, ...] = (),
) -> EngineSupport:
    takes = {"opset": spec.opset, "ir_version": spec.ir_version}
    return EngineSupport(
        engine=spec.engine,
        version=spec.version,
        tried=tried,
        stage=whole.stage,
        reason=whole.reason,
        hint=whole.hint or ("" if _is_well(whole) else _advice(spec, [])),
        needs=dict(needs) if spec.opset else {},
        takes={name: number for name, number in takes.items() if number is not None},
        operators=operators,
    )


def _is_well(outcome: Outcome) -> bool:
    return outcome.stage in ("agrees", "runs")


def _here(engine: str) -> str | None:
    try:
        return version(_PACKAGES[engine])
    except (KeyError, PackageNotFoundError):
        return None


def _operators(
    call: _Call, spec: EngineSpec, pool: Engines, folder: Path, step: progress.Step
) -> tuple[Operator, ...]:
    """Return the operators that the engine does not run as onnxruntime does, each tried alone."""
    import onnx
    import onnx.inliner

    proto = call.proto
    if proto.functions:
        proto = onnx.inliner.inline_local_functions(proto)
    flowing = onnx_nodes.values(proto, call.inputs)
    ran = flowing is not None
    forms: dict[str, list[Single]] = {}
    if flowing is None:
        flowing = onnx_nodes.guessed(proto, call.inputs)
    for single in onnx_nodes.singles(proto, flowing, ran=ran):
        forms.setdefault(single.form, []).append(single)
    wrong: dict[str, tuple[Outcome, list[str]]] = {}
    for done, alike in enumerate(forms.values()):
        step.update(done, len(forms))
        file = folder / "single.onnx"
        onnx.save(alike[0].model, str(file))
        outcome = pool.run(
            Trial(spec=spec, file=file, inputs=alike[0].inputs, expected=alike[0].expected)
        )
        if not _is_well(outcome):
            nodes = wrong.setdefault(alike[0].operator, (outcome, []))[1]
            nodes += [single.node for single in alike]
    return tuple(
        Operator(
            name=name,
            nodes=tuple(nodes[:_NAMED]),
            count=len(nodes),
            stage=outcome.stage,
            reason=outcome.reason,
            hint=outcome.hint or _advice(spec, [name]),
        )
        for name, (outcome, nodes) in wrong.items()
    )


def _advice(spec: EngineSpec, operators: Sequence[str]) -> str:
    """Return what to do about an engine that does not run the file, or an operator of it."""
    what = ", ".join(operators) or "what is named"
    if spec.engine != "onnx":
        return (
            f"Export it again without {what}, or leave {spec.engine} out (--engine, or the "
            "target's engines)."
        )
    if any("." in name for name in operators):
        return f"Export it again in ONNX's own operators, without {what}."
    return f"Export it again without {what}."
