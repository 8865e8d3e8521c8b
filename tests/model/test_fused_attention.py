# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Attention in one kernel of torch, held against the same network's own."""

import copy
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from edgeopt.model.network.fused_attention import fused_attention
from tests import checkpoints

torch = pytest.importorskip("torch", reason="needs edgeopt[torch]")

pytestmark = pytest.mark.heavy


@pytest.mark.parametrize("kind", ["Bert", "Roberta", "DistilBert"])
def test_answers_stay_with_padding_and_so_does_the_network(kind: str, tmp_path: Path) -> None:
    from edgeopt.model.importer import import_model
    from edgeopt.model.network import tokens

    model = import_model(checkpoints.write(tmp_path / "m", f"{kind}ForSequenceClassification"))
    ids = torch.randint(5, 40, (3, 20), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[1, 12:] = 0
    inputs = [ids, mask, *[torch.zeros_like(ids)] * (len(model.main.signature.inputs) - 2)]
    kernel = torch.nn.functional.scaled_dot_product_attention
    calls: list[tuple[int, ...]] = []

    def counted(query: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(tuple(query.shape))
        return kernel(query, *args, **kwargs)

    def run(module: Any) -> tuple[Any, int]:
        calls.clear()
        with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
            patch.setattr(torch.nn.functional, "scaled_dot_product_attention", counted)
            (logits,) = module(*inputs)
        return logits, len(calls)

    module: Any = model.module
    layers = module.network.config.num_hidden_layers
    expected, none = run(module)
    with fused_attention(model):
        found, all_layers = run(module)
    after, none_again = run(module)
    assert (none, all_layers, none_again) == (0, layers, 0)
    assert torch.allclose(found, expected, atol=1e-5)
    assert torch.equal(after, expected)
    # A layer that lets tokens go by the attention they got needs its scores.
    fewer = model.with_module(copy.deepcopy(module))
    tokens.reduce(fewer.module.network, [0], "prune", [Fraction(1, 2)])  # type: ignore[union-attr]
    with fused_attention(fewer):
        assert run(fewer.module)[1] == 0
