# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeopt.backends.grid import linears
from edgeopt.compression import low_rank, structured
from edgeopt.compression.reconstruct import grams
from edgeopt.errors import InputError
from edgeopt.evaluate.data import Data, batches, read
from edgeopt.evaluate.score import answers
from edgeopt.model import Model
from edgeopt.model.checkpoint import network, parameters, save
from edgeopt.model.importer import import_model
from edgeopt.model.network.shape_config import describe
from edgeopt.model.network.widths import layers
from edgeopt.pipeline import compile
from edgeopt.recipe import load_recipe
from edgeopt.steps.low_rank import LowRank
from edgeopt.steps.structured import Structured
from edgeopt.target import load_target
from tests.compression.conftest import skip_without

pytest.importorskip("transformers", reason="needs edgeopt[torch]")
pytestmark = pytest.mark.heavy


@pytest.mark.parametrize("method", ["svd", "activation"])
def test_weights_of_low_rank_become_two_that_do_the_same(
    trained: Path, texts_file: Path, method: str
) -> None:
    import torch

    model = import_model(trained)
    data = read(texts_file, model).first(64)
    for layer in layers(network(model)):
        for linear in (*layer.qkv, layer.ffn_input):
            u, s, v = torch.linalg.svd(linear.weight, full_matrices=False)
            linear.weight[:] = u[:, :5] * s[:5] @ v[:5]
    whole = answers(model, data, "whole")
    options = LowRank(method=method, rank=5, parts=("qkv", "ffn_input"))
    small, text, _ = low_rank.apply(model, options, data)
    np.testing.assert_allclose(answers(small, data, "small"), whole, atol=1e-4)
    # 3 * 5 * (32 + 32) + 5 * (32 + 64) of 3 * 32 * 32 + 32 * 64.
    assert text == "8 of 8 linear layers factored, rank 5, 28% of their multiplications left"
    assert parameters(small) == parameters(model) - 2 * (5120 - 1440)


def test_what_the_ranks_left_out_explain_is_the_error_of_the_outputs(
    model: Model, data: Data
) -> None:
    import torch

    linear = layers(network(model))[0].ffn_output
    (gram,) = grams(model, [linear], data)
    inputs: list[torch.Tensor] = []
    hook = linear.register_forward_pre_hook(lambda _, x: inputs.append(x[0]))
    masks = []
    for batch in batches(model, data):
        model.module(*batch.inputs)
        masks.append(batch.mask.bool())
    hook.remove()
    x = torch.cat([values[mask] for values, mask in zip(inputs, masks, strict=True)])
    whole = linear(x)
    errors = {}
    for method in ("svd", "activation"):
        options = LowRank(method=method, rank=6, parts=("ffn_output",))
        small, _, _ = low_rank.apply(model, options, data)
        factored = network(small).base_model.get_submodule(
            next(name for name, m in network(model).base_model.named_modules() if m is linear)
        )
        errors[method] = float((factored(x) - whole).square().sum(1).mean())
    _, energies = low_rank.directions(linear, gram)
    assert errors["activation"] == pytest.approx(float(energies[6:].sum()), rel=1e-3)
    assert errors["activation"] < 0.8 * errors["svd"]


def test_energy_gives_each_layer_its_rank_and_leaves_those_that_save_nothing(
    model: Model, data: Data
) -> None:
    first = layers(network(model))[0]
    first.ffn_input.weight[:, 1:] = 0  # one input alone: rank 1
    options = LowRank(energy=0.9999, parts=("ffn_input",))
    small, text, _ = low_rank.apply(model, options, data)
    describe(network(small))
    (rank,) = network(small).config.edgeopt["ranks"].values()
    assert rank == 1
    assert text == (
        "1 of 2 linear layers factored, rank 1, 52% of their multiplications left; 1 stay whole, "
        "as they would not become cheaper"
    )


