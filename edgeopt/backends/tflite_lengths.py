# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Signatures of a .tflite file for more lengths, derived from those of the shortest and longest.

Converting a network takes seconds for each length, and all that comes of it is the same graph with
other sizes. What differs between two lengths says how each size goes with the length: it stays, or
is a multiple of the length with a constant beside it, or of its square. Constants that run along
the length (positions) must be the beginning of the longest one's. Wherever a difference is of
another kind nothing is derived, and the caller converts each length by itself.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeopt.backends import tflite_write

_SIZES = 16  # elements of a constant at most that holds sizes, begins or permutations
_APART = ("shape", "buffer", "name", "quantization")  # fields of a tensor that are compared apart


class UnderivableError(ValueError):
    """Two lengths of a network differ in more than sizes."""


def derive(path: Path, lengths: Sequence[int], key: Callable[[int], str], *, inside: bool) -> None:
    """Give the file at ``path`` a signature for each of ``lengths`` (ascending).

    It has those of the first and the last, ``key`` names them, and weights are shared by all.
    ``inside`` is as for ``tflite_write.write``. Raises UnderivableError, and then leaves the file
    as it is, if the others cannot be derived.
    """
    model, schema = tflite_write.read(path)
    ends = [_function(model, key(n)) for n in (lengths[0], lengths[-1])]
    if len(model.subgraphs) != 2 or len(model.signatureDefs) != 2:
        raise UnderivableError(f"has {len(model.subgraphs)} graphs, expected 2")
    (short, _), (long, signature) = ends
    _compare(short, long)
    if not _same(_ports(ends[0][1]), _ports(ends[1][1])):
        raise UnderivableError("signatures have other tensors")
    law = Law(short=lengths[0], long=lengths[-1])
    made = _Buffers(model, schema)
    graphs, signatures = [short], [ends[0][1]]
    for n in lengths[1:-1]:
        graph, named = copy.copy(long), copy.copy(signature)
        pairs = zip(short.tensors, long.tensors, strict=True)
        graph.tensors = [_tensor(a, b, law, n, made) for a, b in pairs]
        graph.name = named.signatureKey = key(n).encode()
        graphs.append(graph)
        signatures.append(named)
    model.subgraphs, model.signatureDefs = [*graphs, long], [*signatures, signature]
    for i, function in enumerate(model.signatureDefs):
        function.subgraphIndex = i
    tflite_write.write(path, model, inside=inside)


@dataclass(frozen=True, kw_only=True, slots=True)
class Law:
    """How sizes go with the length, told by those at two lengths, ``short`` < ``long``, tokens."""

    short: int
    long: int

    def at(self, a: int, b: int, n: int) -> int:
        """Return a size at length ``n`` that is ``a`` at ``short`` and ``b`` at ``long``.

        It is constant, p n + q (p at least 1, |q| below ``short``) or p n^2. No two of these agree
        at both lengths: as p n + q, p n^2 would have q = -p short long. Raises UnderivableError.
        """
        if a == b:
            return a
        slope, rest = divmod(b - a, self.long - self.short)
        offset = a - slope * self.short
        if rest == 0 and slope >= 1 and abs(offset) < self.short:
            return slope * n + offset
        factor, rest = divmod(a, self.short**2)
        if rest == 0 and factor >= 1 and b == factor * self.long**2:
            return factor * n**2
        raise UnderivableError(f"a size is {a} at {self.short} tokens and {b} at {self.long}")


class _Buffers:
    """The buffers of a model, of which a derived one that there is already is not added again."""

    def __init__(self, model: Any, schema: Any) -> None:
        self.schema = schema
        self.all = model.buffers
        self._added: dict[tuple[int, int] | bytes, int] = {}

    def data(self, index: int) -> Any:
        """Return the bytes of a constant, None if it is none."""
        data = self.all[index].data
        return None if data is None or not len(data) else np.asarray(data, np.uint8)

    def add(self, data: np.ndarray, key: tuple[int, int] | bytes) -> int:
        """Return the buffer that holds ``data``, which ``key`` stands for."""
        if key not in self._added:
            self._added[key] = len(self.all)
            self.all.append(self.schema.BufferT(data=data))
        return self._added[key]


def _function(model: Any, key: str) -> tuple[Any, Any]:
    """Return the graph and the signature of the function ``key``."""
    for signature in model.signatureDefs or ():
        if signature.signatureKey == key.encode():
            return model.subgraphs[signature.subgraphIndex], signature
    raise UnderivableError(f"has no signature {key}")


