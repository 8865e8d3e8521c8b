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
from edgeopt.model.network.families import FAMILIES, Family

if TYPE_CHECKING:
    import torch

Build = Callable[[Any], None]
"""Changes a network of plain shape, in place, into the shape of a checkpoint."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Layer:
    """The linear modules of one layer; ``head_dim`` is the size of a head.

    ``qkv`` map hidden -> heads * head_dim and ``attention_output`` back; ``ffn_input`` maps
    hidden -> neurons and ``ffn_output`` back. A layer without heads that can be told apart has ()
    and None. ``block`` is the whole layer, and ``family`` has the names in it.
    """

    qkv: tuple[torch.nn.Linear, ...]
    attention_output: torch.nn.Linear | None
    ffn_input: torch.nn.Linear
    ffn_output: torch.nn.Linear
    head_dim: int
    block: torch.nn.Module
    family: Family

    @property
    def heads(self) -> int:
        """How many heads there are, 0 for a layer without."""
        output = self.attention_output
        return 0 if output is None else output.in_features // self.head_dim

    @property
    def neurons(self) -> int:
        """How wide the FFN is."""
        return self.ffn_output.in_features

    @property
    def of_attention(self) -> tuple[torch.nn.Linear, ...]:
        """The linear modules of the attention: of queries, keys, values, and the output."""
        output = self.attention_output
        return self.qkv if output is None else (*self.qkv, output)


def family(network: Any) -> Family:
    """Return the names inside ``network``. Raises InputError for other architectures."""
    kind = network.config.model_type
    if kind not in FAMILIES:
        raise InputError(
            f"networks of the type {kind!r} cannot be changed",
            hint=f"Supported: {', '.join(sorted(FAMILIES))}. The techniques distil, without "
            "another shape, and qat take every network.",
        )
    return FAMILIES[kind]


def supported(network: Any) -> bool:
    """Tell whether ``layers`` knows the architecture of ``network``."""
    return network.config.model_type in FAMILIES


def stages(network: Any) -> list[torch.nn.ModuleList]:
    """Return the lists of layers inside ``network``: one, or one for each stage.

    Raises InputError for other architectures.
    """
    first, star, rest = family(network).blocks.partition(".*")
    found: Any = network.base_model.get_submodule(first)
    if not star:
        return [found]
    return [stage.get_submodule(rest.removeprefix(".")) if rest else stage for stage in found]


def blocks(network: Any) -> list[torch.nn.Module]:
    """Return the layers inside ``network``. Raises InputError for other architectures."""
    return [block for stage in stages(network) for block in stage]


def drop(network: Any, going: Sequence[int]) -> None:
    """Remove the layers ``going``, counted from 0 over all stages, in place.

    What is left of a stage is as transformers builds one of that many layers: windows are shifted
    in every second one.
    """
    start = 0
    for stage in stages(network):
        shifts = {i % 2: block.shift_size for i, block in enumerate(stage)
                  if hasattr(block, "shift_size")}  # fmt: skip
        count = len(stage)
        for index in sorted((i - start for i in going if 0 <= i - start < count), reverse=True):
            del stage[index]
        for i, block in enumerate(stage if shifts else ()):
            block.shift_size = shifts[i % 2]
        start += count


def fixed(network: Any, going: Sequence[int]) -> str | None:
    """Say why the layers ``going`` cannot be removed together, None if they can."""
    start = 0
    for number, stage in enumerate(stages(network)):
        inside = {i - start for i in going} & set(range(len(stage)))
        if inside and len(inside) == len(stage):
            return f"stage {number} would have no layer left of its {len(stage)}"
        if 0 in inside and family(network).first_stays:
            return f"layer {start} leads into stage {number}, and stays"
        start += len(stage)
    return None


def heads_stay(network: Any) -> str | None:
    """Say why no head of ``network`` can go alone, None if heads can."""
    kind = type(network).__name__
    if not family(network).qkv:
        return f"{kind} has no attention heads that can go alone"
    if getattr(network.config, "use_shared_relative_position_bias", False):
        return f"the heads of all layers of this {kind} share a bias of places"
    return None


def layers(network: Any) -> list[Layer]:
    """Return the layers of ``network``, of a family that is known, from the input on.

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
    names = family(network)
    attention = names.qkv[0].rpartition(".")[0] if names.qkv else ""
    found: list[Any] = blocks(network)
    try:
        return [
            Layer(
                qkv=tuple(block.get_submodule(name) for name in names.qkv),
                attention_output=(
                    block.get_submodule(names.attention_output) if names.qkv else None
                ),
                ffn_input=block.get_submodule(names.ffn_input),
                ffn_output=block.get_submodule(names.ffn_output),
                # Its own, as the hidden size says it only of a network that was never changed.
                head_dim=(
                    getattr(block.get_submodule(attention), names.head_size) if names.qkv else 0
                ),
                block=block,
                family=names,
            )
            for block in found
        ]
    except AttributeError as exc:
        raise InputError(
            f"a layer of this {network.config.model_type!r} network is built otherwise ({exc}), "
            "as with a feed-forward that is gated (SwiGLU)",
            hint="The techniques distil, without another shape, and qat take every network.",
        ) from exc


