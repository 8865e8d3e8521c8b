# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""INT8 in TVM: every kernel gives the exact integers, and a network what INT8 explains."""

import copy
import json
import math
import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeopt.backends import Artifact, tvm_stack
from edgeopt.backends import tvm as backend
from edgeopt.backends import tvm_int8_kernels as kernels
from edgeopt.backends.grid import Grid, snap
from edgeopt.backends.inside import look_inside
from edgeopt.backends.tvm_int8 import (
    LEVELS,
    channels,
    erf,
    gelu,
    in_halves,
    product,
    quantizer,
    schedule_product,
    with_gelu,
)
from edgeopt.backends.tvm_int8_kernels import SDOT, SMULL, VNNI_256, VNNI_512, Kernel
from edgeopt.backends.tvm_library import host_cpu
from edgeopt.evaluate.fidelity import compare
from edgeopt.model import Model
from edgeopt.model.importer import import_model
from edgeopt.quantize import Quantize
from tests.backends.test_tvm import batch_of, reference, saved, target_for
from tests.backends.test_tvm_schedule import arm, rows, run
from tests.lazily import lazily

tvm = lazily("tvm", reason="needs edgeopt[tvm]")
pytestmark = pytest.mark.heavy

KEPT = "encoder.layer.0.attention.output.dense"
SIZES = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_attention_heads": 2,
    "intermediate_size": 70,  # which no tile divides
    "num_hidden_layers": 1,
    "max_position_embeddings": 32,
    "initializer_range": 0.3,  # large enough that every layer shows in the result
}
CORES = {"cortex-a76": SDOT, "cortex-a72": SMULL, "cortex-a53": SMULL}


