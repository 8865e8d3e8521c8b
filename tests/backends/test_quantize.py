# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The options of quantising: what each engine makes of them, and what it refuses."""

import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from edgeopt.backends import onnx_quantize, openvino_quantize, tflite_quantize, tvm_quantize
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
    ("engine", "activations", "calibration"),
    [
        ("onnx", "dynamic", ""),
        ("openvino", "static", "min-max"),
        ("tflite", "dynamic", ""),
        ("tvm", "dynamic", ""),
    ],
)
def test_unasked_an_engine_does_what_it_did(
    engine: str, activations: str, calibration: str
) -> None:
    assert plan(engine, "int8", PLAIN, ABILITIES[engine]) == Plan(
        bits=8, activations=activations, calibration=calibration, algorithm="rtn", group_size=0
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
            Quantize(calibration="mse", smooth_quant=0.5, bias_correction="accurate", keep=KEPT),
            "nncf.quantize (TRANSFORMER, 8 samples, mse, SmoothQuant 0.5, "
            "bias correction accurate)",
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
        route = route.removesuffix(")") + ", weights in 7 bits for x86-64 without VNNI)"
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
