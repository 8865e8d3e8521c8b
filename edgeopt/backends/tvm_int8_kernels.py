# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Tiles of an INT8 product, each written in one kind of core's own instructions.

A tile is ``rows`` x ``width`` sums that stay in registers over all of K: rows of 8 bits times int8
weights within +-127, added up in int32. All kernels compute the same integers; a core gets the
first that it can run:

    vnni-512   AVX512-VNNI     VPDPBUSD: 4 products to each of 16 sums
    vnni-256   AVX-VNNI        the same to each of 8
    sdot       ARMv8.2 dot     SDOT by element: 4 products to each of 4 sums
    smull      other AArch64   SMULL, SMLAL to 16 bits, SADALP to 32: 3 for 16 products

SMULL and SMLAL add two products in 16 bits: 2 * 128 * 127 is the most that fits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeopt.backends import tvm_tiles as tiles


@dataclass(frozen=True, kw_only=True, slots=True)
class Kernel:
    """How one kind of core multiplies INT8.

    A tile is ``rows`` x ``columns`` vectors of ``lanes`` int32. A lane is a column's sum
    (``quads``), or one of the parts of a sum that fills a vector. K is padded to whole ``depth``.
    ``dtype`` is what rows are quantised to, int8 or uint8.
    """

    name: str
    lanes: int
    rows: int
    columns: int
    depth: int
    dtype: str
    quads: bool = True

    @property
    def columns_per_vector(self) -> int:
        """How many columns' sums a vector holds."""
        return self.lanes if self.quads else 1

    def width(self, n: int) -> int | None:
        """Return the columns of the widest tile that divides ``n`` of them; None if none does."""
        vectors = range(self.columns, 0, -1)
        widths = (count * self.columns_per_vector for count in vectors)
        return next((w for w in widths if n % w == 0 and w % 4 == 0), None)

    def panel(self, width: int, k: int) -> tuple[int, ...]:
        """Return the shape of a packed weight (K, ``width``): the last axes are read together."""
        inner = (self.depth // 4, width, 4) if self.quads else (width, self.depth)
        return (k // self.depth, *inner)


VNNI_512 = Kernel(name="vnni-512", lanes=16, rows=4, columns=3, depth=4, dtype="uint8")
VNNI_256 = Kernel(name="vnni-256", lanes=8, rows=4, columns=2, depth=4, dtype="uint8")
SDOT = Kernel(name="sdot", lanes=4, rows=4, columns=4, depth=16, dtype="int8")
SMULL = Kernel(name="smull", lanes=4, rows=4, columns=4, depth=16, dtype="int8", quads=False)

_X86 = (("avx512vnni", VNNI_512), ("avxvnni", VNNI_256))


def kernel_for(cpu: Any) -> Kernel | None:
    """Return the kernel of TVM's target ``cpu``, None if it has none of the instructions."""
    from tvm.target import codegen

    if str(cpu.attrs["mtriple"]).startswith("aarch64"):
        return SDOT if codegen.llvm_cpu_has_features(["dotprod"], cpu) else SMULL
    known = (kernel for feature, kernel in _X86 if codegen.llvm_cpu_has_features([feature], cpu))
    return next(known, None)


def pack(kernel: Kernel, weight: np.ndarray, width: int) -> np.ndarray:
    """Return ``weight`` (K, N) int8 as (N / width, *panel), zeros where K is padded."""
    k, n = weight.shape
    padded = np.zeros((-(-k // kernel.depth) * kernel.depth, n), np.int8)
    padded[:k] = weight
    steps, *_ = kernel.panel(width, len(padded))
    if kernel.quads:
        split = padded.reshape(steps, kernel.depth // 4, 4, n // width, width)
        return np.ascontiguousarray(split.transpose(3, 0, 1, 4, 2))
    return np.ascontiguousarray(
        padded.reshape(steps, kernel.depth, n // width, width).transpose(2, 0, 3, 1)
    )


def index(kernel: Kernel, k: Any, n: Any, width: int) -> tuple[Any, ...]:
    """Return where the weight (k, n) lies in what ``pack`` gives."""
    where = (n // width, k // kernel.depth)
    if kernel.quads:
        return *where, k % kernel.depth // 4, n % width, k % 4
    return *where, n % width, k % kernel.depth


def intrinsic(kernel: Kernel, m: int, width: int, k: int) -> tuple[str, int]:
    """Return the name of a tile as TVM's tensor intrinsic, and its rows, which divide ``m``.

    ``k`` is padded.
    """
    from tvm.s_tir import TensorIntrin

    rows = tiles.largest_divisor(m, kernel.rows)
    name = f"edgeopt.{kernel.name}.{rows}x{width}x{k}"
    if TensorIntrin.get(name, allow_missing=True) is None:
        described, written = (
            tiles.parse(f(kernel, rows, width, k)) for f in (_described, _written)
        )
        TensorIntrin.register(name, described, written)
    return name, rows


def _described(kernel: Kernel, rows: int, width: int, k: int) -> str:
    """Return what a tile computes, as TVM's loops."""
    panel = kernel.panel(width, k)
    # TVM writes an index as simply as it can be, and compares it so.
    step = f"vk // {kernel.depth}" if panel[0] > 1 else "0"
    inner = f"vk % {kernel.depth}" if panel[0] > 1 else "vk"
    four = f"{inner} // 4" if kernel.depth > 4 else "0"
    at = f"{step}, {four}, vj, vk % 4" if kernel.quads else f"{step}, vj, {inner}"
    many = rows > 1
    i, vi, kind = ("i, ", "vi, ", "S") if many else ("", "", "")
    loops = f"{f'{rows}, ' if many else ''}{width}, {k}"
    return f"""
@T.prim_func(s_tir=True)
def tile(a: T.handle, w: T.handle, p: T.handle) -> None:
    A = T.match_buffer(a, {tiles.shape(rows, k)}, "{kernel.dtype}", offset_factor=1)
    W = T.match_buffer(w, {panel}, "int8", offset_factor=1)
    P = T.match_buffer(p, {tiles.shape(rows, width)}, "int32", offset_factor=1, scope="local")
    with T.sblock("root"):
        {tiles.regions(rows, width, k, panel)}
        for {i}j, k in T.grid({loops}):
            with T.sblock("product"):
                {vi}vj, vk = T.axis.remap("{kind}SR", [{i}j, k])
                T.reads(P[{vi}vj], A[{vi}vk], W[{at}])
                T.writes(P[{vi}vj])
                P[{vi}vj] = P[{vi}vj] + T.cast(A[{vi}vk], "int32") * T.cast(W[{at}], "int32")
"""


def _written(kernel: Kernel, rows: int, width: int, k: int) -> str:
    """Return a tile in the core's instructions, with a buffer for each register.

    What it overwrites is zero. (TVM would put one buffer of all registers into memory.)
    """
    panel, lanes = kernel.panel(width, k), kernel.lanes
    a_strides, p_strides = ("[a_row, 1]", "[p_row, 1]") if rows > 1 else ("[1]", "[1]")
    vectors = width // kernel.columns_per_vector
    sums = [f"c{i}_{v}" for i in range(rows) for v in range(vectors)]
    made = [f'{name} = T.sblock_alloc_buffer(({lanes},), "int32", scope="local")' for name in sums]
    zero = [f"{name}[T.ramp(0, 1, {lanes})] = T.broadcast(0, {lanes})" for name in sums]
    steps = {"uint8": _vpdpbusd, "int8": _sdot if kernel.quads else _smull}[kernel.dtype]
    body = steps(kernel, rows, vectors)
    results = _lanes(kernel, rows, vectors) if kernel.quads else _parts(rows, vectors)
    return f"""
@T.prim_func(s_tir=True)
def tile(a: T.handle, w: T.handle, p: T.handle) -> None:
    a_row = T.int32()
    p_row = T.int32()
    A = T.match_buffer(
        a, {tiles.shape(rows, k)}, "{kernel.dtype}", offset_factor=1, strides={a_strides}
    )
    W = T.match_buffer(w, {panel}, "int8", offset_factor=1)
    P = T.match_buffer(
        p,
        {tiles.shape(rows, width)},
        "int32",
        offset_factor=1,
        strides={p_strides},
        scope="local",
    )
    with T.sblock("root"):
        {tiles.regions(rows, width, k, panel)}
        with T.sblock("registers"):
            {tiles.regions(rows, width, k, panel)}
            {tiles.INDENT.join([*made, *zero])}
            {tiles.steps(panel[0], body)}
            {tiles.INDENT.join(results)}
"""


def _call(dtype: str, name: str, *arguments: str) -> str:
    found = f'T.llvm_lookup_intrinsic_id("llvm.{name}")'
    return f'T.call_llvm_pure_intrin("{dtype}", {found}, {", ".join(arguments)})'


def _vpdpbusd(kernel: Kernel, rows: int, vectors: int) -> Iterator[str]:
    """Yield a step over 4 of K: the weights of 4 x ``lanes`` columns, 4 of a row in every lane."""
    lanes = kernel.lanes
    bits = lanes * 32
    for i in range(rows):
        four = f'T.reinterpret("int32", A[{tiles.at(rows, i, "T.ramp(k * 4, 1, 4)")}])'
        row = f'T.reinterpret("uint8x{4 * lanes}", T.broadcast({four}, {lanes}))'
        for v in range(vectors):
            weights = f"W[k, 0, {v * lanes}, T.ramp(0, 1, {4 * lanes})]"
            total = f"c{i}_{v}[T.ramp(0, 1, {lanes})]"
            made = _call(f"int32x{lanes}", f"x86.avx512.vpdpbusd.{bits}", total, row, weights)
            yield f"{total} = {made}"


def _sdot(kernel: Kernel, rows: int, vectors: int) -> Iterator[str]:
    """Yield a step over 16 of K: SDOT takes 4 of a row, by element, in each of its lanes."""
    for four in range(kernel.depth // 4):
        for v in range(vectors):
            for i in range(rows):
                row = f'T.reinterpret("int32x4", A[{tiles.at(rows, i, "T.ramp(k * 16, 1, 16)")}])'
                lane = f'T.reinterpret("int8x16", T.broadcast(T.Shuffle([{row}], [{four}]), 4))'
                weights = f"W[k, {four}, {4 * v}, T.ramp(0, 1, 16)]"
                total = f"c{i}_{v}[T.ramp(0, 1, 4)]"
                made = _call("int32x4", "aarch64.neon.sdot.v4i32.v16i8", total, weights, lane)
                yield f"{total} = {made}"


def _smull(kernel: Kernel, rows: int, vectors: int) -> Iterator[str]:
    """Yield a step over 16 of K: the products of a row and a column, in four parts of their sum."""
    del kernel
    for v in range(vectors):
        for i in range(rows):
            row, column = (
                f"A[{tiles.at(rows, i, 'T.ramp(k * 16, 1, 16)')}]",
                f"W[k, {v}, T.ramp(0, 1, 16)]",
            )
            halves = [
                _call(
                    "int16x8",
                    "aarch64.neon.smull.v8i16",
                    *(f'T.vector{half}({x}, dtype="int8x8")' for x in (row, column)),
                )
                for half in ("low", "high")
            ]
            pairs = _call("int32x4", "aarch64.neon.saddlp.v4i32.v8i16", " + ".join(halves))
            total = f"c{i}_{v}[T.ramp(0, 1, 4)]"
            yield f"{total} = {total} + {pairs}"


def _lanes(kernel: Kernel, rows: int, vectors: int) -> Iterator[str]:
    lanes = kernel.lanes
    for i in range(rows):
        for v in range(vectors):
            at = tiles.at(rows, i, f"T.ramp({v * lanes}, 1, {lanes})")
            yield f"P[{at}] = c{i}_{v}[T.ramp(0, 1, {lanes})]"


def _parts(rows: int, vectors: int) -> Iterator[str]:
    """Yield the sums of four columns by adding neighbouring parts twice."""
    for i in range(rows):
        for first in range(0, vectors, 4):
            parts = [f"c{i}_{first + v}[T.ramp(0, 1, 4)]" for v in range(4)]
            halves = [_addp(*parts[:2]), _addp(*parts[2:])]
            yield f"P[{tiles.at(rows, i, f'T.ramp({first}, 1, 4)')}] = {_addp(*halves)}"


def _addp(a: str, b: str) -> str:
    return _call("int32x4", "aarch64.neon.addp.v4i32", a, b)