def test_a_factored_model_is_saved_and_reloaded_after_pruning(
    model: Model, data: Data, tmp_path: Path
) -> None:
    pruned, _, _ = structured.apply(model, Structured(remove=0.25), data)  # 3 heads, 48 neurons
    small, text, _ = low_rank.apply(pruned, LowRank(share=0.5), data)
    assert text.startswith("12 of 12 linear layers factored, ranks 6-9, ")
    save(small, tmp_path / "small", tmp_path)
    again = import_model(tmp_path / "small")
    assert type(network(again)) is type(network(model))
    np.testing.assert_array_equal(answers(again, data, "again"), answers(small, data, "small"))
    with pytest.raises(InputError, match="attention_output of layer 0 is two layers of low rank"):
        structured.apply(again, Structured(), data)


def test_the_compiled_network_is_the_factored_one(
    model: Model, data: Data, bert: Path, tmp_path: Path
) -> None:
    skip_without("ai_edge_litert", "litert_torch", "openvino", "onnxruntime")
    fewer, _, _ = structured.apply(model, Structured(remove=0.5, parts=("heads",)), data)
    small, _, _ = low_rank.apply(fewer, LowRank(rank=8), data)
    save(small, tmp_path / "small", bert)
    # Of the last layer only the first token is computed; a part of it stays in floating point.
    last = [name for name in linears(small) if "layer.1." in name]
    recipe = load_recipe("default")
    bundle = compile(
        tmp_path / "small",
        replace(load_target("host"), seq_lens=(16,)),
        recipe=replace(recipe, quantize=replace(recipe.quantize, keep=(last[0], last[-1]))),
        output=tmp_path / "small.edgeopt",
        engines=["onnx", "tflite", "openvino"],
        precisions=["fp32", "int8"],
    )
    assert [s.reason for s in bundle.manifest.skipped] == []
    for artifact in bundle.manifest.artifacts:
        assert artifact.fidelity.cosine_min > (0.95 if artifact.precision == "int8" else 0.9999)


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ("rank = 8\nshare = 0.5", "rank: expected exactly one of rank, share and energy"),
        ('rank = 8\nmethod = "svd"\nsamples = 64', "samples: is given, but the method svd looks"),
        ('rank = 8\nparts = ["ffn"]', "expected one of qkv, attention_output, ffn_input"),
        (
            'rank = 8\n[[compress]]\ntechnique = "structured"',
            r"compress\[1\].technique: 'structured' would undo the factored layers that",
        ),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    step: str, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "own.toml"
    bounds = "".join(f"[bounds.{p}]\ncosine_min = 0.9\n" for p in ("fp32", "fp16", "int8"))
    path.write_text(
        f'calibration_texts = 8\n[[compress]]\ntechnique = "low_rank"\n{step}\n{bounds}'
    )
    with pytest.raises(InputError, match=message):
        load_recipe(path)


def test_a_rank_that_saves_nothing_anywhere_is_refused(model: Model) -> None:
    with pytest.raises(InputError, match="rank: is 16, but no layer becomes cheaper above rank 15"):
        low_rank.check(model, LowRank(rank=16, parts=("qkv",)))


@pytest.mark.parametrize(
    ("ranks", "message"),
    [
        ({"encoder.layer.7.output.dense": 4}, "the network has no linear layer of this name"),
        ({"encoder.layer.0.output.dense": 33}, "expected 1 to 32, found 33"),
        ({"encoder.layer.0.output.dense": 0}, "expected 1 to 9007199254740992, found 0"),
        ({"encoder.layer.0.output.dense": 3}, "of another shape: bert.encoder.layer.0.output"),
    ],
)
def test_ranks_that_are_not_those_of_the_weights_are_refused(
    ranks: dict[str, int], message: str, model: Model, bert: Path, tmp_path: Path
) -> None:
    options = LowRank(method="svd", rank=4, parts=("ffn_output",))
    small, _, _ = low_rank.apply(model, options, Data(inputs=()))
    network(small).config.edgeopt = {"ranks": ranks}
    save(small, tmp_path / "small", bert)
    with pytest.raises(InputError, match=message):
        import_model(tmp_path / "small")
