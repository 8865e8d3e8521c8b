# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The options of quantising: what each engine makes of them, and what it refuses."""

import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from edgeopt.backends import (
    onnx_quantize,
    openvino_quantize,
    openvino_rounding,
    tflite_quantize,
    tvm_quantize,
)
from edgeopt.errors import CompileError
from edgeopt.model import Model
from edgeopt.quantize import PLAIN, Plan, Quantize, plan
from edgeopt.target import Target

MODEL = "BertForSequenceClassification"
KEPT = ("bert.encoder.layer.1.output.dense", "classifier")
ABILITIES = {
    "onnx": onnx_quantize.ABILITIES,
    "openvino": openvino_quantize.ABILITIES,
    "tflite": tflite_quantize.ABILITIES,
    "tvm": tvm_quantize.ABILITIES,
}


def needs(module: str) -> pytest.MarkDecorator:
    # Not importorskip: importing OpenVINO here would load its usage reports first.
    return pytest.mark.skipif(find_spec(module) is None, reason=f"needs {module}")


@pytest.mark.parametrize(
    ("engine", "activations", "calibration", "algorithm"),
    [
        ("onnx", "dynamic", "", "rtn"),
        ("openvino", "static", "min-max", "rtn"),
        ("tflite", "dynamic", "", "rtn"),
        ("tvm", "dynamic", "", "rtn"),
    ],
)
def test_unasked_an_engine_does_what_it_did(
    engine: str, activations: str, calibration: str, algorithm: str
) -> None:
    assert plan(engine, "int8", PLAIN, ABILITIES[engine]) == Plan(
        bits=8,
        activations=activations,
        calibration=calibration,
        algorithm=algorithm,
        group_size=0,
    )


@pytest.mark.parametrize(
    ("engine", "asked", "message", "hint"),
    [
        (
            "tflite",
            Quantize(activations="static"),
            "tflite int8 has no activations 'static': calibrated ones broke this kind of model "
            "(cosine .14)",
            "It has: dynamic, none",
        ),
        (
            "tvm",
            Quantize(activations="none"),
            "tvm int8 has no activations 'none': the kernels multiply INT8 by INT8",
            "It has: dynamic",
        ),
        (
            "onnx",
            Quantize(activations="static", calibration="mse"),
            "onnx int8 has no calibration 'mse': onnxruntime has no such calibration",
            "It has: min-max, percentile, entropy",
        ),
        (
            "onnx",
            Quantize(calibration="entropy"),
            "onnx int8 has nothing to calibrate: its activations are 'dynamic'",
            'With activations = "static" it has, where it can.',
        ),
        (
            "tflite",
            Quantize(smooth_quant=0.5),
            "tflite has no smooth_quant",
            "OpenVINO (NNCF) has.",
        ),
        (
            "openvino",
            Quantize(group_size=32),
            "openvino int8 has no group_size 32",
            "It has: 0",
        ),
    ],
)
def test_what_an_engine_has_not_is_refused(
    engine: str, asked: Quantize, message: str, hint: str
) -> None:
    with pytest.raises(CompileError) as caught:
        plan(engine, "int8", asked, ABILITIES[engine])
    assert (caught.value.message, caught.value.hint) == (message, hint)


