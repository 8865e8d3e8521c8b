# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Products with weights of which whole blocks are zero, as TVM kernels that skip those blocks.

A block is some outputs side by side of one input: a vector of the weight (inputs, outputs). For
each group of outputs the inputs whose block is not zero are listed, and their blocks lie one after
the other (compressed columns). A tile of rows of the activation is laid out first with the rows
side by side, so that one step of the sum takes a block, some vectors of activations and a
multiply-add for each row: nothing of it hangs on how far apart the rows are. What follows the
product in its fused kernel (bias, GELU, residual) is applied to the tile before it is written.

    values   (blocks, outputs)      float32
    columns  (blocks,)              uint16, the input of each block
    starts   (groups + 1,)          int32, where each group of outputs begins

A weight with too few zero blocks stays dense: laying out rows, and on some cores a block, cost more
than a dense product has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from edgeopt.backends.tvm_schedule import (
    AVX2,
    AVX512,
    NEON,
    SSE,
    Registers,
    is_product,
)
from edgeopt.backends.tvm_tiles import largest_divisor

_PARTS = 4
"""Into how many parts a kernel is cut at least, for threads; each lays out its rows by itself."""

_INPUTS_MAX = 1 << 16  # columns are uint16

_UNROLLED = 4
"""Blocks in a round of the loop, whose own instructions are then shared by them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Blocks:
    """What a kernel that skips zeros likes on a core.

    A block is ``outputs`` x 1, a whole number of vectors of ``lanes``; a tile is as wide and has
    at most ``rows`` rows. ``by_lane`` says that a multiply-add takes one lane of a vector register
    as its factor, so that four activations are loaded at once; else each is read from memory to
    all lanes. ``cost`` is what a block that is left takes, as a multiple of its share of a dense
    product.
    """

    outputs: int
    rows: int
    lanes: int
    by_lane: bool
    cost: float


# Counted in LLVM's code for a Cortex-A72: 85 instructions for 64 multiply-adds of vectors in blocks
# that are left, and 306 for 256 in a dense product; for cores in order the same is taken. Not
# measured on x86; of a like kernel with AVX-512 (16 x 1) the times met with .75 of the blocks left.
_NEON_COST, _X86_COST = 1.11, 1.3

BLOCKS: Mapping[Registers, Blocks] = {
    NEON: Blocks(outputs=4, rows=16, lanes=4, by_lane=True, cost=_NEON_COST),
    AVX512: Blocks(outputs=16, rows=16, lanes=16, by_lane=False, cost=_X86_COST),
    AVX2: Blocks(outputs=8, rows=8, lanes=8, by_lane=False, cost=_X86_COST),
    SSE: Blocks(outputs=4, rows=8, lanes=4, by_lane=False, cost=_X86_COST),
}

_LAYOUT_COST = 0.01  # laying out the rows: 2 instructions a value, which 384 outputs share
_WORTH = 0.95  # with more blocks left the indices take more room than the zeros did


def cost(density: float, blocks: Blocks) -> float:
    """Return what a product takes with this share of its blocks left, a dense one taking 1."""
    return min(1.0, _LAYOUT_COST + blocks.cost * density)


def break_even(blocks: Blocks) -> float:
    """Return up to which share of the blocks that are left they are skipped."""
    return min(_WORTH, (1 - _LAYOUT_COST) / blocks.cost)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Compressed:
    """A weight without its zero blocks; the arrays are those of the module's docstring."""

    values: np.ndarray
    columns: np.ndarray
    starts: np.ndarray


