# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeopt import values
from edgeopt.backends import backend, run_on_host
from edgeopt.backends.onnx import export_fp32
from edgeopt.errors import CompileError, InputError
from edgeopt.model import texts
from edgeopt.model.importer import import_model
from edgeopt.quantize import Quantize
from edgeopt.target import Target
from tests import checkpoints
from tests.model import test_image_families

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
    assert artifact.options == {
        "INFERENCE_PRECISION_HINT": hint,
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0",
    }
    for seq_len in (9, 32):
        assert agreement(model, artifact, directory, seq_len).cosine_min > bound
    assert capfd.readouterr() == ("", "")


def large_weights(path: Path) -> int:
    """Return how many INT8 tables hold values that do not go into 7 bits."""
    import openvino

    nodes = openvino.Core().read_model(str(path)).get_ordered_ops()
    kinds = [n for n in nodes if n.get_type_name() == "Constant"]
    tables = [n.get_data() for n in kinds if n.get_element_type().get_type_name() == "i8"]
    return sum(int(np.abs(table.astype(int)).max()) > 64 for table in tables)


@pytest.mark.parametrize(
    ("arch", "isa", "bits"),
    [
        ("x86_64", ("avx2", "avx_vnni"), 8),
        ("x86_64", ("avx512f", "avx512_vnni"), 8),
        ("x86_64", ("avx2",), 7),
        ("aarch64", ("asimd",), 8),
    ],
)
def test_weights_have_7_bits_if_the_device_would_overflow(
    arch: str,
    isa: tuple[str, ...],
    bits: int,
    tiny: Callable,
    target: Target,
    agreement: Callable,
    tmp_path: Path,
) -> None:
    """A product of uint8 and int8 is added to its neighbour in 16 bits if there is no VNNI.

    What this host runs is right for each: its own kernels if they are right, else float arithmetic.
    """
    model = tiny("RobertaModel")
    device = replace(target.device, arch=arch, isa=isa)
    spec = next(s for s in target.engines if s.engine == "openvino")
    calibration = texts.tokenize(model, texts.read_texts(None, 24)[16:], 32)
    made = backend("openvino").lower(
        model, replace(target, device=device), spec, "int8", calibration, tmp_path
    )
    embeddings, products = 3, 12  # embeddings are looked up, and added to nothing
    wanted = embeddings + (products if bits == 8 else 0)
    assert large_weights(tmp_path / "model.xml") == wanted
    assert ("weights in 7 bits" in made.route) == (bits == 7)
    exact = bits == 8 and target.device.overflows_int8
    asked = {"LP_TRANSFORMS_MODE": "NO"} if exact else {}
    assert backend("openvino").host_options(made, tmp_path) == asked
    assert agreement(model, made, tmp_path, 32).cosine_min > 0.97


