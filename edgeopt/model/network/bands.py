# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Attention that looks at a band of neighbours only: sliding windows, and what comes before.

transformers builds the mask of each layer by index operations that not every engine's importer
takes, and that a trace may keep for one length. Here the mask of a layer is recorded once, and
made again of plain arithmetic for any length.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

_LOWEST = torch.finfo(torch.float32).min


@dataclass(frozen=True, kw_only=True, slots=True)
class Band:
    """How many tokens before and after its own a token attends to; None for all."""

    before: int | None
    after: int | None


def record(network: Any, call: Mapping[str, torch.Tensor]) -> dict[str, Band] | None:
    """Return the band of each layer of ``network`` by its name, or None if masks are no bands.

    ``call`` is one text without padding, longer than any window. The network must attend by
    "eager", which is given masks of numbers.
    """
    masks: dict[str, Any] = {}

    def keep(name: str, module: Any, args: Any, kwargs: Any) -> None:
        masks[name] = _bound(module, args, kwargs).arguments.get("attention_mask")

    hooks = [
        layer.register_forward_pre_hook(partial(keep, name), with_kwargs=True)
        for name, layer in layers(network)
    ]
    try:
        with torch.inference_mode():
            network(**call)
    finally:
        for hook in hooks:
            hook.remove()
    bands = {name: _band(mask) for name, mask in masks.items()}
    found = {name: band for name, band in bands.items() if band is not None}
    return found if found and len(found) == len(bands) else None


def layers(network: Any) -> Iterator[tuple[str, Any]]:
    """Yield the layers that are given an attention mask, none inside another."""
    base, outer = network.base_model, ""
    for name, module in base.named_modules():
        if (outer and name.startswith(outer)) or not name.rpartition(".")[2].isdigit():
            continue
        if "attention_mask" in inspect.signature(module.forward).parameters:
            outer = name + "."
            yield name, module


def put(network: Any, bands: Mapping[str, Band]) -> None:
    """Give ``network``, in place, masks made by ``bands`` of the one of two dimensions."""
    network.base_model.register_forward_pre_hook(_additive, with_kwargs=True)
    for name, layer in layers(network):
        if bands[name] != Band(before=None, after=None):
            layer.register_forward_pre_hook(partial(_narrow, bands[name]), with_kwargs=True)


def additive(mask: torch.Tensor) -> torch.Tensor:
    """Return the additive form of a mask of 1 and 0: (batch, seq) becomes (batch, 1, 1, seq).

    It is 0 for a token that counts, else the lowest float32.
    """
    return (1.0 - mask.unsqueeze(1).unsqueeze(2).to(torch.float32)) * _LOWEST


def _additive(module: Any, args: Any, kwargs: Any) -> tuple[Any, Any]:
    return args, kwargs | {"attention_mask": additive(kwargs["attention_mask"])}


def _narrow(band: Band, module: Any, args: Any, kwargs: Any) -> tuple[Any, Any]:
    bound = _bound(module, args, kwargs)
    mask = bound.arguments["attention_mask"]  # (batch, 1, 1, seq)
    places = torch.arange(mask.shape[-1], device=mask.device).to(torch.float32)
    away = places.unsqueeze(1) - places.unsqueeze(0)  # (seq, seq), above 0 for those before
    outside = torch.zeros_like(away)
    if band.before is not None:
        outside = outside + torch.relu(away - band.before)
    if band.after is not None:
        outside = outside + torch.relu(-away - band.after)
    narrow = torch.clamp(outside, max=1.0) * _LOWEST
    bound.arguments["attention_mask"] = torch.minimum(mask, narrow)  # (batch, 1, seq, seq)
    return bound.args, bound.kwargs


def _bound(module: Any, args: Any, kwargs: Any) -> inspect.BoundArguments:
    return inspect.signature(module.forward).bind_partial(*args, **kwargs)


def _band(mask: Any) -> Band | None:
    """Return the band that ``mask`` lets through; None if it is not one."""
    if mask is None:
        return Band(before=None, after=None)
    if not isinstance(mask, torch.Tensor) or mask.dim() != 4 or mask.shape[-1] != mask.shape[-2]:
        return None
    seen = mask[0, 0] == 0 if mask.is_floating_point() else mask[0, 0].bool()  # (seq, seq)
    places = torch.arange(len(seen))
    away = places.unsqueeze(1) - places.unsqueeze(0)
    before, after = int(away[seen].max()), int(-away[seen].min())
    if not torch.equal(seen, (away <= before) & (-away <= after)):
        return None
    widest = len(seen) - 1
    return Band(
        before=None if before == widest else before, after=None if after == widest else after
    )
