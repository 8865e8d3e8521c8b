# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Training for quantisation, the grid it trains on, and which modules bear it least."""

import copy
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from edgeopt.backends.grid import Grid, fake_tokens, linears, snap, through
from edgeopt.compression import qat
from edgeopt.errors import InputError
from edgeopt.evaluate.data import Data, read
from edgeopt.evaluate.score import answers
from edgeopt.fields import Table
from edgeopt.lower.sensitivity import by_sensitivity
from edgeopt.model import Model, samples
from edgeopt.model.importer import import_model
from edgeopt.model.network.widths import layers
from edgeopt.steps.qat import DEFAULT, Qat
from edgeopt.steps.training import Training

torch = pytest.importorskip("torch", reason="needs edgeopt[torch]")
pytestmark = pytest.mark.heavy

SHORT = Training(epochs=3, learning_rate=1e-3, precision="fp32", seq_len=16)
INT8 = Qat(training=SHORT)
INT4 = Qat(bits=4, group_size=32, grid="full", activations=False, training=SHORT)
GRIDS = {
    "int8": Grid(),
    "int4": Grid(bits=4, group_size=32, full=True),
    "int4 by channel": Grid(bits=4),
}


@pytest.fixture(scope="module")
def spiky(bert: Path) -> Model:
    """The sorter, which computes what it did, with a loud column in each head's output weights.

    A value neuron is divided and what reads it is multiplied: networks have such channels, and all
    the other weights of a row have then few steps of the grid left.
    """
    model = import_model(bert)
    for layer in layers(model.module.network):
        value, output = layer.qkv[2], layer.attention_output
        for neuron in range(0, 32, layer.head_dim):
            value.weight.data[neuron] /= 64
            value.bias.data[neuron] /= 64
            output.weight.data[:, neuron] *= 64
    return model


@pytest.fixture(scope="module")
def data(spiky: Model, texts_file: Path) -> Data:
    return read(texts_file, spiky)


@pytest.fixture(scope="module")
def trained_for(spiky: Model, data: Data) -> Callable[[Qat], Model]:
    """Return the model trained by options, once."""
    made: dict[Qat, Model] = {}

    def get(options: Qat) -> Model:
        if options not in made:
            made[options], _, _ = qat.apply(spiky, options, data)
        return made[options]

    return get


def rounded(model: Model, grid: Grid) -> Model:
    """Return ``model`` quantised as it is."""
    result = model.with_module(copy.deepcopy(model.module))
    for module in linears(result).values():
        module.weight.data = snap(module.weight.data, grid)
    return result


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_a_weight_moves_by_half_a_step_at_most_and_once(grid: Grid) -> None:
    weight = torch.randn(48, 64, generator=torch.Generator().manual_seed(0))
    weight[3] = 0
    found = snap(weight, grid)
    size = grid.group_size or 64
    groups = weight.reshape(-1, size)
    # The full grid has a value fewer on the side that is not the largest: up to a whole step there.
    steps = 1.0 if grid.full else 0.5
    step = groups.abs().amax(1, keepdim=True) / (2 ** (grid.bits - 1) - (0 if grid.full else 1))
    moved = (found.reshape(-1, size) - groups).abs()
    assert (moved <= steps * step + 1e-6).all()
    points = [len(set(group)) for group in found.reshape(-1, size).tolist()]
    assert min(points) == 1  # the row of zeros
    assert max(points) <= 2**grid.bits
    torch.testing.assert_close(snap(found, grid), found, rtol=1e-6, atol=1e-8)


def test_gradients_pass_straight_through() -> None:
    weight = torch.randn(8, 32, requires_grad=True)
    upstream = torch.randn(8, 32)
    (through(weight, Grid(bits=4)) * upstream).sum().backward()
    torch.testing.assert_close(weight.grad, upstream)
    hidden = torch.tensor([[-1.0, 0.0, 0.3, 1.0], [100.0, 20.0, 3.0, 0.01]], requires_grad=True)
    kept = fake_tokens(hidden)
    kept.sum().backward()
    torch.testing.assert_close(hidden.grad, torch.ones(2, 4))
    error = (kept - hidden).abs().amax(1)
    assert error[0] <= 1 / 255  # half a step of a token's own range, which the loud one leaves it
    assert 0.01 <= error[1] <= 50 / 255


@pytest.mark.parametrize("options", [INT8, INT4], ids=["int8", "int4"])
def test_training_leaves_weights_on_the_grid_and_the_model_as_it_was(
    options: Qat, spiky: Model, trained_for: Callable[[Qat], Model]
) -> None:
    before = {name: m.weight.clone() for name, m in linears(spiky).items()}
    made = trained_for(options)
    grid = GRIDS[f"int{options.bits}"]
    for name, module in linears(made).items():
        torch.testing.assert_close(module.weight, snap(module.weight, grid), rtol=1e-6, atol=1e-8)
        assert not torch.equal(module.weight, before[name])
        assert torch.equal(linears(spiky)[name].weight, before[name])
        assert "forward" not in module.__dict__


