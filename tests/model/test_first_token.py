# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""A classifier's last layer for its first token only."""

from pathlib import Path
from typing import Any

import pytest

from edgeopt.model.network.first_token import narrowed, narrowing
from tests import checkpoints

torch = pytest.importorskip("torch", reason="needs edgeopt[torch]")

pytestmark = pytest.mark.heavy


@pytest.mark.parametrize("kind", ["Bert", "Roberta", "DistilBert"])
def test_logits_stay_and_the_last_ffn_sees_one_token(kind: str, tmp_path: Path) -> None:
    from edgeopt.model.importer import import_model
    from edgeopt.model.network.widths import blocks

    model = import_model(checkpoints.write(tmp_path / "m", f"{kind}ForSequenceClassification"))
    ids = torch.randint(5, 40, (3, 20), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[1, 12:] = 0
    inputs = [ids, mask, *[torch.zeros_like(ids)] * (len(model.main.signature.inputs) - 2)]
    seen: list[int] = []

    def watch(module: Any) -> None:
        found = blocks(module.network)[-1]
        linear = found.ffn.lin1 if kind == "DistilBert" else found.intermediate.dense
        linear.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[1]))

    smaller = narrowed(model)
    watch(smaller.module)
    watch(model.module)
    with torch.inference_mode():
        (expected,), (found,) = model.module(*inputs), smaller.module(*inputs)
        with narrowing(model):
            (within,) = model.module(*inputs)
        (after,) = model.module(*inputs)
    assert seen == [20, 1, 1, 20]
    assert torch.allclose(found, expected, atol=1e-5)
    assert torch.allclose(within, expected, atol=1e-5)
    assert torch.equal(after, expected)


@pytest.mark.parametrize("kind", ["BertModel", "BertForTokenClassification"])
def test_other_tasks_need_all_tokens(kind: str, tmp_path: Path) -> None:
    from edgeopt.model.importer import import_model

    model = import_model(checkpoints.write(tmp_path / "m", kind))
    assert narrowed(model) is model
