# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeopt.compression import gradual, structured
from edgeopt.errors import InputError
from edgeopt.evaluate.data import Data, read, split
from edgeopt.evaluate.score import answers
from edgeopt.model import Model
from edgeopt.model.checkpoint import network, save
from edgeopt.model.importer import import_model
from edgeopt.model.network.widths import layers
from edgeopt.steps.gradual import Gradual
from edgeopt.steps.structured import Structured
from edgeopt.steps.training import Training
from edgeopt.train.context import Context

pytest.importorskip("transformers", reason="needs edgeopt[torch]")
pytestmark = pytest.mark.heavy

TRAINING = Training(epochs=1, learning_rate=1e-3, batch_size=16, precision="fp32", seq_len=16)
OPTIONS = Gradual(remove=0.75, rounds=2, final_epochs=3, training=TRAINING, label_share=0.0)


@pytest.fixture
def data(model: Model, texts_file: Path) -> tuple[Data, Data]:
    return split(read(texts_file, model))


def test_most_goes_in_the_first_rounds(model: Model) -> None:
    due = [gradual.stage(model, OPTIONS, gradual.cubic(i / 4)) for i in (1, 2, 3, 4)]
    # 64 - 48 * (1 - (1 - t)^3), and of heads 4 - 3 * the same, rounded down
    assert [(step.heads, step.neurons) for step in due] == [(2, 36), (1, 22), (1, 16), (1, 16)]
    one = gradual.stage(model, replace(OPTIONS, neurons=40), 1.0)
    assert (one.heads, one.neurons) == (1, 40)


def test_training_in_between_brings_it_nearer_than_pruning_at_once(
    model: Model, data: tuple[Data, Data], tmp_path: Path
) -> None:
    learning, held_out = data
    whole = answers(model, held_out, "whole")
    small, text, _ = gradual.apply(model, OPTIONS, learning, Context(teacher=model))
    assert [(layer.heads, layer.neurons) for layer in layers(network(small))] == [(1, 16)] * 2
    assert text.startswith(
        "1 of 4 heads and 16 of 64 neurons kept in each layer, in 2 rounds; at last 27 steps in "
        "fp32 on the cpu, best after "
    )
    at_once, _, _ = structured.apply(model, Structured(remove=0.75), learning)

    def error(found: Model) -> float:
        return float(np.square(answers(found, held_out, "x") - whole).mean())

    assert error(small) < 0.7 * error(at_once)
    assert [(layer.heads, layer.neurons) for layer in layers(network(model))] == [(4, 64)] * 2
    save(small, tmp_path / "small", tmp_path)
    again = import_model(tmp_path / "small")
    np.testing.assert_array_equal(
        answers(again, held_out, "again"), answers(small, held_out, "small")
    )


def test_more_heads_than_there_are_are_refused(model: Model, data: tuple[Data, Data]) -> None:
    with pytest.raises(InputError, match="gradual: heads: 5 are to be kept a layer, but there are"):
        gradual.apply(model, replace(OPTIONS, heads=5), data[0])