HALF = """
import json, sys
from pathlib import Path
from edgeopt.backends import Artifact, openvino
from edgeopt.fields import Table
from edgeopt.values import read

folder = Path(sys.argv[1])
artifact = read(Artifact, Table(json.loads(sys.argv[2]), file="artifact"))
print(openvino.host_options(artifact, folder))
opened = openvino.compiled_on_host(artifact, folder, 1)
print(opened.get_property("INFERENCE_PRECISION_HINT").get_type_name())
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="oneDNN's limit is of x86-64")
def test_half_precision_is_not_bf16_on_a_host_that_has_only_that(
    tiny: Callable, lower: Callable
) -> None:
    artifact, directory = lower(tiny("DistilBertForQuestionAnswering"), "openvino", "fp16")
    found = subprocess.run(
        [sys.executable, "-c", HALF, str(directory), json.dumps(values.write(artifact))],
        env=os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16"},
        check=True,
        capture_output=True,
        text=True,
    )
    assert found.stdout == "{'INFERENCE_PRECISION_HINT': 'f32'}\nf32\n"


@pytest.mark.parametrize(("precision", "bound"), [("fp32", 0.99999), ("int8", 0.9)])
def test_a_model_of_images(
    precision: str, bound: float, tiny: Callable, lower: Callable, agreement: Callable
) -> None:
    model = tiny("ViTForImageClassification")
    artifact, directory = lower(model, "openvino", precision)
    assert artifact.main.signature == model.main.signature
    assert agreement(model, artifact, directory).cosine_min > bound


@pytest.mark.parametrize("family", ["CLIP", "ConvNextV2", "MobileNetV2"])
def test_what_openvino_computes_wrongly_in_int8_is_left_in_fp32(
    family: str, lower: Callable, agreement: Callable, tmp_path: Path
) -> None:
    """A product that takes a mean; convolutions beside depthwise ones."""
    (chosen,) = (row for row in test_image_families.FAMILIES if row[0] == family)
    model = import_model(test_image_families.write(tmp_path / "model", *chosen))
    artifact, directory = lower(model, "openvino", "int8")
    assert agreement(model, artifact, directory).cosine_min > 0.9


def constant(node: Any) -> np.ndarray | None:
    """Return what OpenVINO makes of stored weights, None if activations are in it."""
    kind, shape = node.get_type_name(), tuple(node.get_output_shape(0))
    if kind == "Constant":
        if node.get_element_type().to_string() != "i4":
            return node.data
        halves = np.stack([node.data << 4 >> 4, node.data >> 4], axis=-1)  # the low one first
        return halves.reshape(shape)
    if kind not in ("Convert", "Reshape", "Multiply", "Subtract"):
        return None
    first, *others = (constant(value.get_node()) for value in node.input_values())
    if first is None or any(other is None for other in others):
        return None
    if kind == "Reshape":
        return first.reshape(shape)
    first = first.astype(np.float32)
    return (
        first
        if kind == "Convert"
        else first * others[0]
        if kind == "Multiply"
        else first - others[0]
    )


@pytest.mark.parametrize(
    ("precision", "quantize"),
    [("int8", Quantize(activations="none")), ("int4", Quantize(weights="int4"))],
)
def test_activations_that_are_not_quantised_are_not(
    precision: str, quantize: Quantize, lower: Callable, tmp_path: Path
) -> None:
    """The answers are those of FP32 with weights of the grid's values, computed in numpy here."""
    import openvino

    # Below 64 inputs OpenVINO does not quantise activations by itself.
    folder = checkpoints.write(tmp_path / "checkpoint", hidden_size=128, intermediate_size=256)
    model = import_model(folder)
    artifact, directory = lower(model, "openvino", precision, quantize)
    rounded = openvino.Core().read_model(directory / "model.xml")
    products = 0
    for node in rounded.get_ordered_ops():
        weight = (
            constant(node.input_value(1).get_node()) if node.get_type_name() == "MatMul" else None
        )
        if weight is not None:
            made = openvino.opset13.constant(weight.astype(np.float32))
            node.input(1).replace_source_output(made.output(0))
            products += 1
    assert products == 2 * 6 + 2
    plain = openvino.Core().compile_model(rounded, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    session = backend("openvino").open_on_host(artifact, directory, 1)
    for call in texts.tokenize(model, texts.read_texts(None, 4), 24):
        expected = plain(call)["logits"]
        np.testing.assert_allclose(session.run(call)["logits"], expected, atol=2e-5)


def test_sizes_that_differ_from_input_to_input_are_refused(tiny: Callable, lower: Callable) -> None:
    model = tiny("BertForSequenceClassification")
    artifact, directory = lower(model, "openvino", "fp32")
    (call,) = texts.tokenize(model, ["a library for python"], 16)
    for name in ("attention_mask", "token_type_ids"):
        wrong = call | {name: np.ones((1, 11), np.int64)}
        with pytest.raises(InputError) as caught:
            run_on_host(artifact, directory, [call, wrong])
        assert caught.value.message == "has the shape (1, 11), expected ('batch', 'seq')"
        assert caught.value.where == name


def test_shapes_that_do_not_fit_inside_are_an_error_not_the_answer_before(
    tiny: Callable, lower: Callable
) -> None:
    """With one thread OpenVINO itself says nothing, and goes on so until the shapes change."""
    model = tiny("BertForSequenceClassification")
    artifact, directory = lower(model, "openvino", "fp32")
    (call,) = texts.tokenize(model, ["a library for python"], 16)
    shorter = {name: value[:, :12] for name, value in call.items()}
    for threads in (1, 2):
        session = backend("openvino").open_on_host(artifact, directory, threads)
        expected = session.run(call)["logits"]
        for _ in range(2):
            # A ValueError of ours, or with two threads OpenVINO's RuntimeError.
            with pytest.raises((ValueError, RuntimeError), match=r"shapes|infer_request"):
                session.run(call | {"attention_mask": np.ones((1, 11), np.int64)})
            session.run(shorter)
            np.testing.assert_array_equal(session.run(call)["logits"], expected)


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