def compress(weight: np.ndarray, outputs: int) -> Compressed:
    """Return ``weight`` (inputs, outputs), float32, in blocks of ``outputs`` x 1."""
    inputs, count = weight.shape
    blocks = weight.reshape(inputs, count // outputs, outputs).transpose(1, 0, 2)
    kept = blocks.any(axis=2)  # (groups, inputs)
    return Compressed(
        values=np.ascontiguousarray(blocks[kept]),
        columns=np.nonzero(kept)[1].astype(np.uint16),
        starts=np.concatenate([[0], kept.sum(axis=1).cumsum()]).astype(np.int32),
    )


def density(weight: np.ndarray, outputs: int) -> float:
    """Return the share of the blocks of ``outputs`` x 1 in ``weight`` that are not zero.

    ``weight`` is (inputs, outputs); it is 1 if the outputs are no multiple of the block's.
    """
    inputs, count = weight.shape
    if count % outputs:
        return 1.0
    return float(weight.reshape(inputs, count // outputs, outputs).any(axis=2).mean())


def skip_zero_blocks(module: Any, registers: Registers) -> tuple[Any, frozenset[str]]:
    """Return ``module`` with sparse kernels where weights have enough zero blocks, and their names.

    ``module`` is fused and not scheduled; the kernels that come are, and are to be left as they
    are. Weights, kernels and calls that do not fit stay.
    """
    from tvm import ir, relax, tirx
    from tvm.relax.expr_functor import PyExprMutator, mutator

    blocks = BLOCKS[registers]
    positions: dict[str, int | None] = {}
    kernels: dict[str, Any] = {}

    @mutator
    class Skipper(PyExprMutator):
        def visit_call_(self, call: Any) -> Any:
            made = None
            if call.op.same_as(ir.Op.get("relax.call_tir")):
                made = self._skipped(call)
            return super().visit_call_(call) if made is None else made

        def _skipped(self, call: Any) -> Any | None:
            name, function = call.args[0].name_hint, module[call.args[0]]
            if name not in positions:
                prim = isinstance(function, tirx.PrimFunc)
                positions[name] = weight_of(function) if prim else None
            position, arguments = positions[name], list(call.args[1].fields)
            if position is None or not isinstance(arguments[position], relax.Constant):
                return None
            weight = arguments[position].data.numpy()
            if density(weight, blocks.outputs) > break_even(blocks):
                return None
            if name not in kernels:
                made = sparse_kernel(function, position, blocks)
                kernels[name] = (
                    None if made is None else self.builder_.add_func(made, f"{name}_sparse")
                )
            if (kernel := kernels[name]) is None:
                return None
            found = compress(weight, blocks.outputs)
            arguments[position : position + 1] = [
                relax.const(array) for array in (found.values, found.columns, found.starts)
            ]
            return relax.Call(call.op, [kernel, relax.Tuple(arguments)], call.attrs, call.ty_args)

    skipper = Skipper(module)
    for variable, function in module.functions_items():
        if isinstance(function, relax.Function):
            skipper.builder_.update_func(variable, skipper.visit_expr(function))
    names = frozenset(kernel.name_hint for kernel in kernels.values() if kernel is not None)
    return skipper.builder_.get(), names


def weight_of(function: Any) -> int | None:
    """Return which parameter of ``function`` is the weight (inputs, outputs) of its product.

    None if it is no product of one matrix (1, .., rows, inputs) with a parameter, summed as
    x[.., i, k] * w[k, j].
    """
    import tvm
    from tvm.s_tir import Schedule

    schedule = Schedule(tvm.IRModule({"main": function}), error_render_level="fast")
    first = schedule.get(schedule.get_child_blocks(schedule.get_sblock("root"))[0])
    if not is_product(first):
        return None
    *_, i, j, k = (v.var for v in first.iter_vars)
    batch = [int(v.dom.extent) for v in first.iter_vars[:-3]]
    activation, weight = first.body.value.b.a, first.body.value.b.b
    if prod(batch) != 1 or not _indexed(activation, i, k) or not _indexed(weight, k, j):
        return None
    if len(weight.indices) != 2 or int(weight.buffer.shape[0]) > _INPUTS_MAX:
        return None
    places = (p for p, v in enumerate(function.params) if v.same_as(weight.buffer))
    return next(places, None)


def _indexed(load: Any, row: Any, column: Any) -> bool:
    from tvm import tirx

    if not isinstance(load, tirx.BufferLoad) or len(load.indices) < 2:
        return False
    return bool(load.indices[-2].same_as(row) and load.indices[-1].same_as(column))


def sparse_kernel(function: Any, position: int, blocks: Blocks) -> Any | None:
    """Return ``function`` as a kernel that takes its weight compressed, or None if it cannot be.

    Parameter ``position`` becomes three: values, columns and starts, of any number of blocks.
    """
    import tvm
    from tvm.s_tir import Schedule, ScheduleError

    schedule = Schedule(tvm.IRModule({"main": function}), error_render_level="fast")
    product, *after = schedule.get_child_blocks(schedule.get_sblock("root"))
    shapes = {tuple(_spatial(schedule.get(block))) for block in (product, *after)}
    if len(shapes) > 1 or not all(schedule.get_consumers(b) for b in (product, *after)[:-1]):
        return None
    try:
        for block in after[:-1]:
            schedule.compute_inline(block)
    except ScheduleError:
        return None
    last = schedule.get(after[-1]) if after else None
    return _Kernel(function, position, schedule.get(product), last, blocks).made()


def _spatial(block: Any) -> list[int]:
    from tvm.tirx import IterVar

    return [int(v.dom.extent) for v in block.iter_vars if v.iter_type != IterVar.CommReduce]


class _Kernel:
    """The loops of one kernel while they are put together."""

    def __init__(
        self, function: Any, position: int, product: Any, last: Any | None, blocks: Blocks
    ) -> None:
        from tvm import tirx

        self.function, self.position, self.blocks = function, position, blocks
        self.product, self.last = product, last
        *_, self.m, self.n = _spatial(product)
        self.x = product.body.value.b.a.buffer
        self.k = int(self.x.shape[-1])
        self.rows = largest_divisor(self.m, blocks.rows)
        count = tirx.Var("blocks", "int64")
        groups = self.n // blocks.outputs
        self.values = tirx.decl_buffer((count, blocks.outputs), "float32", "values")
        self.columns = tirx.decl_buffer((count,), "uint16", "columns")
        self.starts = tirx.decl_buffer((groups + 1,), "int32", "starts")
        # A tile's own buffer: a block's address is then one addition to its beginning.
        self.panel = tirx.decl_buffer((self.k, self.rows), "float32", "panel")

    def made(self) -> Any:
        from tvm import tirx

        params = list(self.function.params)
        params[self.position : self.position + 1] = [self.values, self.columns, self.starts]
        made = tirx.PrimFunc(params, self._tiles())
        return made.with_attr({"tirx.noalias": True, "tirx.is_scheduled": True})

    def _packed(self, tile: Any) -> Any:
        """Lay the activation out with the rows of a tile side by side."""
        r, k = _variables("r", "k")
        store = _store(self.panel, self._activation(tile * self.rows + r, k), [k, r])
        return _loop(k, self.k, _loop(r, self.rows, store, "unrolled"))

    def _activation(self, row: Any, column: Any) -> Any:
        from tvm import tirx

        return tirx.BufferLoad(self.x, [*[0] * (len(self.x.shape) - 2), row, column])

    def _tiles(self) -> Any:
        """Compute tile after tile of the result: a part of the groups for each tile of rows."""
        from tvm import tirx

        tiles, groups = self.m // self.rows, self.n // self.blocks.outputs
        parts = largest_divisor(groups, max(1, _PARTS // tiles))
        index, group = _variables("part", "group")
        tile, part = index // parts, index % parts
        each = groups // parts
        inner = _loop(group, each, self._tile(tile, part * each + group))
        if self.rows > 1:
            inner = tirx.stmt_seq(tirx.AllocBuffer(self.panel), self._packed(tile), inner)
        return _loop(index, tiles * parts, inner, "parallel")

    def _tile(self, tile: Any, group: Any) -> Any:
        from tvm import tirx

        lanes, vectors = self.blocks.lanes, self.blocks.outputs // self.blocks.lanes
        # In TVM's scope "local" each would be allocated by a call, and not be in registers.
        sums = [
            [
                tirx.decl_buffer((lanes,), "float32", f"sum_{r}_{v}", scope="global")
                for v in range(vectors)
            ]
            for r in range(self.rows)
        ]
        every = tirx.Ramp(0, 1, lanes)
        zero = tirx.Broadcast(tirx.const(0.0, "float32"), lanes)
        flat = [one for row in sums for one in row]
        start, end = (tirx.BufferLoad(self.starts, [group + i]) for i in (0, 1))
        count, four, p = _variables("count", "four", "p")
        whole = count // _UNROLLED
        several = [
            step
            for i in range(_UNROLLED)
            for step in self._steps(tile, start + four * _UNROLLED + i, sums)
        ]
        rest = self._steps(tile, start + whole * _UNROLLED + p, sums)
        return tirx.stmt_seq(
            *[tirx.AllocBuffer(one) for one in flat],
            *[_store(one, zero, [every]) for one in flat],
            tirx.Bind(count, end - start),
            _loop(four, whole, tirx.stmt_seq(*several)),
            _loop(p, count - whole * _UNROLLED, tirx.stmt_seq(*rest)),
            *[
                self._result(tile * self.rows + r, group * self.blocks.outputs + v * lanes, one)
                for r, row in enumerate(sums)
                for v, one in enumerate(row)
            ],
        )

    def _steps(self, tile: Any, p: Any, sums: Sequence[Sequence[Any]]) -> list[Any]:
        """Return a multiply-add of block ``p`` for each of ``sums``, those of a row together."""
        from tvm import tirx

        lanes = self.blocks.lanes
        every = tirx.Ramp(0, 1, lanes)
        found = []
        for r, row in enumerate(sums):
            factor = self._factor(tile, p, r)
            for v, one in enumerate(row):
                block = tirx.BufferLoad(self.values, [p, tirx.Ramp(v * lanes, 1, lanes)])
                total = tirx.BufferLoad(one, [every])
                found.append(_store(one, total + block * factor, [every]))
        return found

    def _factor(self, tile: Any, p: Any, r: int) -> Any:
        """Return the activation of row ``r`` for block ``p`` in all lanes."""
        from tvm import tirx

        lanes = self.blocks.lanes
        column = tirx.BufferLoad(self.columns, [p]).astype("int32")
        if self.rows == 1:
            return tirx.Broadcast(self._activation(tile, column), lanes)
        if self.blocks.by_lane and self.rows % lanes == 0:
            first = r // lanes * lanes
            four = tirx.BufferLoad(self.panel, [column, tirx.Ramp(first, 1, lanes)])
            return tirx.Broadcast(tirx.Shuffle([four], [r - first]), lanes)
        return tirx.Broadcast(tirx.BufferLoad(self.panel, [column, r]), lanes)

    def _result(self, row: Any, column: Any, total: Any) -> Any:
        """Apply what follows the product to a vector of it, and write that."""
        from tvm import tirx
        from tvm.tirx.stmt_functor import ir_transform, substitute

        (lane,) = _variables("lane")
        product = self.product.body.buffer
        body = self.product.body if self.last is None else self.last.body
        variables = (self.product if self.last is None else self.last).iter_vars
        *batch, i, j = [v.var for v in variables][: len(product.shape)]
        places = [*[tirx.const(0, "int32")] * len(batch), row, column + lane]
        variables = [*batch, i, j]
        there = {
            v: place.astype(str(v.ty.dtype)) for v, place in zip(variables, places, strict=True)
        }
        if self.last is None:
            stored = _store(body.buffer, tirx.BufferLoad(total, [lane]), body.indices)
        else:

            def local(load: Any) -> Any:
                same = isinstance(load, tirx.BufferLoad) and load.buffer.same_as(product)
                return tirx.BufferLoad(total, [lane]) if same else load

            stored = ir_transform(body, None, local, ["tirx.BufferLoad"])
        return _loop(lane, self.blocks.lanes, substitute(stored, there), "vectorized")


def _variables(*names: str, dtype: str = "int32") -> list[Any]:
    from tvm import tirx

    return [tirx.Var(name, dtype) for name in names]


def _store(buffer: Any, value: Any, indices: Sequence[Any]) -> Any:
    from tvm import tirx

    return tirx.BufferStore(buffer, value, list(indices))


def _loop(variable: Any, extent: Any, body: Any, kind: str = "serial", start: Any = 0) -> Any:
    from tvm import tirx

    return tirx.For(variable, start, extent, getattr(tirx.ForKind, kind.upper()), body)
