# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What decoders compute, layer by layer, for any engine: each writes the parts in its own way."""

from __future__ import annotations

from typing import Any, Protocol

from edgeopt.extras import require
from edgeopt.model import Model
from edgeopt.model.decoder import GPT2


class Parts(Protocol):
    """The parts of a graph that an engine's writer has.

    A value of the graph (``Any`` here) is what the writer makes of it; of ``name`` it makes the
    names of nodes and weights. Weights are tensors or parameters of PyTorch, those of products
    (outputs, inputs). Values between layers are (1, seq, size).
    """

    def table(self, name: str, weight: Any) -> Any:
        """Return the rows of ``weight`` (vocabulary, size) that the tokens name."""

    def places(self, name: str, weight: Any) -> Any:
        """Return the rows of ``weight`` (context, size) at the tokens' positions."""

    def add(self, a: Any, b: Any, name: str) -> Any:
        """Return the sum of two values."""

    def multiply(self, a: Any, b: Any, name: str) -> Any:
        """Return the product of two values, element by element."""

    def scale(self, x: Any, by: float, name: str) -> Any:
        """Return ``x`` times a number."""

    def layer_norm(self, x: Any, name: str, part: Any) -> Any:
        """Return the layer norm ``part`` of ``x``."""

    def rms_norm(self, x: Any, name: str, weight: Any, epsilon: float) -> Any:
        """Return ``x`` over the root of its mean square, times ``weight``."""

    def linear(self, x: Any, name: str, weight: Any, bias: Any = None) -> Any:
        """Return the product of ``x`` and ``weight``, with a bias if there is one."""

    def activate(self, x: Any, kind: str, name: str) -> Any:
        """Return the activation ``kind`` of transformers. Raises CompileError if it has none."""

    def attend(self, qkv: Any, name: str, layer: int, part: Any) -> Any:
        """Return the attention of a layer to its own tokens and those before.

        ``qkv`` are queries, keys and values, one behind the other; ``part`` is the module. Norms
        of heads and rotary positions, if the module has them, belong to it.
        """

    def rotate(self, cosines: Any, sines: Any) -> None:
        """Take the waves of all positions, (context, rotated values of a head), for ``attend``."""

    def last(self, x: Any) -> Any:
        """Return the last token's row."""

    def head(self, x: Any, weight: Any, table: str, *, tied: bool) -> None:
        """Make the logits; the weight is that of ``table`` if they are ``tied``."""


def write(parts: Parts, model: Model) -> None:
    """Write the decoder ``model`` with ``parts``, from its tokens to the logits of the last one."""
    network: Any = model.module
    (_gpt2 if network.config.model_type == GPT2 else _llama)(parts, model)


def window(attention: Any, config: Any, context: int) -> int | None:
    """Return how many tokens a layer looks back, None for all of the context.

    It is of one layer, as in Qwen2, or of all, as in Mistral.
    """
    found = getattr(attention, "sliding_window", getattr(config, "sliding_window", None))
    return None if found is None or found >= context else int(found)


def _gpt2(parts: Parts, model: Model) -> None:
    """Write GPT-2: learnt positions, layer norms before each part, queries to values in one."""
    network: Any = model.module
    config = network.config
    body = network.transformer
    x = parts.table("wte", body.wte.weight)
    places = parts.places("wpe", body.wpe.weight[: model.text.max_seq_len])
    x = parts.add(x, places, "embedded")
    for i, layer in enumerate(body.h):
        name = f"h.{i}"
        qkv, out, up, down = (  # each a Conv1D: its weight is (inputs, outputs)
            layer.attn.c_attn,
            layer.attn.c_proj,
            layer.mlp.c_fc,
            layer.mlp.c_proj,
        )
        y = parts.layer_norm(x, f"{name}.ln_1", layer.ln_1)
        y = parts.linear(y, f"{name}.c_attn", qkv.weight.T, qkv.bias)
        y = parts.attend(y, f"{name}.attn", i, layer.attn)
        y = parts.linear(y, f"{name}.c_proj", out.weight.T, out.bias)
        x = parts.add(x, y, f"{name}.attended")
        y = parts.layer_norm(x, f"{name}.ln_2", layer.ln_2)
        y = parts.linear(y, f"{name}.c_fc", up.weight.T, up.bias)
        y = parts.activate(y, config.activation_function, f"{name}.act")
        y = parts.linear(y, f"{name}.down", down.weight.T, down.bias)
        x = parts.add(x, y, f"{name}.fed")
    x = parts.layer_norm(parts.last(x), "ln_f", body.ln_f)
    tied = network.lm_head.weight is body.wte.weight
    parts.head(x, network.lm_head.weight, "wte", tied=tied)


