# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeopt import progress
from edgeopt.compression import lottery
from edgeopt.evaluate.data import Data
from edgeopt.evaluate.score import answers
from edgeopt.model import Model
from edgeopt.model.checkpoint import network, save
from edgeopt.model.importer import import_model
from edgeopt.model.network.widths import layers
from edgeopt.recipe import load_recipe
from edgeopt.steps.lottery import Lottery
from edgeopt.steps.training import Training
from edgeopt.train.context import Context
from edgeopt.train.pruning_loss import wanted

torch = pytest.importorskip("torch", reason="needs edgeopt[torch]")
pytest.importorskip("transformers", reason="needs edgeopt[torch]")
pytestmark = pytest.mark.heavy

TRAINING = Training(
    epochs=1, learning_rate=1e-2, batch_size=16, precision="fp32", seq_len=16, checkpoint_s=0.0
)
OPTIONS = Lottery(sparsity=0.75, rounds=2, training=TRAINING)


def weights(model: Model) -> np.ndarray:
    """Return those that may go, one after the other."""
    found = [
        linear.weight
        for layer in layers(network(model))
        for linear in (*layer.qkv, layer.attention_output, layer.ffn_input, layer.ffn_output)
    ]
    return torch.cat([weight.flatten() for weight in found]).numpy()


def test_what_is_left_goes_back_to_where_it_began(model: Model, data: Data) -> None:
    found = lottery.search(
        model, OPTIONS, data, wanted(model, data, Context(), Training(seq_len=16))
    )
    start, ticket = weights(model), weights(found)
    left = ticket != 0
    assert left.sum() == 16384 // 4
    np.testing.assert_array_equal(ticket[left], start[left])
    # Chosen after training, not as the weights were at the start: not the largest of those.
    assert not left[np.abs(start).argsort()[-4096:]].all()
    head = "classifier.weight"
    assert torch.equal(network(found).state_dict()[head], network(model).state_dict()[head])


def test_zeros_stay_through_training_and_a_killed_search_goes_on(
    model: Model, data: Data, tmp_path: Path
) -> None:
    options = replace(OPTIONS, rewind=2)
    whole, text, _ = lottery.apply(model, options, data)
    assert (weights(whole) == 0).sum() == 3 * 16384 // 4
    assert text.startswith(
        "12,288 of 16,384 weights in the layers are zero (75.0%), found in 2 rounds and rewound to "
        "step 2; 4 steps in fp32 on the cpu, best after "
    )
    trained = weights(whole)
    early = weights(
        lottery.search(model, options, data, wanted(model, data, Context(), Training(seq_len=16)))
    )
    np.testing.assert_array_equal(trained == 0, early == 0)
    assert (trained != early).any()
    assert (early[early != 0] != weights(model)[early != 0]).all()  # rewound to step 2, not to 0
    context = Context(work=tmp_path / "work")

    def kill(event: progress.Event) -> None:
        if event.text.startswith("Round 2") and event.done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), progress.listen(kill):
        lottery.apply(model, options, data, context)
    told: list[str] = []
    with progress.listen(lambda event: told.append(event.text)):
        resumed, _, _ = lottery.apply(model, options, data, context)
    assert any(line.startswith("Round 2 of 2: going on after step ") for line in told)
    np.testing.assert_array_equal(weights(resumed), trained)
    save(whole, tmp_path / "ticket", tmp_path)
    again = import_model(tmp_path / "ticket")
    np.testing.assert_array_equal(answers(again, data, "x"), answers(whole, data, "x"))


def test_the_recipe_is_read() -> None:
    (step,) = load_recipe("lottery").compress
    assert step == Lottery(max_drop=1.0)
