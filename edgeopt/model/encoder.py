# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The module that is lowered: a transformers encoder with plain tensors in and out."""

from __future__ import annotations

import inspect
from typing import Any

import torch

from edgeopt.model.network.bands import additive
from edgeopt.model.tasks import Task


class Encoder(torch.nn.Module):
    """Call ``network`` with tensors by position and return a tuple of tensors.

    With ``additive_mask`` the mask of two dimensions becomes (batch, 1, 1, seq) float32 here: 0
    for a token that counts, else the lowest float. transformers hands such a mask through to
    the attention, so that the graph has none of its mask building (index ops that LiteRT's and
    TVM's importers do not take), and the pattern is the one that onnxruntime's fusion knows.
    """

    def __init__(
        self, network: Any, inputs: tuple[str, ...], task: Task, *, additive_mask: bool
    ) -> None:
        super().__init__()
        self.network = network
        self.inputs = inputs
        self.outputs = task.outputs
        self.additive_mask = additive_mask
        self.options = _without_cache(network)

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Take int64 (batch, seq) by the order of ``inputs``; return the task's outputs."""
        named = dict(zip(self.inputs, tensors, strict=True))
        if self.additive_mask:
            named["attention_mask"] = additive(named["attention_mask"])
        result = self.network(**named, **self.options, return_dict=True)
        return tuple(result[name] for name in self.outputs)


def _without_cache(network: Any) -> dict[str, Any]:
    """Return with which options a decoder keeps no keys and values for tokens to come.

    There are none, and OpenVINO 2026.4 cannot convert how they are added to what is still empty.
    """
    takes = inspect.signature(network.forward).parameters
    body = inspect.signature(network.base_model.forward).parameters
    # A head that names "cache" alone hands its other options on.
    if "use_cache" in takes or ("cache" in takes and "use_cache" in body):
        return {"use_cache": False}
    # These make one whatever they are told.
    return {"cache": _Nothing()} if network.config.model_type in ("xlm", "flaubert") else {}


class _Nothing:
    """A cache, in transformers' sense, that keeps nothing."""

    def update(self, keys: Any, values: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        """Return what there is to attend to: what is given."""
        return keys, values

    def get_seq_length(self) -> int:
        """Return how many tokens came before."""
        return 0


class ImageEncoder(torch.nn.Module):
    """Call ``network`` with images and return a tuple of tensors."""

    def __init__(self, network: Any, task: Task) -> None:
        super().__init__()
        self.network = network
        self.outputs = task.outputs

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Take float32 (batch, 3, height, width); return the task's outputs."""
        result = self.network(pixel_values=pixel_values, return_dict=True)
        return tuple(result[name] for name in self.outputs)


class ImageFeatures(torch.nn.Module):
    """Call a backbone with images and return one vector for each, as ``way`` says.

    That is its "pooler"'s, the "first" token of its last hidden state, or the "mean" of all.
    """

    def __init__(self, network: Any, way: str) -> None:
        super().__init__()
        self.network = network
        self.way = way

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Take float32 (batch, 3, height, width); return (batch, size)."""
        result = self.network(pixel_values=pixel_values, return_dict=True)
        if self.way == "pooler":
            return (result["pooler_output"].flatten(1),)  # convolutions give (batch, size, 1, 1)
        hidden = result["last_hidden_state"]
        if self.way == "first":
            return (hidden[:, 0],)
        # (batch, tokens, size), or of a convolution (batch, size, rows, columns)
        return (hidden.mean(1) if hidden.ndim == 3 else hidden.flatten(2).mean(2),)


class Constant(torch.nn.Module):
    """What a module gave, whatever it is called with; and None ``rest`` times if it gave more."""

    def __init__(self, value: torch.Tensor, rest: int) -> None:
        super().__init__()
        self.register_buffer("value", value, persistent=False)
        self.value: torch.Tensor
        self.rest = rest

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return it."""
        return (self.value, *(None,) * self.rest) if self.rest else self.value


class Pool(torch.nn.Module):
    """An adaptive mean over a grid of one size, as products with the shares of rows and columns."""

    def __init__(self, grid: tuple[int, int], size: Any) -> None:
        super().__init__()
        sizes = size if isinstance(size, tuple) else (size, size)
        for name, count, wanted in zip(("down", "across"), grid, sizes, strict=True):
            shares = torch.nn.functional.adaptive_avg_pool1d(torch.eye(count), wanted or count)
            self.register_buffer(name, shares, persistent=False)
        self.down: torch.Tensor  # (rows, pooled rows)
        self.across: torch.Tensor

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Take (batch, c, rows, columns); return (batch, c, pooled rows, pooled columns)."""
        return (values @ self.across).transpose(-1, -2).matmul(self.down).transpose(-1, -2)


class Patches(torch.nn.Module):
    """A convolution whose windows do not overlap, as the product of each window with its weight.

    Vision transformers cut their image up with such a convolution. As a product it takes the way
    of all other layers, in every engine: quantised by token, and scheduled by TVM. It stands where
    ``convolution`` stood, but returns (batch, channels, windows), which the ``flatten(2)`` behind
    it leaves as it is.
    """

    def __init__(self, convolution: torch.nn.Conv2d) -> None:
        super().__init__()
        weight = convolution.weight
        self.size = convolution.kernel_size
        self.has_bias = convolution.bias is not None
        self.product = torch.nn.Linear(weight[0].numel(), weight.shape[0])
        self.product.weight = torch.nn.Parameter(weight.flatten(1), requires_grad=False)
        if self.has_bias and convolution.bias is not None:
            bias = convolution.bias.detach()
            self.product.bias = torch.nn.Parameter(bias, requires_grad=False)
        else:  # zeros, which the convolution has no place for: they are not to be learnt
            del self.product.bias
            self.product.register_buffer("bias", weight.new_zeros(len(weight)), persistent=False)

    @staticmethod
    def fits(module: torch.nn.Module) -> bool:
        """Tell whether ``module`` is such a convolution."""
        return (
            isinstance(module, torch.nn.Conv2d)
            and module.kernel_size == module.stride
            and module.padding in ((0, 0), "valid")
            and module.dilation == (1, 1)
            and module.groups == 1
        )

    def convolution(self) -> torch.nn.Conv2d:
        """Return the convolution with the weights as they are now."""
        weight = self.product.weight
        rows, columns = self.size
        made = torch.nn.Conv2d(
            weight.shape[1] // (rows * columns),
            weight.shape[0],
            (rows, columns),
            stride=(rows, columns),
            bias=self.has_bias,
        )
        shape = made.weight.shape
        made.weight = torch.nn.Parameter(weight.detach().view(shape).clone(), requires_grad=False)
        if self.has_bias:
            bias = self.product.bias.detach().clone()
            made.bias = torch.nn.Parameter(bias, requires_grad=False)
        return made

    @property
    def weight(self) -> torch.Tensor:
        """The weight, of which transformers asks the dtype."""
        return self.product.weight

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Take (batch, c, height, width), whole windows; return (batch, channels, windows)."""
        batch, c, height, width = image.shape
        rows, columns = self.size
        windows = image.reshape(batch, c, height // rows, rows, width // columns, columns)
        windows = windows.permute(0, 2, 4, 1, 3, 5)  # (batch, down, across, c, rows, columns)
        count = (height // rows) * (width // columns)
        return self.product(windows.reshape(batch, count, c * rows * columns)).transpose(1, 2)
