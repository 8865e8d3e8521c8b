# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

from pathlib import Path

import numpy as np
import pytest

from edgeopt.compression import layers
from edgeopt.errors import InputError
from edgeopt.evaluate.data import Data, batches, read
from edgeopt.evaluate.score import answers
from edgeopt.model import Model
from edgeopt.model.checkpoint import network, save
from edgeopt.model.importer import import_model
from edgeopt.model.network.widths import layers as layers_of
from edgeopt.steps.layers import Layers
from tests import checkpoints
from tests.compression.conftest import ARCHITECTURES

pytest.importorskip("transformers", reason="needs edgeopt[torch]")
pytestmark = pytest.mark.heavy


@pytest.fixture(params=ARCHITECTURES)
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Model:
    depth = "n_layers" if request.param.startswith("Distil") else "num_hidden_layers"
    return import_model(checkpoints.write(tmp_path / "model", request.param, **{depth: 4}))


@pytest.fixture
def data(model: Model, texts_file: Path) -> Data:
    return read(texts_file, model).first(32)


def idle(model: Model, index: int) -> None:
    """Let layer ``index`` add nothing (its layer norms still act)."""
    layer = layers_of(network(model))[index]
    for linear in (layer.attention_output, layer.ffn_output):
        linear.weight[:] = 0
        linear.bias[:] = 0


@pytest.mark.parametrize("index", [1, 2])
def test_a_layer_that_does_nothing_is_the_one_that_goes(
    model: Model, data: Data, index: int
) -> None:
    idle(model, index)
    whole = answers(model, data, "whole")
    short, text, _ = layers.apply(model, Layers(count=1), data)
    assert text == f"1 of 4 layers dropped (numbers {index})"
    assert len(layers_of(network(short))) == 3
    # Layer norm of what is normed already is the same but for its epsilon.
    np.testing.assert_allclose(answers(short, data, "short"), whole, atol=1e-3)
    assert len(layers_of(network(model))) == 4


def test_what_is_left_loads_with_transformers(model: Model, data: Data, tmp_path: Path) -> None:
    import transformers

    short, _, _ = layers.apply(model, Layers(drop=(0, 2)), data)
    save(short, tmp_path / "short", tmp_path)
    plain, info = transformers.AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "short", output_loading_info=True
    )
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert plain.config.num_hidden_layers == 2
    batch = next(batches(model, data))
    logits = plain.eval()(input_ids=batch.inputs[0], attention_mask=batch.mask).logits
    expected = answers(short, data, "short")
    np.testing.assert_allclose(logits.detach(), expected[batch.rows], atol=1e-5)
    assert np.abs(expected - answers(model, data, "whole")).max() > 1e-3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (Layers(drop=(4,)), "layers: drop: there is no layer 4, only 0 to 3"),
        (Layers(count=4), "layers: count: 4 layers are to go, but there are 4"),
    ],
)
def test_layers_that_are_not_there_are_refused(
    options: Layers, message: str, model: Model, data: Data
) -> None:
    with pytest.raises(InputError, match=message):
        layers.apply(model, options, data)
