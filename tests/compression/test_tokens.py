# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from edgeopt.compression import layers, structured, tokens
from edgeopt.errors import InputError
from edgeopt.evaluate.data import Data
from edgeopt.fields import Table
from edgeopt.model import Model
from edgeopt.model.checkpoint import network, save
from edgeopt.model.importer import import_model
from edgeopt.model.network.tokens import Reduction, _fewer, reductions
from edgeopt.pipeline import compile
from edgeopt.steps import read_steps
from edgeopt.steps.structured import Structured
from edgeopt.steps.tokens import Tokens
from edgeopt.target import load_target
from tests import checkpoints
from tests.compression.conftest import ARCHITECTURES, skip_without

pytest.importorskip("transformers", reason="needs edgeopt[torch]")
pytestmark = pytest.mark.heavy

NO_DATA = Data(inputs=())
HALVES = {"layers": (0, 2), "keep": (0.5, 0.5)}


@pytest.fixture(scope="module", params=ARCHITECTURES)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    depth = "n_layers" if request.param.startswith("Distil") else "num_hidden_layers"
    folder = tmp_path_factory.mktemp("four") / "model"
    return import_model(checkpoints.write(folder, request.param, **{depth: 4}))


def call(model: Model, words: int, length: int) -> np.ndarray:
    """Return the outputs for a text of ``words`` tokens in a call of ``length``."""
    import torch

    ids = torch.zeros(1, length, dtype=torch.int64)
    ids[0, :words] = torch.arange(words) * 7 % 50 + 5
    mask = (torch.arange(length) < words).long().unsqueeze(0)
    rest = [torch.zeros_like(ids)] * (len(model.main.signature.inputs) - 2)
    with torch.inference_mode():
        return model.module(ids, mask, *rest)[0].numpy()


def fewer(reduction: Reduction, real: int, length: int) -> tuple[list[float], list[bool]]:
    """Return the states that are left of 0, 1, 2, ..., and which of them are not masked."""
    import torch

    hidden = torch.arange(length, dtype=torch.float32).reshape(1, length, 1)
    mask = torch.zeros(1, 1, 1, length)
    mask[..., real:] = torch.finfo(torch.float32).min
    received = torch.tensor([0.0, 4, 9, 1, 7, 5, 6, 99])[:length]  # the first stays without any
    weights = received.expand(1, 2, length, length) * (mask == 0)
    states, left = _fewer(hidden, mask, weights, reduction)
    assert left.shape == (1, 1, 1, reduction.length(length))
    return states[0, :, 0].tolist(), (left[0, 0, 0] == 0).tolist()


def test_neighbours_are_pooled_without_padding() -> None:
    half, third = (Reduction(method="pool", keep=Fraction(1, n)) for n in (2, 3))
    assert fewer(half, 8, 8) == ([0, 1.5, 3.5, 5.5, 7], [True] * 5)
    assert fewer(half, 6, 8) == ([0, 1.5, 3.5, 5, 0], [True] * 4 + [False])
    assert fewer(half, 4, 7) == ([0, 1.5, 3, 0], [True] * 3 + [False])
    assert fewer(third, 5, 8) == ([0, 2, 4, 0], [True] * 3 + [False])


def test_tokens_with_the_least_attention_go_and_padding_before_them() -> None:
    half, most = (Reduction(method="prune", keep=Fraction(n, 10)) for n in (5, 7))
    assert fewer(half, 8, 8) == ([0, 7, 2, 4], [True] * 4)
    # Of 6 real tokens half stay, though the call of 8 has room for a fourth.
    assert fewer(half, 6, 8) == ([0, 2, 4, 5], [True] * 3 + [False])
    assert fewer(most, 5, 8)[1] == [True] * 4 + [False] * 2
    assert fewer(most, 5, 5)[1] == [True] * 4


@pytest.mark.parametrize("method", ["pool", "prune"])
def test_padding_changes_nothing_and_the_folder_is_the_same_network(
    method: str, model: Model, tmp_path: Path
) -> None:
    small, line, _ = tokens.apply(model, Tokens(method=method, **HALVES), NO_DATA)
    left = "65 behind layer 0, 33" if method == "pool" else "64 behind layer 0, 32"
    assert line == f"{method}: of 128 tokens {left} behind layer 2"
    assert reductions(network(model)) == {}
    expected = call(small, 13, 13)
    assert np.abs(expected - call(model, 13, 13)).max() > 1e-3
    for length in (14, 20, 37):
        np.testing.assert_allclose(call(small, 13, length), expected, atol=2e-5)
    save(small, tmp_path / "small", tmp_path)
    written = json.loads((tmp_path / "small/config.json").read_text())["edgeopt"]
    assert written == {"tokens": {"method": method, "layers": [0, 2], "keep": [0.5, 0.5]}}
    loaded = import_model(tmp_path / "small")
    np.testing.assert_allclose(call(loaded, 13, 20), call(small, 13, 20), atol=2e-6)