@pytest.mark.heavy
@needs("onnxruntime")
@pytest.mark.parametrize(
    ("precision", "asked", "operator", "count", "bound"),
    [
        ("int8", Quantize(keep=KEPT), "MatMulIntegerToFloat", 12, 0.98),  # of 14 linear modules
        ("int8", Quantize(activations="static", calibration="percentile"), "", 0, 0.98),
        ("int8", Quantize(activations="static", calibration="entropy"), "", 0, 0.97),
        ("int8", Quantize(activations="none"), "MatMulNBits", 12, 0.99),  # the Gemms stay
        ("int4", Quantize(weights="int4", keep=KEPT), "MatMulNBits", 11, 0.85),
        ("int4", Quantize(weights="int4", algorithm="hqq"), "MatMulNBits", 12, 0.7),
    ],
    ids=lambda value: str(value.options()) if isinstance(value, Quantize) else str(value),
)
def test_onnx(
    precision: str,
    asked: Quantize,
    operator: str,
    count: int,
    bound: float,
    tiny: Callable,
    lower: Callable,
    agreement: Callable,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import onnx

    monkeypatch.setattr(onnx_quantize, "_ENTROPY_BINS", 256)  # seconds rather than a minute
    artifact, directory = lower(tiny(MODEL), "onnx", precision, asked)
    assert [path.name for path in directory.iterdir()] == ["model.onnx"]
    nodes = onnx.load(directory / "model.onnx").graph.node
    if operator:
        assert [node.op_type for node in nodes].count(operator) == count
    else:  # QDQ: both factors of a product come from a DequantizeLinear
        made_by = {name: node.op_type for node in nodes for name in node.output}
        kinds = [[made_by.get(i) for i in n.input] for n in nodes if n.op_type == "MatMul"]
        assert kinds.count(["DequantizeLinear", "DequantizeLinear"]) == 12
        assert len(kinds) == 16  # and two a layer of activations alone
    assert artifact.precision == precision
    assert agreement(tiny(MODEL), artifact, directory, 32).cosine_min > bound


@pytest.mark.heavy
@needs("onnxruntime")
def test_onnx_for_a_runtime_without_the_operator_is_refused(tiny: Callable, tmp_path: Path) -> None:
    with pytest.raises(CompileError) as caught:
        onnx_quantize.quantize(tiny(MODEL), tmp_path, "int4", PLAIN, [], "1.10.0")
    assert caught.value.message == (
        "MatMulNBits of 4 bits came with onnxruntime 1.17, but the target runs 1.10.0"
    )


@pytest.mark.heavy
@needs("nncf")
@pytest.mark.parametrize(
    ("precision", "asked", "route", "bound"),
    [
        (
            "int8",
            Quantize(
                algorithm="gptq",
                calibration="mse",
                smooth_quant=0.5,
                bias_correction="accurate",
                keep=KEPT,
            ),
            "nncf.quantize (TRANSFORMER, 8 samples, mse, SmoothQuant 0.5, "
            "bias correction accurate) -> GPTQ",
            0.95,
        ),
        (
            "int4",
            Quantize(weights="int4", algorithm="scale-estimation", keep=KEPT),
            "nncf.compress_weights (int4 groups of 32, scale-estimation)",
            0.85,
        ),
    ],
)
def test_openvino(
    precision: str,
    asked: Quantize,
    route: str,
    bound: float,
    tiny: Callable,
    lower: Callable,
    agreement: Callable,
    target: Target,
) -> None:
    artifact, directory = lower(tiny(MODEL), "openvino", precision, asked)
    if target.device.overflows_int8 and "nncf.quantize" in route:
        route = route.replace(") ->", ", weights in 7 bits for x86-64 without VNNI) ->")
    assert artifact.route.endswith(route)
    assert agreement(tiny(MODEL), artifact, directory, 32).cosine_min > bound
    import openvino

    weights: list[str] = []
    for node in openvino.Core().read_model(directory / "model.xml").get_ordered_ops():
        if node.get_type_name() == "MatMul":
            inputs = [node.input_value(i).get_node() for i in (0, 1)]
            if inputs[1].get_type_name() == "Constant":
                assert inputs[0].get_type_name() != "FakeQuantize"
                weights.append(node.get_friendly_name())
    assert len(weights) == len(KEPT)


@pytest.mark.parametrize("largest", [127, 64])
def test_what_rounding_costs_is_made_up_for_by_inputs_that_go_together(largest: int) -> None:
    generator = np.random.default_rng(0)
    inputs = generator.normal(size=(400, 8)) @ generator.normal(size=(8, 96))
    inputs += 0.1 * generator.normal(size=inputs.shape)
    weights = generator.normal(size=(32, 96)).astype(np.float32)
    weights[:, 5] *= 30  # as SmoothQuant leaves it: the others have few steps left
    scales = np.abs(weights).max(axis=1) / largest

    def error(numbers: np.ndarray) -> float:
        return float(np.linalg.norm(inputs @ (numbers * scales[:, None] - weights).T))

    found = openvino_rounding.gptq(weights, inputs.T @ inputs, scales, largest)
    assert (found == np.rint(found)).all()
    assert np.abs(found).max() <= largest
    assert error(found) < 0.5 * error(np.rint(weights / scales[:, None]))


@needs("openvino")
def test_weights_are_rounded_as_they_were_scaled() -> None:
    """A product whose inputs SmoothQuant scaled, one of two with one input, and one of others."""
    import openvino

    generator = np.random.default_rng(0)
    floats = [generator.normal(size=(8, 16)).astype(np.float32) for _ in range(3)]
    smooth = generator.uniform(0.5, 2, 16).astype(np.float32)
    factors = [smooth, np.ones(16, np.float32), np.ones(16, np.float32)]
    op = openvino.opset13

    def network(*, quantised: bool) -> openvino.Model:
        x, mask = op.parameter([-1, 16], np.float32), op.parameter([-1, 16], np.float32)
        results = []
        for i, (weights, factor) in enumerate(zip(floats, factors, strict=True)):
            value, constant = x, op.constant(weights)
            if quantised:
                if i == 0:
                    value = op.multiply(x, op.constant(factor), name="x/nncf_smooth_quant")
                scaled = weights / factor
                scales = np.abs(scaled).max(axis=1, keepdims=True) / 127
                numbers = np.rint(scaled / scales) + (3 if i == 2 else 0)
                integers = op.constant(numbers.astype(np.int8))
                constant = op.multiply(op.convert(integers, "f32"), op.constant(scales))
            results.append(op.matmul(value, constant, False, True, name=f"product {i}"))
        return openvino.Model(results, [x, mask])

    def outputs(model: openvino.Model, given: np.ndarray) -> list[np.ndarray]:
        run = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        return [np.array(value) for value in run([given, given]).values()]

    given = generator.normal(size=(64, 2)) @ generator.normal(size=(2, 16))
    given = (given + 0.05 * generator.normal(size=given.shape)).astype(np.float32)
    before, made = network(quantised=True), network(quantised=True)
    # A mask of the same shape: such values are of one text, and not its tokens.
    left_out = np.zeros((1, 16), np.float32)
    calls = [{"x": row[None], "attention_mask": left_out} for row in given]
    plain, expected = network(quantised=False), outputs(network(quantised=False), given)
    for model in (plain, made):
        model.input(0).get_tensor().set_names({"x"})
        model.input(1).get_tensor().set_names({"attention_mask"})
    openvino_rounding.round_weights(openvino, plain, made, calls)
    nearest, rounded = outputs(before, given), outputs(made, given)
    for i in (0, 1):
        assert np.linalg.norm(rounded[i] - expected[i]) < 0.7 * np.linalg.norm(
            nearest[i] - expected[i]
        )
    assert (rounded[2] == nearest[2]).all()


@pytest.fixture(scope="module")
def fp32_file(tiny: Callable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model as a TFLite file, which is slow to make."""
    from edgeopt.backends.tflite import _convert

    path = tmp_path_factory.mktemp("tflite") / "fp32.tflite"
    _convert(tiny(MODEL), (16, 32), path)
    return path


def weight_types(path: Path) -> list[str]:
    """Return the dtype of each product's weight in both signatures together."""
    from ai_edge_quantizer import qtyping
    from ai_edge_quantizer.utils import tfl_flatbuffer_utils as flatbuffer

    model = flatbuffer.read_model(str(path))
    code = flatbuffer.TFL_OP_NAME_TO_CODE[qtyping.TFLOperationName.FULLY_CONNECTED]
    names = {0: "float32", 9: "int8", 17: "int4"}  # TensorType of the TFLite schema
    return [
        names[graph.tensors[operator.inputs[1]].type]
        for graph in model.subgraphs
        for operator in graph.operators
        if model.operatorCodes[operator.opcodeIndex].builtinCode == code
    ]


@pytest.mark.heavy
@needs("litert_torch")
@pytest.mark.parametrize(
    ("precision", "asked", "kinds", "line"),
    [
        (
            "int8",
            Quantize(keep=KEPT),
            {"int8": 24, "float32": 4},  # 14 modules in two signatures
            "dynamic_wi8_afp32",
        ),
        (
            "int4",
            Quantize(weights="int4", keep=KEPT),
            {"int4": 24, "float32": 4},
            "dynamic_wi4b32_afp32",
        ),
        (
            "int4",
            Quantize(weights="int4", activations="none"),
            {"float32": 28},  # made floating point by an operator before
            "weight_only_wi4c_afp32",
        ),
    ],
)
def test_tflite(
    precision: str,
    asked: Quantize,
    kinds: dict[str, int],
    line: str,
    fp32_file: Path,
    tiny: Callable,
    tmp_path: Path,
) -> None:
    path = tmp_path / "model.tflite"
    shutil.copy(fp32_file, path)
    assert tflite_quantize.quantize(tiny(MODEL), path, precision, asked) == line
    assert [p.name for p in tmp_path.iterdir()] == ["model.tflite"]
    found = weight_types(path)
    assert {kind: found.count(kind) for kind in set(found)} == kinds
    assert path.stat().st_size < fp32_file.stat().st_size


@pytest.mark.heavy
@needs("onnxruntime")
def test_a_module_that_is_not_there_cannot_be_kept(tiny: Callable, lower: Callable) -> None:
    model: Model = tiny(MODEL)
    with pytest.raises(CompileError) as caught:
        lower(model, "onnx", "int8", Quantize(keep=("classifer",)))
    assert caught.value.message == ("has no linear module 'classifer'; did you mean 'classifier'?")
    assert caught.value.where == f"{model.name}: quantize.keep"
