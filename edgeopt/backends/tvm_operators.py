# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What TVM computes for softmax, layer normalisation, erf, exp and tanh in a lowered model.

TVM's own definitions call the C library once an element (exp, erf) or reduce a row with one
scalar accumulator, which no compiler may vectorise. These reduce into lanes that a schedule can
turn into vector registers, and use TOPI's polynomials: measured against double precision on
[-9, 9], erf and tanh are within 4e-7, exp within 6e-7 relative.
"""

from __future__ import annotations

from collections.abc import Callable
from math import log
from typing import Any

LANES = (64, 32, 16)
"""Partial results of a row reduction: several vector registers, so that adds overlap."""

_EXP_LEAST = -87.0  # exp of less is no normal number
_EXP = (
    1.0000000718670041,
    0.9999996910672451,
    0.49998892654742394,
    0.16667576546447782,
    0.041915629980362176,
    0.008297619450896944,
)
"""exp(x) by powers of x for |x| <= ln(2) / 2, of least greatest relative error (Lawson), 7.5e-8."""

_MAGIC, _MAGIC_BITS = 12582912.0, 0x4B400000
"""1.5 * 2**23: added to a number below 2**22, it leaves it, rounded, in the lowest bits."""


def legalize_map() -> dict[str, Callable[[Any, Any], Any]]:
    """Return what ``relax.transform.LegalizeOps`` takes: Relax operator to its definition here."""
    from tvm import topi

    def unary(compute: Callable[[Any], Any], name: str) -> Callable[[Any, Any], Any]:
        def legalize(builder: Any, call: Any) -> Any:
            if call.args[0].ty.dtype != "float32":
                return call
            return builder.call_te(compute, call.args[0], primfunc_name_hint=name)

        return legalize

    return {
        "relax.erf": unary(topi.fast_erf, "erf"),
        "relax.exp": unary(topi.fast_exp, "exp"),
        "relax.tanh": unary(topi.fast_tanh, "tanh"),
        "relax.sigmoid": unary(_sigmoid, "sigmoid"),
        "relax.power": _legalize_power,
        "relax.take": _legalize_take,
        "relax.gather_elements": _legalize_gather_elements,
        "relax.nn.softmax": _legalize_softmax,
        "relax.nn.layer_norm": _legalize_layer_norm,
    }


def _legalize_power(builder: Any, call: Any) -> Any:
    """Multiply if the exponent is 2 or 3 (the tanh form of GELU)."""
    from tvm import relax

    x, exponent = call.args
    known = isinstance(exponent, relax.Constant) and exponent.data.numpy().size == 1
    if known and exponent.data.numpy().item() in (2.0, 3.0):
        square = relax.op.multiply(x, x)
        product = square if exponent.data.numpy().item() == 2.0 else relax.op.multiply(square, x)
        return builder.normalize(product)
    return call


def _sigmoid(x: Any) -> Any:
    from tvm import te, tirx, topi

    one = tirx.const(1.0, "float32")
    exp = topi.fast_exp(te.compute(x.shape, lambda *i: -x(*i), name="negative"))
    return te.compute(x.shape, lambda *i: one / (one + exp(*i)), name="sigmoid")


def _legalize_take(builder: Any, call: Any) -> Any:
    """Clip the index: the importer's own mode reads whatever lies behind the table."""
    from tvm import topi

    def compute(table: Any, index: Any) -> Any:
        return topi.take(table, index, axis=axis, mode="clip")

    axis = None if call.attrs.axis is None else int(call.attrs.axis)
    return builder.call_te(compute, *call.args, primfunc_name_hint="take")


def _legalize_gather_elements(builder: Any, call: Any) -> Any:
    """Count a negative index from the end, and clip: the importer's own reads before the tensor."""
    from tvm import te, tirx

    axis = int(call.attrs.axis) % len(call.args[0].ty.shape)

    def compute(data: Any, index: Any) -> Any:
        last = tirx.const(int(data.shape[axis]) - 1, index.dtype)
        zero = tirx.const(0, index.dtype)

        def at(*i: Any) -> Any:
            given = index(*i)
            place = tirx.if_then_else(given < zero, given + last + 1, given)
            place = tirx.max(zero, tirx.min(last, place))
            return data(*i[:axis], place, *i[axis + 1 :])

        return te.compute(index.shape, at, name="gather_elements")

    return builder.call_te(compute, *call.args, primfunc_name_hint="gather_elements")


def _legalize_softmax(builder: Any, call: Any) -> Any:
    (x,) = call.args
    if not _over_last_axis(x, [call.attrs.axis]):
        return call
    return builder.call_te(softmax, x, primfunc_name_hint="softmax")


def _legalize_layer_norm(builder: Any, call: Any) -> Any:
    x, gamma, beta = call.args
    attrs = call.attrs
    if not (_over_last_axis(x, attrs.axes) and attrs.center and attrs.scale):
        return call

    def compute(x: Any, gamma: Any, beta: Any) -> Any:
        return layer_norm(x, gamma, beta, float(attrs.epsilon))

    return builder.call_te(compute, x, gamma, beta, primfunc_name_hint="layer_norm")


