# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""INT8 in TVM: products with a constant weight, and the tables of embeddings.

    rows       quantised call by call, each in its own range: u = x / s + z, 8 bits
    weights    a scale to each output channel, within +-127, packed for the core's tile
    sums       int32, exact; less z times the sum of the channel's weights
    results    FP32: scaled, with all that follows (bias, GELU, residual) in the tile's epilogue

A table of embeddings has a scale to each row. Products of two activations (attention) are in FP16
on cores that compute in it. All else is FP32. On every core the integers are the same, so that two
cores' results differ by the rounding of floats alone.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from math import prod, sqrt
from typing import Any

import numpy as np

from edgeopt.backends import tvm_fmla
from edgeopt.backends import tvm_int8_kernels as kernels
from edgeopt.backends.tvm_int8_kernels import Kernel
from edgeopt.backends.tvm_schedule import Scheduled
from edgeopt.backends.tvm_tiles import in_tiles

Legalize = Callable[[Any, Any], Any]

LEVELS = 254
"""Steps of a row's range: z is then a whole number in 1 to 255, and nothing is cut off."""

_TINY = 1e-30  # a row of zeros has no range
_MAX_K = 65_000  # 255 * 127 * K has to fit into int32
_MIN_TABLE = 256  # values: scales of a smaller one take more than they save
_OPAQUE = 8  # tvm.relax's OpPatternKind: nothing is fused with it
_DONE = "edgeopt.scheduled"
_HALVES = tvm_fmla.LANES["float16"]
_ERF_END = 3.0
_ERF = (
    1.1282685,
    -0.37531486,
    0.11107933,
    -0.025102856,
    0.0042354255,
    -0.00051103643,
    4.1060473e-05,
    -1.9448196e-06,
    4.074202e-08,
)
"""erf(x) / x by powers of x**2, of least greatest error (Lawson's algorithm, double precision)."""

