"""Refit the projections behind removed heads and neurons, by least squares.

Where only the columns s of a projection's input x are left, the weight that comes nearest to the
whole one's output W x on the model's own inputs is, with ridge penalty r towards the old weight,

    W' = (W G[:, s] + r W[:, s]) (G[s, s] + r I)^-1,    G = sum of x x^T over all tokens

(the normal equations; compare Kwon et al. 2022, section 4.3, which fits a scale for each head and
neuron only). A column of ones stands for the bias, which is refitted with the weight.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from edgeopt import progress
from edgeopt.compress.data import Data, batches
from edgeopt.model import Model

if TYPE_CHECKING:
    import torch


def grams(model: Model, linears: Sequence[torch.nn.Linear], data: Data) -> list[torch.Tensor]:
    """Return G of each of ``linears``, float64 (inputs + 1, inputs + 1); the last is of the ones.

    The mean over all tokens of ``data``, without padding; over all texts where a linear module
    takes (batch, inputs), as those behind a pooled output do.
    """
    import torch

    assert model.module is not None
    found = [
        torch.zeros(linear.in_features + 1, linear.in_features + 1, dtype=torch.float64)
        for linear in linears
    ]
    mask = torch.empty(0)
    hooks = []
    for gram, linear in zip(found, linears, strict=True):

        def add(_: Any, inputs: Any, gram: torch.Tensor = gram) -> None:
            rows = inputs[0][mask] if inputs[0].dim() == 3 else inputs[0]  # (tokens, inputs)
            rows = torch.cat([rows, rows.new_ones(len(rows), 1)], dim=1)
            gram.add_(rows.T @ rows)

        hooks.append(linear.register_forward_pre_hook(add))
    done = 0
    try:
        with (
            progress.step(f"Collecting the layers' inputs on {len(data)} texts") as step,
            torch.inference_mode(),
        ):
            for batch in batches(model, data):
                mask = batch.mask.bool()
                model.module(*batch.inputs)
                done += len(batch.rows)
                step.update(done, len(data))
    finally:
        for hook in hooks:
            hook.remove()
    return [gram / gram[-1, -1] for gram in found]  # the ones count the rows


def refit(
    linear: torch.nn.Linear, gram: torch.Tensor, columns: Sequence[int], ridge: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return weight (outputs, columns) and bias (outputs,), float32, for the inputs ``columns``.

    ``linear`` is the whole projection; ``ridge`` is a share of the mean square of an input.
    """
    import torch

    weight = linear.weight.detach().double()
    bias = linear.bias.detach().double()
    whole = torch.cat([weight, bias.unsqueeze(1)], dim=1)  # (outputs, inputs + 1)
    index = torch.tensor([*columns, linear.in_features])
    penalty = ridge * gram.diagonal()[:-1].mean() * torch.ones(len(index), dtype=torch.float64)
    penalty[-1] = 0  # the bias is free
    right = whole @ gram[:, index] + whole[:, index] * penalty
    # A neuron that is always zero leaves no penalty of its own; the smallest keeps it solvable.
    left = gram[index][:, index] + torch.diag(penalty.clamp_min(1e-12))
    solved = torch.linalg.solve(left, right, left=False)
    return solved[:, :-1].float(), solved[:, -1].float()
