import importlib.util
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeopt.backends import backend
from edgeopt.backends import onnx as engine
from edgeopt.backends.onnx_scaling import scale_tokens
from edgeopt.errors import CompileError, InputError
from edgeopt.model import reference, samples, texts
from edgeopt.model.importer import import_model
from edgeopt.model.signature import NO_LENGTH
from edgeopt.target import Target

onnx = pytest.importorskip("onnx", reason="needs edgeopt[onnx]")
pytestmark = pytest.mark.heavy

ARCHITECTURES = [
    "BertModel",
    "RobertaForSequenceClassification",
    "BertForTokenClassification",
    "DistilBertForQuestionAnswering",
]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_fp32_agrees_at_any_length_within_opset_and_ir(
    architecture: str, tiny: Callable, lower: Callable, agreement: Callable
) -> None:
    model = tiny(architecture)
    artifact, directory = lower(model, "onnx", "fp32")
    proto = onnx.load(directory / "model.onnx")
    assert [(i.domain, i.version) for i in proto.opset_import] == [("", 17)]
    assert proto.ir_version <= 8
    assert [v.name for v in proto.graph.input] == [s.name for s in model.signature.inputs]
    assert [v.name for v in proto.graph.output] == [s.name for s in model.signature.outputs]
    for seq_len in (7, 32):
        assert agreement(model, artifact, directory, seq_len).max_abs_error < 1e-4


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_int8_is_near_and_all_its_weight_products_are_integer(
    architecture: str, tiny: Callable, lower: Callable, agreement: Callable
) -> None:
    model = tiny(architecture)
    artifact, directory = lower(model, "onnx", "int8")
    assert [path.name for path in directory.iterdir()] == ["model.onnx"]
    kinds = [node.op_type for node in onnx.load(directory / "model.onnx").graph.node]
    assert kinds.count("MatMulInteger") >= 12  # six to a layer
    assert kinds.count("MatMul") == 4  # of activations: scores and context
    assert agreement(model, artifact, directory, 32).cosine_min > 0.98


@pytest.mark.parametrize(
    ("architecture", "precision", "bound"),
    [
        ("ViTForImageClassification", "fp32", 0.99999),
        ("DeiTForImageClassificationWithTeacher", "fp32", 0.99999),
        ("ViTForImageClassification", "int8", 0.98),
        ("DeiTForImageClassification", "int8", 0.98),
    ],
)
def test_a_model_of_images(
    architecture: str,
    precision: str,
    bound: float,
    tiny: Callable,
    lower: Callable,
    agreement: Callable,
) -> None:
    model = tiny(architecture)
    artifact, directory = lower(model, "onnx", precision)
    assert artifact.seq_lens == ()
    graph = onnx.load(directory / "model.onnx").graph
    kinds = [node.op_type for node in graph.node]
    assert not [kind for kind in kinds if kind.startswith("Conv")]  # patches are products
    if precision == "int8":
        assert kinds.count("MatMulInteger") == 2 * 6 + 2  # and the patches, and the classifier
    assert agreement(model, artifact, directory).cosine_min > bound


@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_images_can_be_run_several_at_once(name: str, tiny: Callable, lower: Callable) -> None:
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"needs edgeopt[{name}]")
    model = tiny("ViTForImageClassification")
    calls = samples.calls(model, samples.shipped(model, 3), NO_LENGTH)
    together = {"pixel_values": np.concatenate([call["pixel_values"] for call in calls])}
    expected = np.concatenate([r["logits"] for r in reference.run(model, calls)])
    artifact, directory = lower(model, name, "fp32")
    got = backend(name).open_on_host(artifact, directory, 1).run(together)
    np.testing.assert_allclose(got["logits"], expected, atol=1e-4)


