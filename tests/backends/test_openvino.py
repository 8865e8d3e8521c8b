import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from edgeopt.backends.onnx import export_fp32
from edgeopt.errors import CompileError
from edgeopt.model.importer import import_model
from edgeopt.target import Target

# Not importorskip: importing OpenVINO here would load its usage reports before edgeopt stops them.
pytestmark = [
    pytest.mark.heavy,
    pytest.mark.skipif(find_spec("openvino") is None, reason="needs edgeopt[openvino]"),
]


@pytest.mark.parametrize(
    ("architecture", "precision", "bound"),
    [
        ("BertForSequenceClassification", "fp32", 0.99999),
        ("DistilBertForQuestionAnswering", "fp16", 0.999),
        ("RobertaModel", "int8", 0.97),
    ],
)
def test_each_precision_agrees_at_any_length(
    architecture: str,
    precision: str,
    bound: float,
    tiny: Callable,
    lower: Callable,
    agreement: Callable,
    capfd: pytest.CaptureFixture[str],
) -> None:
    model = tiny(architecture)
    artifact, directory = lower(model, "openvino", precision)
    assert artifact.files == ("model.xml", "model.bin")
    hint = "f16" if precision == "fp16" else "f32"
    assert artifact.options == {"INFERENCE_PRECISION_HINT": hint}
    for seq_len in (9, 32):
        assert agreement(model, artifact, directory, seq_len).cosine_min > bound
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("precision", "bound"), [("fp32", 0.99999), ("int8", 0.9)])
def test_a_model_of_images(
    precision: str, bound: float, tiny: Callable, lower: Callable, agreement: Callable
) -> None:
    model = tiny("ViTForImageClassification")
    artifact, directory = lower(model, "openvino", precision)
    assert artifact.signature == model.signature
    assert agreement(model, artifact, directory).cosine_min > bound


def test_an_onnx_file_is_lowered_too(
    tiny: Callable, lower: Callable, agreement: Callable, tmp_path: Path
) -> None:
    path = tmp_path / "own.onnx"
    export_fp32(tiny("BertModel"), path, opset=17, ir_version=8, batch=None, seq_len=None)
    model = import_model(path)
    artifact, directory = lower(model, "openvino", "fp32")
    assert agreement(model, artifact, directory, 16).cosine_min > 0.99999


def test_int8_without_texts_is_an_error(tiny: Callable, target: Target, tmp_path: Path) -> None:
    from edgeopt.backends import openvino

    spec = next(s for s in target.engines if s.engine == "openvino")
    with pytest.raises(CompileError, match="INT8 needs texts or images to calibrate on"):
        openvino.lower(tiny("BertModel"), target, spec, "int8", [], tmp_path)


def test_nothing_is_reported_to_the_maker(tiny: Callable, lower: Callable) -> None:
    lower(tiny("BertForSequenceClassification"), "openvino", "fp32")
    assert sys.modules.get("openvino_telemetry") is None
