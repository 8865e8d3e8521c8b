# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Mask rearrangement: remove what matters little together, not only one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def rearrange(gradient: torch.Tensor, removed: int) -> list[int]:
    """Return the indices of the gates that stay, ascending; ``removed`` of them go.

    ``gradient`` is (texts, gates).

    Kwon et al. 2022, section 4.2: with the Fisher information of the layer as a whole, removing
    the set S costs |sum of its gradients|^2 over the texts, so that gates which cancel each other
    go together. Greedy: begin with the least important ones, offer each other gate in turn, and
    put back that one of the set without which it costs least.
    """
    import torch

    count = gradient.shape[1]
    columns = gradient.T.contiguous()  # (gates, texts)
    order = columns.square().sum(1).argsort().tolist()
    gone = order[:removed]
    if 0 < removed < count:
        for gate in order[removed:]:
            gone.append(gate)
            members = columns[torch.tensor(gone)]
            cost = (members.sum(0) - members).square().sum(1)
            del gone[int(cost.argmin())]
    left = set(range(count)).difference(gone)
    return sorted(left)
