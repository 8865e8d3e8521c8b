# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Turn a transformers vision network into the module that is lowered."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from edgeopt.errors import InputError
from edgeopt.model.image import ImageInput
from edgeopt.model.tasks import Task
from edgeopt.quiet import quiet

if TYPE_CHECKING:
    import torch

_SAME = 1e-3  # of the largest logit; float32 sums of another order


def wrap(network: Any, image: ImageInput, task: Task, where: str) -> torch.nn.Module:
    """Return the module of ``network``, its patches cut out by a product if that is the same.

    Raises InputError if it does not take an image of ``image``'s size.
    """
    import torch

    from edgeopt.model.encoder import ImageEncoder

    plain = ImageEncoder(network, task).eval()
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(2, 3, image.height, image.width, generator=generator)
    with torch.inference_mode(), quiet():
        try:
            (expected,) = plain(pixels)
        # The network is some class of transformers', with checks of its own.
        except Exception as exc:
            text = (str(exc).strip().splitlines() or [type(exc).__name__])[0]
            raise InputError(
                f"the network does not take an image of {image.height} x {image.width} ({text})",
                where=where,
            ) from exc
        products = ImageEncoder(_with_products(network), task).eval()
        try:
            (got,) = products(pixels)
        except (RuntimeError, ValueError, TypeError, IndexError):  # more than flatten(2) follows
            return plain
    same = got.shape == expected.shape and bool(
        (got - expected).abs().max() <= _SAME * expected.abs().max()
    )
    return products if same else plain


def _with_products(network: Any) -> Any:
    """Return a copy of ``network`` with ``Patches`` for its patch embeddings."""
    from edgeopt.model.encoder import Patches

    changed = copy.deepcopy(network)
    for parent in list(changed.modules()):
        for name, child in list(parent.named_children()):
            if type(parent).__name__.endswith("PatchEmbeddings") and Patches.fits(child):
                setattr(parent, name, Patches(child))
    return changed.eval()
