# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Kernels that skip zero blocks compute what numpy does with the zeros in place."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edgeopt.backends.tvm_schedule import AVX2, AVX512, NEON, Registers
from edgeopt.backends.tvm_sparse import (
    BLOCKS,
    break_even,
    compress,
    density,
    skip_zero_blocks,
    sparse_kernel,
    weight_of,
)
from tests.lazily import lazily

tvm = lazily("tvm", reason="needs edgeopt[tvm]")
pytestmark = pytest.mark.heavy

SETS = {"avx2": AVX2, "avx512": AVX512, "neon": NEON}


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(math.prod(shape)).normal(size=shape).astype(np.float32)


def with_zeros(weight: np.ndarray, outputs: int, share: float) -> np.ndarray:
    """Return ``weight`` (inputs, outputs) with about ``share`` of its blocks left."""
    inputs, count = weight.shape
    kept = np.random.default_rng(1).random((inputs, count // outputs)) < share
    return weight * kept.repeat(outputs, 1).astype(np.float32)


def fused(shape: tuple[int, ...], n: int, after: Callable[..., Any] | None) -> Any:
    """Return x @ w, then ``after(product, bias, residual)`` of each element, as TVM fuses it."""
    from tvm import te

    *batch, m, k = shape
    x = te.placeholder(shape, name="x")
    w = te.placeholder((k, n), name="w")
    bias = te.placeholder((n,), name="bias")
    residual = te.placeholder((*batch, m, n), name="residual")
    r = te.reduce_axis((0, k), name="r")
    made = (*batch, m, n)
    product = te.compute(made, lambda *i: te.sum(x[*i[:-1], r] * w[r, i[-1]], axis=r))
    if after is None:
        return te.create_prim_func([x, w, product])
    added = te.compute(made, lambda *i: product[*i] + bias[i[-1]])
    result = te.compute(made, lambda *i: after(added[*i], residual[*i]))
    return te.create_prim_func([x, w, bias, residual, result])


def run(function: Any, inputs: list[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    library = tvm.compile(function.with_attr("global_symbol", "main"), target="llvm")
    output = tvm.runtime.tensor(np.full(shape, np.nan, np.float32))
    library["main"](*map(tvm.runtime.tensor, inputs), output)
    return output.numpy()


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_a_compressed_weight_holds_its_blocks_and_no_zeros(share: float) -> None:
    weight = with_zeros(normal(10, 24), 4, share)
    found = compress(weight, 4)
    assert len(found.values) == len(found.columns) == found.starts[-1]
    assert density(weight, 4) == pytest.approx(len(found.values) / 60)
    again = np.zeros_like(weight)
    for group in range(6):
        for place in range(found.starts[group], found.starts[group + 1]):
            again[found.columns[place], group * 4 : group * 4 + 4] = found.values[place]
    np.testing.assert_array_equal(again, weight)


@pytest.mark.parametrize("registers", SETS.values(), ids=SETS)
@pytest.mark.parametrize(("m", "n", "k"), [(32, 96, 24), (17, 80, 30), (1, 48, 70), (13, 16, 1)])
def test_a_product_with_what_follows_agrees_at_every_density(
    registers: Registers, m: int, n: int, k: int
) -> None:
    blocks = BLOCKS[registers]
    function = fused((1, m, k), n, lambda sum_, residual: sum_ * sum_ + residual)
    assert weight_of(function) == 1
    kernel = sparse_kernel(function, 1, blocks)
    library = tvm.compile(kernel.with_attr("global_symbol", "main"), target="llvm")
    x, bias, residual = normal(1, m, k), normal(n), normal(1, m, n)
    for share in (0.0, 0.1, 0.5, 1.0):  # one kernel takes any number of blocks
        weight = with_zeros(normal(k, n), blocks.outputs, share)
        found = compress(weight, blocks.outputs)
        output = tvm.runtime.tensor(np.full((1, m, n), np.nan, np.float32))
        arrays = [x, found.values, found.columns, found.starts, bias, residual]
        library["main"](*map(tvm.runtime.tensor, arrays), output)
        expected = np.square(x @ weight + bias) + residual
        np.testing.assert_allclose(output.numpy(), expected, atol=1e-4, rtol=1e-5)


def test_a_product_alone_of_two_dimensions_agrees() -> None:
    weight = with_zeros(normal(20, 32), 4, 0.4)
    x, found = normal(6, 20), compress(weight, 4)
    kernel = sparse_kernel(fused((6, 20), 32, None), 1, BLOCKS[NEON])
    arrays = [x, found.values, found.columns, found.starts]
    np.testing.assert_allclose(run(kernel, arrays, (6, 32)), x @ weight, atol=1e-5)


def test_products_that_do_not_fit_are_told() -> None:
    assert weight_of(fused((2, 4, 8), 8, None)) is None  # two matrices
    assert density(normal(4, 6), 4) == 1.0  # no whole blocks


def test_only_weights_with_enough_zeros_are_compressed_and_no_dense_copy_stays() -> None:
    from tvm import relax

    full = normal(64, 64)
    weights = [with_zeros(full, 4, 0.2), full, with_zeros(full, 4, 0.99)]
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((1, 8, 64), "float32"))
    with builder.function("main", [x]):
        with builder.dataflow():
            value = x
            for weight in weights:
                value = builder.emit(relax.op.matmul(value, relax.const(weight)))
            value = builder.emit_output(value)
        builder.emit_func_output(value)
    module = relax.transform.LegalizeOps()(builder.get())
    made, names = skip_zero_blocks(module, NEON)
    made = relax.transform.DeadCodeElimination()(made)
    held: list[tuple[int, ...]] = []

    def visit(expr: Any) -> None:
        if isinstance(expr, relax.Constant):
            held.append(tuple(expr.data.shape))

    relax.analysis.post_order_visit(made["main"], visit)
    count = round(density(weights[0], 4) * 1024)
    assert 0 < count / 1024 < break_even(BLOCKS[NEON]) < density(weights[2], 4)
    assert len(names) == 1
    assert held == [(count, 4), (count,), (17,), (64, 64), (64, 64)]
    machine = relax.VirtualMachine(tvm.compile(made, target="llvm"), tvm.cpu())
    given = normal(1, 8, 64)
    expected = given @ weights[0] @ weights[1] @ weights[2]
    found = machine["main"](tvm.runtime.tensor(given)).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)
