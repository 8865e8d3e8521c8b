"""A classifier's last layer for its first token only."""

from pathlib import Path

import pytest

from edgeopt.model.first_token import narrowed
from tests import checkpoints

torch = pytest.importorskip("torch", reason="needs edgeopt[torch]")


@pytest.mark.parametrize("kind", ["Bert", "Roberta", "DistilBert"])
def test_logits_stay_and_the_last_ffn_sees_one_token(kind: str, tmp_path: Path) -> None:
    from edgeopt.model.importer import import_model
    from edgeopt.model.widths import layers

    model = import_model(checkpoints.write(tmp_path / "m", f"{kind}ForSequenceClassification"))
    ids = torch.randint(5, 40, (3, 20), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[1, 12:] = 0
    inputs = [ids, mask, *[torch.zeros_like(ids)] * (len(model.signature.inputs) - 2)]
    smaller = narrowed(model)
    seen = []
    block = smaller.module.network.base_model.get_submodule(
        "transformer.layer" if kind == "DistilBert" else "encoder.layer"
    )[-1].block
    linear = block.ffn.lin1 if kind == "DistilBert" else block.intermediate.dense
    linear.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[1]))
    with torch.inference_mode():
        (expected,), (found,) = model.module(*inputs), smaller.module(*inputs)
    assert seen == [1]
    assert torch.allclose(found, expected, atol=1e-5)
    assert len(layers(model.module.network)) == 2  # the model itself is as it was


@pytest.mark.parametrize("kind", ["BertModel", "BertForTokenClassification"])
def test_other_tasks_need_all_tokens(kind: str, tmp_path: Path) -> None:
    from edgeopt.model.importer import import_model

    model = import_model(checkpoints.write(tmp_path / "m", kind))
    assert narrowed(model) is model
