# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

from typing import Any

import pytest

from edgeopt.errors import InputError
from edgeopt.model.torch_module import import_torch

torch = pytest.importorskip("torch", reason="needs edgeopt[torch]")
pytestmark = pytest.mark.heavy


def classifier(width: int = 3) -> Any:
    class Bag(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = torch.nn.Embedding(50, 8)
            self.dropout = torch.nn.Dropout(0.5)
            self.head = torch.nn.Linear(8, width)

        def forward(self, ids: Any, mask: Any) -> Any:
            kept = self.dropout(self.table(ids)) * mask.unsqueeze(-1)
            return self.head(kept.sum(1) / mask.sum(1, keepdim=True))

    torch.manual_seed(0)
    return Bag()


def wrapped(module: Any, **changes: Any) -> Any:
    options = {"name": "bag", "task": "sequence-classification", "max_seq_len": 16}
    return import_torch(module, **options | changes)


def test_a_copy_in_eval_mode_is_kept_and_the_module_left_alone() -> None:
    module = classifier().train()
    model = wrapped(module, labels=("a", "b", "c"))
    assert module.training
    assert not any(part.training for part in model.module.modules())
    ids = torch.arange(8).reshape(1, 8)
    (logits,) = model.module(ids, torch.ones_like(ids))
    torch.testing.assert_close(logits, module.eval()(ids, torch.ones_like(ids)))
    assert model.labels == ("a", "b", "c")
    assert model.main.signature.outputs[0].dims == ("batch", 3)


def test_the_digest_follows_the_weights() -> None:
    first, same, other = classifier(), classifier(), classifier()
    with torch.no_grad():
        other.head.bias += 1
    assert wrapped(first).digest == wrapped(same).digest != wrapped(other).digest


def test_the_digest_follows_the_code_and_what_is_said_of_the_model() -> None:
    class Doubled(torch.nn.Module):
        def __init__(self, inner: Any) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, ids: Any, mask: Any) -> Any:
            return 2 * self.inner(ids, mask)

    first = Doubled(classifier())

    class Doubled(torch.nn.Module):  # type: ignore[no-redef]
        def __init__(self, inner: Any) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, ids: Any, mask: Any) -> Any:
            return 3 * self.inner(ids, mask)

    second = Doubled(classifier())
    changes = ({}, {"labels": ("a", "b", "c")}, {"max_seq_len": 12})
    digests = [wrapped(first, **change).digest for change in changes]
    assert len({*digests, wrapped(second).digest}) == 4
    assert wrapped(first).digest == digests[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "translation"}, "bag: unknown task 'translation'"),
        ({"inputs": ("ids",)}, "bag: unknown input 'ids'"),
        ({"inputs": ("attention_mask", "input_ids")}, "bag: the first input must be input_ids"),
        ({"inputs": ("input_ids",)}, "bag: the call with input_ids of shape (2, 8) failed"),
        ({"labels": ("a",)}, "bag: 1 labels, but logits of width 3"),
        ({"task": "token-classification"}, "bag: token-classification has logits of 3 dimensions"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        wrapped(classifier(), **changes)
    assert str(caught.value).startswith(message)
