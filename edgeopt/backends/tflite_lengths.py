# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Signatures of a .tflite file for more lengths, derived from those for two.

Converting a network takes seconds for each length, and all that comes of it is the same graph with
other sizes. What differs between two lengths says how each size goes with the length: it stays, or
is a multiple of the length with a constant beside it, or of its square. Constants that run along
the length (positions) must be the beginning of the longest one's. Wherever a difference is of
another kind nothing is derived, and the caller converts lengths by themselves.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeopt.backends import tflite_write

_SIZES = 16  # elements of a constant at most that holds sizes, begins or permutations
_TENSOR_APART = ("shape", "buffer", "name", "quantization")  # fields that are compared apart
_OPERATOR_APART = ("inputs", "outputs")


class UnderivableError(ValueError):
    """Two lengths of a network differ in more than sizes."""


def derive(
    path: Path,
    ends: tuple[int, int],
    lengths: Sequence[int],
    key: Callable[[int], str],
    *,
    inside: bool,
) -> None:
    """Give the file at ``path``, which has signatures for ``ends``, those for ``lengths``.

    ``lengths`` (ascending) go up to the longer of the ``ends``; ``key`` names a signature. Weights
    are shared by all. ``inside`` is as for ``tflite_write.write``. Raises UnderivableError, and
    then leaves the file as it is, if the lengths cannot be derived.
    """
    model, schema = tflite_write.read(path)
    if len(model.subgraphs) != 2 or len(model.signatureDefs) != 2:
        raise UnderivableError(f"has {len(model.subgraphs)} graphs, expected 2")
    functions = {n: _function(model, key(n)) for n in ends}
    law, made = Law(short=ends[0], long=ends[1]), _Buffers(model, schema)
    (short, first), (long, last) = functions.values()
    pairs = _pairs(short, long, made)
    for n in lengths:
        if n not in functions:
            graph = _graph(short, long, pairs, law, n, made)
            functions[n] = graph, _signature(first, last, pairs)
            graph.name = functions[n][1].signatureKey = key(n).encode()
    model.subgraphs = [functions[n][0] for n in lengths]
    model.signatureDefs = [functions[n][1] for n in lengths]
    for i, signature in enumerate(model.signatureDefs):
        signature.subgraphIndex = i
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
        if rest == 0 and slope >= 1 and abs(offset) < self.short and slope * n + offset > 0:
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


def _pairs(short: Any, long: Any, buffers: _Buffers) -> dict[tuple[int, int], int]:
    """Number the tensors that stand at the same place of both graphs.

    Constants that are equal at one length alone were made one there, so that they go by pairs.
    Raises UnderivableError if the graphs have other operators, or tensors of other kinds.
    """
    if len(short.operators) != len(long.operators):
        counts = f"{len(short.operators)} and {len(long.operators)}"
        raise UnderivableError(f"graphs have {counts} operators")
    places = [(short.inputs, long.inputs)]
    for a, b in zip(short.operators, long.operators, strict=True):
        if not _same_but(a, b, _OPERATOR_APART) or _some(b.intermediates):
            raise UnderivableError("graphs have other operators")
        places += [(a.inputs, b.inputs), (a.outputs, b.outputs)]
    places.append((short.outputs, long.outputs))
    pairs: dict[tuple[int, int], int] = {}
    for side, other in places:
        if len(_some(side)) != len(_some(other)):
            raise UnderivableError("an operator has other tensors")
        for pair in zip(_some(side), _some(other), strict=True):
            pairs.setdefault(pair, len(pairs))
    pairs = {pair: i for i, pair in enumerate(p for p in pairs if p != (-1, -1))}
    moving = [p for p in pairs if buffers.data(long.tensors[p[1]].buffer) is None]
    if any(len({p[i] for p in moving}) != len(moving) for i in (0, 1)):
        raise UnderivableError("operators are tied otherwise")
    for i, k in pairs:
        a, b = short.tensors[i], long.tensors[k]
        if min(i, k) < 0 or not _same_but(a, b, _TENSOR_APART):
            raise UnderivableError(f"{_text(b)} is of another kind")
        if not _same(a.quantization, b.quantization):
            raise UnderivableError(f"{_text(b)} has other scales")
    return pairs


def _graph(
    short: Any,
    long: Any,
    pairs: Mapping[tuple[int, int], int],
    law: Law,
    n: int,
    buffers: _Buffers,
) -> Any:
    """Return the graph at length ``n``."""

    def numbered(side: Any, other: Any) -> Any:
        found = [pairs.get(p, -1) for p in zip(_some(side), _some(other), strict=True)]
        return np.array(found, np.int32)

    graph = copy.copy(long)
    graph.tensors = [_tensor(short.tensors[i], long.tensors[k], law, n, buffers) for i, k in pairs]
    graph.inputs = numbered(short.inputs, long.inputs)
    graph.outputs = numbered(short.outputs, long.outputs)
    graph.operators = []
    for a, b in zip(short.operators, long.operators, strict=True):
        operator = copy.copy(b)
        operator.inputs = numbered(a.inputs, b.inputs)
        operator.outputs = numbered(a.outputs, b.outputs)
        graph.operators.append(operator)
    return graph


def _signature(first: Any, last: Any, pairs: Mapping[tuple[int, int], int]) -> Any:
    """Return the signature of a derived graph."""
    made = copy.copy(last)
    for side in ("inputs", "outputs"):
        indices = {port.name: port.tensorIndex for port in getattr(first, side)}
        ports = []
        for port in getattr(last, side):
            pair = indices.get(port.name, -1), port.tensorIndex
            if pair not in pairs:
                raise UnderivableError("signatures have other tensors")
            ports.append(copy.copy(port))
            ports[-1].tensorIndex = pairs[pair]
        setattr(made, side, ports)
    return made


def _some(indices: Any) -> list[int]:
    return [] if indices is None else [int(i) for i in indices]


def _same(a: Any, b: Any) -> bool:
    """Tell whether two objects of a flatbuffer hold the same."""
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return a is not None and b is not None and np.array_equal(a, b)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_same, a, b))
    if type(a) is not type(b):
        return False
    return _same_but(a, b) if hasattr(a, "__dict__") else bool(a == b)


def _same_but(a: Any, b: Any, apart: Sequence[str] = ()) -> bool:
    fields = (name for name in vars(a) if name not in apart)
    return all(_same(getattr(a, name), getattr(b, name)) for name in fields)


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

    The shortest one has to be that as well, along every size that differs.
    """
    values = []
    for data, whole in zip(ends, shapes, strict=True):
        size, rest = divmod(len(data), math.prod(whole))
        if rest:
            raise UnderivableError(f"the constant {_text(tensor)} has elements of parts of a byte")
        values.append(data.reshape(*whole, size))
    first, last = values
    if not np.array_equal(first, last[tuple(slice(n) for n in first.shape)]):
        raise UnderivableError(f"the constant {_text(tensor)} is no beginning of the longest one")
    data = last[tuple(slice(n) for n in shape)].reshape(-1)  # no copy if it lies together
    return buffers.add(data, (int(tensor.buffer), len(data)))


def _text(tensor: Any) -> str:
    return bytes(tensor.name or b"").decode("utf-8", "replace").rpartition("/")[2]
