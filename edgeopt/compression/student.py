# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""A smaller network made of a whole one: fewer layers, or narrower ones."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeopt.compression import layers as dropping
from edgeopt.compression.importance import magnitude
from edgeopt.model import Model, vision
from edgeopt.model.checkpoint import network
from edgeopt.model.image import ImageInput
from edgeopt.model.network.shape_config import SECTION, describe
from edgeopt.model.network.widths import Layer, blocks, family, fixed, layers, per_head, stages
from edgeopt.model.tasks import FEATURE_EXTRACTION
from edgeopt.steps import wrong
from edgeopt.steps.distil import Distil
from edgeopt.train.resume import seeded

if TYPE_CHECKING:
    import torch


def spread(count: int, whole: int) -> list[int]:
    """Return the numbers of ``count`` layers spread evenly over ``whole``, from first to last.

    6 of 12 are 0, 2, 4, 7, 9 and 11, those that DistilBERT's script takes.
    """
    if count == 1:
        return [0]
    return [round(i * (whole - 1) / (count - 1)) for i in range(count)]


def check(model: Model, options: Distil) -> None:
    """Raise InputError if no such student can be made of ``model``."""
    net = network(model)
    if options.layers is not None:
        taken = _taken(options, net)
        gone = [i for i in range(len(blocks(net))) if i not in taken]
        if gone and (why := fixed(net, gone)):
            raise wrong(options, "layers", f"{why}; give a share, which is taken of every stage")
    if options.hidden or options.heads or options.neurons:
        _widths(model, options)


def make(model: Model, options: Distil) -> tuple[Model, str]:
    """Return the student that ``options`` ask for, and words on how it was made.

    The words are "" if nothing was changed. ``model`` stays as it is. Raises InputError as
    ``check`` does.
    """
    check(model, options)
    told = []
    student = model.with_module(copy.deepcopy(model.module))
    if options.layers is not None:
        whole = len(blocks(network(model)))
        taken = _taken(options, network(model))
        student = dropping.drop(model, [i for i in range(whole) if i not in taken])
        numbers = ", ".join(map(str, taken))
        told.append(f"{len(taken)} of {whole} layers taken (numbers {numbers})")
    if options.hidden or options.heads or options.neurons:
        widths = _widths(model, options)
        student = _narrow(student, widths, options)
        sliced = "sliced by magnitude" if options.start == "sliced" else "new weights"
        told.append(
            f"hidden size {widths.hidden}, {widths.heads} heads and {widths.neurons} neurons "
            f"({sliced})"
        )
    return student, "; ".join(told)


def _taken(options: Distil, net: Any) -> list[int]:
    """Return which layers of ``net`` the student has: a share is taken of each stage.

    Raises InputError if there are too few.
    """
    whole = len(blocks(net))
    match options.layers:
        case tuple() as indices:
            if indices[-1] >= whole:
                raise wrong(
                    options, "layers", f"there is no layer {indices[-1]}, only 0 to {whole - 1}"
                )
            return list(indices)
        case float() as share if share <= 1:
            taken, start = [], 0
            for stage in stages(net):
                count = len(stage)
                taken += [start + i for i in spread(max(1, round(share * count)), count)]
                start += count
            return taken
        case int() as count if count <= whole:
            return spread(count, whole)
        case _:
            raise wrong(options, "layers", f"is {options.layers}, but there are {whole}")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Widths:
    hidden: int
    heads: int
    neurons: int


