# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""An artifact that fails its check is told by layer, by step, and by what mends it."""

import shutil
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeopt.backends.inside import look_inside
from edgeopt.errors import CompileError
from edgeopt.evaluate.fidelity import compare
from edgeopt.lower.fault_localisation import localise, worst_call
from edgeopt.lower.lowering import Lowered, Prepared, lower, prepare
from edgeopt.model import Model, samples
from edgeopt.model.checkpoint import save
from edgeopt.model.importer import import_model
from edgeopt.model.layers import trace
from edgeopt.model.network.widths import layers
from edgeopt.pipeline import compile
from edgeopt.recipe import Bound, load_recipe
from edgeopt.target import EngineSpec, Target, load_target
from tests import checkpoints

pytest.importorskip("transformers", reason="needs edgeopt[torch]")
onnx: Any = pytest.importorskip("onnx", reason="needs edgeopt[onnx]")
pytest.importorskip("onnxruntime", reason="needs edgeopt[onnx]")
pytestmark = pytest.mark.heavy

QUERY = "bert.encoder.layer.0.attention.self.query"
DENSE = "bert.encoder.layer.0.attention.output.dense"


@dataclass(frozen=True, kw_only=True)
class Bench:
    model: Model
    target: Target
    prepared: Prepared

    def spec(self, engine: str) -> EngineSpec:
        return next(spec for spec in self.target.engines if spec.engine == engine)

    def lower(self, engine: str, precision: str) -> Lowered:
        return lower(self.model, self.target, self.spec(engine), precision, self.prepared)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    folder = checkpoints.write(tmp_path_factory.mktemp("bench") / "tiny")
    model = import_model(folder)
    target = replace(load_target("host"), seq_lens=(16,))
    return Bench(
        model=model,
        target=target,
        prepared=prepare(model, (16,), samples.shipped(model, 40)),
    )


def turned(bench: Bench, made: Lowered, name: str, place: Path) -> Lowered:
    """Return a copy of an artifact in which the bytes of one weight are those of its transpose."""
    shutil.copytree(made.directory, place)
    weight = dict(bench.model.module.named_parameters())[f"network.{name}.weight"].detach().numpy()
    for old, new in ((weight, weight.T), (weight.T, weight)):
        for file in place.iterdir():
            data = file.read_bytes()
            a, b = (np.ascontiguousarray(x).tobytes() for x in (old, new))
            if a in data:
                file.write_bytes(data.replace(a, b))
                return replace(made, directory=place)
    raise LookupError(name)


def test_layers_come_in_the_order_in_which_they_give_their_outputs(bench: Bench) -> None:
    root = trace(bench.model, bench.prepared.checks[16][0])
    names = [layer.shown for layer in root.walk()]
    assert names.index(QUERY) < names.index("bert.encoder.layer.0.attention.self")
    assert names.index("bert.encoder.layer.0") < names.index("bert.encoder.layer.1")
    assert names[-1] == "network"
    by_name = {layer.shown: layer for layer in root.walk()}
    query = by_name[QUERY]
    assert query.input is not None
    assert query.output is not None
    made = query.apply(query.input)
    assert made is not None
    np.testing.assert_allclose(made, query.output, atol=1e-6)


def skip_without(engine: str) -> None:
    """Skip. To import OpenVINO here would load its usage reports before edgeopt stops them."""
    package = {"tflite": "ai_edge_litert", "onnx": "onnxruntime"}.get(engine, engine)
    if find_spec(package) is None:
        pytest.skip(f"{package} is not installed")


@pytest.mark.parametrize("engine", ["onnx", "openvino", "tflite", "tvm"])
def test_an_engine_shows_the_tensors_that_its_answer_is_made_of(bench: Bench, engine: str) -> None:
    skip_without(engine)
    made = bench.lower(engine, "fp32")
    batch = bench.prepared.checks[16][0]
    found = look_inside(bench.model, made.artifact, made.directory, batch)
    assert compare(found.outputs, bench.prepared.answers[16][0], None).cosine > 0.99999
    wanted = {x.shown: x for x in trace(bench.model, batch).walk()}[DENSE].output
    assert wanted is not None
    same = [t for t in found.tensors if t.value.size == wanted.size]
    assert min(float(np.abs(t.value.reshape(wanted.shape) - wanted).max()) for t in same) < 1e-4