def test_each_token_of_an_embedding_has_the_state_of_its_group(tmp_path: Path) -> None:
    model = import_model(checkpoints.write(tmp_path / "model", "BertModel"))
    small, _, _ = tokens.apply(model, Tokens(layers=(0, 1), keep=(0.5, 0.3333)), NO_DATA)
    states = call(small, 14, 17)[0]
    assert states.shape == (17, 32)
    np.testing.assert_array_equal(states[1:7], states[[1] * 6])  # two, and three of these
    np.testing.assert_array_equal(states[7:13], states[[7] * 6])
    assert len(np.unique(states[[0, 1, 7, 13]].round(3), axis=0)) == 4
    np.testing.assert_allclose(states[:14], call(small, 14, 14)[0], atol=2e-5)
    with pytest.raises(InputError, match="feature-extraction reads the states of all tokens"):
        tokens.check(model, Tokens(method="prune", layers=(0,), keep=(0.5,)))


def test_other_steps_know_of_it(model: Model) -> None:
    small, _, _ = tokens.apply(model, Tokens(**HALVES), NO_DATA)
    short = layers.drop(small, [0, 1])
    assert reductions(network(short)) == {0: Reduction(method="pool", keep=Fraction(1, 2))}
    assert network(short).config.edgeopt["tokens"]["layers"] == [0]
    with pytest.raises(InputError, match="layers: some hand on fewer tokens already"):
        tokens.apply(small, Tokens(**HALVES), NO_DATA)
    with pytest.raises(InputError, match="reconstruct: layers hand on fewer tokens"):
        structured.check(small, Structured())
    with pytest.raises(InputError, match="layers: there is no layer 4, only 0 to 3"):
        tokens.check(model, Tokens(layers=(4,), keep=(0.5,)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": [0, 1], "keep": [0.5]}, r"keep: expected 2 shares, one a layer, found 1"),
        ({"layers": [0], "keep": [1]}, r"keep\[0\]: expected 0.01 to 0.99, found 1.0"),
        ({"layers": [0], "keep": [0.7]}, r"keep\[0\]: expected a half, a third \(0.3333\), a qu"),
        ({"keep": [0.5]}, "layers: is missing"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_steps([Table({"technique": "tokens"} | options, file="own.toml", key="compress[0]")])


@pytest.mark.parametrize(
    ("architecture", "method", "precisions", "seq_lens"),
    [
        ("BertForSequenceClassification", "pool", ["fp32"], (17, 32)),
        ("DistilBertForSequenceClassification", "prune", ["fp32"], (17,)),
        # OpenVINO's folding of the mask's arithmetic once lost which tokens are real, in INT8 only.
        ("BertForSequenceClassification", "pool", ["int8"], (17,)),
        ("BertForSequenceClassification", "prune", ["int8"], (17,)),
    ],
)
def test_every_engine_gives_the_same(
    architecture: str,
    method: str,
    precisions: list[str],
    seq_lens: tuple[int, ...],
    tmp_path: Path,
) -> None:
    skip_without("ai_edge_litert", "litert_torch", "openvino", "onnxruntime")
    # With larger random weights INT8 alone turns cosines as far as lost tokens do. Of these it
    # gives .995 at its worst, a mask that is lost .986.
    tame = {} if precisions == ["fp32"] else {"initializer_range": 0.1}
    model = import_model(checkpoints.write(tmp_path / "model", architecture, **tame))
    small, _, _ = tokens.apply(model, Tokens(method=method, layers=(0,), keep=(0.5,)), NO_DATA)
    save(small, tmp_path / "small", tmp_path / "model")
    bundle = compile(
        tmp_path / "small",
        replace(load_target("host"), seq_lens=seq_lens),
        output=tmp_path / "small.edgeopt",
        engines=["onnx", "tflite", "openvino"],
        precisions=precisions,
    )
    assert bundle.manifest.skipped == ()
    for artifact in bundle.manifest.artifacts:
        assert artifact.fidelity.cosine_min > (0.99 if artifact.precision == "int8" else 0.99999)
