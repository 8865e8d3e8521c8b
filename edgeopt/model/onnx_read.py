# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Read an ``.onnx`` file that anybody may have made, and say what in it cannot be shipped."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgeopt.errors import InputError
from edgeopt.extras import require

_LARGEST = (1 << 31) - (1 << 20)
"""Protobuf's limit of 2 GiB for a message, less room for all that is no weight."""

_QUANTISED = re.compile(
    r"Q(Linear|Gemm|Attention|Embed|Ordered|MoE)\w*|\w*[Qq]uantize\w*"
    r"|MatMulInteger\w*|ConvInteger|MatMul(NBits|Bnb4|FpQ4)"
)
"""Operators of onnx and onnxruntime whose weights or activations are integers."""

RANDOM = ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli",
          "Multinomial")  # fmt: skip
"""Operators whose answers are another at each call."""

_TRAINED = ("Dropout", "BatchNormalization", "TrainableDropout")
_DOMAINS = ("", "ai.onnx", "com.microsoft")
_SMALL = 4096  # integers of a table of positions or of token types, not of a weight matrix


def read(path: Path) -> tuple[Any, tuple[Path, ...]]:
    """Return the ModelProto of ``path``, whole, and the other files that its weights came from.

    External data are read from files in the folder of ``path`` (in a hub's cache these are links
    into the same repository) and nowhere else. Raises InputError if a file is missing, damaged,
    over the 2 GB that an ONNX file can hold, or outside of the folder.
    """
    onnx = require("onnx", "onnx")
    from google.protobuf.message import DecodeError

    where = str(path)
    if not path.is_file():
        raise InputError("is no file" if path.exists() else "no such file", where=where)
    try:
        if path.stat().st_size > _LARGEST:
            raise InputError(
                f"has {path.stat().st_size} bytes; an ONNX file holds less than 2 GB",
                where=where,
                hint="Give a smaller model, or one with a smaller vocabulary.",
            )
        proto = onnx.load(where, load_external_data=False)
    except OSError as exc:
        raise InputError(f"cannot be read ({exc.strerror})", where=where) from exc
    except (DecodeError, ValueError) as exc:
        raise damaged(where, exc) from exc
    if not proto.graph.node:
        raise damaged(where, "it has no operators")
    if not proto.graph.output:
        raise damaged(where, "it has no outputs")
    if not all(isinstance(name, str) for name in _names(proto)):
        raise damaged(where, "a name in it is no text")
    return proto, _embed(proto, path)


def _names(proto: Any) -> Iterator[Any]:
    """Yield all that is read as a name; protobuf gives bytes for what is no UTF-8."""
    graph = proto.graph
    yield from (v.name for v in (*graph.input, *graph.output, *graph.initializer))
    yield from (s.values.name for s in graph.sparse_initializer)
    yield from (o.domain for o in proto.opset_import)
    for node in (*nodes(graph), *(n for f in proto.functions for n in f.node)):
        yield from (node.op_type, node.domain, node.name, *node.input, *node.output)
        yield from (a.name for a in node.attribute)
    yield from (name for f in proto.functions for name in (f.name, f.domain))
    for tensor in _external(proto):
        yield from (text for item in tensor.external_data for text in (item.key, item.value))


def damaged(where: str, why: object) -> InputError:
    """Return the error for a file that is no sound ONNX file; ``why`` is its first line."""
    text = (str(why).strip().splitlines() or [type(why).__name__])[0]
    return InputError(
        f"is damaged, cut short, or not an ONNX file ({text[:300]})",
        where=where,
        hint="Export or copy it again.",
    )


def external_files(path: Path) -> tuple[Path, ...]:
    """Return the files beside ``path`` that its weights lie in, () if it cannot be read."""
    onnx = require("onnx", "onnx")
    from google.protobuf.message import DecodeError

    try:
        proto = onnx.load(str(path), load_external_data=False)
    except (OSError, DecodeError, ValueError):
        return ()
    names = {_location(t) for t in _external(proto) if isinstance(_location(t), str)}
    found = [path.parent / name for name in sorted(names) if _is_inside(path.parent, name)]
    return tuple(file for file in found if file.is_file())


def _external(proto: Any) -> list[Any]:
    from onnx import TensorProto
    from onnx.external_data_helper import _get_all_tensors

    return [t for t in _get_all_tensors(proto) if t.data_location == TensorProto.EXTERNAL]


def _location(tensor: Any) -> str:
    return next((item.value for item in tensor.external_data if item.key == "location"), "")


def _is_inside(folder: Path, name: object) -> bool:
    """Tell whether ``name`` is a file of ``folder`` or of the hub's cache that it belongs to."""
    if not isinstance(name, str) or not name:
        return False
    given = Path(name)
    if given.is_absolute() or ".." in given.parts or "\\" in name or ":" in name:
        return False
    try:
        real, around = (folder / given).resolve(), folder.resolve()
    except (OSError, RuntimeError):  # a link to itself
        return False
    roots = [around]
    if "snapshots" in around.parts:  # models--OWNER--NAME/snapshots/REVISION, blobs/HASH
        depth = len(around.parts) - 1 - around.parts[::-1].index("snapshots")
        roots.append(Path(*around.parts[:depth]) / "blobs")
    return any(real.is_relative_to(root) for root in roots)