_MAGIC = 12582912.0
"""1.5 * 2**23: added to a number below 2**22, it leaves it, rounded, in the lowest bits."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Int8:
    """How a module is quantised: the core's ``kernel``, if it has one, and FP32 ``lanes``.

    Weights in ``kept`` stay in FP32. With ``halves`` products of two activations are in FP16.
    """

    kernel: Kernel | None
    lanes: int
    kept: Container[Any] = ()
    halves: bool = False

    def legalize_map(self, plain: Mapping[str, Legalize]) -> dict[str, Legalize]:
        """Return ``plain``, what operators are made of in FP32, with the INT8 ones before."""
        from tvm import ir

        take = plain["relax.take"]
        matmul, divide = (
            ir.Op.get(f"relax.{name}").get_attr("FLegalize") for name in ("matmul", "divide")
        )

        def legalize_matmul(builder: Any, call: Any) -> Any:
            for attempt in (self._product, self._in_halves):
                if (made := attempt(builder, call)) is not None:
                    return made
            return matmul(builder, call)

        def legalize_divide(builder: Any, call: Any) -> Any:
            made = _by_reciprocal(builder, call)
            return divide(builder, call) if made is None else made

        def legalize_take(builder: Any, call: Any) -> Any:
            made = _embedding(builder, call)
            return take(builder, call) if made is None else made

        return {
            **plain,
            "relax.divide": legalize_divide,
            "relax.erf": _legalize_erf,
            "relax.matmul": legalize_matmul,
            "relax.nn.gelu": _legalize_gelu,
            "relax.take": legalize_take,
        }

    def _product(self, builder: Any, call: Any) -> Any | None:
        """Return ``x @ weight`` in INT8, None for a product that stays in FP32."""
        from tvm import relax, tirx

        x = call.args[0]
        weight = _constant(builder, call.args[1])
        if weight is None or weight.ndim != 2 or x.ty.dtype != "float32" or len(x.ty.shape) < 2:
            return None
        if not all(isinstance(size, tirx.IntImm) for size in x.ty.shape):
            return None
        k, n = weight.shape
        if k > _MAX_K or weight in self.kept:
            return None
        values, scale = channels(weight)
        width = None if self.kernel is None else self.kernel.width(n)
        if self.kernel is None or width is None:
            dtype, packed, padded, index = "int8", values, k, None
        else:
            kernel = self.kernel
            dtype = kernel.dtype
            packed = kernels.pack(kernel, values, width)
            padded = -(-k // kernel.depth) * kernel.depth

            def index(k: Any, n: Any) -> tuple[Any, ...]:
                return kernels.index(kernel, k, n, width)

        lead = tuple(int(d) for d in x.ty.shape)[:-1]
        neon = self.kernel in (kernels.SDOT, kernels.SMULL)
        code = quantizer(lead, k, padded, dtype, self.lanes, neon=neon)
        quantize = builder.add_func(code, "quantize")
        types = [
            relax.TensorType((*lead, padded), dtype),
            relax.TensorType((*lead, 1), "float32"),
            relax.TensorType((*lead, 1), "int32"),
        ]
        rows = builder.emit(relax.call_tir(quantize, [x], types))
        return builder.call_te(
            functools.partial(product, index=index),
            *(builder.emit(relax.TupleGetItem(rows, i)) for i in range(3)),
            *map(relax.const, (packed, scale, values.sum(0, dtype=np.int32))),
            primfunc_name_hint="int8_product",
        )

    def _in_halves(self, builder: Any, call: Any) -> Any | None:
        """Return a product of two activations in FP16, None for one that stays in FP32."""
        from tvm import tirx, topi

        a, b = call.args
        sizes = [*a.ty.shape, *b.ty.shape]
        if not self.halves or not all(isinstance(size, tirx.IntImm) for size in sizes):
            return None
        if any(x.ty.dtype != "float32" or _constant(builder, x) is not None for x in (a, b)):
            return None
        *batch, m, k = map(int, a.ty.shape)
        *other, _, n = map(int, b.ty.shape)
        if batch != other or m == 1 or k % _HALVES or n % _HALVES:
            return None
        halves = (
            builder.emit(builder.call_te(topi.cast, x, "float16", primfunc_name_hint="halves"))
            for x in (a, b)
        )
        return builder.call_te(in_halves, *halves, primfunc_name_hint="half_product")


def channels(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return ``weight`` (K, N) as int8 within +-127, and the scale of each column (N,)."""
    scale = np.maximum(np.abs(weight).max(0), _TINY).astype(np.float32) / np.float32(127)
    return np.rint(weight / scale).astype(np.int8), scale


def product(rows: Any, scale: Any, zero: Any, weight: Any, by: Any, sums: Any, index: Any) -> Any:
    """Return the FP32 product of quantised ``rows`` (..., K) and the packed ``weight``.

    ``scale`` and ``zero`` (..., 1) are the rows'; ``by`` (N,) is the scale of a column, ``sums``
    the sum of its weights. ``index`` says where (k, n) lies in ``weight``; None: there.
    """
    from tvm import te

    k = te.reduce_axis((0, int(rows.shape[-1])), name="k")
    shape = (*rows.shape[:-1], by.shape[0])

    def whole(*i: Any) -> Any:
        at = (k, i[-1]) if index is None else index(k, i[-1])
        terms = rows(*i[:-1], k).astype("int32") * weight(*at).astype("int32")
        return te.sum(terms, axis=k)

    def scaled(*i: Any) -> Any:
        exact = total(*i) - zero(*i[:-1], 0) * sums(i[-1])
        return exact.astype("float32") * scale(*i[:-1], 0) * by(i[-1])

    total = te.compute(shape, whole, name="int8_product")
    return te.compute(shape, scaled, name="scaled")


def in_halves(a: Any, b: Any) -> Any:
    """Return the product of ``a`` (..., m, K) and ``b`` (..., K, n), float16, as float32."""
    from tvm import te

    k = te.reduce_axis((0, int(a.shape[-1])), name="k")
    shape = (*a.shape[:-1], b.shape[-1])

    def whole(*i: Any) -> Any:
        return te.sum(a(*i[:-1], k) * b(*i[:-2], k, i[-1]), axis=k)

    total = te.compute(shape, whole, name="half_product")
    return te.compute(shape, lambda *i: total(*i).astype("float32"), name="whole")


