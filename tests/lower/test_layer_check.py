# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""A layer of an INT8 artifact that is wrong by itself, while tensors and answers keep to bounds."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeopt.errors import CompileError
from edgeopt.lower import layer_check
from edgeopt.lower.lowering import Lowered, Prepared, lower, prepare
from edgeopt.model import Model, samples
from edgeopt.model.importer import import_model
from edgeopt.model.layers import Layer
from edgeopt.model.signature import NO_LENGTH
from edgeopt.pipeline import compile
from edgeopt.target import Target, load_target
from tests import checkpoints, vision_networks
from tools.planted_faults.faults import FAULTS, Fault
from tools.planted_faults.graph import swap_bytes
from tools.planted_faults.harness import planted, vary

pytest.importorskip("transformers", reason="needs edgeopt[torch]")
pytest.importorskip("onnxruntime", reason="needs edgeopt[onnx]")
pytestmark = pytest.mark.heavy

LAYER = "bert.encoder.layer.0.intermediate.dense"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    name = "BertForSequenceClassification"
    return import_model(vary(checkpoints.write(tmp_path_factory.mktemp("m") / "tiny", name), name))


@pytest.fixture(scope="module")
def target() -> Target:
    whole = load_target("host")
    return replace(
        whole, seq_lens=(16,), engines=tuple(s for s in whole.engines if s.engine == "onnx")
    )


@pytest.fixture(scope="module")
def prepared(model: Model) -> Prepared:
    return prepare(model, (16,), samples.shipped(model, 40))


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own: there is no key for a fault."""
    monkeypatch.setenv("EDGEOPT_CACHE", str(tmp_path / "cache"))
    return tmp_path


def fault(kind: str) -> Fault:
    return next(f for f in FAULTS if f.kind == kind and f.engine == "onnx")


def lowered(model: Model, target: Target, prepared: Prepared) -> Lowered:
    return lower(model, target, target.engines[0], "int8", prepared)


def checked(model: Model, made: Lowered, prepared: Prepared) -> layer_check.Wrong | None:
    return layer_check.check(model, made.artifact, made.directory, prepared, static=False)


def test_a_sound_artifact_is_left_alone(model: Model, target: Target, prepared: Prepared) -> None:
    assert checked(model, lowered(model, target, prepared), prepared) is None


def test_what_is_explained_is_what_rounding_does(model: Model) -> None:
    """Per token an outlier costs its token alone; with one range for all it costs every token."""
    import torch

    linear = torch.nn.Linear(64, 32)
    layer = Layer(name="a", kind="Linear", module=linear)
    layer.input = layer.output = np.zeros((1, 8, 64), np.float32)
    ((unit, *_),) = layer_check._products([layer])
    given = np.random.default_rng(0).standard_normal((1, 8, 64)).astype(np.float32)
    given[0, 0, 0] = 100.0
    rest = np.array([[0, 1, 1, 1, 1, 1, 1, 1]])
    by_token, by_tensor = (
        layer_check._explained(unit, given, rest, span)
        for span in (None, layer_check._span(given, -1)[None])
    )
    assert 0.002 < by_token < 0.02
    assert by_tensor > 10 * by_token


def test_a_convolution_has_what_engines_fold_into_it() -> None:
    import torch

    torch.manual_seed(0)
    modules = [torch.nn.Conv2d(3, 5, 3), torch.nn.BatchNorm2d(5), torch.nn.ReLU()]
    modules[1].running_mean, modules[1].running_var = torch.randn(5), torch.rand(5) + 0.5
    network = torch.nn.Sequential(*modules).eval()
    given = torch.randn(1, 3, 8, 8)
    walked, value = [], given
    for i, module in enumerate(network):
        before = value
        value = module(value).detach()
        layer = Layer(name=str(i), kind=type(module).__name__, module=module)
        layer.input, layer.output = before.numpy(), value.numpy()
        walked.append(layer)
    ((alone, normal, _, _, whole, cut),) = layer_check._products(walked)
    assert (whole.limits, cut.limits) == ((0, np.inf), (0, 6))
    for unit, layer in ((alone, walked[0]), (normal, walked[1]), (whole, walked[2])):
        made = unit.of(given, unit.weight).detach().numpy()
        np.testing.assert_allclose(made, layer.output, atol=1e-5)
        np.testing.assert_array_equal(unit.output, layer.output)
        span = layer_check._span(given.numpy(), unit.channel)
        assert span.shape == (2, 3)
        for spans in (None, span[None]):
            assert 0.002 < layer_check._explained(unit, given.numpy(), None, spans) < 0.02
    # Nothing is folded of what takes another's output, or is in groups.
    assert [len(units) for units in layer_check._products([walked[0]])] == [3]
    walked[1].input = walked[1].input + 1
    assert [len(units) for units in layer_check._products(walked)] == [3]
    walked[0].module = torch.nn.Conv2d(3, 3, 3, groups=3)
    assert list(layer_check._products(walked)) == []


def test_one_wrong_convolution_is_named(tmp_path: Path, own_cache: Path) -> None:
    """Of a .tflite file, where they are in INT8; onnxruntime's stay in FP32."""
    flatbuffer = pytest.importorskip(
        "ai_edge_quantizer.utils.tfl_flatbuffer_utils", reason="needs edgeopt[tflite]"
    )
    network = import_model(
        vision_networks.write(tmp_path / "model", "SegformerForSemanticSegmentation")
    )
    whole = load_target("host")
    spec = next(s for s in whole.engines if s.engine == "tflite")
    prepared = prepare(network, (NO_LENGTH,), samples.shipped(network, 36))
    made = lower(network, whole, spec, "int8", prepared)
    assert checked(network, made, prepared) is None
    file = made.directory / made.artifact.main.files[0]
    weights = [
        tensor
        for tensor in flatbuffer.read_model(str(file)).subgraphs[0].tensors
        if list(tensor.shape) == [8, 2, 2, 8]
    ]
    scales = np.asarray(weights[0].quantization.scale, np.float32)
    file.chmod(0o644)
    swap_bytes(file, scales, scales * 1.2)
    found = checked(network, made, prepared)
    assert found is not None
    assert found.name == (
        "segformer.stages.0.blocks.0.attention.sequence_reduction.sequence_reduction"
    )
    assert found.own == pytest.approx(0.2, abs=0.02)
    assert found.explained < 0.02


