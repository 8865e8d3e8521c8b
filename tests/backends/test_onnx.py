# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

import importlib.util
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeopt.backends import backend, onnx_quantize
from edgeopt.backends import onnx as engine
from edgeopt.backends.onnx_inside import of_file
from edgeopt.backends.onnx_scaling import scale_tokens
from edgeopt.errors import CompileError, InputError
from edgeopt.model import reference, samples, texts
from edgeopt.model.importer import import_model
from edgeopt.model.signature import NO_LENGTH
from edgeopt.target import Target
from tests.model import test_families

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
    assert [v.name for v in proto.graph.input] == [s.name for s in model.main.signature.inputs]
    assert [v.name for v in proto.graph.output] == [s.name for s in model.main.signature.outputs]
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
    assert kinds.count("MatMulIntegerToFloat") >= 12  # six to a layer, fused as they stand
    assert "DynamicQuantizeLinear" not in kinds  # its range is the whole call's
    assert kinds.count("MultiHeadAttention") == 2  # scores and context of each layer
    assert "MatMul" not in kinds  # in FP32
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
    assert artifact.main.seq_lens == ()
    graph = onnx.load(directory / "model.onnx").graph
    kinds = [node.op_type for node in graph.node]
    assert not [kind for kind in kinds if kind.startswith("Conv")]  # patches are products
    if precision == "int8":
        assert (
            kinds.count("MatMulIntegerToFloat") == 2 * 6 + 2
        )  # and the patches, and the classifier
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
    assert len(scale_tokens(proto, 17)) == 8  # four inputs to a layer: three products share one
    onnx.checker.check_model(proto)
    call = texts.tokenize(model, ["a library for python"], 16)[0]
    results = [
        ort.InferenceSession(source).run(None, call)[0]
        for source in (str(path), proto.SerializeToString())
    ]
    np.testing.assert_allclose(results[0], results[1], atol=1e-4)


@pytest.mark.parametrize("turned", [False, True])
def test_a_gemm_is_scaled_row_by_row(turned: bool) -> None:
    import onnxruntime as ort

    generator = np.random.default_rng(0)
    weight = generator.normal(size=(8, 5)).astype(np.float32)
    node = onnx.helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=int(turned))
    given = onnx.helper.make_tensor_value_info("x", 1, ["rows", 8])
    made = onnx.helper.make_tensor_value_info("y", 1, ["rows", 5])
    constants = [
        onnx.numpy_helper.from_array(weight.T.copy() if turned else weight, "w"),
        onnx.numpy_helper.from_array(np.ones(5, np.float32), "b"),
    ]
    graph = onnx.helper.make_graph([node], "g", [given], [made], constants)
    opsets = [onnx.helper.make_opsetid("", 17)]
    proto = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8)
    assert list(scale_tokens(proto, 17)) == ["x_even"]
    onnx.checker.check_model(proto)
    assert "Gemm" not in {n.op_type for n in proto.graph.node}
    rows = generator.normal(size=(3, 8)).astype(np.float32) * [[1], [1e-3], [1e3]]
    session = ort.InferenceSession(proto.SerializeToString())
    (got,) = session.run(None, {"x": rows.astype(np.float32)})
    np.testing.assert_allclose(got, rows @ weight + 1, rtol=1e-4, atol=1e-5)


def test_what_cannot_be_scaled_stays_in_floating_point(tmp_path: Path) -> None:
    """The quantiser would give a Conv's input one range for all images of the call."""
    import onnxruntime as ort

    generator = np.random.default_rng(0)
    nodes = [
        onnx.helper.make_node("Conv", ["pixel_values", "c"], ["patches"], kernel_shape=[4, 4]),
        onnx.helper.make_node("Flatten", ["patches"], ["flat"]),
        onnx.helper.make_node("Gemm", ["flat", "w", "b"], ["half"], alpha=0.5),
        onnx.helper.make_node("MatMul", ["half", "v"], ["logits"]),
    ]
    constants = [
        onnx.numpy_helper.from_array(generator.normal(size=shape).astype(np.float32), name)
        for name, shape in {"c": (6, 3, 4, 4), "w": (150, 9), "b": (9,), "v": (9, 4)}.items()
    ]
    given = onnx.helper.make_tensor_value_info("pixel_values", 1, ["batch", 3, 8, 8])
    made = onnx.helper.make_tensor_value_info("logits", 1, ["batch", 4])
    graph = onnx.helper.make_graph(nodes, "g", [given], [made], constants)
    opsets = [onnx.helper.make_opsetid("", 17)]
    proto = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8)
    fp32, path = tmp_path / "fp32.onnx", tmp_path / "model.onnx"
    ranges = scale_tokens(proto, 17)
    onnx.save(proto, fp32)
    onnx_quantize._dynamic(fp32, path, ranges)
    kinds = [n.op_type for n in onnx.load(path).graph.node]
    assert kinds.count("MatMulIntegerToFloat") == 1
    assert {"Conv", "Gemm"} < set(kinds)
    assert "DynamicQuantizeLinear" not in kinds
    session = ort.InferenceSession(path)
    images = generator.normal(size=(2, 3, 8, 8)).astype(np.float32)
    images[1] *= 100
    (alone,) = session.run(None, {"pixel_values": images[:1]})
    (both,) = session.run(None, {"pixel_values": images})
    np.testing.assert_allclose(both[:1], alone, atol=1e-5)


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
    assert (model.name, model.task.name) == ("own", "sequence-classification")
    assert (
        model.main.signature.inputs == tiny("BertForSequenceClassification").main.signature.inputs
    )
    artifact, directory = lower(model, "onnx", "fp32")
    assert (directory / "model.onnx").read_bytes() == path.read_bytes()
    assert agreement(model, artifact, directory, 16).cosine_min > 0.99999