@pytest.mark.parametrize("opset", [14, 17])
def test_the_opset_asked_for_is_the_one_in_the_file(
    opset: int, tiny: Callable, tmp_path: Path
) -> None:
    path = tmp_path / "model.onnx"
    engine.export_fp32(tiny("BertModel"), path, opset=opset, ir_version=8, batch=1, seq_len=16)
    proto = onnx.load(path)
    assert proto.opset_import[0].version == opset
    dims = proto.graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_value for dim in dims] == [1, 16]


def test_an_ir_version_below_the_exporters_is_an_error(tiny: Callable, tmp_path: Path) -> None:
    with pytest.raises(CompileError) as caught:
        engine.export_fp32(
            tiny("BertModel"), tmp_path / "m.onnx", opset=17, ir_version=6, batch=1, seq_len=8
        )
    assert caught.value.message == (
        "opset 17 and IR version 8, but the target's engine is promised opset 17 and "
        "IR version 6 at most"
    )


def test_scaling_tokens_leaves_the_network_as_it_was(tiny: Callable, tmp_path: Path) -> None:
    import onnxruntime as ort

    model = tiny("BertModel")
    path = tmp_path / "model.onnx"
    engine.export_fp32(model, path, opset=17, ir_version=8, batch=None, seq_len=None)
    proto = onnx.load(path)
    assert scale_tokens(proto, 17) == 8  # four inputs to a layer: three products share one
    onnx.checker.check_model(proto)
    call = texts.tokenize(model, ["a library for python"], 16)[0]
    results = [
        ort.InferenceSession(source).run(None, call)[0]
        for source in (str(path), proto.SerializeToString())
    ]
    np.testing.assert_allclose(results[0], results[1], atol=1e-4)


def test_an_imported_file_is_shipped_as_it_is(
    tiny: Callable, lower: Callable, agreement: Callable, tmp_path: Path
) -> None:
    path = tmp_path / "own.onnx"
    engine.export_fp32(
        tiny("BertForSequenceClassification"),
        path,
        opset=17,
        ir_version=8,
        batch=None,
        seq_len=None,
    )
    model = import_model(path)
    assert (model.name, model.task) == ("own", "sequence-classification")
    assert model.signature.inputs == tiny("BertForSequenceClassification").signature.inputs
    artifact, directory = lower(model, "onnx", "fp32")
    assert (directory / "model.onnx").read_bytes() == path.read_bytes()
    assert agreement(model, artifact, directory, 16).cosine_min > 0.99999


def test_an_imported_file_that_is_too_new_is_refused(
    tiny: Callable, target: Target, tmp_path: Path
) -> None:
    path = tmp_path / "own.onnx"
    engine.export_fp32(tiny("BertModel"), path, opset=17, ir_version=8, batch=None, seq_len=None)
    spec = replace(next(s for s in target.engines if s.engine == "onnx"), opset=15)
    with pytest.raises(CompileError) as caught:
        backend("onnx").lower(import_model(path), target, spec, "fp32", [], tmp_path)
    assert caught.value.hint == "Export it again at opset <= 15, IR version <= 8."


def test_a_truncated_file_is_refused(tiny: Callable, tmp_path: Path) -> None:
    path = tmp_path / "own.onnx"
    engine.export_fp32(tiny("BertModel"), path, opset=17, ir_version=8, batch=1, seq_len=8)
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(InputError, match="is damaged, cut short, or not an ONNX file"):
        import_model(path)


def test_inputs_of_other_names_are_refused(tiny: Callable, tmp_path: Path) -> None:
    path = tmp_path / "own.onnx"
    engine.export_fp32(tiny("BertModel"), path, opset=17, ir_version=8, batch=1, seq_len=8)
    proto = onnx.load(path)
    for node in proto.graph.node:
        node.input[:] = ["ids" if name == "input_ids" else name for name in node.input]
    proto.graph.input[0].name = "ids"
    onnx.save(proto, path)
    with pytest.raises(InputError, match="inputs are ids, attention_mask, token_type_ids;"):
        import_model(path)