def function(kernel: Kernel, m: int, n: int, k: int) -> Any:
    """Return the product of rows (1, m, k), k padded, and a packed weight, scaled."""
    from tvm import te

    width = kernel.width(n)
    assert width is not None
    padded = -(-k // kernel.depth) * kernel.depth
    inputs = [
        te.placeholder((1, m, padded), kernel.dtype, name="rows"),
        te.placeholder((1, m, 1), "float32", name="scale"),
        te.placeholder((1, m, 1), "int32", name="zero"),
        te.placeholder((n // width, *kernel.panel(width, padded)), "int8", name="weight"),
        te.placeholder((n,), "float32", name="by"),
        te.placeholder((n,), "int32", name="sums"),
    ]
    index = partial(kernels.index, kernel, width=width)
    result = product(*inputs, index=index)
    scheduled = schedule_product(te.create_prim_func([*inputs, result]), kernel)
    assert scheduled is not None
    assert scheduled.plain is None
    return scheduled.function.with_attr("global_symbol", "main")


def quantised(x: np.ndarray, kernel: Kernel) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return rows (1, m, K), scale and zero as the library's own kernel makes them."""
    m, k = x.shape[1:]
    padded = -(-k // kernel.depth) * kernel.depth
    code = quantizer((1, m), k, padded, kernel.dtype, 4, neon=kernel is SDOT)
    library = tvm.compile(code.with_attr("global_symbol", "main"), target="llvm")
    made = [np.full((1, m, padded), 77, kernel.dtype), np.empty((1, m, 1), np.float32)]
    tensors = [*map(tvm.runtime.tensor, made), tvm.runtime.tensor(np.empty((1, m, 1), np.int32))]
    library["main"](tvm.runtime.tensor(x), *tensors)
    rows, scale, zero = (t.numpy() for t in tensors)
    return rows, scale, zero


@pytest.mark.parametrize("kernel", [SDOT, VNNI_512], ids=["signed", "unsigned"])
@pytest.mark.parametrize("k", [96, 30, 7])
def test_a_row_is_quantised_within_half_a_step_and_keeps_zero(kernel: Kernel, k: int) -> None:
    x = np.random.default_rng(k).normal(size=(1, 9, k)).astype(np.float32)
    x[0, 1] = 0
    x[0, 2] = np.abs(x[0, 2]) + 3  # no zero in it
    x[0, 3] = -np.abs(x[0, 3])
    x[0, 4, 0] = 1000
    x[0, 5] *= 1e-20
    x[0, 6, ::2] = 0
    rows, scale, zero = quantised(x, kernel)
    span = np.maximum(x.max(-1), 0) - np.minimum(x.min(-1), 0)
    np.testing.assert_allclose(scale[..., 0], np.maximum(span / LEVELS, 1e-30 / LEVELS), rtol=1e-6)
    back = (rows[..., :k].astype(np.float32) - zero) * scale
    assert (np.abs(back - x) <= 0.5001 * scale).all()
    assert (back[x == 0] == 0).all()
    assert (rows[..., k:] == 0).all()  # what is padded counts for nothing


@pytest.mark.parametrize("core", CORES)
def test_an_arm_core_gets_its_own_instructions(core: str) -> None:
    kernel = kernels.kernel_for(arm(core))
    assert kernel is CORES[core]
    compiled = tvm.compile(
        function(kernel, 8, 32, 48), target=arm(core), tir_pipeline=tvm_stack.register()
    )
    code = compiled.mod.inspect_source("asm")
    words = ("sdot", "smull", "smlal2", "sadalp", "saddlp")
    sdot, smull, smlal, *added = (len(re.findall(rf"\b{word}\b", code)) for word in words)
    if kernel is SDOT:
        assert sdot >= 64
        assert len(re.findall(r"sdot\tv\d+\.4s, v\d+\.16b, v\d+\.4b\[\d\]", code)) == sdot
        assert not smull
    else:
        assert smull == smlal == sum(added) >= 16
        assert not sdot
    assert "TVMBackendAllocWorkspace" not in code  # no sum is in memory


@pytest.mark.parametrize(
    ("kernel", "feature"), [(VNNI_512, "avx512vnni"), (VNNI_256, "avxvnni")], ids=["512", "256"]
)
@pytest.mark.parametrize(("m", "n", "k"), [(12, 96, 30), (1, 32, 4), (5, 48, 68)])
def test_integers_are_exact(kernel: Kernel, feature: str, m: int, n: int, k: int) -> None:
    from tvm.target import codegen

    if not codegen.llvm_cpu_has_features([feature], host_cpu()):
        pytest.skip(f"this CPU has no {feature}")
    random = np.random.default_rng(n)
    rows = random.integers(0, 256, (1, m, -(-k // 4) * 4)).astype(np.uint8)
    weight = random.integers(-127, 128, (k, n)).astype(np.int8)
    weight[:, 0], rows[0, 0] = 127, 255
    zero = random.integers(0, 256, (1, m, 1)).astype(np.int32)
    width = kernel.width(n)
    assert width is not None
    arrays = [
        rows,
        np.ones((1, m, 1), np.float32),
        zero,
        kernels.pack(kernel, weight, width),
        np.ones(n, np.float32),
        weight.sum(0, dtype=np.int32),
    ]
    library = tvm.compile(function(kernel, m, n, k), target=host_cpu())
    output = tvm.runtime.tensor(np.full((1, m, n), np.nan, np.float32))
    library["main"](*map(tvm.runtime.tensor, arrays), output)
    exact = (rows[0, :, :k].astype(np.int64) - zero[0]) @ weight.astype(np.int64)
    np.testing.assert_array_equal(output.numpy()[0], exact.astype(np.float32))


def halves(batch: int, m: int, n: int, k: int) -> Any:
    """Return the product of two activations in FP16, (batch, m, k) x (batch, k, n), scheduled."""
    from tvm import te

    a = te.placeholder((batch, m, k), "float16", name="a")
    b = te.placeholder((batch, k, n), "float16", name="b")
    scheduled = schedule_product(te.create_prim_func([a, b, in_halves(a, b)]), SDOT)
    assert scheduled is not None
    assert scheduled.plain is None
    return scheduled.function.with_attr("global_symbol", "main")


@pytest.mark.parametrize(("m", "n", "k"), [(12, 32, 32), (5, 16, 8), (6, 24, 40)])
def test_a_product_in_halves_is_right(m: int, n: int, k: int) -> None:
    random = np.random.default_rng(m)
    a, b = (random.normal(size=s).astype(np.float16) for s in ((3, m, k), (3, k, n)))
    found = run(halves(3, m, n, k), [a, b], (3, m, n))
    exact = a.astype(np.float64) @ b.astype(np.float64)
    # Each step rounds to 11 bits, of what the sum is by then.
    bound = 2.0**-11 * k * (np.abs(a).astype(np.float64) @ np.abs(b).astype(np.float64)) + 1e-3
    assert (np.abs(found - exact) <= bound).all()
    assert np.abs(found - exact).max() > 0  # and not in FP32


@pytest.mark.parametrize(("n", "k"), [(128, 32), (32, 128)], ids=["scores", "values"])
def test_a_product_in_halves_multiplies_by_element_and_keeps_its_sums(n: int, k: int) -> None:
    code = tvm.compile(
        halves(12, 128, n, k), target=arm("cortex-a76"), tir_pipeline=tvm_stack.register()
    ).mod.inspect_source("asm")
    products = re.findall(r"\tfmla\tv\d+\.8h, v\d+\.8h, v\d+\.h\[[0-7]\]", code)
    assert len(products) == len(re.findall(r"\tfmla\t", code)) >= 256
    assert "[sp" not in code[code.index("fmla") : code.rindex("fmla")]


@pytest.mark.parametrize(
    ("core", "does"),
    [("cortex-a76", True), ("cortex-a55", True), ("cortex-a72", False), ("znver4", False)],
)
def test_cores_that_compute_in_halves_are_known(core: str, does: bool) -> None:
    assert backend.computes_halves(core) is does


def test_erf_is_within_what_it_says() -> None:
    x = np.linspace(-6, 6, 4096).astype(np.float32)
    exact = np.array([math.erf(float(v)) for v in x])
    plain = rows(erf, x.shape)
    assert np.abs(run(plain, [x], x.shape) - exact).max() < 3e-5


def test_gelu_is_as_near_as_erf() -> None:
    x = np.linspace(-8, 8, 4096).astype(np.float32)
    exact = np.array([v * (1 + math.erf(v / math.sqrt(2))) / 2 for v in x.astype(np.float64)])
    found = run(rows(gelu, x.shape), [x], x.shape)
    assert (np.abs(found - exact) <= 1.5e-5 * np.abs(x) + 1e-6).all()


@pytest.mark.parametrize(("half", "times"), [(0.5, 1), (0.25, 0)])
def test_gelu_by_its_terms_is_found_and_nothing_else(half: float, times: int) -> None:
    from tvm import relax

    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((1, 8), "float32"))
    number = partial(relax.const, dtype="float32")
    with builder.function("main", [x]):
        with builder.dataflow():
            erf_ = relax.op.erf(relax.op.divide(x, number(math.sqrt(2))))
            term = relax.op.multiply(x, relax.op.add(erf_, number(1.0)))
            value = builder.emit_output(builder.emit(relax.op.multiply(term, number(half))))
        builder.emit_func_output(value)
    assert with_gelu(builder.get())["main"].script().count("nn.gelu(") == times


def test_weights_use_all_steps_of_their_channel() -> None:
    weight = np.random.default_rng(1).normal(size=(30, 5)).astype(np.float32)
    weight[:, 2] = 0
    values, scale = channels(weight)
    assert values.min() >= -127
    assert (np.abs(values).max(0) == [127, 127, 0, 127, 127]).all()
    assert (np.abs(values * scale - weight) <= 0.5001 * scale).all()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, Artifact, Path]:
    """Return a BERT in INT8 for a Cortex-A72, one module of it in FP32, with its directory."""
    pytest.importorskip("transformers", reason="needs edgeopt[torch]")
    pytest.importorskip("onnxruntime", reason="needs edgeopt[onnx]")
    pytest.importorskip("ziglang", reason="needs edgeopt[cross]")
    model = import_model(saved("BertModel", tmp_path_factory.mktemp("tiny"), **SIZES))
    directory = tmp_path_factory.mktemp("artifact")
    target, spec = target_for("raspberry-pi-4", (16,))
    quantize = Quantize(keep=(KEPT,))
    return model, backend.lower(model, target, spec, "int8", (), directory, quantize), directory


def test_a_network_computes_what_rounding_in_torch_does(
    made: tuple[Model, Artifact, Path],
) -> None:
    import torch

    model, artifact, directory = made
    batch = batch_of(model, 16)
    found = backend.open_on_host(artifact, directory, threads=1).run(batch)
    mask = batch["attention_mask"]
    exact = compare(found, reference(model, batch), mask)
    assert 0.98 < exact.cosine < 0.99999  # INT8, and not FP32
    rounded = copy.deepcopy(model.module)
    with torch.no_grad():
        for name, module in rounded.named_modules():
            if isinstance(module, torch.nn.Linear) and not name.endswith(KEPT):
                module.weight.copy_(snap(module.weight, Grid()))
                module.register_forward_pre_hook(rounded_rows)
            elif name.endswith("word_embeddings"):  # others are small, or no tables any more
                module.weight.copy_(snap(module.weight, Grid()))
    same = model.with_source(replace(model.main.source, module=rounded))
    near = compare(found, reference(same, batch), mask)
    assert near.cosine > 0.999995
    assert near.max_abs_error < exact.max_abs_error / 4


def rounded_rows(_: Any, inputs: Any) -> Any:
    """Return a linear module's input as the library's rows keep it."""
    import torch

    (hidden,) = inputs
    low = hidden.amin(-1, keepdim=True).clamp(max=0)
    scale = (hidden.amax(-1, keepdim=True).clamp(min=0) - low).clamp(min=1e-30) / LEVELS
    zero = torch.floor(-low / scale) + 1
    return ((torch.round(hidden / scale + zero) - zero) * scale,)


def test_it_says_how_it_was_made(made: tuple[Model, Artifact, Path]) -> None:
    _, artifact, directory = made
    assert artifact.route == (
        "ONNX -> Relax, INT8 by smull -> scheduled TIR -> LLVM for cortex-a72; checked here as a "
        "build of the same graph for the host, itself on the board"
    )
    assert json.loads((directory / backend.KEPT).read_text()) == [KEPT]


def test_attention_in_halves_is_near_that_in_fp32(
    made: tuple[Model, Artifact, Path], tmp_path: Path
) -> None:
    model, artifact, directory = made
    target, spec = target_for("raspberry-pi-5", (16,))
    quantize = Quantize(keep=(KEPT,))
    halved = backend.lower(model, target, spec, "int8", (), tmp_path, quantize)
    assert "INT8 by sdot and attention in FP16 ->" in halved.route
    batch = batch_of(model, 16)
    whole = backend.open_on_host(artifact, directory, threads=1).run(batch)
    found = backend.open_on_host(halved, tmp_path, threads=1).run(batch)
    near = compare(found, whole, batch["attention_mask"])
    assert near.cosine > 0.9999
    assert near.max_abs_error > 0
    inside = look_inside(model, halved, tmp_path, batch)
    for name, value in found.items():
        np.testing.assert_allclose(inside.outputs[name], value, atol=1e-4)


def test_layers_are_seen_as_they_are_computed(made: tuple[Model, Artifact, Path]) -> None:
    """So that one which is wrong by itself would be found; the one in FP32 is exact."""
    model, artifact, directory = made
    batch = batch_of(model, 16)
    found = look_inside(model, artifact, directory, batch)
    whole = backend.open_on_host(artifact, directory, threads=1).run(batch)
    for name, value in whole.items():
        np.testing.assert_allclose(found.outputs[name], value, atol=1e-4)
    products = [t for t in found.tensors if t.operator == "MatMul" and "dense" in t.scope]
    assert len(products) >= 3
