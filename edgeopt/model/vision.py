# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Turn a transformers vision network into the module that is lowered."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from edgeopt.errors import InputError
from edgeopt.model.image import CHANNELS, ImageInput, other_size
from edgeopt.model.tasks import IMAGE_FEATURE_EXTRACTION, Task
from edgeopt.quiet import quiet

if TYPE_CHECKING:
    import torch

_CUTTERS = ("PatchEmbeddings", "VisionEmbeddings")
"""How classes of transformers end whose convolution cuts the image up."""

_CONSTANT = (
    "SinePositionEmbedding",
    "InterpolateInitialPositionEmbeddings",
    "InterpolateMidPositionEmbeddings",
    "SelfAttention",
)
"""How classes of transformers end whose output may be the same for every image of one size."""

_MASKS = ("attention_mask", "encoder_attention_mask")
_INTERPOLATE, _FIXED = "interpolate_pos_encoding", "fixed_positions"
_SAME = 1e-3  # of the largest logit; float32 sums of another order


def wrap(network: Any, image: ImageInput, task: Task, where: str) -> torch.nn.Module:
    """Return the module of ``network``, its patches cut out by a product if that is the same.

    Positions that it makes for, or interpolates to, ``image``'s size are constants in it. Raises
    InputError if it does not take an image of that size, or answers otherwise the second time.
    """
    import torch

    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(2, CHANNELS, image.height, image.width, generator=generator)
    other = other_size(image, network.config)
    with torch.no_grad(), quiet():  # not inference_mode, whose tensors learn nothing
        try:
            network = _with_fixed_positions(network, pixels) if other else network
            way = _way(network, pixels) if task == IMAGE_FEATURE_EXTRACTION else ""
            plain = _module(network, task, way)
            expected = plain(pixels)
            again = plain(pixels)
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
        if not _same(again, expected):
            raise InputError(
                f"{type(network).__name__} gives another answer each time, as by what it masks at "
                "random",
                where=where,
                hint="edgeopt takes networks that answer the same; use the checkpoint's classifier "
                "or backbone.",
            )
        changed = network
        constants = _constants(network, pixels)
        changes: tuple[Callable[[Any], Any], ...] = (
            *(partial(_with_module, name=name, module=m) for name, m in constants.items()),
            partial(_with_fixed_pools, pixels=pixels),
            _without_masks,
            _with_products,
        )
        for change in changes:
            tried = change(changed)
            if tried is changed:
                continue
            try:
                got = _module(tried, task, way)(pixels)
            # More than flatten(2) follows; or a constant is not used as it was found.
            except (RuntimeError, ValueError, TypeError, IndexError):
                continue
            changed = tried if _same(got, expected) else changed
    return _module(changed, task, way)


def shapes(module: torch.nn.Module, image: ImageInput) -> tuple[tuple[int, ...], ...]:
    """Return the shapes of what ``module`` gives for one image."""
    import torch

    with torch.inference_mode(), quiet():
        made = module(torch.zeros(1, CHANNELS, image.height, image.width))
    return tuple(tuple(tensor.shape) for tensor in made)


def _module(network: Any, task: Task, way: str) -> torch.nn.Module:
    from edgeopt.model.encoder import ImageEncoder, ImageFeatures

    if task == IMAGE_FEATURE_EXTRACTION:
        return ImageFeatures(network, way).eval()
    return ImageEncoder(network, task).eval()


def _way(network: Any, pixels: torch.Tensor) -> str:
    """Return which vector stands for an image: the pooler's, the first token's, or the mean.

    A backbone without a pooler of its own has its first token if that is a class token.
    """
    if network(pixel_values=pixels, return_dict=True).get("pooler_output") is not None:
        return "pooler"
    tokens = any(name.rsplit(".", 1)[-1] == "cls_token" for name, _ in network.named_parameters())
    return "first" if tokens else "mean"


def _same(got: Sequence[torch.Tensor], expected: Sequence[torch.Tensor]) -> bool:
    return all(
        g.shape == e.shape and bool((g - e).abs().max() <= _SAME * e.abs().max())
        for g, e in zip(got, expected, strict=True)
    )


