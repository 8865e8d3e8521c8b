# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""How a lowered model's loops run on a CPU: register tiles, vectors, threads.

TVM compiles a loop nest as it stands; one that was not scheduled runs a hundred times slower than
it could. Four shapes make up a transformer, and each has its rule here:

    a matrix product and what follows it    one register tile of the result at a time, from a
                                            weight packed into panels of the tile's width; on
                                            Arm by element (tvm_fmla)
    a row reduction (softmax, norms)        one row at a time, all of its steps
    a sum or maximum alone (pooled tokens)  vectors of results, all terms of one after the other
    everything else (copies, additions)     one fused loop, vectorised

A function that fits none of them, or sizes that a tile does not divide, keep TVM's plain loops:
slower and as right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd, prod
from typing import Any

from edgeopt.backends import tvm_fmla
from edgeopt.backends.tvm_tiles import in_tiles, largest_divisor

PARALLEL_MIN_ELEMENTS = 8192
"""An elementwise loop over fewer elements takes less time than waking a thread (some 5 us)."""

_REDUCE = 2  # tvm.tirx.IterVar.CommReduce
_UNROLL_MAX_VECTORS = 8
_LANES_MIN = 4
_SCALARS = 16  # results of a tile without vectors, one register each


@dataclass(frozen=True, kw_only=True, slots=True)
class Registers:
    """A CPU's vector registers as the tiles use them.

    ``lanes`` is FP32 values a register; a matrix product keeps ``rows`` x ``columns`` vectors of
    its result in registers, and needs as many again as columns, plus one or two, for its operands.
    With ``by_element`` a product takes one lane of a register as its factor.
    """

    lanes: int
    rows: int
    columns: int
    by_element: bool = False


SSE = Registers(lanes=4, rows=4, columns=3)  # 12 of 16 registers, 4 for the operands
AVX2 = Registers(lanes=8, rows=4, columns=3)  # 12 of 16
AVX512 = Registers(lanes=16, rows=8, columns=2)  # 16 of 32
NEON = Registers(lanes=4, rows=4, columns=4, by_element=True)  # 16 of 32: operands come ahead


@dataclass(frozen=True, kw_only=True, slots=True)
class Packing:
    """Parameter ``position`` (K, N) of a function is now (N / width, K, width)."""

    position: int
    width: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Scheduled:
    """A function as it will be compiled; ``plain`` says why, if it keeps TVM's plain loops."""

    function: Any
    packing: Packing | None = None
    plain: str | None = None


def schedule_function(function: Any, registers: Registers, constants: frozenset[int]) -> Scheduled:
    """Return the fused PrimFunc ``function`` with the rule that fits its blocks applied.

    ``constants`` are the positions of the parameters that are constant wherever it is called.
    """
    import tvm
    from tvm.s_tir import Schedule, ScheduleError

    schedule = Schedule(tvm.IRModule({"main": function}), error_render_level="fast")
    packing = None
    try:
        blocks = schedule.get_child_blocks(schedule.get_sblock("root"))
        one_result = all(schedule.get_consumers(b) for b in blocks[:-1])
        if not any(_is_reduction(schedule.get(b)) for b in blocks):
            _schedule_elements(schedule, blocks, registers)
        elif not one_result:
            return Scheduled(function=function, plain="it reduces and has several results")
        elif is_product(schedule.get(blocks[0])):
            if len({tuple(_spatial(schedule, b)) for b in blocks}) > 1:
                return Scheduled(function=function, plain="its steps have several shapes")
            if registers.by_element and (made := _by_element(function, registers, constants)):
                return made
            packing = _schedule_product(schedule, blocks, registers, constants)
        elif _is_reduction(schedule.get(blocks[-1])) and _spatial(schedule, blocks[-1]):
            _schedule_sum(schedule, blocks, registers)
        else:
            _schedule_rows(schedule, blocks, registers)
    # A block of a form that the rule did not foresee: TVM's checks raise ValueError as well, and a
    # size that only a run tells a TypeError.
    except (ScheduleError, ValueError, TypeError) as exc:
        return Scheduled(function=function, plain=str(exc).strip().splitlines()[-1])
    return Scheduled(function=schedule.mod["main"], packing=packing)