def _llama(parts: Parts, model: Model) -> None:
    """Write a network as Llama is: rotary positions, RMS norms, a gated feed-forward network."""
    network: Any = model.module
    config = network.config
    body = network.model
    parts.rotate(*_waves(model))
    x = parts.table("embed_tokens", body.embed_tokens.weight)
    scale = getattr(body.embed_tokens, "embed_scale", None)  # Gemma's
    if scale is not None:
        x = parts.scale(x, float(scale), "embedded")
    plus = 1.0 if config.model_type == "gemma" else 0.0  # its norms store weight - 1
    epsilon = float(config.rms_norm_eps)
    for i, layer in enumerate(body.layers):
        name = f"layers.{i}"
        weight = layer.input_layernorm.weight + plus
        y = parts.rms_norm(x, f"{name}.input_norm", weight, epsilon)
        y = _mixed(parts, name, i, y, layer.self_attn)
        x = parts.add(x, y, f"{name}.attended")
        weight = layer.post_attention_layernorm.weight + plus
        y = parts.rms_norm(x, f"{name}.mlp_norm", weight, epsilon)
        gate, up = _gates(parts, name, y, layer.mlp)
        kind = getattr(config, "hidden_activation", None) or config.hidden_act
        gate = parts.activate(gate, kind, f"{name}.act")
        y = parts.multiply(gate, up, f"{name}.gated")
        y = parts.linear(y, f"{name}.down", layer.mlp.down_proj.weight, layer.mlp.down_proj.bias)
        x = parts.add(x, y, f"{name}.fed")
    x = parts.rms_norm(parts.last(x), "norm", body.norm.weight + plus, epsilon)
    tied = network.lm_head.weight is body.embed_tokens.weight
    parts.head(x, network.lm_head.weight, "embed_tokens", tied=tied)


def _waves(model: Model) -> tuple[Any, Any]:
    """Return cosines and sines of all positions, as the network computes them.

    Each is (context, rotated), of which the second half is the first one again.
    """
    torch = require("torch", "torch")
    network: Any = model.module
    with torch.inference_mode():
        places = torch.arange(model.text.max_seq_len)[None]
        cosines, sines = network.model.rotary_emb(torch.zeros(1), places)
    return cosines[0], sines[0]


def _mixed(parts: Parts, name: str, index: int, x: Any, part: Any) -> Any:
    """Add queries, keys and values, the attention, and the product behind it."""
    import torch

    if hasattr(part, "qkv_proj"):
        weight, bias = part.qkv_proj.weight, part.qkv_proj.bias
    else:
        three = (part.q_proj, part.k_proj, part.v_proj)
        weight = torch.cat([p.weight for p in three])
        biases = [p.bias for p in three]
        bias = None if biases[0] is None else torch.cat(biases)
    y = parts.linear(x, f"{name}.qkv", weight, bias)
    y = parts.attend(y, f"{name}.attention", index, part)
    return parts.linear(y, f"{name}.o_proj", part.o_proj.weight, part.o_proj.bias)


def _gates(parts: Parts, name: str, x: Any, part: Any) -> tuple[Any, Any]:
    if hasattr(part, "gate_up_proj"):
        gate, up = part.gate_up_proj.weight.chunk(2)
        return parts.linear(x, f"{name}.gate", gate), parts.linear(x, f"{name}.up", up)
    return (
        parts.linear(x, f"{name}.gate", part.gate_proj.weight, part.gate_proj.bias),
        parts.linear(x, f"{name}.up", part.up_proj.weight, part.up_proj.bias),
    )
