# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

import copy
from dataclasses import replace

import numpy as np
import pytest

from edgeopt.backends.tvm_schedule import AVX2, NEON
from edgeopt.backends.tvm_sparse import BLOCKS, cost, density
from edgeopt.compression import blocks
from edgeopt.errors import InputError
from edgeopt.evaluate.data import Data
from edgeopt.evaluate.score import answers
from edgeopt.model import Model
from edgeopt.model.checkpoint import network
from edgeopt.model.network.widths import layers
from edgeopt.steps.blocks import Blocks
from edgeopt.steps.training import Training

pytest.importorskip("transformers", reason="needs edgeopt[torch]")
pytestmark = pytest.mark.heavy

HALF = Blocks(cost=0.5, widths="uniform", samples=64, rounds=2)


def left(model: Model, outputs: int) -> list[float]:
    """Return the share of blocks that are left in each projection, as the kernels count it."""
    found = [
        linear
        for layer in layers(network(model))
        for linear in (*layer.of_attention, layer.ffn_input, layer.ffn_output)
    ]
    return [density(linear.weight.numpy().T, outputs) for linear in found]


@pytest.mark.parametrize("outputs", [4, 8])
@pytest.mark.parametrize("importance", ["fisher", "output", "magnitude"])
def test_whole_blocks_go_and_the_model_that_came_in_stays(
    outputs: int, importance: str, model: Model, data: Data
) -> None:
    before = answers(model, data, "before")
    options = replace(HALF, outputs=outputs, importance=importance)
    pruned, text, modified = blocks.apply(model, options, data)
    shares = left(pruned, outputs)
    assert max(shares) - min(shares) < 0.01
    kernel = BLOCKS[{4: NEON, 8: AVX2}[outputs]]
    assert cost(max(shares), kernel) == pytest.approx(0.5, abs=0.02)
    weights = layers(network(pruned))[0].ffn_input.weight.numpy()
    assert (weights != 0).mean() == pytest.approx(shares[4], abs=1e-6)  # no zeros but whole blocks
    assert modified
    assert f"of the blocks of {outputs} x 1 are left" in text
    np.testing.assert_array_equal(answers(model, data, "after"), before)


def test_what_is_left_is_the_least_squares_solution() -> None:
    import torch

    random = np.random.default_rng(0)
    z, y = random.normal(size=(200, 6)), random.normal(size=(200, 4))
    rows = np.concatenate([z, np.ones((200, 1))], axis=1)
    kept = torch.tensor([[True, False, True, True, False, False], [False] * 3 + [True] * 3])
    found, diagonals = blocks._fitted(
        kept, torch.tensor(y.T @ rows), torch.tensor(rows.T @ rows), outputs=2
    )
    for group, places in enumerate(([0, 2, 3, 6], [3, 4, 5, 6])):
        part = y[:, group * 2 : group * 2 + 2]
        expected, rest, *_ = np.linalg.lstsq(rows[:, places], part)
        np.testing.assert_allclose(found[group * 2 : group * 2 + 2][:, places].T, expected)
        # What removing one more input costs is the solution without it.
        _, more, *_ = np.linalg.lstsq(rows[:, places[1:]], part)
        removal = expected[0] ** 2 / float(diagonals[group, places[0]])
        np.testing.assert_allclose(more - rest, removal)


def test_refitted_outputs_are_nearer_than_those_of_masked_weights(model: Model, data: Data) -> None:
    import torch

    whole = answers(model, data, "whole")
    pruned, *_ = blocks.apply(model, HALF, data)
    masked = model.with_module(copy.deepcopy(model.module))
    for old, new in zip(blocks._every(masked, HALF), blocks._every(pruned, HALF), strict=True):
        old.weight.data.mul_(torch.tensor(new.weight.numpy() != 0))
    errors = [np.square(answers(m, data, "pruned") - whole).mean() for m in (pruned, masked)]
    assert errors[0] < 0.5 * errors[1]


def test_uneven_shares_hold_the_cost_and_spare_what_costs_nothing(model: Model, data: Data) -> None:
    options = replace(HALF, widths="uneven", cost=0.4)
    pruned, text, _ = blocks.apply(model, options, data)
    shares = left(pruned, 4)
    whole = blocks._every(model, options)
    rows = blocks._rows(model, whole, data)
    sizes = [row * one.weight.numel() for row, one in zip(rows, whole, strict=True)]
    spent = sum(size * cost(share, BLOCKS[NEON]) for size, share in zip(sizes, shares, strict=True))
    assert 0.3 * sum(sizes) < spent <= 0.405 * sum(sizes)
    assert rows[6] < rows[7] == rows[0] == 1  # of the last layer keys see all tokens, queries one
    # What one token sees takes little of the budget, so that most of it stays.
    assert np.mean(shares[9:]) > np.mean([*shares[:6], *shares[7:9]]) + 0.25
    assert "fisher" in text


def test_training_leaves_zeros_where_they_are(model: Model, data: Data) -> None:
    training = Training(epochs=1, steps=3, learning_rate=1e-3, seq_len=16)
    plain, *_ = blocks.apply(model, HALF, data)
    taught, text, _ = blocks.apply(model, replace(HALF, recovery=training), data)
    for one, other in zip(blocks._every(plain, HALF), blocks._every(taught, HALF), strict=True):
        zero = one.weight.numpy() == 0
        assert not other.weight.numpy()[zero].any()
        assert (other.weight.numpy() != one.weight.numpy())[~zero].any()
    assert "2 steps" in text


def test_what_does_not_fit_is_refused(model: Model, data: Data) -> None:
    for layer in layers(network(model)):
        layer.ffn_input.out_features = 30
    with pytest.raises(InputError) as caught:
        blocks.check(model, HALF)
    assert "layer 0 has a projection to 30, no multiple of it" in str(caught.value)
    with pytest.raises(InputError, match="16 texts are needed"):
        blocks.apply(replace(model), replace(HALF, parts=("attention",)), data.first(3))