@pytest.mark.parametrize(
    ("engine", "layer"), [("onnx", QUERY), ("openvino", QUERY), ("tflite", DENSE)]
)
def test_a_converter_that_turns_a_weight_is_told_with_the_layer(
    bench: Bench, engine: str, layer: str, tmp_path: Path
) -> None:
    skip_without(engine)
    wrong = turned(bench, bench.lower(engine, "fp32"), layer, tmp_path / "turned")
    found = localise(bench.model, wrong, None, bench.prepared, 0.9999)
    assert found.step == "conversion"
    assert found.first is not None
    assert found.first.layer.shown == layer
    text = found.text(f"{engine} fp32")
    assert f"First layer to leave the reference: {layer} (Linear;" in text
    assert "the export or conversion is to blame" in text


def test_a_fusion_that_changes_the_answer_is_told_with_the_place(bench: Bench) -> None:
    made = bench.lower("onnx", "fp32")
    # onnxruntime then puts another formula in the place of GELU while it optimises the graph.
    options = {"optimization.enable_gelu_approximation": "1"}
    fused = replace(made, artifact=replace(made.artifact, options=options))
    _, cosine = worst_call(fused.artifact, fused.directory, bench.prepared)
    found = localise(bench.model, fused, None, bench.prepared, (cosine + 1) / 2)
    assert found.step == "fusion"
    assert "the same file is right with nothing fused" in found.text("onnx fp32")
    assert "intermediate_act_fn" in found.why


def test_answers_that_differ_behind_right_tensors_are_told_so(bench: Bench) -> None:
    found = localise(bench.model, bench.lower("onnx", "fp32"), None, bench.prepared, 0.9999)
    assert found.step == "answers"
    assert found.first is None
    assert "what stands before and behind the network" in found.text("onnx fp32")


@pytest.fixture(scope="module")
def spiky(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint in which one product does not bear 4 bits: most of its inputs are tiny."""
    folder = checkpoints.write(tmp_path_factory.mktemp("spiky") / "tiny")
    model = import_model(folder)
    first = layers(model.module.network)[0]
    value, output = first.qkv[2], first.attention_output
    for neuron in range(0, 32, first.head_dim):
        value.weight.data[neuron] /= 256
        value.bias.data[neuron] /= 256
        output.weight.data[:, neuron] *= 256
    save(model, folder, folder)
    return folder


def test_compile_says_which_layer_to_keep_in_fp32_and_that_it_was_tried(
    spiky: Path, tmp_path: Path
) -> None:
    plain = load_recipe("default")
    open_ = {"error_max": 1e30, "decisions_min": 0.0, "order_min": 0.0}
    recipe = replace(
        plain,
        bounds=dict(plain.bounds) | {"int4": Bound(cosine_min=0.7, answers=open_)},
        quantize=replace(plain.quantize, weights="int4"),
    )
    host = replace(load_target("host"), seq_lens=(16,))

    def make(recipe: Any) -> Any:
        return compile(
            spiky,
            host,
            output=tmp_path / "a.edgeopt",
            recipe=recipe,
            engines=["onnx"],
            precisions=["int4"],
        )

    with pytest.raises(CompileError) as caught:
        make(recipe)
    text = str(caught.value)
    assert "Where: FP32 is right: quantisation is to blame." in text
    assert f"First layer to leave the reference: {DENSE} (Linear; MatMulNBits" in text
    assert (
        f'What mends it (tried, within all bounds): keep = ["{DENSE}"] in the recipe\'s [quantize].'
        in text
    )
    # What it says is so, and a recipe that allows it does it by itself.
    assert make(replace(recipe, quantize=replace(recipe.quantize, keep=(DENSE,))))
    made = make(replace(recipe, quantize=replace(recipe.quantize, mixed=True)))
    assert made.manifest.artifacts[0].kept == (DENSE,)
