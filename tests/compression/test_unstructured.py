# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeopt.compression import unstructured
from edgeopt.compression.layerwise import first_calls, inputs, through
from edgeopt.compression.sparsity import lowest_of_rows, wanda
from edgeopt.errors import InputError
from edgeopt.evaluate.data import Data, batches, read
from edgeopt.evaluate.score import answers
from edgeopt.model import Model
from edgeopt.model.checkpoint import network, save
from edgeopt.model.importer import import_model
from edgeopt.model.network.widths import blocks, layers
from edgeopt.steps.unstructured import Unstructured

pytest.importorskip("transformers", reason="needs edgeopt[torch]")
pytestmark = pytest.mark.heavy

HALF = Unstructured(sparsity=0.5)
MAGNITUDE = replace(HALF, method="magnitude")
WANDA = replace(HALF, method="wanda")


def zeros(model: Model, options: Unstructured) -> list[np.ndarray]:
    return [one.weight.numpy() == 0 for one in unstructured.linears(model, options)]


def test_what_the_blocks_give_one_by_one_is_what_the_network_gives(
    trained: Path, texts_file: Path
) -> None:
    model = import_model(trained)
    calls = first_calls(model, read(texts_file, model).first(40))
    for block in blocks(network(model)):
        calls = [through(block, call) for call in calls]
    data = read(texts_file, model).first(40)
    for call, batch in zip(calls, batches(model, data), strict=True):
        base = network(model).base_model
        whole = base(input_ids=batch.inputs[0], attention_mask=batch.mask).last_hidden_state
        np.testing.assert_allclose(call.hidden[call.mask], whole[call.mask], atol=1e-5)


@pytest.mark.parametrize("options", [HALF, WANDA, MAGNITUDE])
def test_exactly_the_share_that_was_asked_for_is_zero(
    options: Unstructured, model: Model, data: Data
) -> None:
    before = answers(model, data, "before")
    pruned, text, _ = unstructured.apply(model, options, data)
    assert [found.mean() for found in zeros(pruned, options)] == [0.5] * 12
    assert text == (
        f"8,192 of 16,384 weights in the layers are zero (50.0%, {options.method}); "
        "shapes and speed stay"
    )
    np.testing.assert_array_equal(answers(model, data, "after"), before)  # the one that came in


@pytest.mark.parametrize("options", [HALF, WANDA, MAGNITUDE])
@pytest.mark.parametrize(("pattern", "kept", "of"), [("2:4", 2, 4), ("3:8", 3, 8)])
def test_each_group_keeps_what_its_pattern_says(
    options: Unstructured, pattern: str, kept: int, of: int, model: Model, data: Data
) -> None:
    options = replace(options, pattern=pattern)
    pruned, _, _ = unstructured.apply(model, options, data)
    for found in zeros(pruned, options):
        assert ((~found).reshape(-1, of).sum(1) == kept).all()


def test_sparsegpt_is_nearer_on_the_inputs_it_saw_than_the_others(model: Model, data: Data) -> None:
    import torch

    whole, errors = answers(model, data, "whole"), {}
    block, query = blocks(network(model))[0], layers(network(model))[0].qkv[0]
    seen = [inputs(block, [query], call)[0] for call in first_calls(model, data)]
    rows = torch.cat(seen)
    for options in (HALF, WANDA, MAGNITUDE):
        pruned, _, _ = unstructured.apply(model, options, data)
        left = layers(network(pruned))[0].qkv[0]
        projection = float((left(rows) - query(rows)).square().mean())
        outputs = float(np.square(answers(pruned, data, "pruned") - whole).mean())
        errors[options.method] = (projection, outputs)
    for i in (0, 1):  # the projection, the outputs
        assert errors["sparsegpt"][i] < 0.8 * min(errors["wanda"][i], errors["magnitude"][i])


def test_wanda_keeps_a_small_weight_on_a_large_input() -> None:
    import torch

    weight = torch.tensor([[1.0, 2.0, -3.0], [4.0, 0.5, 0.1]])
    gram = torch.diag(torch.tensor([100.0, 4.0, 1.0, 1.0], dtype=torch.float64))
    scores = wanda(weight, gram)
    torch.testing.assert_close(scores, torch.tensor([[10.0, 4.0, 3.0], [40.0, 1.0, 0.1]]))
    kept = lowest_of_rows(scores, 1 / 3)
    assert kept.tolist() == [[True, True, False], [True, True, False]]


def test_global_magnitude_takes_from_where_weights_are_small(model: Model, data: Data) -> None:
    for linear in layers(network(model))[1].qkv:
        linear.weight *= 0.01
    options = replace(MAGNITUDE, scope="global", sparsity=0.1)
    found = zeros(unstructured.apply(model, options, data)[0], options)
    shares = [zero.mean() for zero in found]
    assert min(shares[6:9]) > 0.4
    assert max(shares[:6] + shares[9:]) < 0.01
    assert sum(zero.sum() for zero in found) == 1638  # of 16,384


def test_the_folder_loads_with_transformers_and_holds_the_zeros(
    model: Model, data: Data, tmp_path: Path
) -> None:
    import transformers

    options = replace(HALF, pattern="2:4", parts=("ffn",))
    pruned, _, _ = unstructured.apply(model, options, data)
    save(pruned, tmp_path / "sparse", tmp_path)
    again = import_model(tmp_path / "sparse")
    assert [found.mean() for found in zeros(again, options)] == [0.5] * 4
    assert all((one.weight != 0).all() for one in layers(network(again))[0].qkv)
    np.testing.assert_array_equal(answers(again, data, "again"), answers(pruned, data, "pruned"))
    plain = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "sparse")
    batch = next(batches(model, data))
    logits = plain.eval()(input_ids=batch.inputs[0], attention_mask=batch.mask).logits
    np.testing.assert_allclose(logits.detach(), answers(pruned, data, "x")[batch.rows], atol=1e-5)


def test_a_pattern_that_does_not_fit_is_refused(model: Model, data: Data) -> None:
    with pytest.raises(InputError, match=r"pattern: layer 0 has a projection of 32 inputs, which"):
        unstructured.apply(model, replace(HALF, pattern="2:5"), data)
    with pytest.raises(InputError, match="samples: 16 texts are needed, found 3"):
        unstructured.apply(model, HALF, data.first(3))
