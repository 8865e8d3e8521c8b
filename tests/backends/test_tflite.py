# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgeopt.backends import backend
from edgeopt.errors import CompileError
from edgeopt.model import Model
from edgeopt.model.importer import import_model
from edgeopt.target import Target
from tests import checkpoints
from tests.lazily import lazily
from tests.model import test_image_families

lazily("litert_torch", reason="needs edgeopt[tflite]")
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


def test_fp16_is_what_all_products_and_convolutions_keep_their_weights_in(
    lower: Callable, agreement: Callable, tmp_path: Path
) -> None:
    (family,) = (row for row in test_image_families.FAMILIES if row[0] == "ConvNext")
    model = import_model(test_image_families.write(tmp_path / "model", *family))
    artifact, directory = lower(model, "tflite", "fp16")
    kinds = {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"}
    assert weights(directory / "model.tflite", kinds) == {kind: {"FLOAT16"} for kind in kinds}
    assert agreement(model, artifact, directory).cosine_min > 0.9999


def weights(path: Path, kinds: set[str]) -> dict[str, set[str]]:
    """Return in which types operators of each kind have the weights that they read, as stored."""
    from ai_edge_quantizer.utils import tfl_flatbuffer_utils as flatbuffer

    model = flatbuffer.read_model(str(path))
    names = {code: name.value for name, code in flatbuffer.TFL_OP_NAME_TO_CODE.items()}
    types = {0: "FLOAT32", 1: "FLOAT16"}  # tflite::TensorType
    found: dict[str, set[str]] = {}
    for graph in model.subgraphs:
        made = {int(i): operator for operator in graph.operators for i in operator.outputs}
        for operator in graph.operators:
            kind = names.get(model.operatorCodes[operator.opcodeIndex].builtinCode)
            if kind in kinds:
                index = int(operator.inputs[1])
                stored = int(made[index].inputs[0]) if index in made else index
                found.setdefault(kind, set()).add(types[graph.tensors[stored].type])
    return found


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
