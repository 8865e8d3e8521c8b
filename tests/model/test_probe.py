# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What differs from transformers is told from what rounding alone makes of a network."""

from __future__ import annotations

from typing import Any

import pytest

from edgeopt.model.probe import Probe
from edgeopt.model.tasks import SEQUENCE_CLASSIFICATION
from tests.lazily import lazily

torch: Any = lazily("torch", reason="needs edgeopt[torch]")
pytestmark = pytest.mark.heavy

LARGE = 2.0**20


def network(error: float, *, in_turn: bool) -> Any:
    """A network of 16 terms whose sum is small beside them, summed in either order."""

    class Sum(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            drawn = torch.randn(16, 3, generator=torch.Generator().manual_seed(1))
            self.terms = torch.nn.Parameter(torch.cat([drawn, drawn + LARGE, -drawn - LARGE]))

        def forward(self, ids: Any, mask: Any, kinds: Any) -> tuple[Any]:
            del mask, kinds
            order = range(48) if in_turn else range(47, -1, -1)
            total = torch.zeros(ids.shape[0], 3, dtype=self.terms.dtype)
            for i in order:
                total = total + self.terms[i]
            return (total + error,)

    return Sum().eval()


def probe(reference: Any) -> Probe:
    ids = torch.arange(5)[None]
    with torch.inference_mode():
        answer = reference(ids, None, None)
    return Probe(
        inputs=("input_ids", "attention_mask", "token_type_ids"),
        task=SEQUENCE_CLASSIFICATION,
        pad_id=0,
        ids=[ids],
        types=[torch.zeros_like(ids)],
        answers=[answer],
    )


def test_another_order_of_sums_is_no_difference_however_much_it_loses() -> None:
    asked, ours = probe(network(0.0, in_turn=True)), network(0.0, in_turn=False)
    with torch.inference_mode():
        off = (ours(torch.arange(5)[None], None, None)[0] - asked.answers[0][0]).abs().max()
    assert off > 1e-2  # of a sum of about 4
    assert asked.differs(ours) is None


def test_a_difference_beyond_what_rounding_loses_is_told() -> None:
    asked = probe(network(0.0, in_turn=True))
    wrong = asked.differs(network(50.0, in_turn=False))
    assert wrong is not None
    assert wrong.startswith("a text of 5 tokens differ by 5")


def test_a_network_that_float64_fails_in_is_judged_as_it_is() -> None:
    class Narrow(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network(1.0, in_turn=True)

        def forward(self, *call: Any) -> tuple[Any]:
            return (self.inner(*call)[0].float(),)

    wrong = probe(network(0.0, in_turn=True)).differs(Narrow())
    assert wrong is not None
    assert "differ by 1" in wrong