def head_dim(network: Any) -> int:
    """Return the size of a head, which is the same in all layers."""
    return _layers(network)[0].head_dim


def keep(layer: Layer, heads: Sequence[int], neurons: Sequence[int]) -> None:
    """Remove all heads and neurons of ``layer`` but those numbered here, in place."""
    columns = [h * layer.head_dim + i for h in heads for i in range(layer.head_dim)]
    output, block = layer.attention_output, layer.block
    if output is not None and len(heads) < layer.heads:
        for linear in layer.qkv:
            slice_linear(linear, columns, dim=0)
        slice_linear(output, columns, dim=1)
        for name, dim in layer.family.per_head:
            path, _, last = name.rpartition(".")
            if owner := _part(block, path):
                _slice_parameter(owner, last, heads, dim)
        attention: Any = block.get_submodule(layer.family.qkv[0].rpartition(".")[0])
        for name, count in (("num_attention_heads", len(heads)), ("all_head_size", len(columns))):
            if hasattr(attention, name):  # some shape their tensors by it
                setattr(attention, name, count)
    if len(neurons) < layer.neurons:
        slice_linear(layer.ffn_input, neurons, dim=0)
        slice_linear(layer.ffn_output, neurons, dim=1)
        for name in layer.family.between:
            _slice_channels(block.get_submodule(name), neurons)


def per_head(layer: Layer) -> list[tuple[torch.nn.Parameter, int]]:
    """Return the parameters of ``layer`` that have a place for each head, and in which dimension.

    Those of its linear modules are not among them.
    """
    found = []
    for name, dim in layer.family.per_head:
        path, _, last = name.rpartition(".")
        if owner := _part(layer.block, path):
            found.append((getattr(owner, last), dim))
    return found


def _part(block: torch.nn.Module, path: str) -> Any:
    """Return a module inside ``block``, None if this network goes without."""
    return dict(block.named_modules()).get(path)


def _slice_parameter(module: Any, name: str, kept: Sequence[int], dim: int) -> None:
    """Keep the places ``kept`` of a parameter of ``module``, if that is not None."""
    import torch

    found = getattr(module, name)
    if found is None:
        return
    index = torch.tensor(kept, dtype=torch.long, device=found.device)
    values = found.detach().index_select(dim, index).clone()
    setattr(module, name, torch.nn.Parameter(values, requires_grad=found.requires_grad))


def _slice_channels(module: Any, kept: Sequence[int]) -> None:
    """Keep the channels ``kept`` of a depthwise convolution, or of a normalisation of channels."""
    import torch

    depthwise = isinstance(module, torch.nn.Conv2d)
    for name in ("weight", "bias"):
        _slice_parameter(module, name, kept, 0 if depthwise else -1)
    if depthwise:
        module.in_channels = module.out_channels = module.groups = len(kept)


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
    names, found = family(network), _layers(network)
    config = names.config(network.config)
    lengths = [len(stage) for stage in stages(network)]
    if names.staged:
        config.depths = lengths
    else:
        config.num_hidden_layers = len(found)
        _fit_stage_names(config)
    neurons = [layer.neurons for layer in found]
    told = _say_neurons(names, config, found, lengths)
    told &= _say_heads(names, config, found, lengths)
    if told:
        return {}
    heads = [layer.heads for layer in found]
    return {"heads": heads, "neurons": neurons} if names.qkv else {"neurons": neurons}


