# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeopt.compression import importance, structured
from edgeopt.compression.layerwise import first_calls, inputs, with_ones
from edgeopt.compression.rearrange import rearrange
from edgeopt.compression.reconstruct import grams, refit
from edgeopt.errors import InputError
from edgeopt.estimate.costs import Shape, neuron_counts
from edgeopt.evaluate.data import Data, batches, read
from edgeopt.evaluate.score import answers
from edgeopt.model import Model
from edgeopt.model.checkpoint import network, save
from edgeopt.model.importer import import_model
from edgeopt.model.network.widths import blocks, layers
from edgeopt.steps.structured import Structured
from tests import checkpoints

pytest.importorskip("transformers", reason="needs edgeopt[torch]")
pytestmark = pytest.mark.heavy

PLAIN = Structured(reconstruct=False)


@pytest.fixture
def model(trained: Path) -> Model:
    return import_model(trained)


def widths(model: Model) -> list[tuple[int, int]]:
    return [(layer.heads, layer.neurons) for layer in layers(network(model))]


def masked(
    model: Model, heads: list[list[int]], neurons: list[list[int]], data: Data
) -> np.ndarray:
    """Return the whole network's outputs with all other gates closed."""
    import torch

    gates = []
    for layer, left_heads, left_neurons in zip(layers(network(model)), heads, neurons, strict=True):
        for linear, count, left in (
            (layer.attention_output, layer.heads, left_heads),
            (layer.ffn_output, layer.neurons, left_neurons),
        ):
            gate = torch.zeros(count)
            gate[left] = 1
            gate = gate.repeat_interleave(linear.in_features // count)
            hook = linear.register_forward_pre_hook(lambda _, x, gate=gate: (x[0] * gate,))
            gates.append(hook)
    try:
        return answers(model, data, "masked")
    finally:
        for hook in gates:
            hook.remove()


def test_the_sliced_network_is_the_masked_one(model: Model, data: Data) -> None:
    heads, neurons = [[0, 2], [1, 2, 3]], [list(range(0, 64, 2)), list(range(40))]
    sliced = structured.prune(model, heads, neurons, PLAIN, data)
    assert widths(sliced) == [(2, 32), (3, 40)]
    expected = masked(model, heads, neurons, data)
    np.testing.assert_allclose(answers(sliced, data, "sliced"), expected, atol=1e-5)
    assert np.abs(expected - answers(model, data, "whole")).max() > 1e-3
    assert widths(model) == [(4, 64), (4, 64)]  # the model that came in stays as it is


def test_what_puts_out_zero_goes_first_and_changes_nothing(model: Model, data: Data) -> None:
    before = answers(model, data, "before")
    for layer in layers(network(model)):
        layer.attention_output.weight[:, 8:16] = 0  # head 1
        layer.ffn_output.weight[:, :16] = 0
    whole = answers(model, data, "whole")
    assert np.abs(whole - before).max() > 1e-4
    for measure in ("magnitude", "taylor", "fisher"):
        options = replace(PLAIN, heads=3, neurons=48, importance=measure)
        assert structured.choose(model, options, data)[0] == [[0, 2, 3]] * 2
        pruned, text, _ = structured.apply(model, options, data)
        assert text == "3 of 4 heads and 48 of 64 neurons kept in each layer"
        np.testing.assert_allclose(answers(pruned, data, measure), whole, atol=1e-5)


def test_gradients_are_each_texts_own(model: Model, data: Data) -> None:
    few = data.first(40)  # more than one batch
    together = importance.gradients(model, few)
    rows = [row for batch in batches(model, few) for row in batch.rows]
    for place in (0, 35):
        alone = importance.gradients(model, few.take([rows[place]]))
        for a, b in zip(together, alone, strict=True):
            np.testing.assert_allclose(a.heads[place], b.heads[0], atol=1e-5)
            np.testing.assert_allclose(a.neurons[place], b.neurons[0], atol=1e-5)


def test_a_gradient_tells_what_closing_a_gate_a_little_does(model: Model, data: Data) -> None:
    import torch

    one = data.first(1)
    (gradient, _) = importance.gradients(model, one)
    losses = []
    for step in (-1e-2, 1e-2):
        changed = structured.prune(model, [[0, 1, 2, 3]] * 2, [list(range(64))] * 2, PLAIN, one)
        layer = layers(network(changed))[0]
        layer.attention_output.weight[:, 16:24] *= 1 + step  # head 2
        logits = torch.from_numpy(answers(changed, one, "closed"))
        losses.append(torch.nn.functional.cross_entropy(logits, torch.tensor(one.labels)).item())
    assert gradient.heads[0, 2].item() == pytest.approx((losses[1] - losses[0]) / 2e-2, abs=1e-3)


def test_without_labels_there_are_gradients_too(model: Model, data: Data) -> None:
    found = importance.gradients(model, Data(inputs=data.inputs))
    assert all(importance.fisher(layer.heads).min() > 0 for layer in found)


def test_rearranging_finds_gates_that_cancel_each_other() -> None:
    import torch

    generator = torch.Generator().manual_seed(0)
    gradient = torch.randn(200, 6, generator=generator)
    gradient[:, 4] *= 0.8
    gradient[:, 5] = -1.5 * gradient[:, 4]  # the dearest alone, but cheap together with 4
    assert importance.fisher(gradient).argmax() == 5
    assert rearrange(gradient, 2) == [0, 1, 2, 3]
    assert rearrange(gradient, 0) == list(range(6))


def test_refitting_brings_the_outputs_nearer(model: Model, data: Data) -> None:
    import torch

    linear = layers(network(model))[0].ffn_output
    (gram,) = grams(model, [linear], data)
    columns = list(range(40))
    inputs: list[torch.Tensor] = []
    hook = linear.register_forward_pre_hook(lambda _, x: inputs.append(x[0].flatten(0, 1)))
    answers(model, data, "inputs")
    hook.remove()
    x = torch.cat(inputs)
    whole = linear(x)

    def error(weight: torch.Tensor, bias: torch.Tensor) -> float:
        return float((x[:, columns] @ weight.T + bias - whole).square().sum())

    sliced = error(linear.weight[:, columns], linear.bias)
    assert error(*refit(linear, gram, columns, 1e-4)) < 0.7 * sliced
    weight, bias = refit(linear, gram, columns, 1e9)  # all penalty: the old weight
    torch.testing.assert_close(weight, linear.weight[:, columns], atol=1e-4, rtol=0)
    weight, bias = refit(linear, gram, list(range(64)), 1e-8)
    torch.testing.assert_close(weight @ x.T + bias[:, None], whole.T, atol=1e-4, rtol=0)


def test_reconstruction_brings_the_network_nearer(model: Model, data: Data) -> None:
    whole = answers(model, data, "whole")
    heads, neurons = [[0, 2, 3]] * 2, [list(range(32))] * 2
    errors = [
        np.abs(
            answers(structured.prune(model, heads, neurons, options, data), data, "x") - whole
        ).mean()
        for options in (PLAIN, Structured())
    ]
    assert errors[1] < errors[0]


def test_an_error_counts_by_its_share_of_what_layer_norm_divides_by(
    model: Model, data: Data
) -> None:
    import torch

    heads, neurons = [[0, 2, 3]] * 2, [list(range(64))] * 2
    pruned = structured.prune(model, heads, neurons, Structured(ridge=1e-8), data)
    whole, left = (layers(network(m))[0].attention_output for m in (model, pruned))
    block = blocks(network(model))[0]
    seen = [
        inputs(block, (whole, layers(network(model))[0].qkv[0]), call)
        for call in first_calls(model, data)
    ]
    x, residual = (torch.cat(parts).double() for parts in zip(*seen, strict=True))
    z = with_ones(x[:, [*range(8), *range(16, 32)]])
    wanted = x @ whole.weight.double().T + whole.bias.double()
    scale = (wanted + residual).std(-1, keepdim=True)
    assert scale.max() > 1.5 * scale.min()
    found = torch.cat([left.weight, left.bias[:, None]], dim=1).double().T
    alike = torch.linalg.lstsq(z, wanted).solution  # each token as it is

    def errors(weight: torch.Tensor) -> tuple[float, float]:
        difference = z @ weight - wanted
        return float(difference.square().sum()), float((difference / scale).square().sum())

    assert errors(found)[1] < errors(alike)[1]
    assert errors(found)[0] > errors(alike)[0]


def test_a_refit_that_does_harm_is_left_out(model: Model, data: Data) -> None:
    one = Data(inputs=("the game",) * 16, labels=(0,) * 16)  # nothing else is fitted to
    both = Data(inputs=one.inputs + data.inputs, labels=(*one.labels, *(data.labels or ())))
    options = Structured(remove=0.5, samples=16, ridge=1e-6)
    heads, neurons = structured.choose(model, options, one)
    sliced = structured.prune(model, heads, neurons, PLAIN, one)
    found, text, _ = structured.apply(model, options, both)
    assert "not refitted, which would have changed the outputs more" in text
    np.testing.assert_array_equal(answers(found, data, "found"), answers(sliced, data, "sliced"))
    _, text, _ = structured.apply(model, Structured(remove=0.5, samples=64), data)
    assert "not refitted" not in text


def test_uneven_widths_keep_the_same_number_in_all(model: Model, data: Data) -> None:
    layers(network(model))[0].ffn_output.weight *= 0.5
    options = replace(PLAIN, remove=0.5, widths="uneven")
    pruned, text, _ = structured.apply(model, options, data)
    (_, first), (_, second) = widths(pruned)
    assert first + second == 64
    assert first < second
    assert f"{first}-{second} of 64 neurons" in text
    rounded, _, _ = structured.apply(model, replace(options, multiple=8), data)
    assert [n % 8 for _, n in widths(rounded)] == [0, 0]


def test_of_many_neurons_as_many_stay_as_kernels_like(tmp_path: Path, texts_file: Path) -> None:
    wide = import_model(checkpoints.write(tmp_path / "wide", intermediate_size=300))
    options = replace(PLAIN, remove=0.3, importance="magnitude", parts=("neurons",))
    data = read(texts_file, wide).first(64)
    for multiple, left in ((None, 208), (1, 210), (4, 208), (32, 224)):
        pruned, _, _ = structured.apply(wide, replace(options, multiple=multiple), data)
        assert widths(pruned) == [(4, left)] * 2
    shape = Shape(hidden=32, head_dim=8, heads=4, neurons=1072)
    # A table has some 32 widths, unless a multiple asks for more.
    for multiple, first in ((None, [32, 64]), (1, [33, 66]), (8, [8, 16])):
        assert neuron_counts(shape, multiple)[:2] == first


def test_a_pruned_model_is_saved_and_reloaded(model: Model, data: Data, tmp_path: Path) -> None:
    pruned, _, _ = structured.apply(model, Structured(remove=0.5), data)
    save(pruned, tmp_path / "small", tmp_path)
    again = import_model(tmp_path / "small")
    assert widths(again) == widths(pruned) == [(2, 32)] * 2
    assert type(network(again)) is type(network(model))
    np.testing.assert_array_equal(answers(again, data, "again"), answers(pruned, data, "pruned"))


def test_a_narrower_ffn_alone_loads_with_transformers(
    model: Model, data: Data, tmp_path: Path
) -> None:
    import transformers

    pruned, _, _ = structured.apply(
        model, Structured(remove=0.35, parts=("neurons",), multiple=8), data
    )
    assert widths(pruned) == [(4, 40)] * 2  # .65 of 64 is 41, and 5 * 8 is the nearest
    save(pruned, tmp_path / "small", tmp_path)
    plain, info = transformers.AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "small", output_loading_info=True
    )
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    batch = next(batches(model, data))
    logits = plain.eval()(input_ids=batch.inputs[0], attention_mask=batch.mask).logits
    np.testing.assert_allclose(logits.detach(), answers(pruned, data, "x")[batch.rows], atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (Structured(heads=5), "structured: heads: 5 are to be kept a layer, but there are 4"),
        (Structured(neurons=65), "structured: neurons: 65 are to be kept a layer, but there are"),
        (Structured(multiple=128), "structured: multiple: is 128, but there are 64 neurons"),
    ],
)
def test_more_than_there_are_is_refused(
    options: Structured, message: str, bert: Path, texts_file: Path
) -> None:
    model = import_model(bert)
    with pytest.raises(InputError, match=message):
        structured.apply(model, options, read(texts_file, model))


def test_too_few_texts_are_refused(bert: Path) -> None:
    with pytest.raises(InputError, match="samples: 16 texts are needed, found 3"):
        structured.apply(import_model(bert), Structured(), Data(inputs=("a", "b", "c")))