def _over_last_axis(x: Any, axes: Any) -> bool:
    rank = len(x.ty.shape)
    return x.ty.dtype == "float32" and [int(a) % rank for a in axes] == [rank - 1]


def softmax(x: Any) -> Any:
    """Return the softmax over the last axis of ``x`` (..., n), float32."""
    from tvm import te, tirx

    def shifted(*i: Any) -> Any:
        return x(*i) - maximum(*i[:-1], 0)

    def scaled(*i: Any) -> Any:
        return exp(*i) * inverse(*i[:-1], 0)

    maximum = _reduce_rows(x.shape, x, _maximum, tirx.min_value, "row_max")
    exp = _exp_below_zero(te.compute(x.shape, shifted, name="shifted"))
    total = _reduce_rows(x.shape, exp, _add, _zero, "row_sum")
    inverse = te.compute(total.shape, lambda *i: tirx.const(1.0, "float32") / total(*i), "inverse")
    return te.compute(x.shape, scaled, name="softmax")


def _exp_below_zero(x: Any) -> Any:
    """Return exp of ``x``, which is 0 at most, within 5e-7 of itself; below -87 it is that of -87.

    exp(x) = 2^n p(x - n ln 2), with n the whole number nearest to x / ln 2, which is added to the
    exponent. TOPI's is for both signs, and takes more steps for that.
    """
    from tvm import te, tirx

    def number(value: float) -> Any:
        return tirx.const(value, "float32")

    def compute(*i: Any) -> Any:
        cut = tirx.max(x(*i), number(_EXP_LEAST))
        moved = tirx.reinterpret("int32", cut * number(1 / log(2)) + number(_MAGIC))
        whole = moved - tirx.const(_MAGIC_BITS, "int32")
        rest = cut - whole.astype("float32") * number(log(2))
        power = number(_EXP[-1])
        for factor in reversed(_EXP[:-1]):
            power = power * rest + number(factor)
        exponent = whole << tirx.const(23, "int32")
        return tirx.reinterpret("float32", tirx.reinterpret("int32", power) + exponent)

    return te.compute(x.shape, compute, name="exp")


def layer_norm(x: Any, gamma: Any, beta: Any, epsilon: float) -> Any:
    """Normalise the last axis of ``x`` (..., n) to mean 0, variance 1, then scale and shift.

    ``gamma`` and ``beta`` are (n,), all float32. The variance is that of the differences to the
    mean (two passes): the difference of mean squares loses digits on rows with outliers.
    """
    from tvm import te, tirx

    share = tirx.const(1.0 / int(x.shape[-1]), "float32")

    def squared(*i: Any) -> Any:
        difference = x(*i) - mean(*i[:-1], 0)
        return difference * difference

    def deviation(*i: Any) -> Any:
        return tirx.const(1.0, "float32") / tirx.sqrt(
            squares(*i) * share + tirx.const(epsilon, "float32")
        )

    def normalized(*i: Any) -> Any:
        difference = x(*i) - mean(*i[:-1], 0)
        return difference * inverse(*i[:-1], 0) * gamma(i[-1]) + beta(i[-1])

    total = _reduce_rows(x.shape, x, _add, _zero, "row_sum")
    mean = te.compute(total.shape, lambda *i: total(*i) * share, name="row_mean")
    squares = _reduce_rows(x.shape, squared, _add, _zero, "row_squares")
    inverse = te.compute(total.shape, deviation, name="inverse")
    return te.compute(x.shape, normalized, name="layer_norm")


def _reduce_rows(
    shape: Any,
    element: Callable[..., Any],
    combine: Callable[[Any, Any], Any],
    identity: Callable[[str], Any],
    name: str,
) -> Any:
    """Reduce the last axis of ``element`` (..., n) to (..., 1): into lanes, then by halves."""
    from tvm import te

    *outer, columns = shape
    lanes = next((n for n in LANES if int(columns) % n == 0), 1)
    k = te.reduce_axis((0, int(columns) // lanes), name="k")
    reducer = te.comm_reducer(combine, identity, name=name)
    result = te.compute(
        (*outer, lanes),
        lambda *i: reducer(element(*i[:-1], k * lanes + i[-1]), axis=k),
        name=f"{name}_lanes",
    )
    while lanes > 1:
        lanes //= 2
        result = _halve(result, (*outer, lanes), combine, f"{name}_{lanes}")
    return result


def _halve(x: Any, shape: Any, combine: Callable[[Any, Any], Any], name: str) -> Any:
    from tvm import te

    lanes = shape[-1]
    return te.compute(shape, lambda *i: combine(x(*i), x(*i[:-1], i[-1] + lanes)), name=name)


def _add(a: Any, b: Any) -> Any:
    return a + b


def _maximum(a: Any, b: Any) -> Any:
    from tvm import tirx

    return tirx.max(a, b)


def _zero(dtype: str) -> Any:
    from tvm import tirx

    return tirx.const(0, dtype)
