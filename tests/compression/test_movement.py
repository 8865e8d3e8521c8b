# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeopt.backends.tvm_sparse import density
from edgeopt.compression import movement
from edgeopt.compression.masks import Masks, gates
from edgeopt.errors import InputError
from edgeopt.evaluate.data import Data, batches, read, split
from edgeopt.evaluate.score import answers
from edgeopt.model import Model
from edgeopt.model.checkpoint import network, save
from edgeopt.model.importer import import_model
from edgeopt.model.network.widths import layers
from edgeopt.steps.movement import Movement
from edgeopt.steps.training import Training
from edgeopt.train.context import Context
from tests import checkpoints

pytest.importorskip("transformers", reason="needs edgeopt[torch]")
pytestmark = pytest.mark.heavy

TRAINING = Training(epochs=4, learning_rate=1e-3, batch_size=16, precision="fp32", seq_len=16)
HALF = Movement(training=TRAINING)
SQUARES = replace(HALF, block=4, remove=0.7)


@pytest.fixture
def data(model: Model, texts_file: Path) -> tuple[Data, Data]:
    return split(read(texts_file, model))


def widths(model: Model) -> list[tuple[int, int]]:
    return [(layer.heads, layer.neurons) for layer in layers(network(model))]


def scored(model: Model, options: Movement) -> Masks:
    """Return the masks of the end of a training that came to seeded random scores."""
    import torch

    masks = Masks(gates(layers(network(model)), options), options)
    generator = torch.Generator().manual_seed(3)
    for gate in masks.gates:
        gate.score.data.copy_(torch.randn(gate.score.shape, generator=generator))
    masks.done = 1.0
    return masks


def test_a_score_moves_as_its_head_or_neuron_is_wanted(
    model: Model, data: tuple[Data, Data]
) -> None:
    import torch

    batch = next(batches(model, data[0]))
    module = model.module
    assert batch.labels is not None
    wrong = (batch.labels + 1) % 3  # on the right ones it has nothing left to learn

    def loss() -> torch.Tensor:
        (logits,) = module(*batch.inputs)
        return torch.nn.functional.cross_entropy(logits, wrong)

    masks = scored(model, replace(HALF, remove=0.0))
    with masks.applied(module):
        masked = loss()
        found = torch.autograd.grad(masked, [gate.score for gate in masks.gates])
    torch.testing.assert_close(masked.detach(), loss())  # all masks are one
    layer = layers(network(model))[1]
    for gradient, linear, columns in (
        (found[2][0, 1], layer.attention_output, slice(8, 16)),  # head 1
        (found[3][0, 5], layer.ffn_output, slice(5, 6)),
    ):
        losses = []
        for factor in (1.01, 0.99):
            linear.weight[:, columns] *= factor
            losses.append(float(loss()))
            linear.weight[:, columns] /= factor
        expected = (losses[0] - losses[1]) / 0.02
        assert float(gradient) == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("options", [HALF, replace(HALF, method="sigmoid", threshold=0.45)])
def test_of_many_neurons_as_many_stay_as_kernels_like(options: Movement, tmp_path: Path) -> None:
    wide = import_model(checkpoints.write(tmp_path / "wide", intermediate_size=300))
    masks = scored(wide, options)
    rounded = [mask.sum() for mask in masks.hard()[1::2]]
    masks.done = masks.options.end - 0.001
    before = [mask.sum() for mask in masks.hard()[1::2]]
    assert any(n % 16 for n in before)
    assert all(n % 16 == 0 and abs(n - m) <= 9 for n, m in zip(rounded, before, strict=True))


