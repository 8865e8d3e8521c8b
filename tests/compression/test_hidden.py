# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeopt.compression import hidden, structured
from edgeopt.errors import InputError
from edgeopt.evaluate.data import Data, read
from edgeopt.evaluate.score import answers
from edgeopt.model import Model
from edgeopt.model.checkpoint import network, save
from edgeopt.model.importer import import_model
from edgeopt.model.network.hidden import stream
from edgeopt.model.network.widths import layers
from edgeopt.steps.hidden import Hidden
from edgeopt.steps.structured import Structured
from tests import checkpoints

pytest.importorskip("transformers", reason="needs edgeopt[torch]")
pytestmark = pytest.mark.heavy

PLAIN = Hidden(reconstruct=False)


def test_a_narrowed_network_does_what_the_whole_one_does_without_the_channels(
    trained: Path, texts_file: Path
) -> None:
    import torch

    model = import_model(trained)
    data = read(texts_file, model).first(64)
    before = answers(model, data, "before")
    left = [i for i in range(32) if i % 5]
    small = hidden.prune(model, left, PLAIN, data)

    def norm(module: torch.nn.LayerNorm, x: tuple[torch.Tensor], y: torch.Tensor) -> torch.Tensor:
        found = torch.zeros_like(y)
        found[..., left] = torch.nn.functional.layer_norm(
            x[0][..., left], (len(left),), module.weight[left], module.bias[left], module.eps
        )
        return found

    hooks = [m.register_forward_hook(norm) for m in stream(network(model)).norms]
    expected = answers(model, data, "without the channels")
    for hook in hooks:
        hook.remove()
    np.testing.assert_allclose(answers(small, data, "small"), expected, atol=1e-5)
    assert np.abs(expected - before).max() > 1e-2
    np.testing.assert_array_equal(answers(model, data, "again"), before)


def test_channels_that_others_repeat_cost_nothing(model: Model, data: Data) -> None:
    found = stream(network(model))
    for table in found.tables:
        table.weight[:, 16:] = table.weight[:, :16]
    for module in (*found.norms, *found.writers):
        module.weight[16:] = module.weight[:16]
        module.bias[16:] = module.bias[:16]
    whole = answers(model, data, "whole")
    left = list(range(16))
    small = hidden.prune(model, left, Hidden(ridge=1e-8), data)
    np.testing.assert_allclose(answers(small, data, "small"), whole, atol=1e-3)
    plain = hidden.prune(model, left, PLAIN, data)
    assert np.abs(answers(plain, data, "plain") - whole).max() > 0.1


def test_a_silent_channel_goes_first(model: Model, data: Data) -> None:
    silent = [2, 3, 5, 7, 11, 13, 17, 19]
    for norm in stream(network(model)).norms:
        norm.weight[silent] = 0
        norm.bias[silent] = 0
    for kind in ("fisher", "taylor", "magnitude"):
        scores = hidden.importances(model, kind, data)
        assert sorted(scores.argsort()[:8].tolist()) == silent
        small, text, _ = hidden.apply(model, replace(PLAIN, importance=kind), data)
        assert text == "24 of 32 channels of the residual stream kept"
        assert stream(network(small)).width == 24


def test_refitting_brings_the_network_nearer(model: Model, data: Data) -> None:
    whole = answers(model, data, "whole")
    errors = [
        np.abs(answers(hidden.apply(model, options, data)[0], data, "x") - whole).mean()
        for options in (PLAIN, Hidden())
    ]
    assert errors[1] < 0.8 * errors[0]


def test_a_narrowed_model_is_saved_and_reloaded_after_pruning(
    trained: Path, texts_file: Path, tmp_path: Path
) -> None:
    model = import_model(trained)
    data = read(texts_file, model).first(64)
    small, _, _ = hidden.apply(model, Hidden(), data)
    small, _, _ = structured.apply(small, Structured(heads=3, neurons=40), data)
    save(small, tmp_path / "small", trained)
    config = json.loads((tmp_path / "small/config.json").read_text())
    assert config["edgeopt"] == {"head_dim": 8, "heads": [3, 3], "neurons": [40, 40]}
    again = import_model(tmp_path / "small")
    assert network(again).config.hidden_size == stream(network(again)).width == 24
    assert [layer.heads for layer in layers(network(again))] == [3, 3]
    np.testing.assert_array_equal(answers(again, data, "again"), answers(small, data, "small"))
    config["edgeopt"]["head_dim"] = 6
    (tmp_path / "small/config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"edgeopt.head_dim: expected more than .*24 / 4.*found 6"):
        import_model(tmp_path / "small")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (Hidden(size=40), "hidden: size: leaves 40 of 32 channels, in multiples of 8"),
        (Hidden(remove=0.1), "hidden: remove: leaves 32 of 32 channels, in multiples of 8"),
    ],
)
def test_what_would_remove_nothing_is_refused(options: Hidden, message: str, model: Model) -> None:
    with pytest.raises(InputError, match=message):
        hidden.check(model, options)


def test_embeddings_of_texts_are_refused(tmp_path: Path) -> None:
    model = import_model(checkpoints.write(tmp_path / "model", "BertModel"))
    with pytest.raises(InputError, match="BertModel are the residual stream itself"):
        hidden.check(model, Hidden())
