# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Which weights of a matrix become zero, and what the others become for it.

``W`` is (outputs, inputs) and x the inputs it is used on. Three scores: |W| (magnitude);
|W_ij| * the root mean square of x_j, compared within each output (Sun et al. 2023, "A Simple and
Effective Pruning Approach for Large Language Models", eq. 1: Wanda); and W_ij^2 / [H^-1]_jj with
H = sum of x x^T, what removing the weight costs if those after it are refitted (Frantar and
Alistarh 2023, "SparseGPT", eq. 3 and algorithm 1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_BLOCK = 128  # columns whose mask is chosen at once: SparseGPT, section 3.4


def cubic(done: float) -> float:
    """Return the share of the final sparsity that is due once the share ``done`` has passed.

    Zhu and Gupta 2017, "To Prune, or Not to Prune", eq. 1: fast at first, while there is much to
    spare, then ever slower.
    """
    return 1 - (1 - min(1.0, max(0.0, done))) ** 3


def lowest(scores: torch.Tensor, sparsity: float) -> torch.Tensor:
    """Return a mask of the shape of ``scores``: False for the share ``sparsity`` of the lowest.

    Exactly ``round(sparsity * count)`` are False; of equal scores the first go.
    """
    import torch

    flat = scores.flatten()
    kept = torch.ones(len(flat), dtype=torch.bool, device=flat.device)
    kept[flat.argsort(stable=True)[: round(sparsity * len(flat))]] = False
    return kept.reshape(scores.shape)


def lowest_of_rows(scores: torch.Tensor, sparsity: float) -> torch.Tensor:
    """Return the mask that is False for the share ``sparsity`` of the lowest in each row."""
    import torch

    kept = torch.ones(scores.shape, dtype=torch.bool, device=scores.device)
    order = scores.argsort(dim=1, stable=True)
    return kept.scatter(1, order[:, : round(sparsity * scores.shape[1])], False)


def grouped(scores: torch.Tensor, group: tuple[int, int]) -> torch.Tensor:
    """Return the mask that keeps the N highest of each M side by side in a row.

    ``group`` is (N, M); the columns of ``scores`` are a multiple of M.
    """
    kept, of = group
    return lowest_of_rows(scores.reshape(-1, of), 1 - kept / of).reshape(scores.shape)


def wanda(weight: torch.Tensor, gram: torch.Tensor) -> torch.Tensor:
    """Return Wanda's scores of ``weight``; ``gram`` is (inputs + 1, inputs + 1), ones last."""
    return weight.abs() * gram.diagonal()[:-1].sqrt().to(weight.dtype)


def sparsegpt(
    linear: torch.nn.Linear,
    gram: torch.Tensor,
    *,
    sparsity: float,
    group: tuple[int, int] | None,
    damp: float,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return the weight with its zeros and the bias, float32, by SparseGPT's algorithm 1.

    The bias is None if there was none.

    ``gram`` is float64 (inputs + 1, inputs + 1): the mean of x x^T with a one at the end of each
    x. That one stands for the bias, which never goes, so that it takes up what the others lose.
    ``damp`` times the mean square of x is added to its diagonal. Column after column, what a
    removed weight did is made up for by the columns after it: with U the upper Cholesky factor of
    H^-1, the error w_j / U_jj of column j changes those by -U_j. O(inputs^3 + outputs * inputs^2).
    """
    import torch

    count = linear.in_features
    weight = linear.weight.detach().double()
    if linear.bias is None:
        gram = gram[:-1, :-1]
    else:
        weight = torch.cat([weight, linear.bias.detach().double().unsqueeze(1)], dim=1)
    hessian = gram.clone()
    # 1e-12: inputs that are all zero leave no mean to add a share of.
    hessian.diagonal()[:count].add_((damp * gram.diagonal()[:count].mean()).clamp_min(1e-12))
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(hessian))
    upper = torch.linalg.cholesky(inverse, upper=True)
    diagonal = upper.diagonal()
    # N:M groups must not lie across two blocks.
    width = _BLOCK if group is None else max(1, _BLOCK // group[1]) * group[1]
    for start in range(0, count, width):
        end = min(start + width, count)
        if group is None:
            scores = (weight[:, start:end] / diagonal[start:end]).square()
            kept = lowest(scores, sparsity)
        errors = weight.new_zeros(len(weight), end - start)
        for j in range(start, end):
            if group is not None and (j - start) % group[1] == 0:
                # Of the weights as the columns before have left them.
                last = j + group[1]
                scores = (weight[:, j:last] / diagonal[j:last]).square()
                chosen = grouped(scores, group)
                kept = chosen if j == start else torch.cat([kept, chosen], dim=1)
            gone = ~kept[:, j - start]
            error = torch.where(gone, weight[:, j] / diagonal[j], 0.0)
            weight[:, j].masked_fill_(gone, 0.0)
            weight[:, j + 1 : end] -= error.unsqueeze(1) * upper[j, j + 1 : end]
            errors[:, j - start] = error
        weight[:, end:] -= errors @ upper[start:end, end:]
    found = weight[:, :count].float()
    return found, None if linear.bias is None else weight[:, -1].float()
