# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Products of floats for Arm, by element: FMLA takes a lane of a register as its factor.

A register of a row is loaded at once, and each of its lanes is multiplied by as many vectors as a
tile is wide: 1.2 instructions an FMLA, where a schedule of loops loads each alone and takes 1.6.
"""

from __future__ import annotations

from typing import Any

from edgeopt.backends import tvm_tiles as tiles

LANES = {"float32": 4, "float16": 8}
"""Of a register of 128 bits, by what a product is computed in."""

_SUMS = 16  # registers, half of what there are
_ROWS_MAX = 8  # a register each, beside those of the sums


def intrinsic(m: int, width: int, k: int, dtype: str = "float32") -> tuple[str, int]:
    """Return the name of a tile as TVM's tensor intrinsic, and its rows, which divide ``m``.

    ``k`` and ``width`` are multiples of the lanes, ``m`` is above 1.
    """
    from tvm.s_tir import TensorIntrin

    rows = tiles.largest_divisor(m, min(_ROWS_MAX, _SUMS * LANES[dtype] // width))
    name = f"edgeopt.fmla.{dtype}.{rows}x{width}x{k}"
    if TensorIntrin.get(name, allow_missing=True) is None:
        described, written = (tiles.parse(f(rows, width, k, dtype)) for f in (_described, _written))
        TensorIntrin.register(name, described, written)
    return name, rows


def _described(rows: int, width: int, k: int, dtype: str) -> str:
    shape, axes, at = ("i, ", "S", "vi, ") if rows > 1 else ("", "", "")
    loops = f"{f'{rows}, ' if rows > 1 else ''}{width}, {k}"
    return f"""
@T.prim_func(s_tir=True)
def tile(a: T.handle, b: T.handle, p: T.handle) -> None:
    A = T.match_buffer(a, {tiles.shape(rows, k)}, "{dtype}", offset_factor=1)
    B = T.match_buffer(b, ({k}, {width}), "{dtype}", offset_factor=1)
    P = T.match_buffer(p, {tiles.shape(rows, width)}, "{dtype}", offset_factor=1, scope="local")
    with T.sblock("root"):
        {tiles.regions(rows, width, k, (k, width), "B")}
        for {shape}j, k in T.grid({loops}):
            with T.sblock("product"):
                {at}vj, vk = T.axis.remap("{axes}SR", [{shape}j, k])
                T.reads(P[{at}vj], A[{at}vk], B[vk, vj])
                T.writes(P[{at}vj])
                P[{at}vj] = P[{at}vj] + A[{at}vk] * B[vk, vj]
"""


def _written(rows: int, width: int, k: int, dtype: str) -> str:
    lanes = LANES[dtype]
    vectors = width // lanes
    every = f"T.ramp(0, 1, {lanes})"
    sums = [f"c{i}_{v}" for i in range(rows) for v in range(vectors)]
    made = [
        f'{name} = T.sblock_alloc_buffer(({lanes},), "{dtype}", scope="local")' for name in sums
    ]
    zero = [f"{name}[{every}] = T.broadcast(T.{dtype}(0), {lanes})" for name in sums]
    body = [
        f"c{i}_{v}[{every}] = c{i}_{v}[{every}] + T.broadcast(T.Shuffle("
        f"[A[{tiles.at(rows, i, f'T.ramp(k * {lanes}, 1, {lanes})')}]], [{lane}]), {lanes}) "
        f"* B[k * {lanes} + {lane}, T.ramp({lanes * v}, 1, {lanes})]"
        for lane in range(lanes)
        for v in range(vectors)
        for i in range(rows)
    ]
    results = [
        f"P[{tiles.at(rows, i, f'T.ramp({lanes * v}, 1, {lanes})')}] = c{i}_{v}[{every}]"
        for i in range(rows)
        for v in range(vectors)
    ]
    a_strides, p_strides = ("[a_row, 1]", "[p_row, 1]") if rows > 1 else ("[1]", "[1]")
    return f"""
@T.prim_func(s_tir=True)
def tile(a: T.handle, b: T.handle, p: T.handle) -> None:
    a_row = T.int32()
    b_row = T.int32()
    p_row = T.int32()
    A = T.match_buffer(a, {tiles.shape(rows, k)}, "{dtype}", offset_factor=1, strides={a_strides})
    B = T.match_buffer(b, ({k}, {width}), "{dtype}", offset_factor=1, strides=[b_row, 1])
    P = T.match_buffer(
        p,
        {tiles.shape(rows, width)},
        "{dtype}",
        offset_factor=1,
        strides={p_strides},
        scope="local",
    )
    with T.sblock("root"):
        {tiles.regions(rows, width, k, (k, width), "B")}
        with T.sblock("registers"):
            {tiles.regions(rows, width, k, (k, width), "B")}
            {tiles.INDENT.join([*made, *zero])}
            {tiles.steps(k // lanes, body)}
            {tiles.INDENT.join(results)}
"""


def takes(block: Any) -> bool:
    """Tell whether an FP32 product reads a[..., i, k] and b[..., k, j], in sizes that a tile fits.

    A tile has more than one row, and takes four of K in a step.
    """
    if any(str(read.buffer.dtype) != "float32" for read in block.reads):
        return False
    *_, i, j, k = block.iter_vars
    if int(i.dom.extent) == 1 or int(k.dom.extent) % 4:
        return False
    for read, last in zip(block.reads, ((i.var, k.var), (k.var, j.var)), strict=True):
        found = [r.min for r in read.region][-2:]
        if len(found) < 2 or not all(f.same_as(v) for f, v in zip(found, last, strict=True)):
            return False
    return True