@pytest.mark.parametrize(
    ("kind", "least"),
    [("INT8: a weight's zero point off by 16", 0.03), ("INT8: a scale too large by a half", 0.4)],
)
def test_one_wrong_layer_is_named_and_not_shipped(
    kind: str, least: float, model: Model, target: Target, prepared: Prepared, own_cache: Path
) -> None:
    with planted(fault(kind)):
        made = lowered(model, target, prepared)
        found = checked(model, made, prepared)
        assert made.fidelity.cosine_min > 0.95  # the bound on tensors holds
        assert found is not None
        assert (found.name, found.own > least) == (LAYER, True)
        assert found.own > layer_check.TIMES * found.explained
        if least < 0.1:  # one is enough to see what compile makes of it
            return
        with pytest.raises(CompileError) as caught:
            compile(model, target, output=own_cache / "b", engines=["onnx"], precisions=["int8"])
    text = str(caught.value)
    assert f"onnx int8: {LAYER} is off by " in text
    assert "times what its 8 bits explain (at most 3 times, in one of 4 calls)" in text
    assert f'What mends it (tried, within all bounds): keep = ["{LAYER}"]' in text
    assert not (own_cache / "b").exists()


def test_a_slip_in_one_call_is_no_fault(
    model: Model, target: Target, prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A layer is wrong if it is so in every call: the calls end as soon as none is left."""
    made = lowered(model, target, prepared)
    whole: Callable[..., Any] = layer_check.look_inside
    seen: list[int] = []

    def slip(*given: Any) -> Any:
        inside = whole(*given)
        seen.append(len(seen))
        if len(seen) == 1:
            part = LAYER.rpartition(".")[0]
            tensors = [
                replace(t, value=t.value * 1.3) if part in ".".join(t.scope) else t
                for t in inside.tensors
            ]
            inside = replace(inside, tensors=tensors)
        return inside

    monkeypatch.setattr(layer_check, "look_inside", slip)
    assert checked(model, made, prepared) is None
    assert len(seen) == 2