@functools.cache
def quantizer(
    lead: tuple[int, ...], k: int, padded: int, dtype: str, most: int, *, neon: bool = False
) -> Any:
    """Return the PrimFunc that quantises rows: x (*lead, k) to (*lead, padded), scale and zero.

    It reads a row twice, four vectors of ``most`` float32 at a time, and is scheduled.
    With ``neon`` the least and greatest are found by FMINNM and FMAXNM, where LLVM makes two
    instructions of T.min.
    """
    from tvm.script import from_source, tirx

    count = prod(lead)
    lanes = next(n for n in (4 * most, 16, 8, 4, 2, 1) if k % n == 0)
    low = 0 if dtype == "uint8" else -128
    at = _unfolded("i", lead)
    lane = f"T.ramp(step * {lanes}, 1, {lanes})" if lanes > 1 else "step"
    all_lanes = f"T.ramp(0, 1, {lanes})" if lanes > 1 else "0"
    ends = _ends(lanes, neon)
    low_step, high_step = (
        _extreme(of, name, f"X[{at}, {lane}]", lanes, neon)
        for of, name in (("min", f"low[{all_lanes}]"), ("max", f"high[{all_lanes}]"))
    )
    wide = (lambda value: f"T.broadcast({value}, {lanes})") if lanes > 1 else str
    suffix = f"x{lanes}" if lanes > 1 else ""
    padding = f"""
            for step in range({padded - k}):
                Q[{at}, {k} + step] = T.cast(0, "{dtype}")"""
    text = f"""
@T.prim_func(private=True, s_tir=True)
def quantize(
    X: T.Buffer({(*lead, k)}, "float32"),
    Q: T.Buffer({(*lead, padded)}, "{dtype}"),
    S: T.Buffer({(*lead, 1)}, "float32"),
    Z: T.Buffer({(*lead, 1)}, "int32"),
) -> None:
    T.func_attr({{"tirx.noalias": True, "op_pattern": {_OPAQUE}, "{_DONE}": 1}})
    for i in T.parallel({count}):
        with T.sblock("row"):
            T.reads(X[{_whole(lead, k)}])
            T.writes(Q[{_whole(lead, padded)}], S[{_whole(lead, 1)}], Z[{_whole(lead, 1)}])
            low = T.sblock_alloc_buffer(({lanes},), "float32", scope="local")
            high = T.sblock_alloc_buffer(({lanes},), "float32", scope="local")
            by = T.sblock_alloc_buffer((1,), "float32", scope="local")
            to = T.sblock_alloc_buffer((1,), "float32", scope="local")
            low[{all_lanes}] = {wide("T.float32(0)")}
            high[{all_lanes}] = {wide("T.float32(0)")}
            for step in range({k // lanes}):
                low[{all_lanes}] = {low_step}
                high[{all_lanes}] = {high_step}
            {ends}
            by[0] = T.float32({LEVELS}) / T.max(high[0] - low[0], T.float32({_TINY}))
            to[0] = T.floor(T.float32({1 + low}) - low[0] * by[0])
            S[{at}, 0] = T.max(high[0] - low[0], T.float32({_TINY})) * T.float32({1 / LEVELS})
            Z[{at}, 0] = T.cast(to[0], "int32")
            for step in range({k // lanes}):
                Q[{at}, {lane}] = T.cast(
                    T.reinterpret(
                        "int32{suffix}",
                        X[{at}, {lane}] * {wide("by[0]")} + {wide(f"(to[0] + T.float32({_MAGIC}))")}
                    ),
                    "{dtype}{suffix}",
                ){padding if padded > k else ""}
"""
    return from_source(text, extra_vars={"T": tirx})


def _extreme(of: str, a: str, b: str, lanes: int, neon: bool) -> str:
    if not neon:
        return f"T.{of}({a}, {b})"
    kind, name = (f"float32x{lanes}", f"v{lanes}f32") if lanes > 1 else ("float32", "f32")
    found = f'T.llvm_lookup_intrinsic_id("llvm.{of}num.{name}")'
    return f'T.call_llvm_pure_intrin("{kind}", {found}, {a}, {b})'