def _constants(network: Any, pixels: torch.Tensor) -> dict[str, torch.nn.Module]:
    """Return what may stand for some modules of ``network``: what they give for any image so large.

    Those make positions, sines of places or a table resized, or attend among a decoder's queries
    before these saw the image. Without the latter LiteRT 2.3 gave infinities for DETR in INT8 under
    XNNPACK, and not with its plain kernels; which operator makes them was not found.
    """
    from edgeopt.model.encoder import Constant

    found: dict[str, list[Any]] = {}

    def keep(name: str, _module: Any, _given: Any, made: Any) -> None:
        found.setdefault(name, []).append(made)

    watched = {
        name: module
        for name, module in network.named_modules()
        if type(module).__name__.endswith(_CONSTANT)
    }
    hooks = [m.register_forward_hook(partial(keep, name)) for name, m in watched.items()]
    try:
        if watched:
            network(pixel_values=pixels * float("nan"))  # what depends on them is no number then
    except (RuntimeError, ValueError):  # of a network that refuses such pixels
        return {}
    finally:
        for hook in hooks:
            hook.remove()
    constants: dict[str, torch.nn.Module] = {}
    for name, calls in found.items():
        made = calls[0][0] if isinstance(calls[0], tuple) else calls[0]
        if len(calls) > 1 or not hasattr(made, "isnan") or bool(made.isnan().any()):
            continue
        one = made[:1] if made.shape[0] == len(pixels) else made
        rest = len(calls[0]) - 1 if isinstance(calls[0], tuple) else 0
        constants[name] = Constant(one.clone(), rest)
    return constants


def _with_module(network: Any, name: str, module: torch.nn.Module) -> Any:
    """Return a copy of ``network`` with ``module`` in the place of that of ``name``."""
    changed = copy.deepcopy(network)
    parent, _, own = name.rpartition(".")
    setattr(changed.get_submodule(parent), own, module)
    return changed


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


def _with_fixed_pools(network: Any, pixels: torch.Tensor) -> Any:
    """Return a copy of ``network`` whose adaptive pools are products, for the grids of ``pixels``.

    It is ``network`` itself if there are none but to one value, which is a mean: exporters have
    such a pool for few sizes. The pools stay where they are, for UperNet has them in plain lists.
    """
    import torch

    from edgeopt.model.encoder import Pool

    def pools(network: Any) -> list[Any]:
        return [m for m in network.modules() if isinstance(m, torch.nn.AdaptiveAvgPool2d)]

    if all(pool.output_size in (1, (1, 1)) for pool in pools(network)):
        return network
    changed = copy.deepcopy(network)
    found: dict[Any, tuple[int, int]] = {}

    def keep(module: Any, given: Any, _made: Any) -> None:
        found[module] = tuple(given[0].shape[-2:])

    hooks = [pool.register_forward_hook(keep) for pool in pools(changed)]
    changed(pixel_values=pixels)
    for hook in hooks:
        hook.remove()
    for pool, grid in found.items():
        pool.products = Pool(grid, pool.output_size)
        pool.forward = partial(_pooled, pool)
    return changed


def _pooled(pool: Any, values: torch.Tensor) -> torch.Tensor:
    found: torch.Tensor = pool.products(values)
    return found


def _without_masks(network: Any) -> Any:
    """Return a copy of ``network`` whose encoder and decoder of an image's grid get no mask.

    It is ``network`` itself if they take none. No pixel is padding, so that it masks nothing, and
    engines would compute it for every image.
    """
    changed = copy.deepcopy(network)
    masked = [
        module
        for module in changed.modules()
        if type(module).__name__.endswith(("Encoder", "Decoder"))
        and set(inspect.signature(module.forward).parameters) & set(_MASKS)
    ]
    for module in masked:
        module.register_forward_pre_hook(_unmasked, with_kwargs=True)
    return changed if masked else network


def _unmasked(_module: Any, args: Any, kwargs: Any) -> tuple[Any, dict[str, Any]]:
    return args, {name: None if name in _MASKS else value for name, value in kwargs.items()}


def _with_products(network: Any) -> Any:
    """Return a copy of ``network`` with ``Patches`` for its patch embeddings."""
    from edgeopt.model.encoder import Patches

    changed = copy.deepcopy(network)
    for parent in list(changed.modules()):
        for name, child in list(parent.named_children()):
            if type(parent).__name__.endswith(_CUTTERS) and Patches.fits(child):
                setattr(parent, name, Patches(child))
    return changed.eval()
