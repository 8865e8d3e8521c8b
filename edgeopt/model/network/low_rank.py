# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Linear layers that are two of low rank.

A checkpoint says so in its section of our own: ``{"ranks": {"encoder.layer.0.output.dense": 48}}``,
by the module's name inside the base model. Its weights are ``NAME.first`` and ``NAME.second``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgeopt.fields import Table
from edgeopt.model.network.widths import Build

if TYPE_CHECKING:
    from edgeopt.model.network.factors import Factors


def replace(network: Any, name: str, rank: int) -> Factors:
    """Put ``Factors`` of ``rank`` in the place of the linear module ``name``, and return them.

    They are not yet initialised. ``name`` counts from the base model.
    """
    from edgeopt.model.network.factors import Factors

    linear = network.base_model.get_submodule(name)
    made = Factors(linear.in_features, linear.out_features, rank, bias=linear.bias is not None)
    made.requires_grad_(linear.weight.requires_grad)
    network.base_model.set_submodule(name, made)
    return made


def describe(network: Any) -> dict[str, Any]:
    """Return the key for the section of our own: none if no layer is factored."""
    from edgeopt.model.network.factors import Factors

    modules = network.base_model.named_modules()
    ranks = {name: module.rank for name, module in modules if isinstance(module, Factors)}
    return {"ranks": ranks} if ranks else {}


def read(table: Table, config: Any) -> Build | None:
    """Return the function that factors the layers that ``table`` names; None if it names none.

    Raises InputError if a rank is not a number of 1 or more. The function raises it if the
    network has no such layer.
    """
    del config
    named = table.optional_table("ranks")
    if named is None:
        return None
    ranks = {name: named.integer(name) for name in named.data}

    def build(network: Any) -> None:
        import torch

        modules = dict(network.base_model.named_modules())
        for name, rank in ranks.items():
            linear = modules.get(name)
            if not isinstance(linear, torch.nn.Linear):
                raise named.wrong(name, "the network has no linear layer of this name")
            most = min(linear.in_features, linear.out_features)
            if rank > most:
                raise named.wrong(name, f"expected 1 to {most}, found {rank}")
            replace(network, name, rank)

    return build