def test_four_bits_are_nearer_to_the_original_after_training(
    spiky: Model, data: Data, trained_for: Callable[[Qat], Model]
) -> None:
    held = data.first(40)
    original = answers(spiky, held, "Original")
    untrained = answers(rounded(spiky, GRIDS["int4"]), held, "Rounded")
    trained = answers(trained_for(INT4), held, "Trained")
    assert np.abs(trained - original).max() < np.abs(untrained - original).max() / 2


def test_what_onnxruntime_quantises_is_what_was_trained(
    data: Data, trained_for: Callable[[Qat], Model], tmp_path: Path
) -> None:
    onnx = pytest.importorskip("onnx", reason="needs edgeopt[onnx]")
    from edgeopt.backends import backend
    from edgeopt.target import load_target

    made, target = trained_for(INT8), load_target("host")
    spec = next(s for s in target.engines if s.engine == "onnx")
    backend("onnx").lower(made, target, spec, "int8", [], tmp_path)
    constants = {
        tensor.name: onnx.numpy_helper.to_array(tensor)
        for tensor in onnx.load(tmp_path / "model.onnx").graph.initializer
    }
    found = {
        name: (constants[name] * constants[name.replace("_quantized", "_scale")]).T
        for name in constants
        if name.endswith("_quantized") and constants[name].dtype == np.int8
    }
    for module in linears(made).values():
        weight = module.weight.numpy()
        alike = [f for f in found.values() if f.shape == weight.shape]
        assert min(np.abs(f - weight).max() for f in alike) <= 1e-6 * np.abs(weight).max()


@pytest.mark.parametrize("engine", ["onnx", "openvino"])
def test_int4_in_an_engine_is_near_its_own_fp32_only_after_training(
    engine: str, spiky: Model, data: Data, trained_for: Callable[[Qat], Model], tmp_path: Path
) -> None:
    # Not importorskip: importing OpenVINO here would load its usage reports first.
    if find_spec({"onnx": "onnxruntime", "openvino": "nncf"}[engine]) is None:
        pytest.skip(f"needs edgeopt[{engine}]")
    from edgeopt.backends import backend
    from edgeopt.model import reference
    from edgeopt.quantize import Quantize
    from edgeopt.target import load_target

    target = load_target("host")
    spec = next(s for s in target.engines if s.engine == engine)
    errors = []
    for name, model in (("before", spiky), ("after", trained_for(INT4))):
        calls = samples.calls(model, data.inputs[:20], 16)
        folder = tmp_path / name
        folder.mkdir()
        artifact = backend(engine).lower(
            model, target, spec, "int4", calls, folder, Quantize(weights="int4")
        )
        session = backend(engine).open_on_host(artifact, folder, 1)
        pairs = zip(calls, reference.run(model, calls), strict=True)
        errors.append(max(np.abs(session.run(c)["logits"] - r["logits"]).max() for c, r in pairs))
    assert errors[1] < errors[0] / 8


def test_the_modules_that_bear_rounding_least_come_first(spiky: Model, data: Data) -> None:
    before = {name: m.weight.clone() for name, m in linears(spiky).items()}
    calls = samples.calls(spiky, data.inputs[:16], 16)
    order = by_sensitivity(spiky, calls, Grid(bits=4), activations=True)
    assert len(order) == 14
    assert {name for name, _ in order[:2]} == {
        f"bert.encoder.layer.{i}.attention.output.dense" for i in (0, 1)
    }
    assert order[1][1] > 2 * order[2][1]
    assert all(torch.equal(m.weight, before[name]) for name, m in linears(spiky).items())


def test_what_is_kept_is_not_rounded_and_a_wrong_name_is_refused(spiky: Model, data: Data) -> None:
    once = replace(SHORT, steps=1)
    made, line, _ = qat.apply(spiky, replace(INT8, keep=("classifier",), training=once), data)
    assert line.startswith("13 linear modules in 8 bits by channel, 1 steps in fp32")
    weight = linears(made)["classifier"].weight
    assert not torch.equal(snap(weight, Grid()), weight)
    with pytest.raises(InputError) as caught:
        qat.check(spiky, replace(INT8, keep=("classifer",)))
    assert caught.value.where == "compress step qat: keep"
    assert caught.value.message == (
        "there is no linear module 'classifer'; did you mean 'classifier'?"
    )


def test_options_are_those_of_so_many_bits() -> None:
    def read_options(**values: object) -> Qat:
        return Qat.read(Table(values, file="x.toml", key="compress[0]"))

    assert read_options() == Qat()
    assert Qat().training == DEFAULT
    assert read_options(bits=4) == Qat(bits=4, group_size=32, grid="full", activations=False)
    with pytest.raises(InputError, match=r"compress\[0\]\.bits: expected 4 or 8, found 6"):
        read_options(bits=6)