def _widths(model: Model, options: Distil) -> _Widths:
    """Return the student's widths: of all layers alike, or the configuration cannot say them."""
    net = network(model)
    if family(net).staged:
        named = next(n for n in ("hidden", "heads", "neurons") if getattr(options, n))
        raise wrong(
            options,
            named,
            "sets one width for all layers, and the stages of this network are of several: "
            "layers = 0.5 takes half of each, and the technique structured narrows them",
        )
    found = layers(net)
    config = family(net).config(net.config)
    if isinstance(model.input, ImageInput) and (family(net).section or not family(net).qkv):
        raise wrong(options, "hidden", f"a {net.config.model_type!r} network is not narrowed whole")
    if len({(layer.heads, layer.neurons) for layer in found}) > 1 or (
        found[0].heads != config.num_attention_heads
    ):
        raise wrong(
            options,
            "hidden" if options.hidden else "neurons",
            "the layers have lost heads, or are of unlike widths: only a whole network is narrowed",
        )
    hidden = options.hidden or config.hidden_size
    if options.hidden is None and options.heads not in (None, found[0].heads):
        raise wrong(
            options,
            "heads",
            "needs hidden besides: a head's size is hidden / heads (the technique structured "
            "removes heads alone)",
        )
    heads = options.heads or max(1, hidden // found[0].head_dim)
    neurons = options.neurons or found[0].neurons
    for name, value, there in (
        ("hidden", hidden, config.hidden_size),
        ("heads", heads, found[0].heads),
        ("neurons", neurons, found[0].neurons),
    ):
        if value > there:
            raise wrong(options, name, f"is {value}, but the model has only {there}")
    if hidden % heads:
        raise wrong(options, "hidden", f"{hidden} is no multiple of {heads} heads")
    if hidden // heads > found[0].head_dim and options.start == "sliced":
        raise wrong(
            options,
            "heads",
            f"{heads} heads of {hidden // heads} are larger than the model's, of "
            f'{found[0].head_dim}: give more heads, or start = "new"',
        )
    if hidden != config.hidden_size and model.task == FEATURE_EXTRACTION:
        raise wrong(
            options,
            "hidden",
            "embeddings of another size cannot be held against the model's: only layers and "
            "neurons can be fewer",
        )
    if family(net).neurons_are != "count" and neurons % hidden:
        raise wrong(
            options,
            "neurons",
            f"{neurons} is no multiple of the hidden size {hidden}, which this network needs "
            f"(config.json says {family(net).neurons})",
        )
    return _Widths(hidden=hidden, heads=heads, neurons=neurons)


def _narrow(model: Model, widths: _Widths, options: Distil) -> Model:
    """Return a model of these widths."""
    from edgeopt.model.encoder import Encoder

    old = network(model)
    pictured = isinstance(model.input, ImageInput)
    if pictured:
        old = vision.plain(old)
    config = copy.deepcopy(old.config)
    if hasattr(config, SECTION):
        delattr(config, SECTION)
    config.hidden_size = widths.hidden
    config.num_attention_heads = widths.heads
    if hasattr(config, "head_dim"):
        del config.head_dim
    names = family(old)
    ratio = widths.neurons // widths.hidden
    setattr(config, names.neurons, widths.neurons if names.neurons_are == "count" else ratio)
    with seeded(options.training.seed):
        net = type(old)._from_config(config, attn_implementation="eager")
    if getattr(old.base_model, "pooler", True) is None:
        net.base_model.pooler = None
    net = net.float().eval().requires_grad_(False)
    if options.start == "sliced":
        _copy(old, net)
    describe(net)
    if isinstance(model.input, ImageInput):
        return model.with_module(vision.wrap(net, model.input, model.task, model.name))
    module: Any = model.module
    encoder = Encoder(net, module.inputs, model.task, additive_mask=module.additive_mask)
    return model.with_module(encoder.eval())


def _copy(old: Any, new: Any) -> None:
    """Fill ``new`` with the part of ``old`` that matters most, by the weights' magnitude.

    Hidden units by the squares of all weights into and out of them, heads and neurons as
    ``importance.magnitude`` has them, a head's dimensions by the norms of the two weights that meet
    there: queries with keys, values with the output.
    """
    import torch

    sources, targets = layers(old), layers(new)
    whole_width = sources[0].ffn_output.out_features
    hidden = _hidden(sources, targets[0].ffn_output.out_features)
    within = {
        id(parameter)
        for layer in targets
        for linear in (*layer.of_attention, layer.ffn_input, layer.ffn_output)
        for parameter in linear.parameters()
    } | {id(parameter) for layer in targets for parameter, _ in per_head(layer)}
    originals = dict(old.named_parameters())
    for name, parameter in new.named_parameters():
        if id(parameter) in within:
            continue
        values = originals[name].detach()
        for dim, (there, wanted) in enumerate(zip(values.shape, parameter.shape, strict=True)):
            if there == wanted:
                continue
            # Outside the layers only the hidden size differs. A classifier of images may read two
            # hidden states side by side.
            parts = range(there // whole_width)
            kept = torch.cat([i * whole_width + hidden for i in parts])
            values = values.index_select(dim, kept)
        parameter.data.copy_(values)
    for source, target in zip(sources, targets, strict=True):
        heads, neurons = (
            torch.tensor(_best(scores, count))
            for scores, count in zip(magnitude(source), (target.heads, target.neurons), strict=True)
        )
        query, key, value = source.qkv
        meeting = _dimensions(query.weight, key.weight, source, target, heads)
        pairs = zip(per_head(source), per_head(target), strict=True)
        for (given, dim), (made, _) in pairs:
            made.data.copy_(given.detach().index_select(dim, heads))
        output, target_output = source.attention_output, target.attention_output
        assert output is not None
        assert target_output is not None
        leaving = _dimensions(value.weight, output.weight.T, source, target, heads)
        # Scores are divided by the root of the head's size, which is another now.
        scale = math.sqrt(target.head_dim / source.head_dim)
        for linear, whole, rows, columns, factor in (
            (target.qkv[0], query, meeting, hidden, scale),
            (target.qkv[1], key, meeting, hidden, 1.0),
            (target.qkv[2], value, leaving, hidden, 1.0),
            (target_output, output, hidden, leaving, 1.0),
            (target.ffn_input, source.ffn_input, neurons, hidden, 1.0),
            (target.ffn_output, source.ffn_output, hidden, neurons, 1.0),
        ):
            linear.weight.data.copy_(whole.weight.detach()[rows][:, columns] * factor)
            if whole.bias is not None:
                linear.bias.data.copy_(whole.bias.detach()[rows] * factor)


def _hidden(sources: Sequence[Layer], count: int) -> torch.Tensor:
    """Return the ``count`` hidden units that matter most, ascending."""
    import torch

    whole = sources[0].ffn_output.out_features
    scores = torch.zeros(whole)
    for layer in sources:
        for linear in (*layer.qkv, layer.ffn_input):
            scores += linear.weight.detach().square().sum(0)
        for linear in (*layer.of_attention[3:], layer.ffn_output):
            scores += linear.weight.detach().square().sum(1)
    return torch.tensor(_best(scores, count))


def _dimensions(
    a: torch.Tensor, b: torch.Tensor, source: Layer, target: Layer, heads: torch.Tensor
) -> torch.Tensor:
    """Return the rows of ``a`` and ``b`` (heads * head_dim, hidden) that are kept."""
    import torch

    scores = (a.detach().norm(dim=1) * b.detach().norm(dim=1)).reshape(source.heads, -1)
    return torch.tensor(
        [
            int(head) * source.head_dim + place
            for head in heads
            for place in _best(scores[head], target.head_dim)
        ]
    )


def _best(scores: torch.Tensor, count: int) -> list[int]:
    found: list[int] = sorted(scores.argsort(descending=True)[:count].tolist())
    return found