def _ports(signature: Any) -> list[list[tuple[bytes, int]]]:
    return [
        [(p.name, p.tensorIndex) for p in side] for side in (signature.inputs, signature.outputs)
    ]


def _compare(short: Any, long: Any) -> None:
    """Raise UnderivableError if two graphs have other operators, or tensors of other kinds."""
    for name in ("inputs", "outputs", "operators"):
        if not _same(getattr(short, name), getattr(long, name)):
            raise UnderivableError(f"graphs have other {name}")
    if len(short.tensors) != len(long.tensors):
        raise UnderivableError(f"graphs have {len(short.tensors)} and {len(long.tensors)} tensors")
    for a, b in zip(short.tensors, long.tensors, strict=True):
        fields = {name: value for name, value in vars(a).items() if name not in _APART}
        if not all(_same(value, getattr(b, name)) for name, value in fields.items()):
            raise UnderivableError(f"{_text(b)} is of another kind")
        if not _same(a.quantization, b.quantization):
            raise UnderivableError(f"{_text(b)} has other scales")


def _same(a: Any, b: Any) -> bool:
    """Tell whether two objects of a flatbuffer hold the same."""
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return a is not None and b is not None and np.array_equal(a, b)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_same, a, b))
    if type(a) is not type(b):
        return False
    return _same_fields(a, b) if hasattr(a, "__dict__") else bool(a == b)


def _same_fields(a: Any, b: Any) -> bool:
    return all(_same(value, vars(b)[name]) for name, value in vars(a).items())


def _tensor(a: Any, b: Any, law: Law, n: int, buffers: _Buffers) -> Any:
    """Return a tensor at length ``n``; ``a`` is its shortest form and ``b`` its longest."""
    made = copy.copy(b)
    shapes = [[] if t.shape is None else [int(size) for size in t.shape] for t in (a, b)]
    if len(shapes[0]) != len(shapes[1]):
        raise UnderivableError(f"{_text(b)} has the shapes {shapes[0]} and {shapes[1]}")
    shape = [law.at(p, q, n) for p, q in zip(*shapes, strict=True)]
    if b.shape is not None:
        made.shape = np.array(shape, np.int32)
    first, last = buffers.data(a.buffer), buffers.data(b.buffer)
    if (first is None) != (last is None):
        raise UnderivableError(f"{_text(b)} is a constant at one length alone")
    if first is None or last is None:
        return made
    if shapes[0] == shapes[1]:
        made.buffer = _sizes(b, first, last, law, n, buffers)
    else:
        made.buffer = _beginning(b, (first, last), shapes, shape, buffers)
    return made


def _sizes(
    tensor: Any, first: np.ndarray, last: np.ndarray, law: Law, n: int, buffers: _Buffers
) -> int:
    """Return the buffer of a constant that has the same shape at all lengths."""
    if np.array_equal(first, last):
        return int(tensor.buffer)
    types = buffers.schema.TensorType
    dtype = {types.INT32: np.int32, types.INT64: np.int64}.get(tensor.type)
    if dtype is None or len(last) > _SIZES * np.dtype(dtype).itemsize:
        raise UnderivableError(f"the constant {_text(tensor)} has other values at another length")
    pairs = zip(first.view(dtype).tolist(), last.view(dtype).tolist(), strict=True)
    data = np.array([law.at(a, b, n) for a, b in pairs], dtype).view(np.uint8)
    return buffers.add(data, data.tobytes())


def _beginning(
    tensor: Any,
    ends: tuple[np.ndarray, np.ndarray],
    shapes: Sequence[Sequence[int]],
    shape: Sequence[int],
    buffers: _Buffers,
) -> int:
    """Return the buffer of a constant that runs along the length: the longest one's beginning.

    The shortest one has to be that as well. All sizes before that one have to be 1, so that the
    beginning lies together.
    """
    first, last = ends
    moving = [axis for axis, (a, b) in enumerate(zip(*shapes, strict=True)) if a != b]
    before = [size for size in shapes[1][: moving[0]] if size != 1]
    if len(moving) != 1 or before or not np.array_equal(first, last[: len(first)]):
        raise UnderivableError(f"the constant {_text(tensor)} is no beginning of the longest one")
    size, rest = divmod(len(last) * shape[moving[0]], shapes[1][moving[0]])
    if rest:
        raise UnderivableError(f"the constant {_text(tensor)} has elements of less than a byte")
    return buffers.add(last[:size], (int(tensor.buffer), size))


def _text(tensor: Any) -> str:
    return bytes(tensor.name or b"").decode("utf-8", "replace").rpartition("/")[2]
