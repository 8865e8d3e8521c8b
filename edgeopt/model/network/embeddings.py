# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Tables of token embeddings that are factored or packed.

A checkpoint says so in its section of our own: ``{"embeddings": {"rank": 64}}``,
``{"embeddings": {"bits": 4, "group": 32}}``, or both, if the narrow table is packed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgeopt.errors import InputError
from edgeopt.fields import Table
from edgeopt.model.network.families import TEXTS
from edgeopt.model.network.widths import Build

if TYPE_CHECKING:
    import torch

BITS = (4, 8)


def plain_table(network: Any) -> torch.nn.Embedding:
    """Return the token embeddings. Raises InputError if they were factored or packed."""
    import torch

    table = network.get_input_embeddings()
    if not isinstance(table, torch.nn.Embedding):
        raise InputError(
            "its token embeddings are factored or packed, so that this step cannot change them any "
            "more",
            hint="Put embeddings after it, and start from the checkpoint before embeddings.",
        )
    return table


def rows(network: Any) -> int:
    """Return how many token ids ``network`` takes, whatever its table is.

    Raises InputError if it has none, as one that hashes characters.
    """
    try:
        table = network.get_input_embeddings()
    except (NotImplementedError, AttributeError) as exc:
        raise InputError(
            f"{type(network).__name__} looks its tokens up in no embedding table",
            hint="edgeopt takes networks of texts that do.",
        ) from exc
    table = getattr(table, "table", table)  # of a narrow one
    return int(getattr(table, "num_embeddings", network.config.vocab_size))


def describe(network: Any) -> dict[str, Any]:
    """Return the key for the section of our own: none if the table is a plain one."""
    from edgeopt.model.network.tables import Packed, Projected

    if network.config.model_type not in TEXTS:
        return {}
    table = network.get_input_embeddings()
    found: dict[str, int] = {}
    if isinstance(table, Projected):
        found["rank"] = table.projection.in_features
        table = table.table
    if isinstance(table, Packed):
        found |= {"bits": table.bits, "group": table.group}
    return {"embeddings": found} if found else {}


def read(table: Table, config: Any) -> Build | None:
    """Return the function that gives a network the embeddings of ``table``; None if it has none.

    Raises InputError if its sizes do not fit one another; the function raises it if they do not
    fit the network. ``config`` may say the width of the plain one, so only the function looks.
    """
    del config
    found = table.optional_table("embeddings")
    if found is None:
        return None
    rank, bits, group = (found.integer(name, None) for name in ("rank", "bits", "group"))
    if bits is not None and bits not in BITS:
        raise found.wrong("bits", f"expected 4 or 8, found {bits}")
    if (bits is None) != (group is None):
        raise found.wrong("group", "expected bits and group together")
    found.close()

    def build(network: Any) -> None:
        hidden = plain_table(network).embedding_dim
        if rank is not None and rank > hidden:
            raise found.wrong("rank", f"expected 1 to {hidden}, found {rank}")
        width = rank or hidden
        if group is not None and (width % group or (bits == 4 and width % 2)):
            raise found.wrong("group", f"does not divide the width {width}")
        replace(network, rank=rank, bits=bits, group=group)

    return build


def replace(network: Any, *, rank: int | None, bits: int | None, group: int | None) -> Any:
    """Put a table of this kind, not yet initialised, in ``network``, and return it."""
    import torch

    from edgeopt.model.network.tables import Packed, Projected

    old = plain_table(network)
    width = rank or old.embedding_dim
    made: Any
    if bits is not None and group is not None:
        made = Packed(old.num_embeddings, width, bits=bits, group=group)
    else:
        made = torch.nn.Embedding(old.num_embeddings, width, padding_idx=old.padding_idx)
    if rank is not None:
        made = Projected(made, old.embedding_dim)
    made.requires_grad_(old.weight.requires_grad)
    network.set_input_embeddings(made)
    return made
