# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Scheduled kernels compute what the plain ones do, whatever the sizes."""

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edgeopt.backends import tvm_stack
from edgeopt.backends.tvm_operators import layer_norm, legalize_map, softmax
from edgeopt.backends.tvm_schedule import (
    AVX2,
    AVX512,
    NEON,
    SSE,
    Packing,
    Registers,
    Scheduled,
    schedule_function,
)
from tests.lazily import lazily

tvm = lazily("tvm", reason="needs edgeopt[tvm]")
pytestmark = pytest.mark.heavy

SETS = {"sse": SSE, "avx2": AVX2, "avx512": AVX512, "neon": NEON}


def dense(m: int, n: int, k: int) -> Any:
    """Return x @ w + bias with a ReLU, as TVM fuses it: (1, m, k) x (k, n)."""
    from tvm import te, tirx

    x = te.placeholder((1, m, k), name="x")
    w = te.placeholder((k, n), name="w")
    bias = te.placeholder((n,), name="bias")
    r = te.reduce_axis((0, k), name="r")
    product = te.compute((1, m, n), lambda b, i, j: te.sum(x[b, i, r] * w[r, j], axis=r))
    added = te.compute((1, m, n), lambda b, i, j: product[b, i, j] + bias[j])
    zero = tirx.const(0, "float32")
    result = te.compute((1, m, n), lambda b, i, j: tirx.max(added[b, i, j], zero))
    return te.create_prim_func([x, w, bias, result])


def batched(batch: int, m: int, n: int, k: int) -> Any:
    """Return a @ b with neither constant: (batch, m, k) x (batch, k, n)."""
    from tvm import te

    a = te.placeholder((batch, m, k), name="a")
    b = te.placeholder((batch, k, n), name="b")
    r = te.reduce_axis((0, k), name="r")
    shape = (batch, m, n)
    result = te.compute(shape, lambda h, i, j: te.sum(a[h, i, r] * b[h, r, j], axis=r))
    return te.create_prim_func([a, b, result])


def rows(compute: Callable[..., Any], *shapes: tuple[int, ...]) -> Any:
    from tvm import te

    inputs = [te.placeholder(shape, name=f"x{i}") for i, shape in enumerate(shapes)]
    return te.create_prim_func([*inputs, compute(*inputs)])


