# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Turn a transformers vision network into the module that is lowered."""

from __future__ import annotations

import copy
from functools import partial
from typing import TYPE_CHECKING, Any

from edgeopt.errors import InputError
from edgeopt.model.image import ImageInput, other_size
from edgeopt.model.tasks import Task
from edgeopt.quiet import quiet

if TYPE_CHECKING:
    import torch

_CUTTERS = ("PatchEmbeddings", "VisionEmbeddings")
"""How classes of transformers end whose convolution cuts the image up."""

_INTERPOLATE, _FIXED = "interpolate_pos_encoding", "fixed_positions"
_SAME = 1e-3  # of the largest logit; float32 sums of another order


def wrap(network: Any, image: ImageInput, task: Task, where: str) -> torch.nn.Module:
    """Return the module of ``network``, its patches cut out by a product if that is the same.

    Positions that it interpolates to ``image``'s size are constants in it. Raises InputError if it
    does not take an image of that size.
    """
    import torch

    from edgeopt.model.encoder import ImageEncoder

    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(2, 3, image.height, image.width, generator=generator)
    other = other_size(image, network.config)
    with torch.no_grad(), quiet():  # not inference_mode, whose tensors learn nothing
        try:
            network = _with_fixed_positions(network, pixels) if other else network
            plain = ImageEncoder(network, task).eval()
            (expected,) = plain(pixels)
        # The network is some class of transformers', with checks of its own.
        except Exception as exc:
            if other:
                raise InputError(
                    other,
                    where=where,
                    hint="Give both the size that the network was trained on.",
                ) from exc
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


def plain(network: Any) -> Any:
    """Return a copy of ``network`` as transformers builds it: with convolutions for ``Patches``."""
    from edgeopt.model.encoder import Patches

    changed = copy.deepcopy(network)
    for parent in list(changed.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, Patches):
                setattr(parent, name, child.convolution())
    return changed


def _with_fixed_positions(network: Any, pixels: torch.Tensor) -> Any:
    """Return a copy of ``network`` whose interpolated position embeddings are those for ``pixels``.

    Engines need not interpolate them again for every image, and not all of them can.
    """
    changed = copy.deepcopy(network)
    seen: list[tuple[Any, torch.Tensor]] = []

    def watch(module: Any) -> None:
        interpolate = module.interpolate_pos_encoding

        def call(*args: Any, **kwargs: Any) -> torch.Tensor:
            found: torch.Tensor = interpolate(*args, **kwargs)
            seen.append((module, found))
            return found

        module.interpolate_pos_encoding = call

    watched = [m for m in changed.modules() if callable(getattr(m, _INTERPOLATE, None))]
    for module in watched:
        watch(module)
    changed(pixel_values=pixels)
    for module in watched:
        del module.interpolate_pos_encoding
    for module, found in seen:
        module.register_buffer(_FIXED, found.clone(), persistent=False)
        module.interpolate_pos_encoding = partial(_fixed, module)
    return changed


def _fixed(module: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
    found: torch.Tensor = getattr(module, _FIXED)
    return found


def _with_products(network: Any) -> Any:
    """Return a copy of ``network`` with ``Patches`` for its patch embeddings."""
    from edgeopt.model.encoder import Patches

    changed = copy.deepcopy(network)
    for parent in list(changed.modules()):
        for name, child in list(parent.named_children()):
            if type(parent).__name__.endswith(_CUTTERS) and Patches.fits(child):
                setattr(parent, name, Patches(child))
    return changed.eval()
