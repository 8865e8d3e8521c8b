# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What each layer of the reference takes and gives on one call, in the order of execution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeopt.model import Model, reference

if TYPE_CHECKING:
    import torch

PREFIX = "network."
"""Before every name in the wrapped module, and of no use to a reader."""


@dataclass(slots=True, eq=False)
class Layer:
    """One call of one module.

    ``input`` and ``output`` are its first float32 tensors, None if it has none. ``children`` are
    the modules that it called, in order. ``module`` is None for the root, which stands for all.
    """

    name: str
    kind: str
    module: torch.nn.Module | None = None
    input: np.ndarray | None = None
    output: np.ndarray | None = None
    children: list[Layer] = field(default_factory=list)

    @property
    def shown(self) -> str:
        """The name as ``quantize.keep`` has it."""
        return self.name.removeprefix(PREFIX)

    def walk(self) -> Sequence[Layer]:
        """Return all layers under this one, in the order in which they gave their outputs."""
        return [found for child in self.children for found in (*child.walk(), child)]

    def apply(self, value: np.ndarray) -> np.ndarray | None:
        """Return what the module makes of ``value``, of the shape of ``input``.

        None for a module that calls others, and for one that takes more than one tensor.
        """
        import torch

        if self.children or self.module is None or self.input is None:
            return None
        with torch.inference_mode():
            try:
                found = self.module(torch.from_numpy(value.reshape(self.input.shape).copy()))
            except (TypeError, RuntimeError):  # it wants more than its first tensor
                return None
        return _first(found)


def trace(model: Model, batch: Mapping[str, np.ndarray]) -> Layer:
    """Run the torch module of ``model`` on one call and return its layers, as a tree."""
    root = Layer(name="", kind="")
    open_: list[Layer] = [root]
    hooks = []

    def enter(name: str, module: Any) -> Any:
        def hook(_: Any, args: Any, kwargs: Any) -> None:
            layer = Layer(name=name, kind=type(module).__name__, module=module)
            layer.input = _first([*args, *kwargs.values()])
            open_[-1].children.append(layer)
            open_.append(layer)

        return hook

    def leave(_: Any, __: Any, result: Any) -> None:
        open_.pop().output = _first(result)

    try:
        for name, module in model.module.named_modules():
            if name:
                hooks.append(module.register_forward_pre_hook(enter(name, module),
                                                              with_kwargs=True))  # fmt: skip
                hooks.append(module.register_forward_hook(leave))
        reference.run(model, [batch])
    finally:
        for handle in hooks:
            handle.remove()
    return root


def _first(value: Any) -> np.ndarray | None:
    """Return the first floating point tensor in what a module takes or gives, copied."""
    import torch

    if isinstance(value, torch.Tensor):
        return value.detach().float().numpy().copy() if value.is_floating_point() else None
    items = value.values() if isinstance(value, Mapping) else value
    if not isinstance(items, (tuple, list)) and not isinstance(value, Mapping):
        return None
    return next((found for item in items if (found := _first(item)) is not None), None)