def _ends(lanes: int, neon: bool) -> str:
    """Return the steps that leave the least and the greatest lane in the first."""
    steps = []
    half = lanes // 2
    while half:
        for name, of in (("low", "min"), ("high", "max")):
            here, there = (f"{name}[T.ramp({at}, 1, {half})]" for at in (0, half))
            if half == 1:
                here, there = f"{name}[0]", f"{name}[1]"
            steps.append(f"{here} = {_extreme(of, here, there, half, neon)}")
        half //= 2
    return ("\n" + " " * 12).join(steps)


def _unfolded(name: str, shape: Sequence[int]) -> str:
    """Return the indices of a tensor of ``shape`` for the number ``name`` of its element."""
    found = []
    below = 1
    for size in reversed(shape):
        found.append(f"{name} // {below} % {size}")
        below *= size
    return ", ".join(reversed(found))


def _whole(lead: Sequence[int], last: int) -> str:
    return ", ".join(f"0:{size}" for size in (*lead, last))


def _constant(builder: Any, expr: Any) -> np.ndarray | None:
    """Return the constant that ``expr`` is, or is the transposed of; None if it is neither."""
    from tvm import ir, relax

    if isinstance(expr, relax.Var):
        bound = builder.lookup_binding(expr)
        if bound is None:
            return None
        expr = bound
    if isinstance(expr, relax.Constant):
        found: np.ndarray = expr.data.numpy()
        return found if found.dtype == np.float32 else None
    if isinstance(expr, relax.Call) and expr.op.same_as(ir.Op.get("relax.permute_dims")):
        inner = _constant(builder, expr.args[0])
        axes = expr.attrs.axes
        if inner is not None:
            return inner.transpose(None if axes is None else [int(a) for a in axes])
    return None


def _embedding(builder: Any, call: Any) -> Any | None:
    """Return rows of a constant table of embeddings, kept in INT8; None if it is no such table."""
    from tvm import relax, te, topi

    table = _constant(builder, call.args[0])
    axis = call.attrs.axis
    if table is None or table.ndim != 2 or table.size < _MIN_TABLE:
        return None
    if axis is None or int(axis) != 0 or len(call.args[1].ty.shape) == 0:
        return None
    values, scale = channels(table.T)

    def compute(values: Any, scale: Any, ids: Any) -> Any:
        rows = topi.take(values, ids, axis=0, mode="clip")
        by = topi.take(scale, ids, axis=0, mode="clip")
        return te.compute(
            rows.shape, lambda *i: rows(*i).astype("float32") * by(*i[:-1]), name="embedding"
        )

    return builder.call_te(
        compute,
        relax.const(np.ascontiguousarray(values.T)),
        relax.const(scale),
        call.args[1],
        primfunc_name_hint="int8_take",
    )


def _by_reciprocal(builder: Any, call: Any) -> Any | None:
    """Return ``x / c`` as a product, None if ``c`` is not one constant number."""
    from tvm import relax, topi

    by = _constant(builder, call.args[1])
    if by is None or by.size != 1 or call.args[0].ty.dtype != "float32" or not by.all():
        return None
    share = relax.const((1 / by).astype(np.float32))
    return builder.call_te(topi.multiply, call.args[0], share, primfunc_name_hint="multiply")


def erf(x: Any) -> Any:
    """Return erf, float32, within 3e-5: a polynomial up to ``_ERF_END``, where erf is 1 - 2.2e-5.

    A step of the 8 bits that its results are rounded to is a hundred times that.
    """
    from tvm import te, tirx

    def compute(*i: Any) -> Any:
        end = tirx.const(_ERF_END, "float32")
        cut = tirx.max(tirx.min(x(*i), end), -end)
        square = cut * cut
        sum_ = tirx.const(_ERF[-1], "float32")
        for factor in reversed(_ERF[:-1]):
            sum_ = sum_ * square + tirx.const(factor, "float32")
        return sum_ * cut

    return te.compute(x.shape, compute, name="erf")