def _embed(proto: Any, path: Path) -> tuple[Path, ...]:
    """Put external weights into ``proto`` itself and return the files they came from."""
    places = [(tensor, *_place(tensor, path)) for tensor in _external(proto)]
    total = sum(length for *_, length in places)
    if total > _LARGEST:  # known before any of it is read
        raise InputError(
            f"its weights have {total} bytes; an artifact is one ONNX file, which holds less than "
            "2 GB",
            where=str(path),
            hint="Give a smaller model, or one with a smaller vocabulary.",
        )
    for tensor, file, offset, length in places:
        with file.open("rb") as opened:
            opened.seek(offset)
            tensor.raw_data = opened.read(length)
        del tensor.external_data[:]
        tensor.ClearField("data_location")
    return tuple(sorted({file for _, file, *_ in places}))


def _place(tensor: Any, path: Path) -> tuple[Path, int, int]:
    """Return the file of an external weight, and offset and length in it, in bytes."""
    name, where = _location(tensor), f"{path}: weight {tensor.name}"
    given = {item.key: item.value for item in tensor.external_data}
    if not _is_inside(path.parent, name):
        raise InputError(f"lies in {name!r}, which is not a file of the same folder", where=where)
    file = path.parent / name
    if not file.is_file():
        raise InputError(
            f"lies in {name}, which is not there",
            where=where,
            hint=f"Copy it beside {path.name}; the two belong together.",
        )
    try:
        offset, size = int(given.get("offset", 0)), file.stat().st_size
        length = int(given["length"]) if "length" in given else size - offset
    except ValueError as exc:
        raise damaged(where, exc) from exc
    if offset < 0 or length < 0 or offset + length > size:
        raise InputError(
            f"ends at byte {offset + length} of {name}, which has {size}",
            where=where,
            hint="The file is cut short, or of another export: copy both again.",
        )
    return file, offset, length


def nodes(graph: Any) -> Iterator[Any]:
    """Yield every node of ``graph`` and of the graphs inside its nodes."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else ()), *attribute.graphs):
                yield from nodes(inner)


def check(proto: Any, where: str) -> None:
    """Raise InputError for what must not be shipped: integers as weights, chance, own operators."""
    from onnx import TensorProto

    found = [*nodes(proto.graph), *(n for f in proto.functions for n in f.node)]
    own = {f.domain for f in proto.functions}
    strange = sorted({n.domain for n in found} - {*_DOMAINS, *own})
    if strange:
        raise InputError(
            f"uses operators of {', '.join(strange)}",
            where=where,
            hint="Export the network alone, in the operators of ONNX; what is done to the text "
            "before and to the answer after is the tokenizer's and the runtime's part.",
        )
    integers = {
        getattr(TensorProto, name)
        for name in ("INT8", "UINT8", "INT4", "UINT4", "INT2", "UINT2", "FLOAT8E4M3FN",
                     "FLOAT8E5M2", "FLOAT8E4M3FNUZ", "FLOAT8E5M2FNUZ", "FLOAT4E2M1")
        if hasattr(TensorProto, name)
    }  # fmt: skip
    kinds = {n.op_type for n in found if _QUANTISED.fullmatch(n.op_type)}
    stored = [t.name for t in proto.graph.initializer if t.data_type in integers and _size(t)]
    if kinds or stored:
        what = ", ".join(sorted(kinds)[:4]) or f"weights in integers, such as {stored[0]}"
        raise InputError(
            f"is quantised already ({what})",
            where=where,
            hint="Give the FP32 file that it was made of: edgeopt quantises and checks against it.",
        )
    for node in found:
        if node.op_type in RANDOM or (node.op_type in _TRAINED and _trains(node, proto)):
            raise InputError(
                f"{node.op_type} {node.name or node.output[0]} makes its answers random, as in "
                "training",
                where=where,
                hint="Export it in eval mode (model.eval()).",
            )


def vocabulary(proto: Any, ids: str) -> int:
    """Return how many rows the table has that the input ``ids`` looks up, 0 if none is found."""
    shapes = {t.name: list(t.dims) for t in proto.graph.initializer}
    for node in nodes(proto.graph):
        if node.op_type == "Constant":
            value = next((a.t for a in node.attribute if a.name == "value"), None)
            shapes[node.output[0]] = [] if value is None else list(value.dims)
    same = {ids}
    for node in nodes(proto.graph):
        if node.op_type in ("Identity", "Cast", "Reshape") and node.input[0] in same:
            same.add(node.output[0])
        looked_up = node.op_type == "Gather" and node.input[1] in same
        table = node.input[0] if looked_up else ""
        if node.op_type == "EmbedLayerNormalization" and node.input[0] in same:
            table = node.input[2]
        if len(shapes.get(table, ())) == 2:
            return int(shapes[table][0])
    return 0


def _size(tensor: Any) -> bool:
    count = 1
    for dim in tensor.dims:
        count *= dim
    return count > _SMALL


def _trains(node: Any, proto: Any) -> bool:
    from onnx import numpy_helper

    modes = {a.name: a.i for a in node.attribute}
    if node.op_type == "BatchNormalization":
        return bool(modes.get("training_mode", 0))
    name = node.input[2] if len(node.input) > 2 else ""
    constants = {t.name: t for t in proto.graph.initializer}
    for other in proto.graph.node:
        if other.op_type == "Constant" and other.output[0] == name:
            constants[name] = next((a.t for a in other.attribute if a.name == "value"), None)
    tensor = constants.get(name)
    return tensor is not None and bool(numpy_helper.to_array(tensor).any())