def _is_reduction(block: Any) -> bool:
    return any(int(v.iter_type) == _REDUCE for v in block.iter_vars)


def is_product(block: Any) -> bool:
    """True for a block that sums a[..., i, k] * b[..., k, j] over k, in FP32 or int32."""
    from tvm import tirx

    kinds = [int(v.iter_type) for v in block.iter_vars]
    if len(kinds) < 3 or kinds.count(_REDUCE) != 1 or kinds[-1] != _REDUCE:
        return False
    if len(block.reads) != 2:
        return False
    store = block.body
    return (
        isinstance(store, tirx.BufferStore)
        and str(store.buffer.dtype) in ("float32", "int32")
        and isinstance(store.value, tirx.Add)
        and isinstance(store.value.b, tirx.Mul)
    )


def _extents(schedule: Any, block: Any) -> list[int]:
    return [int(v.dom.extent) for v in schedule.get(block).iter_vars]


def _spatial(schedule: Any, block: Any) -> list[int]:
    """Return the extents of a block's iterators but those that it reduces over."""
    variables = schedule.get(block).iter_vars
    return [int(v.dom.extent) for v in variables if int(v.iter_type) != _REDUCE]


def _schedule_product(
    schedule: Any, blocks: Sequence[Any], registers: Registers, constants: frozenset[int]
) -> Packing | None:
    """Keep a tile of the result in registers over the whole sum, then apply what follows to it."""
    product, *after = blocks
    *_, m, n = _spatial(schedule, product)
    height, width = _tile(m, n, registers)
    packing = _pack(schedule, product, width, constants)
    for block in after[:-1]:
        schedule.compute_inline(block)
    if after:
        last = after[-1]
        schedule.set_scope(product, 0, "local")
    else:
        last = schedule.cache_write(product, 0, "local")
    *batch, i, j = schedule.get_loops(last)
    i_tile, i = schedule.split(i, [None, height])
    j_tile, j = schedule.split(j, [None, width])
    schedule.reorder(*batch, j_tile, i_tile, i, j)
    panel = schedule.fuse(*batch, j_tile)
    schedule.parallel(panel)
    schedule.compute_at(product, i_tile, preserve_unit_loops=True)
    schedule.unroll(i)
    _vectorize(schedule, j, registers)
    *_, i, j, k = schedule.get_loops(product)
    schedule.reorder(k, i, j)
    schedule.unroll(i)
    _vectorize(schedule, j, registers)
    schedule.decompose_reduction(product, k)
    return packing


def _by_element(function: Any, registers: Registers, constants: frozenset[int]) -> Scheduled | None:
    """Return a product in tiles of ``tvm_fmla``, and what follows it; None if none fits."""
    import tvm
    from tvm.s_tir import Schedule, ScheduleError

    schedule = Schedule(tvm.IRModule({"main": function}), error_render_level="fast")
    blocks = schedule.get_child_blocks(schedule.get_sblock("root"))
    total = schedule.get(blocks[0])
    *_, m, n, k = (int(v.dom.extent) for v in total.iter_vars)
    _, width = _tile(m, n, registers)
    if width % registers.lanes or not tvm_fmla.takes(total):
        return None
    packing = _pack(schedule, blocks[0], width, constants)
    tile, rows = tvm_fmla.intrinsic(m, width, k)
    try:
        in_tiles(schedule, blocks, tile, (rows, width, registers.lanes))
    except (ScheduleError, ValueError, TypeError):  # as in schedule_function
        return None
    return Scheduled(function=schedule.mod["main"], packing=packing)


