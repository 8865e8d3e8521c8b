# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgeopt.backends import backend
from edgeopt.errors import CompileError
from edgeopt.model import Model
from edgeopt.target import Target
from tests import checkpoints

pytest.importorskip("litert_torch", reason="needs edgeopt[tflite]", exc_type=ImportError)
pytestmark = pytest.mark.heavy


@pytest.mark.parametrize(
    ("architecture", "precision", "bound"),
    [
        ("BertForSequenceClassification", "fp32", 0.99999),
        ("DistilBertForQuestionAnswering", "fp16", 0.999),
        ("RobertaModel", "int8", 0.98),
    ],
)
def test_each_precision_agrees(
    architecture: str,
    precision: str,
    bound: float,
    tiny: Callable,
    lower: Callable,
    agreement: Callable,
    capfd: pytest.CaptureFixture[str],
) -> None:
    model = tiny(architecture)
    artifact, directory = lower(model, "tflite", precision)
    assert [path.name for path in directory.iterdir()] == ["model.tflite"]
    assert artifact.main.seq_lens == (32,)  # the model takes 38 tokens, not the target's 128
    assert [s.name for s in artifact.main.signature.inputs] == [
        s.name for s in model.main.signature.inputs
    ]
    assert {s.dtype for s in artifact.main.signature.inputs} == {"int32"}
    assert agreement(model, artifact, directory, 32).cosine_min > bound
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("precision", "bound"), [("fp32", 0.99999), ("int8", 0.98)])
def test_a_model_of_images_has_one_signature(
    precision: str, bound: float, tiny: Callable, lower: Callable, agreement: Callable
) -> None:
    model = tiny("ViTForImageClassification")
    artifact, directory = lower(model, "tflite", precision)
    assert artifact.main.seq_lens == ()
    assert "signatures seq_0" in artifact.route
    (pixels,) = artifact.main.signature.inputs
    assert (pixels.dtype, pixels.dims) == ("float32", (1, 3, 32, 32))
    assert agreement(model, artifact, directory).cosine_min > bound


def test_a_length_without_a_signature_is_an_error(tiny: Callable, lower: Callable) -> None:
    model = tiny("BertForSequenceClassification")
    artifact, directory = lower(model, "tflite", "fp32")
    session = backend("tflite").open_on_host(artifact, directory, 1)
    ids = np.ones((1, 16), dtype=np.int64)
    with pytest.raises(ValueError, match=r"length 16, but the artifact takes \(32,\)"):
        session.run({spec.name: ids for spec in model.main.signature.inputs})


def test_an_onnx_file_is_refused(tiny: Callable, target: Target, tmp_path: Path) -> None:

    model: Model = checkpoints.as_file(tiny("BertModel"), tmp_path / "x.onnx")
    spec = next(s for s in target.engines if s.engine == "tflite")
    with pytest.raises(CompileError) as caught:
        backend("tflite").lower(model, target, spec, "fp32", [], tmp_path)
    assert caught.value.message == (
        "TFLite is lowered from a PyTorch module or TensorFlow, and this model came as an .onnx "
        "file"
    )
    assert caught.value.hint == "Import the checkpoint itself."
