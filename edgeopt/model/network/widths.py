# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The layers of a transformers encoder: how wide each is, and networks of uneven widths.

A checkpoint whose layers have fewer heads than ``num_attention_heads``, or FFNs of unlike widths,
says so in the section of our own (``edgeopt.model.network.shape_config``):
``{"heads": [8, 8], "neurons": [1075, 1024]}``, one number a layer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeopt.errors import InputError
from edgeopt.fields import Table

if TYPE_CHECKING:
    import torch

Build = Callable[[Any], None]
"""Changes a network of plain shape, in place, into the shape of a checkpoint."""

_BERT = (
    "encoder.layer",
    ("attention.self.query", "attention.self.key", "attention.self.value"),
    "attention.output.dense",
    "intermediate.dense",
    "output.dense",
)
_DISTILBERT = (
    "transformer.layer",
    ("attention.q_lin", "attention.k_lin", "attention.v_lin"),
    "attention.out_lin",
    "ffn.lin1",
    "ffn.lin2",
)
PLACES = {"bert": _BERT, "roberta": _BERT, "distilbert": _DISTILBERT}


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Layer:
    """The linear modules of one layer; ``head_dim`` is the size of a head.

    ``qkv`` map hidden -> heads * head_dim and ``attention_output`` back; ``ffn_input`` maps
    hidden -> neurons and ``ffn_output`` back.
    """

    qkv: tuple[torch.nn.Linear, ...]
    attention_output: torch.nn.Linear
    ffn_input: torch.nn.Linear
    ffn_output: torch.nn.Linear
    head_dim: int

    @property
    def heads(self) -> int:
        """How many heads there are."""
        return self.attention_output.in_features // self.head_dim

    @property
    def neurons(self) -> int:
        """How wide the FFN is."""
        return self.ffn_output.in_features


def supported(network: Any) -> bool:
    """Tell whether ``layers`` knows the architecture of ``network``."""
    return network.config.model_type in PLACES


def blocks(network: Any) -> torch.nn.ModuleList:
    """Return the list of layers inside ``network``. Raises InputError for other architectures."""
    kind = network.config.model_type
    if kind not in PLACES:
        raise InputError(
            f"networks of the type {kind!r} cannot be changed",
            hint="Supported: " + ", ".join(sorted(PLACES)),
        )
    found: torch.nn.ModuleList = network.base_model.get_submodule(PLACES[kind][0])
    return found


def layers(network: Any) -> list[Layer]:
    """Return the layers of ``network``, BERT, RoBERTa or DistilBERT, from the input on.

    Raises InputError for other architectures, and if a layer is two of low rank.
    """
    from edgeopt.model.network.factors import Factors

    found = _layers(network)
    for i, layer in enumerate(found):
        for part in ("attention_output", "ffn_input", "ffn_output", "qkv"):
            linear = getattr(layer, part)
            if any(isinstance(m, Factors) for m in (linear if part == "qkv" else [linear])):
                raise InputError(
                    f"{part} of layer {i} is two layers of low rank, so that this step cannot "
                    "change it any more",
                    hint="Put low_rank after it, and start from the checkpoint before low_rank.",
                )
    return found


def _layers(network: Any) -> list[Layer]:
    """Return the layers of ``network``; those of low rank stand in the place of linear modules."""
    found: Any = blocks(network)
    _, qkv, attention_output, ffn_input, ffn_output = PLACES[network.config.model_type]
    attention = qkv[0].rpartition(".")[0]
    return [
        Layer(
            qkv=tuple(block.get_submodule(name) for name in qkv),
            attention_output=block.get_submodule(attention_output),
            ffn_input=block.get_submodule(ffn_input),
            ffn_output=block.get_submodule(ffn_output),
            # Its own, as the hidden size says it only of a network that was never changed.
            head_dim=block.get_submodule(attention).attention_head_size,
        )
        for block in found
    ]


def head_dim(network: Any) -> int:
    """Return the size of a head, which is the same in all layers."""
    return _layers(network)[0].head_dim


def keep(layer: Layer, heads: Sequence[int], neurons: Sequence[int]) -> None:
    """Remove all heads and neurons of ``layer`` but those numbered here, in place."""
    columns = [h * layer.head_dim + i for h in heads for i in range(layer.head_dim)]
    if len(heads) < layer.heads:
        for linear in layer.qkv:
            slice_linear(linear, columns, dim=0)
        slice_linear(layer.attention_output, columns, dim=1)
    if len(neurons) < layer.neurons:
        slice_linear(layer.ffn_input, neurons, dim=0)
        slice_linear(layer.ffn_output, neurons, dim=1)


def slice_linear(linear: torch.nn.Linear, kept: Sequence[int], *, dim: int) -> None:
    """Keep the rows (``dim`` 0: outputs) or columns (1: inputs) ``kept`` of a linear module."""
    import torch

    index = torch.tensor(kept, dtype=torch.long, device=linear.weight.device)
    weight = linear.weight.detach().index_select(dim, index).clone()
    linear.weight = torch.nn.Parameter(weight, requires_grad=linear.weight.requires_grad)
    if dim == 0 and linear.bias is not None:
        bias = linear.bias.detach().index_select(0, index).clone()
        linear.bias = torch.nn.Parameter(bias, requires_grad=linear.bias.requires_grad)
    linear.out_features, linear.in_features = weight.shape


def describe(network: Any) -> dict[str, Any]:
    """Write the widths and the number of layers of ``network`` into its configuration, in place.

    Returns the keys for the section of our own: none if transformers' own keys say it all.
    """
    if not supported(network):
        return {}
    found, config = _layers(network), network.config
    heads, neurons = [layer.heads for layer in found], [layer.neurons for layer in found]
    config.num_hidden_layers = len(found)
    _set_neurons(config, max(neurons))
    if set(heads) != {config.num_attention_heads} or len(set(neurons)) > 1:
        return {"heads": heads, "neurons": neurons}
    return {}


def _set_neurons(config: Any, count: int) -> None:
    name = "hidden_dim" if config.model_type == "distilbert" else "intermediate_size"
    setattr(config, name, count)


def read(table: Table, config: Any) -> Build | None:
    """Return the function that gives a network the widths of ``table``; None if it has none.

    Raises InputError if they are damaged or do not fit the rest of config.json.
    """
    if "heads" not in table and "neurons" not in table:
        return None
    heads, neurons = table.array("heads", int), table.array("neurons", int)
    count = config.num_hidden_layers
    for name, values, most in (
        ("heads", heads, config.num_attention_heads),
        ("neurons", neurons, None),
    ):
        if len(values) != count:
            raise table.wrong(name, f"expected {count} numbers, one a layer, found {len(values)}")
        for i, value in enumerate(values):
            if value < 1 or (most is not None and value > most):
                upto = f" to {most}" if most is not None else " or more"
                raise table.wrong(f"{name}[{i}]", f"expected 1{upto}, found {value}")
    _set_neurons(config, max(neurons))

    def build(network: Any) -> None:
        for layer, h, n in zip(layers(network), heads, neurons, strict=True):
            keep(layer, range(h), range(n))

    return build
