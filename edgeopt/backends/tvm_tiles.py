# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Tiles of a product that are written in a core's own instructions: what their texts share.

A tile is ``rows`` x ``width`` sums that stay in registers over all of K. TVM gets it as a tensor
intrinsic: what it computes, as loops, and how, as TVMScript.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

INDENT = "\n" + " " * 12
_UNROLLED = 4  # steps in a round: the loop's own instructions are then under 2 % of it


def largest_divisor(n: int, limit: int) -> int:
    """Return the largest divisor of ``n`` up to ``limit``."""
    return max(d for d in range(1, limit + 1) if n % d == 0)


def parse(text: str) -> Any:
    """Return the PrimFunc of a TVMScript that says T for its words."""
    from tvm.script import from_source, tirx

    return from_source(text, extra_vars={"T": tirx})


def shape(rows: int, columns: int) -> tuple[int, ...]:
    """Return the shape of a tile's ``rows``; one row has no axis, as TVM leaves it out."""
    return (rows, columns) if rows > 1 else (columns,)


def at(rows: int, i: int, column: str) -> str:
    """Return the indices of ``column`` in row ``i`` of a tile's ``rows``."""
    return f"{i}, {column}" if rows > 1 else column


def steps(count: int, body: Iterable[str]) -> str:
    """Return ``body`` for each ``k`` below ``count``, several to a round of the loop.

    There is more than one round if there can be: of a single one LLVM would load the whole weight
    before the loop over rows, and spill it.
    """
    unrolled = largest_divisor(count, max(1, min(_UNROLLED, count // 2)))
    step, at = re.compile(r"\bk\b"), f"(around * {unrolled} + within)"
    lines = [
        f"for around in range({count // unrolled}):",
        f"    for within in T.unroll({unrolled}):",
        *(f"        {step.sub(at, line)}" for line in body),
    ]
    return INDENT.join(lines)


def regions(rows: int, width: int, k: int, panel: tuple[int, ...], weight: str = "W") -> str:
    """Return what a tile reads and writes, as TVMScript."""
    a, w, p = (
        ", ".join(f"0:{size}" for size in sizes)
        for sizes in (shape(rows, k), panel, shape(rows, width))
    )
    return f"T.reads(P[{p}], A[{a}], {weight}[{w}]); T.writes(P[{p}])"


def in_tiles(schedule: Any, blocks: Sequence[Any], tile: str, sizes: tuple[int, int, int]) -> None:
    """Compute a product ``tile`` by tile, each by the intrinsic, and then what follows it."""
    total, *after = blocks
    rows, width, lanes = sizes
    for block in after[:-1]:
        schedule.compute_inline(block)
    if after:
        last = after[-1]
        schedule.set_scope(total, 0, "local")
    else:
        last = schedule.cache_write(total, 0, "local")
    *batch, i, j = schedule.get_loops(last)
    i_tile, i = schedule.split(i, [None, rows])
    j_tile, j = schedule.split(j, [None, width])
    schedule.reorder(*batch, j_tile, i_tile, i, j)
    schedule.parallel(schedule.fuse(*batch, j_tile))
    schedule.compute_at(total, i_tile, preserve_unit_loops=True)
    schedule.unroll(i)
    vectors, lane = schedule.split(j, [None, lanes])
    schedule.unroll(vectors)
    schedule.vectorize(lane)
    *_, i, j, terms = schedule.get_loops(total)
    once, terms = schedule.split(terms, [1, None])
    schedule.reorder(once, i, j, terms)
    schedule.decompose_reduction(total, once)
    schedule.tensorize(i if rows > 1 else j, tile)