def _tile(m: int, n: int, registers: Registers) -> tuple[int, int]:
    """Return the rows and columns of a tile that divides (m, n) and fits the registers.

    The columns depend on n alone, so that kernels of several lengths share one packed weight.
    If no whole vectors divide n, the tile is of single values.
    """
    vectors = [c * registers.lanes for c in range(registers.columns, 0, -1)]
    halves = [registers.lanes >> s for s in range(1, registers.lanes.bit_length())]
    widths = (w for w in (*vectors, *halves) if w >= _LANES_MIN and n % w == 0)
    width = next(widths, None)
    rows = registers.rows
    if width is None:
        width = largest_divisor(n, _SCALARS)
        rows = min(rows, _SCALARS // width)
    return largest_divisor(m, rows), width


def _pack(schedule: Any, product: Any, width: int, constants: frozenset[int]) -> Packing | None:
    """Have ``product`` read its weight as panels (N / width, K, width), if it has a weight."""
    weight = schedule.get(product).reads[1].buffer
    params = schedule.mod["main"].params
    position = next((p for p, v in enumerate(params) if v.same_as(weight)), None)
    if position not in constants or len(weight.shape) != 2 or int(weight.shape[1]) % width:
        return None
    schedule.transform_layout(product, ("read", 1), lambda k, n: (n // width, k, n % width))
    return Packing(position=position, width=width)


def _vectorize(schedule: Any, loop: Any, registers: Registers) -> None:
    """Turn ``loop`` into whole vectors; it stays scalar if none divide it."""
    extent = int(schedule.get(loop).extent)
    lanes = gcd(extent, registers.lanes)
    if lanes < _LANES_MIN:
        if extent <= _SCALARS:
            schedule.unroll(loop)
        return
    vectors, lane = schedule.split(loop, [None, lanes])
    schedule.vectorize(lane)
    if extent // lanes > _UNROLL_MAX_VECTORS:  # several of a long loop share what they begin with
        _, vectors = schedule.split(vectors, [None, largest_divisor(extent // lanes, _LANES_MIN)])
    schedule.unroll(vectors)


def _schedule_rows(schedule: Any, blocks: Sequence[Any], registers: Registers) -> None:
    """Take one row through all steps while it is in the cache."""
    *steps, last = blocks
    shape = _extents(schedule, last)
    kept = []
    for block in steps:
        consumers = schedule.get_consumers(block)
        whole = _extents(schedule, block) == shape
        if whole and not any(_is_reduction(schedule.get(c)) for c in consumers):
            schedule.compute_inline(block)
        else:
            kept.append(block)
    *outer, _ = schedule.get_loops(last)
    row = schedule.fuse(*outer)
    schedule.parallel(row)
    for block in reversed(kept):
        schedule.compute_at(block, row, preserve_unit_loops=True)
    for block in [*kept, last]:
        loops = schedule.get_loops(block)[1:]
        if _is_reduction(schedule.get(block)):
            *_, lane, k = loops
            schedule.reorder(k, lane)
            _vectorize(schedule, lane, registers)
            schedule.decompose_reduction(block, k)
        elif loops:
            _vectorize(schedule, loops[-1], registers)


def _schedule_sum(schedule: Any, blocks: Sequence[Any], registers: Registers) -> None:
    """Add up whole vectors of results; the steps before are computed as each term is read."""
    *steps, last = blocks
    for block in steps:
        schedule.compute_inline(block)
    loops = schedule.get_loops(last)
    count = len(_spatial(schedule, last))
    outer, column, terms = loops[: count - 1], loops[count - 1], loops[count:]
    schedule.reorder(*terms, column)
    if outer and prod(_extents(schedule, last)) >= PARALLEL_MIN_ELEMENTS:
        schedule.parallel(schedule.fuse(*outer))
    _vectorize(schedule, column, registers)
    schedule.decompose_reduction(last, terms[0])


def _schedule_elements(schedule: Any, blocks: Sequence[Any], registers: Registers) -> None:
    """Make one loop of all the steps to a result."""
    results = [b for b in blocks if not schedule.get_consumers(b)]
    for block in [b for b in blocks if schedule.get_consumers(b)]:
        schedule.compute_inline(block)
    for block in results:
        *outer, inner = schedule.get_loops(block)
        if outer and prod(_extents(schedule, block)) >= PARALLEL_MIN_ELEMENTS:
            schedule.parallel(schedule.fuse(*outer))
        _vectorize(schedule, inner, registers)