def gelu(x: Any) -> Any:
    """Return x (1 + erf(x / sqrt(2))) / 2, float32, by the polynomial of ``erf`` and as near."""
    from tvm import te, tirx

    factors = [factor * 0.5 / sqrt(2) / 2**i for i, factor in enumerate(_ERF)]

    def compute(*i: Any) -> Any:
        end = tirx.const(_ERF_END * sqrt(2), "float32")
        cut = tirx.max(tirx.min(x(*i), end), -end)
        square = cut * cut
        sum_ = tirx.const(factors[-1], "float32")
        for factor in reversed(factors[:-1]):
            sum_ = sum_ * square + tirx.const(factor, "float32")
        return x(*i) * (sum_ * cut + tirx.const(0.5, "float32"))

    return te.compute(x.shape, compute, name="gelu")


def with_gelu(module: Any) -> Any:
    """Return ``module``, in whose functions GELU by its terms is one operator."""
    from tvm import relax
    from tvm.relax.dpl import is_const, is_op, rewrite_call, wildcard

    x, root, one, half = wildcard(), is_const(), is_const(), is_const()
    term = is_op("relax.add")(is_op("relax.erf")(is_op("relax.divide")(x, root)), one)
    multiply = is_op("relax.multiply")
    whole = multiply(multiply(x, term), half)

    def rewritten(call: Any, found: Any) -> Any:
        values = [found[constant].data.numpy() for constant in (root, one, half)]
        expected = (sqrt(2), 1.0, 0.5)
        same = all(v.size == 1 for v in values) and np.allclose(
            [v.item() for v in values], expected
        )
        if not same or found[x].ty.dtype != "float32":
            return call
        return relax.op.nn.gelu(found[x])

    for variable, function in module.functions_items():
        if isinstance(function, relax.Function):
            module[variable] = rewrite_call(whole, rewritten, function)
    return module


def _legalize_gelu(builder: Any, call: Any) -> Any:
    if call.args[0].ty.dtype != "float32":
        return call
    return builder.call_te(gelu, call.args[0], primfunc_name_hint="gelu")


def _legalize_erf(builder: Any, call: Any) -> Any:
    if call.args[0].ty.dtype != "float32":
        return call
    return builder.call_te(erf, call.args[0], primfunc_name_hint="erf")


def is_scheduled(function: Any) -> bool:
    """Tell whether a PrimFunc runs as it stands."""
    return function.attrs is not None and _DONE in function.attrs


def schedule_product(function: Any, kernel: Kernel | None) -> Scheduled | None:
    """Return a fused product in INT8 or FP16 scheduled for ``kernel``; None for another function.

    A tile is computed in the core's instructions, then all that follows while it is in registers.
    """
    import tvm
    from tvm.s_tir import Schedule, ScheduleError

    if kernel is None:
        return None
    schedule = Schedule(tvm.IRModule({"main": function}), error_render_level="fast")
    blocks = schedule.get_child_blocks(schedule.get_sblock("root"))
    total = schedule.get(blocks[0])
    *_, m, n, k = (0, 0, 0, *(int(v.dom.extent) for v in total.iter_vars))
    if str(total.name_hint) == "int8_product" and len(total.reads[1].buffer.shape) > 2:
        width = int(total.reads[1].buffer.shape[-2])
        tile, rows = kernels.intrinsic(kernel, m, width, k)
    elif str(total.name_hint) == "half_product":
        width = next(w for w in (4 * _HALVES, 2 * _HALVES, _HALVES) if n % w == 0)
        tile, rows = tvm_fmla.intrinsic(m, width, k, "float16")
    else:
        return None
    try:
        in_tiles(schedule, blocks, tile, (rows, width, kernel.lanes))
    # As in tvm_schedule: steps of other shapes than the product's, or several results.
    except (ScheduleError, ValueError, TypeError) as exc:
        return Scheduled(function=function, plain=str(exc).strip().splitlines()[-1])
    return Scheduled(function=schedule.mod["main"])