@pytest.mark.parametrize("options", [HALF, SQUARES, replace(SQUARES, remove=0.9)])
def test_the_network_left_is_the_masked_one(
    options: Movement, model: Model, data: tuple[Data, Data]
) -> None:
    masks = scored(model, options)
    whole = answers(model, data[1], "whole")
    with masks.applied(model.module):
        masked = answers(model, data[1], "masked")
    assert np.abs(masked - whole).max() > 1e-2
    small = model.with_module(copy.deepcopy(model.module))
    zeros = movement.remove(small, gates(layers(network(small)), options), masks.hard())
    np.testing.assert_allclose(answers(small, data[1], "small"), masked, atol=1e-5)
    heads, neurons = zip(*widths(small), strict=True)
    assert sum(neurons) == round(128 * (1 - options.remove))
    if options.block is None:
        assert sum(heads) == 4
        assert zeros == 0
    elif options.remove == 0.9:  # of 8 heads with 2 squares each way, some must be empty
        assert sum(heads) < 8
    else:
        assert zeros == pytest.approx(0.7, abs=0.01)


def test_how_many_go_is_asked_for_or_found_out(model: Model) -> None:
    import torch

    def left(options: Movement) -> list[int]:
        return [int(mask.sum()) for mask in scored(model, options).hard()]

    assert left(replace(HALF, widths="uniform")) == [2, 32, 2, 32]
    assert left(replace(HALF, parts=("neurons",), remove=0.95, widths="uniform")) == [3, 3]
    sigmoid = replace(HALF, method="sigmoid", threshold=0.3)
    scores = [gate.score for gate in scored(model, sigmoid).gates]
    assert left(sigmoid) == [max(1, int((s.sigmoid() > 0.3).sum())) for s in scores]
    masks = scored(model, sigmoid)
    for gate in masks.gates:
        gate.score.data.fill_(-9.0)
    assert [int(mask.sum()) for mask in masks.hard()] == [1, 1, 1, 1]  # a layer needs one of each
    masks.done = 0.1  # at ``begin``
    assert [int(mask.sum()) for mask in masks.hard()] == [4, 64, 4, 64]
    assert float(masks.penalty().detach()) == 0.0
    masks.done = 1.0
    assert float(masks.penalty().detach()) == pytest.approx(float(torch.tensor(-9.0).sigmoid()))


def test_a_network_trained_so_is_smaller_and_is_loaded_again(
    model: Model, data: tuple[Data, Data], tmp_path: Path
) -> None:
    learning, held_out = data
    small, text, _ = movement.apply(model, HALF, learning, Context(teacher=model))
    heads, neurons = zip(*widths(small), strict=True)
    assert (sum(heads), sum(neurons)) == (4, 64)
    assert (
        f"{min(neurons)}-{max(neurons)} of 64 neurons kept in each layer (topk); 36 steps" in text
    )
    right = answers(small, held_out, "x").argmax(1) == np.array(held_out.labels)
    assert right.mean() > 0.9
    assert "forward" not in layers(network(small))[0].ffn_output.__dict__
    save(small, tmp_path / "small", tmp_path)
    again = import_model(tmp_path / "small")
    np.testing.assert_array_equal(
        answers(again, held_out, "again"), answers(small, held_out, "small")
    )
    assert widths(model) == [(4, 64)] * 2


def test_squares_that_do_not_fit_a_head_are_refused(model: Model, data: tuple[Data, Data]) -> None:
    with pytest.raises(InputError, match="movement: block: is 3, and the size of a head, 8, no"):
        movement.apply(model, replace(HALF, block=3), data[0])


def test_blocks_for_tvm_become_zero_and_heads_and_neurons_stay(
    model: Model, data: tuple[Data, Data]
) -> None:
    options = replace(HALF, outputs=4, training=replace(TRAINING, epochs=1, steps=8))
    pruned, text, modified = movement.apply(model, options, data[0])
    assert widths(pruned) == widths(model)
    found = [
        linear
        for layer in layers(network(pruned))
        for linear in (*layer.of_attention, layer.ffn_input, layer.ffn_output)
    ]
    left = np.concatenate([(one.weight.numpy() != 0).flatten() for one in found]).mean()
    blocks = [density(one.weight.numpy().T, 4) for one in found]
    assert left == pytest.approx(0.5, abs=0.001)  # of the weights as of the blocks: whole ones go
    assert np.average(blocks, weights=[one.weight.numel() for one in found]) == pytest.approx(left)
    assert modified
    assert text.startswith("50.0% of the blocks of 4 x 1 are left (topk); ")