def _fit_stage_names(config: Any) -> None:
    """Have a configuration that can be a backbone's name as many stages as there are layers."""
    if hasattr(config, "stage_names"):
        last = config.num_hidden_layers
        config.stage_names = ["stem"] + [f"stage{i + 1}" for i in range(last)]
        config._out_features, config._out_indices = [f"stage{last}"], [last]


def _say_neurons(
    names: Family, config: Any, found: Sequence[Layer], lengths: Sequence[int]
) -> bool:
    """Write how wide the FFNs are into ``config``, if it can say it; else leave the widest there.

    Returns whether it says it.
    """
    counts = [layer.neurons for layer in found]
    if names.neurons_are == "count" and names.neurons:
        setattr(config, names.neurons, max(counts))
        return len(set(counts)) == 1
    if names.neurons_are == "fixed":
        return set(counts) == {getattr(config, names.neurons)}
    if not names.neurons:
        return all(4 * layer.ffn_output.out_features == layer.neurons for layer in found)
    # A ratio may be one that the width is only rounded down to.
    of_stages, start = [], 0
    for length in lengths:
        inside = found[start : start + length]
        of_stages.append([(layer.neurons, layer.ffn_output.out_features) for layer in inside])
        start += length

    def common(pairs: Sequence[tuple[int, int]]) -> float | None:
        count, width = pairs[-1]
        ratio = count // width if count % width == 0 else count / width
        if isinstance(ratio, float) and names.neurons_are != "ratio":
            return None
        return ratio if all(int(ratio * w) == n for n, w in pairs) else None

    if names.neurons_are == "ratios":
        ratios = [common(pairs) for pairs in of_stages]
        if None in ratios:
            return False
        setattr(config, names.neurons, ratios)
        return True
    ratio = common([pair for pairs in of_stages for pair in pairs])
    if ratio is None:
        return False
    setattr(config, names.neurons, float(ratio) if names.neurons_are == "ratio" else ratio)
    return True


def _say_heads(names: Family, config: Any, found: Sequence[Layer], lengths: Sequence[int]) -> bool:
    """Write how many heads there are into ``config``, if it can say it; return whether it does."""
    if not names.qkv:
        return True
    counts = [layer.heads for layer in found]
    if names.staged:
        kinds = config.num_heads if config.model_type == "swin" else config.num_attention_heads
        wanted = [n for n, length in zip(kinds, lengths, strict=True) for _ in range(length)]
        return counts == wanted
    if names.says_head_size and len(set(counts)) == 1:
        config.num_attention_heads = counts[0]
        if counts[0] * found[0].head_dim != config.hidden_size:
            config.head_dim = found[0].head_dim
        return True
    return set(counts) == {config.num_attention_heads}


def read(table: Table, config: Any) -> Build | None:
    """Return the function that gives a network the widths of ``table``; None if it has none.

    Raises InputError if they are damaged or do not fit the rest of config.json; the function
    raises it if they do not fit the network.
    """
    if "heads" not in table and "neurons" not in table:
        return None
    names = FAMILIES[config.model_type]
    inside = names.config(config)
    neurons = table.array("neurons", int)
    heads = table.array("heads", int) if names.qkv else (1,) * len(neurons)
    count = sum(inside.depths) if names.staged else inside.num_hidden_layers
    most = None if names.staged or not names.qkv else inside.num_attention_heads
    for name, values, limit in (("heads", heads, most), ("neurons", neurons, None)):
        if len(values) != count:
            raise table.wrong(name, f"expected {count} numbers, one a layer, found {len(values)}")
        for i, value in enumerate(values):
            if value < 1 or (limit is not None and value > limit):
                upto = f" to {limit}" if limit is not None else " or more"
                raise table.wrong(f"{name}[{i}]", f"expected 1{upto}, found {value}")
    if names.neurons_are == "count" and names.neurons:
        setattr(inside, names.neurons, max(neurons))

    def build(network: Any) -> None:
        for i, (layer, h, n) in enumerate(zip(layers(network), heads, neurons, strict=True)):
            for name, value, there in (
                ("heads", h, layer.heads or h),
                ("neurons", n, layer.neurons),
            ):
                if value > there:
                    raise table.wrong(f"{name}[{i}]", f"expected 1 to {there}, found {value}")
            keep(layer, range(h), range(n))

    return build