def test_an_imported_file_that_is_too_new_is_refused(
    tiny: Callable, target: Target, tmp_path: Path
) -> None:
    path = tmp_path / "own.onnx"
    engine.export_fp32(tiny("BertModel"), path, opset=17, ir_version=8, batch=None, seq_len=None)
    spec = replace(next(s for s in target.engines if s.engine == "onnx"), opset=8)
    with pytest.raises(CompileError) as caught:
        backend("onnx").lower(import_model(path), target, spec, "fp32", [], tmp_path)
    assert caught.value.hint == "Export it again at opset 8 or lower."


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
        node.input[:] = ["words" if name == "input_ids" else name for name in node.input]
    proto.graph.input[0].name = "words"
    onnx.save(proto, path)
    with pytest.raises(InputError, match="inputs are words, attention_mask, token_type_ids;"):
        import_model(path)


@pytest.mark.parametrize("opset", [12, 14, 16])
def test_an_imported_file_is_lowered_for_an_older_engine(
    opset: int, tiny: Callable, target: Target, agreement: Callable, tmp_path: Path
) -> None:
    """Layer normalisation as one operator came with opset 17."""
    path = tmp_path / "own.onnx"
    engine.export_fp32(
        tiny("BertForSequenceClassification"),
        path,
        opset=17,
        ir_version=8,
        batch=None,
        seq_len=None,
    )
    spec = replace(next(s for s in target.engines if s.engine == "onnx"), opset=opset, ir_version=7)
    model = import_model(path)
    artifact = backend("onnx").lower(model, target, spec, "fp32", [], tmp_path)
    shipped = onnx.load(tmp_path / "model.onnx")
    assert (shipped.opset_import[0].version, shipped.ir_version) == (opset, 7)
    assert artifact.route == f"the imported file, opset 17 as {opset}, IR version 8 as 7"
    assert agreement(model, artifact, tmp_path, 16).cosine_min > 0.99999


@pytest.mark.parametrize("vnni", [True, False])
def test_layers_that_share_weights_are_quantised(
    vnni: bool, tmp_path: Path, target: Target, agreement: Callable
) -> None:
    """As ALBERT's do; with onnxruntime's switch for CPUs without VNNI no weight may be shared."""
    folder = tmp_path / "model"
    test_families.write(folder, "AlbertModel", {"embedding_size": 16})
    model = import_model(folder)
    isa = {*target.device.isa, "avx512_vnni"} if vnni else set()
    device = replace(target.device, arch="x86_64", isa=tuple(isa))
    target = replace(target, device=device)
    (tmp_path / "out").mkdir()
    calibration = samples.calls(model, samples.shipped(model, 8), 32)
    (spec,) = (found for found in target.engines if found.engine == "onnx")
    artifact = engine.lower(model, target, spec, "int8", calibration, tmp_path / "out")
    assert ("session.x64quantprecision" in artifact.options) is not vnni
    proto = onnx.load(tmp_path / "out/model.onnx")
    products = [node for node in proto.graph.node if node.op_type == "MatMulIntegerToFloat"]
    weights = {node.input[1] for node in products}
    assert (len(weights) == len(products)) is not vnni
    assert agreement(model, artifact, tmp_path / "out", 32).cosine_min > 0.97


@pytest.mark.parametrize("kind", ["MatMulInteger", "MatMulIntegerToFloat"])
@pytest.mark.parametrize("zero", [None, 0, [3] * 16])
def test_products_inside_a_file_do_not_overflow_if_they_are_to_be_wide(
    kind: str, zero: int | list[int] | None, tmp_path: Path
) -> None:
    """Two products of 255 and 127 are above what 16 bits hold, as CPUs without VNNI add them."""
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    values = np.random.default_rng(0).choice([-127, 127], (64, 16), p=[0.1, 0.9]).astype(np.int8)
    constants = {"w": values, "one": np.float32(1)}
    if zero is not None:
        constants["zero"] = np.array(zero, np.int8)
    last = [] if zero is None else ["zero"]
    floats = kind == "MatMulIntegerToFloat"
    between = ["one", "one", ""] if floats else [""]
    node = helper.make_node(
        kind, ["x", "w", *between, *last] if last else ["x", "w", *between[: 2 * floats]], ["y"],
        domain="com.microsoft" if floats else "",
    )  # fmt: skip
    types = onnx.TensorProto
    graph = helper.make_graph(
        [node],
        "product",
        [helper.make_tensor_value_info("x", types.UINT8, [8, 64])],
        [helper.make_tensor_value_info("y", types.FLOAT if floats else types.INT32, [8, 16])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), tmp_path / "p.onnx")
    x = np.full((8, 64), 255, np.uint8)
    found = of_file(tmp_path / "p.onnx", ["y"], {"x": x}, wider=True).outputs["y"]
    exact = x.astype(np.int64) @ (values.astype(np.int64) - np.array(zero or 0))
    np.testing.assert_array_equal(found, exact)