def run(function: Any, inputs: list[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    library = tvm.compile(function.with_attr("global_symbol", "main"), target="llvm")
    output = tvm.runtime.tensor(np.full(shape, np.nan, np.float32))
    library["main"](*map(tvm.runtime.tensor, inputs), output)
    return output.numpy()


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(math.prod(shape)).normal(size=shape).astype(np.float32)


def loops(function: Any, kind: str) -> list[int]:
    """Return the extents of the loops of a kind, as the printed function has them."""
    pattern = rf"T\.{kind}\((?:T\.int64\()?(\d+)"
    return [int(n) for n in re.findall(pattern, function.script())]


@pytest.mark.parametrize("registers", SETS.values(), ids=SETS)
@pytest.mark.parametrize(("m", "n", "k"), [(16, 96, 24), (17, 70, 30), (1, 2, 30), (13, 17, 1)])
def test_a_weight_s_product_agrees(registers: Registers, m: int, n: int, k: int) -> None:
    x, w, bias = normal(1, m, k), normal(k, n), normal(n)
    scheduled = schedule_function(dense(m, n, k), registers, frozenset({1, 2}))
    assert scheduled.plain is None
    assert scheduled.packing is not None
    width = scheduled.packing.width
    packed = np.ascontiguousarray(w.reshape(k, n // width, width).transpose(1, 0, 2))
    found = run(scheduled.function, [x, packed, bias], (1, m, n))
    np.testing.assert_allclose(found, np.maximum(x @ w + bias, 0), atol=1e-5)


@pytest.mark.parametrize("registers", SETS.values(), ids=SETS)
@pytest.mark.parametrize(("m", "n", "k"), [(16, 32, 16), (17, 17, 10)])
def test_a_product_of_two_activations_agrees_and_packs_nothing(
    registers: Registers, m: int, n: int, k: int
) -> None:
    a, b = normal(3, m, k), normal(3, k, n)
    scheduled = schedule_function(batched(3, m, n, k), registers, frozenset())
    assert scheduled.packing is None
    np.testing.assert_allclose(run(scheduled.function, [a, b], (3, m, n)), a @ b, atol=1e-5)


@pytest.mark.parametrize(
    ("registers", "width", "vectors"),
    [(AVX512, 32, 16), (AVX2, 24, 12), (NEON, 16, 16), (SSE, 12, 12)],
)
def test_the_tile_of_a_transformer_s_product_fills_the_registers(
    registers: Registers, width: int, vectors: int
) -> None:
    scheduled = schedule_function(dense(128, 384, 64), registers, frozenset({1}))
    assert scheduled.packing == Packing(position=1, width=width)
    assert loops(scheduled.function, "parallel") == [384 // width]
    assert set(loops(scheduled.function, "vectorized")) == {registers.lanes}
    height, columns = loops(scheduled.function, "unroll")[:2]
    assert height * columns == vectors
    assert columns * registers.lanes == width


def arm(core: str) -> Any:
    return tvm.target.Target({"kind": "llvm", "mtriple": "aarch64-linux-gnu", "mcpu": core})


@pytest.mark.parametrize("core", ["cortex-a53", "cortex-a72", "cortex-a76"])
@pytest.mark.parametrize(
    "function", [dense(128, 384, 384), batched(12, 128, 32, 128)], ids=["weight", "activations"]
)
def test_a_product_on_arm_multiplies_by_element_and_keeps_its_sums_in_registers(
    function: Any, core: str
) -> None:
    scheduled = schedule_function(function, NEON, frozenset({1}))
    code = tvm.compile(
        scheduled.function.with_attr("global_symbol", "main"),
        target=arm(core),
        tir_pipeline=tvm_stack.register(),
    ).mod.inspect_source("asm")
    every = re.split(r"\n(?=\.L\w+:)", code)
    loop = max(every, key=lambda part: len(re.findall(r"\tfmla\t", part)))
    label = loop.split(":")[0]
    loop = loop[: loop.index(label, len(label))]  # up to the branch back
    products = re.findall(r"\tfmla\tv\d+\.4s, v\d+\.4s, v\d+\.s\[[0-3]\]", loop)
    assert len(products) == len(re.findall(r"\tfmla\t", loop)) == 256  # 16 sums, 16 of K
    assert len(re.findall(r"\n\t(?!\.)", loop)) <= 1.25 * len(products)
    assert not re.search(r"\tst[rp]\t|\[sp", loop)


@pytest.mark.parametrize(("m", "n", "k"), [(12, 16, 8), (5, 8, 4), (17, 12, 8)])
def test_a_tile_by_element_is_right(m: int, n: int, k: int) -> None:
    """For Arm, but in no instruction that is Arm's alone."""
    scheduled = schedule_function(batched(3, m, n, k), NEON, frozenset())
    assert "T.Shuffle" in scheduled.function.script()
    a, b = normal(3, m, k), normal(3, k, n)
    np.testing.assert_allclose(run(scheduled.function, [a, b], (3, m, n)), a @ b, atol=1e-5)


@pytest.mark.parametrize(("m", "n", "k"), [(1, 8, 8), (4, 6, 8), (4, 8, 6)])
def test_what_no_tile_fits_is_scheduled_as_loops(m: int, n: int, k: int) -> None:
    scheduled = schedule_function(batched(3, m, n, k), NEON, frozenset())
    assert "T.Shuffle" not in scheduled.function.script()
    a, b = normal(3, m, k), normal(3, k, n)
    np.testing.assert_allclose(run(scheduled.function, [a, b], (3, m, n)), a @ b, atol=1e-5)


def test_kernels_of_two_lengths_pack_a_weight_alike() -> None:
    packings = [
        schedule_function(dense(m, 96, 30), NEON, frozenset({1})).packing for m in (128, 17)
    ]
    assert packings[0] == packings[1]


@pytest.mark.parametrize("n", [384, 128, 30, 17, 1])
@pytest.mark.parametrize("registers", [NEON, AVX512], ids=["neon", "avx512"])
def test_softmax_agrees(registers: Registers, n: int) -> None:
    x = 20 * normal(2, 5, n)
    x[0, 0, n // 2 :] = np.finfo(np.float32).min  # masked
    x[1, 4] = np.finfo(np.float32).min  # a row that is masked throughout
    scheduled = schedule_function(rows(softmax, x.shape), registers, frozenset())
    assert scheduled.plain is None
    wide = np.exp(x.astype(np.float64) - x.max(-1, keepdims=True))
    found = run(scheduled.function, [x], x.shape)
    np.testing.assert_allclose(found, wide / wide.sum(-1, keepdims=True), atol=1e-6)


@pytest.mark.parametrize("n", [384, 48, 30, 17])
@pytest.mark.parametrize("registers", [NEON, AVX512], ids=["neon", "avx512"])
def test_layer_norm_keeps_its_digits_beside_a_large_mean(registers: Registers, n: int) -> None:
    x, gamma, beta = normal(1, 7, n) + 1000, normal(n), normal(n)

    def compute(x: Any, gamma: Any, beta: Any) -> Any:
        return layer_norm(x, gamma, beta, 1e-12)

    scheduled = schedule_function(rows(compute, x.shape, (n,), (n,)), registers, frozenset())
    assert scheduled.plain is None
    wide = x.astype(np.float64)
    expected = (wide - wide.mean(-1, keepdims=True)) / wide.std(-1, keepdims=True) * gamma + beta
    found = run(scheduled.function, [x, gamma, beta], x.shape)
    np.testing.assert_allclose(found, expected, atol=5e-4)  # FP32's spacing at 1000: 6e-5


def relax_unary(operator: str, n: int) -> Any:
    """Return what a model's ``operator`` over (n,) is legalised to, not fused with anything."""
    from tvm import relax

    x = relax.Var("x", relax.TensorType((n,), "float32"))
    builder = relax.BlockBuilder()
    with builder.function("main", [x]):
        builder.emit_func_output(builder.emit(relax.Call(tvm.ir.Op.get(f"relax.{operator}"), [x])))
    module = relax.transform.LegalizeOps(legalize_map())(builder.get())
    return next(f for f in module.functions.values() if not isinstance(f, relax.Function))


@pytest.mark.parametrize(
    ("operator", "exact"),
    [
        ("erf", math.erf),
        ("tanh", math.tanh),
        ("sigmoid", lambda x: 1 / (1 + math.exp(-x))),
        ("exp", math.exp),
    ],
)
def test_functions_are_accurate_and_call_no_library(
    operator: str, exact: Callable[[float], float]
) -> None:
    x = np.linspace(-12, 2 if operator == "exp" else 12, 4096).astype(np.float32)
    scheduled = schedule_function(relax_unary(operator, len(x)), AVX2, frozenset())
    found = run(scheduled.function, [x], x.shape)
    expected = np.array([exact(float(v)) for v in x])
    np.testing.assert_allclose(found, expected, atol=1e-6, rtol=1e-6)
    assembly = tvm.compile(
        scheduled.function.with_attr("global_symbol", "main"),
        target={"kind": "llvm", "mtriple": "aarch64-linux-gnu", "mcpu": "cortex-a72"},
    ).mod.inspect_source("asm")
    assert not re.findall(rf"\bbl\s+{operator}f?\b", assembly)


def test_several_results_of_a_reduction_keep_plain_loops_and_say_so() -> None:
    from tvm import te

    x = te.placeholder((4, 8), name="x")
    r = te.reduce_axis((0, 8), name="r")
    total = te.compute((4,), lambda i: te.sum(x[i, r], axis=r), name="total")
    doubled = te.compute((4, 8), lambda i, j: x[i, j] + x[i, j], name="doubled")
    function = te.create_prim_func([x, total, doubled])
    assert schedule_function(function, NEON, frozenset()) == Scheduled(
        function=function, plain="it reduces and has several results"
    )


def test_two_results_of_a_split_are_both_vectorised() -> None:
    from tvm import te

    x = te.placeholder((4, 16), name="x")
    left = te.compute((4, 8), lambda i, j: x[i, j], name="left")
    right = te.compute((4, 8), lambda i, j: x[i, j + 8], name="right")
    scheduled = schedule_function(te.create_prim_func([x, left, right]), NEON, frozenset())
    assert scheduled.plain is None
    assert loops(scheduled.function, "vectorized") == [4, 4]
