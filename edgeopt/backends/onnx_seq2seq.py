# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""An encoder-decoder for onnxruntime: both parts are branches of one graph, with each weight once.

Without tokens of an answer the graph reads the source, and gives the keys and values of the
decoder's attention to it; with one it goes on. What a branch does not make it hands on as it came,
which costs nothing if both are the same memory.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from edgeopt.backends.onnx_writer import CONTRIB, Writer, activated
from edgeopt.model import Model
from edgeopt.model.audio import FEATURES
from edgeopt.model.decoder import LOGITS, TOKENS, TOTAL
from edgeopt.model.seq2seq import (
    SOURCE_TOKENS,
    SOURCE_TOTAL,
    T5,
    WHISPER,
    decoder_layers,
    head_size,
    heads,
)

BIAS_SINCE = "1.22"
"""The first whose GroupQueryAttention heeds a bias of positions, which T5 has."""

_LOWEST = float(np.finfo(np.float32).min)
"""What is added to the score of a token that is not there."""


def write(writer: Writer, model: Model) -> None:
    """Write the graph of ``model`` to ``writer``."""
    from onnx import helper

    network: Any = model.module
    kinds: dict[str, type[_Parts]] = {T5: _T5, WHISPER: _Whisper}
    parts = kinds.get(network.config.model_type, _Bart)(writer, model)
    branches = {}
    states = [name for state in model.main.states for name in state.names("output")]
    outputs = [LOGITS, *states]
    for name, branch in (("encode", parts.encode), ("decode", parts.decode)):
        writer.nodes, writer.scope = [], f"{name}."
        made = branch()
        for state in states:
            if state not in made:
                past = state.replace("present", "past", 1)
                made[state] = writer.node("Identity", [past], state)
        types = [helper.make_tensor_value_info(made[o], 1, None) for o in outputs]
        branches[name] = helper.make_graph(writer.nodes, name, [], types)
    writer.nodes, writer.scope = [], ""
    none = writer.weight("none", np.array([0], np.int32))
    begins = writer.node("Equal", [TOTAL, none], "begins")
    begins = writer.node("Squeeze", [begins], "begins.scalar")
    chosen = helper.make_node(
        "If",
        [begins],
        outputs,
        "part",
        then_branch=branches["encode"],
        else_branch=branches["decode"],
    )
    writer.nodes.append(chosen)


class _Parts(ABC):
    """What the families share."""

    scale: float | None = None
    """Of attention's scores; None is the root of a head's size."""

    def __init__(self, writer: Writer, model: Model) -> None:
        self.writer = writer
        self.network: Any = model.module
        self.config: Any = self.network.config
        self.context = model.text.max_seq_len

    def encode(self) -> dict[str, str]:
        """Add what reads a source; return what each output is made as."""
        x = self.encoded(self._source_mask())
        made = {LOGITS: self._no_logits()}
        for i in range(decoder_layers(self.config)):
            for part, of in zip(("key", "value"), self.cross_weights(i), strict=True):
                name = f"cross.{i}.{part}"
                y = self.linear(x, name, of)
                made[f"present.{i}.cross_{part}"] = self.in_heads(y, name, "decoder")
        return made

    def decode(self) -> dict[str, str]:
        """Add what goes on with a token; return what each output is made as."""
        one = self.writer.weight("one", np.array([1], np.int32))
        self.last_key = self.writer.node("Sub", [TOTAL, one], "last_key")
        self.mask = self._source_mask()
        made: dict[str, str] = {}
        x = self.decoded(made)
        last = self.writer.weight("last", np.array(-1, np.int64))
        made[LOGITS] = self.logits(self.writer.node("Gather", [x, last], "last_row", axis=1))
        return made

    @abstractmethod
    def encoded(self, mask: str) -> str:
        """Add the encoder: (1, seq, size)."""

    @abstractmethod
    def decoded(self, made: dict[str, str]) -> str:
        """Add the decoder, whose states go to ``made``: (1, 1, size)."""

    @abstractmethod
    def logits(self, x: str) -> str:
        """Add the head: (1, vocabulary)."""

    @abstractmethod
    def cross_weights(self, layer: int) -> tuple[Any, Any]:
        """Return what makes keys and values of the encoder's output."""

    def linear(self, x: str, name: str, layer: Any) -> str:
        """Add a linear layer."""
        return self.writer.linear(x, name, layer.weight, layer.bias)

    def in_heads(self, x: str, name: str, part: str) -> str:
        """Make (1, heads, seq, size of a head) of (1, seq, heads * size)."""
        dims = [0, 0, heads(self.config, part), head_size(self.config, part)]
        shape = self.writer.weight(f"{part}.heads", np.array(dims, np.int64))
        y = self.writer.node("Reshape", [x, shape], f"{name}.heads")
        return self.writer.node("Transpose", [y], f"{name}.by_head", perm=[0, 2, 1, 3])

    def own_attention(self, x: str, name: str, layers: Sequence[Any], bias: str) -> str:
        """Add the encoder's attention, of queries, keys and values by ``layers``."""
        made = [self.linear(x, f"{name}.{n}", at) for n, at in zip("qkv", layers, strict=True)]
        how = {} if self.scale is None else {"scale": self.scale}
        return self.writer.node(
            "MultiHeadAttention",
            [*made, "", "", bias],
            f"{name}.context",
            CONTRIB,
            num_heads=heads(self.config, "encoder"),
            **how,
        )

    def past_attention(
        self, x: str, name: str, layer: int, layers: Sequence[Any], made: dict[str, str], bias: str
    ) -> str:
        """Add the decoder's attention to the tokens before, whose states go to ``made``."""
        import torch

        weight = torch.cat([at.weight for at in layers])
        biases = [at.bias for at in layers]
        qkv = self.writer.linear(
            x, f"{name}.qkv", weight, None if biases[0] is None else torch.cat(self._whole(biases))
        )
        count, size = heads(self.config), head_size(self.config)
        key, value = f"present.{layer}.key", f"present.{layer}.value"
        past = [f"past.{layer}.key", f"past.{layer}.value"]
        more = ["", "", "", bias] if bias else []
        found = self.writer.several(
            "GroupQueryAttention",
            [qkv, "", "", *past, self.last_key, TOTAL, *more],
            [f"{name}.context", key, value],
            name,
            CONTRIB,
            num_heads=count,
            kv_num_heads=count,
            scale=float(size**-0.5 if self.scale is None else self.scale),
        )
        made[key], made[value] = found[1:]
        return found[0]

    def _whole(self, biases: Sequence[Any]) -> list[Any]:
        """Return ``biases`` with zeros for None, which a key's is in Whisper."""
        return [biases[0].new_zeros(len(biases[0])) if b is None else b for b in biases]

    def cross_attention(self, x: str, name: str, layer: int, query: Any) -> str:
        """Add the decoder's attention to the source."""
        how = {} if self.scale is None else {"scale": self.scale}
        states = [f"past.{layer}.cross_key", f"past.{layer}.cross_value"]
        return self.writer.node(
            "MultiHeadAttention",
            [self.linear(x, f"{name}.q", query), *states, "", "", self.mask],
            f"{name}.context",
            CONTRIB,
            num_heads=heads(self.config),
            **how,
        )

    def add(self, x: str, y: str, name: str) -> str:
        """Add the sum of both."""
        return self.writer.node("Add", [x, y], name)

    def _source_mask(self) -> str:
        """Add what keeps attention from tokens beyond the source's: (1, 1, 1, seq) of 0 and low."""
        node, weight = self.writer.node, self.writer.weight
        size = node("Shape", [SOURCE_TOKENS], "source.size", start=1, end=2)
        zero, step = (weight(n, np.array(v, np.int64)) for n, v in (("zero", 0), ("step", 1)))
        count = node("Squeeze", [size], "source.count")
        places = node("Range", [zero, count, step], "source.places")
        length = node("Cast", [SOURCE_TOTAL], "source.length", to=7)
        counts = node("Less", [places, length], "source.counts")
        floats = [weight(n, np.float32(v)) for n, v in (("kept", 0.0), ("lowest", _LOWEST))]
        mask = node("Where", [counts, *floats], "source.mask.flat")
        shape = weight("mask.shape", np.array([1, 1, 1, -1], np.int64))
        return node("Reshape", [mask, shape], "source.mask")

    def _no_logits(self) -> str:
        rows = int(self.config.vocab_size)
        shape = self.writer.weight("logits.shape", np.array([1, rows], np.int64))
        return self.writer.node("ConstantOfShape", [shape], LOGITS)


class _T5(_Parts):
    """Norms before each part, without means or biases; positions are what scores are moved by."""

    scale = 1.0

    def cross_weights(self, layer: int) -> tuple[Any, Any]:
        part = self.network.decoder.block[layer].layer[1].EncDecAttention
        return part.k, part.v

    def encoded(self, mask: str) -> str:
        body = self.network.encoder
        x = self.writer.table(SOURCE_TOKENS, "shared", self.network.shared.weight)
        bias = self._around(body.block[0].layer[0].SelfAttention, mask)
        for i, block in enumerate(body.block):
            name = f"encoder.{i}"
            attention = block.layer[0].SelfAttention
            y = self._norm(x, f"{name}.norm", block.layer[0].layer_norm)
            layers = (attention.q, attention.k, attention.v)
            y = self.own_attention(y, f"{name}.attention", layers, bias)
            y = self.linear(y, f"{name}.o", attention.o)
            x = self._fed(self.add(x, y, f"{name}.attended"), name, block.layer[1])
        return self._norm(x, "encoder.norm", body.final_layer_norm)

    def decoded(self, made: dict[str, str]) -> str:
        body = self.network.decoder
        x = self.writer.table(TOKENS, "shared", self.network.shared.weight)
        bias = self._before(body.block[0].layer[0].SelfAttention)
        for i, block in enumerate(body.block):
            name = f"decoder.{i}"
            own, cross = block.layer[0].SelfAttention, block.layer[1].EncDecAttention
            y = self._norm(x, f"{name}.norm", block.layer[0].layer_norm)
            layers = (own.q, own.k, own.v)
            y = self.past_attention(y, f"{name}.attention", i, layers, made, bias)
            x = self.add(x, self.linear(y, f"{name}.o", own.o), f"{name}.attended")
            y = self._norm(x, f"{name}.cross_norm", block.layer[1].layer_norm)
            y = self.cross_attention(y, f"{name}.cross", i, cross.q)
            x = self.add(x, self.linear(y, f"{name}.cross_o", cross.o), f"{name}.crossed")
            x = self._fed(x, name, block.layer[2])
        # The head's scale is that of the norm before it.
        scale = self.config.d_model**-0.5 if self.config.scale_decoder_outputs else 1.0
        return self._norm(x, "decoder.norm", body.final_layer_norm, scale)

    def logits(self, x: str) -> str:
        head = self.network.lm_head.weight
        tied = head is self.network.shared.weight
        return self.writer.head(x, head, "shared", tied=tied)

    def _norm(self, x: str, name: str, part: Any, scale: float = 1.0) -> str:
        weight = self.writer.weight(f"{name}.weight", part.weight * scale)
        how: dict[str, Any] = {"axis": -1, "epsilon": part.variance_epsilon, "stash_type": 1}
        return self.writer.node("SimplifiedLayerNormalization", [x, weight], f"{name}.out", **how)

    def _fed(self, x: str, name: str, part: Any) -> str:
        dense = part.DenseReluDense
        y = self._norm(x, f"{name}.mlp_norm", part.layer_norm)
        kind = self.config.dense_act_fn
        if self.config.is_gated_act:
            gate = activated(self.writer, self.linear(y, f"{name}.gate", dense.wi_0), kind,
                             f"{name}.act")  # fmt: skip
            up = self.linear(y, f"{name}.up", dense.wi_1)
            y = self.writer.node("Mul", [gate, up], f"{name}.gated")
        else:
            y = activated(self.writer, self.linear(y, f"{name}.up", dense.wi), kind, f"{name}.act")
        return self.add(x, self.linear(y, f"{name}.down", dense.wo), f"{name}.fed")

    def _around(self, attention: Any, mask: str) -> str:
        """Add the bias of all pairs of the source's tokens, and the mask: (1, heads, seq, seq)."""
        import torch

        node, weight, most = self.writer.node, self.writer.weight, self.context
        with torch.inference_mode():  # by distance, 1 - most to most - 1
            ahead = attention.compute_bias(1, most)[0, :, 0]
            behind = attention.compute_bias(most, 1)[0, :, 1:, 0]
        table = weight("encoder.distances", torch.cat([behind.flip(1), ahead], 1))
        across, down = (weight(n, np.array([d], np.int64)) for n, d in (("row", 0), ("column", 1)))
        rows = node("Unsqueeze", ["encode.source.places", down], "source.rows")
        columns = node("Unsqueeze", ["encode.source.places", across], "source.columns")
        distances = node("Sub", [columns, rows], "source.distances")
        middle = weight("encoder.middle", np.array(most - 1, np.int64))
        places = node("Add", [distances, middle], "source.moved")
        bias = node("Gather", [table, places], "source.bias.heads", axis=1)
        bias = node("Unsqueeze", [bias, across], "source.bias.all")
        return node("Add", [bias, mask], "source.bias")

    def _before(self, attention: Any) -> str:
        """Add the bias of the tokens before, of an answer of any length: (1, heads, 1, total)."""
        import torch

        node, weight, most = self.writer.node, self.writer.weight, self.context
        with torch.inference_mode():  # of the last of `most` tokens: the farthest first
            table = weight("decoder.distances", attention.compute_bias(most, most)[0, :, -1])
        end = weight("decoder.most", np.array([most], np.int64))
        axis = weight("column", np.array([1], np.int64))
        total = node("Cast", [TOTAL], "total", to=7)
        first = node("Sub", [end, total], "first")
        bias = node("Slice", [table, first, end, axis], "bias.heads")
        axes = weight("bias.axes", np.array([0, 2], np.int64))
        return node("Unsqueeze", [bias, axes], "bias")


class _Bart(_Parts):
    """Norms behind each part; positions are added to the tokens. BART's, and Marian's."""

    def cross_weights(self, layer: int) -> tuple[Any, Any]:
        part = self.network.model.decoder.layers[layer].encoder_attn
        return part.k_proj, part.v_proj

    def encoded(self, mask: str) -> str:
        body = self.network.model.encoder
        x = self._embedded(SOURCE_TOKENS, "encode.source.places", "encoder", body)
        # The mask is the same for each row: a bias is asked for each pair.
        size = self.writer.node("Shape", [SOURCE_TOKENS], "source.rows", start=1, end=2)
        before, behind = (
            self.writer.weight(n, np.array(v, np.int64))
            for n, v in (("pairs.before", [1, 1]), ("pairs.behind", [1]))
        )
        pairs = self.writer.node("Concat", [before, size, behind], "source.pairs", axis=0)
        bias = self.writer.node("Expand", [mask, pairs], "source.bias")
        for i, layer in enumerate(body.layers):
            name = f"encoder.{i}"
            part = layer.self_attn
            layers = (part.q_proj, part.k_proj, part.v_proj)
            y = self.own_attention(x, f"{name}.attention", layers, bias)
            y = self.linear(y, f"{name}.out", part.out_proj)
            x = self._norm(self.add(x, y, f"{name}.attended"), f"{name}.norm",
                           layer.self_attn_layer_norm)  # fmt: skip
            x = self._fed(x, name, layer)
        return x

    def decoded(self, made: dict[str, str]) -> str:
        body = self.network.model.decoder
        at = self.writer.node("Cast", [self.last_key], "place", to=7)
        x = self._embedded(TOKENS, at, "decoder", body)
        for i, layer in enumerate(body.layers):
            name = f"decoder.{i}"
            own, cross = layer.self_attn, layer.encoder_attn
            layers = (own.q_proj, own.k_proj, own.v_proj)
            y = self.past_attention(x, f"{name}.attention", i, layers, made, "")
            y = self.linear(y, f"{name}.out", own.out_proj)
            x = self._norm(self.add(x, y, f"{name}.attended"), f"{name}.norm",
                           layer.self_attn_layer_norm)  # fmt: skip
            y = self.cross_attention(x, f"{name}.cross", i, cross.q_proj)
            y = self.linear(y, f"{name}.cross_out", cross.out_proj)
            x = self._norm(self.add(x, y, f"{name}.crossed"), f"{name}.cross_norm",
                           layer.encoder_attn_layer_norm)  # fmt: skip
            x = self._fed(x, name, layer)
        return x

    def logits(self, x: str) -> str:
        head = self.network.lm_head.weight
        tied = head is self.network.model.decoder.embed_tokens.weight
        found = self.writer.head(x, head, "shared", tied=tied)
        bias = self.network.final_logits_bias
        if not bool(bias.any()):
            return found
        return self.add(found, self.writer.weight("final_logits_bias", bias), "biased")

    def _embedded(self, ids: str, places: str, part: str, body: Any) -> str:
        """Add the tokens' rows and their places', and BART's norm."""
        node, weight = self.writer.node, self.writer.weight
        x = self.writer.table(ids, "shared", body.embed_tokens.weight)
        scale = self.config.d_model**0.5 if self.config.scale_embedding else 1.0
        if scale != 1.0:
            x = node("Mul", [x, weight("embed_scale", np.float32(scale))], f"{part}.scaled")
        table = body.embed_positions
        offset = int(getattr(table, "offset", 0))  # BART's first rows are no places
        rows = weight(f"{part}.positions", table.weight[offset : offset + self.context])
        x = self.add(x, node("Gather", [rows, places], f"{part}.places"), f"{part}.embedded")
        norm = getattr(body, "layernorm_embedding", None)
        return x if norm is None else self._norm(x, f"{part}.first_norm", norm)

    def _norm(self, x: str, name: str, part: Any) -> str:
        weights = [self.writer.weight(f"{name}.{n}", getattr(part, n)) for n in ("weight", "bias")]
        how: dict[str, Any] = {"axis": -1, "epsilon": part.eps}
        return self.writer.node("LayerNormalization", [x, *weights], f"{name}.out", **how)

    def _fed(self, x: str, name: str, layer: Any) -> str:
        kind = self.config.activation_function
        y = activated(self.writer, self.linear(x, f"{name}.up", layer.fc1), kind, f"{name}.act")
        y = self.linear(y, f"{name}.down", layer.fc2)
        return self._norm(self.add(x, y, f"{name}.fed"), f"{name}.mlp_norm",
                          layer.final_layer_norm)  # fmt: skip


class _Whisper(_Parts):
    """Norms before each part; two convolutions over time make half as many places of features."""

    def cross_weights(self, layer: int) -> tuple[Any, Any]:
        part = self.network.model.decoder.layers[layer].encoder_attn
        return part.k_proj, part.v_proj

    def encoded(self, mask: str) -> str:
        body = self.network.model.encoder
        x = self._convolved(FEATURES, "conv1", body.conv1)
        x = self._convolved(x, "conv2", body.conv2)
        x = self.writer.node("Transpose", [x], "by_place", perm=[0, 2, 1])
        places = self.writer.weight("encoder.positions", body.embed_positions.weight)
        x = self.add(x, places, "encoder.embedded")
        for i, layer in enumerate(body.layers):
            name = f"encoder.{i}"
            part = layer.self_attn
            y = self._norm(x, f"{name}.norm", layer.self_attn_layer_norm)
            layers = (part.q_proj, part.k_proj, part.v_proj)
            y = self.own_attention(y, f"{name}.attention", layers, mask)
            x = self.add(x, self.linear(y, f"{name}.out", part.out_proj), f"{name}.attended")
            x = self._fed(x, name, layer)
        return self._norm(x, "encoder.last_norm", body.layer_norm)

    def decoded(self, made: dict[str, str]) -> str:
        body = self.network.model.decoder
        at = self.writer.node("Cast", [self.last_key], "place", to=7)
        x = self.writer.table(TOKENS, "shared", body.embed_tokens.weight)
        rows = self.writer.weight("decoder.positions", body.embed_positions.weight[: self.context])
        x = self.add(x, self.writer.node("Gather", [rows, at], "decoder.place"), "decoder.embedded")
        for i, layer in enumerate(body.layers):
            name = f"decoder.{i}"
            own, cross = layer.self_attn, layer.encoder_attn
            y = self._norm(x, f"{name}.norm", layer.self_attn_layer_norm)
            layers = (own.q_proj, own.k_proj, own.v_proj)
            y = self.past_attention(y, f"{name}.attention", i, layers, made, "")
            x = self.add(x, self.linear(y, f"{name}.out", own.out_proj), f"{name}.attended")
            y = self._norm(x, f"{name}.cross_norm", layer.encoder_attn_layer_norm)
            y = self.cross_attention(y, f"{name}.cross", i, cross.q_proj)
            x = self.add(x, self.linear(y, f"{name}.cross_out", cross.out_proj), f"{name}.crossed")
            x = self._fed(x, name, layer)
        return self._norm(x, "decoder.last_norm", body.layer_norm)

    def logits(self, x: str) -> str:
        head = self.network.proj_out.weight
        tied = head is self.network.model.decoder.embed_tokens.weight
        return self.writer.head(x, head, "shared", tied=tied)

    def _source_mask(self) -> str:
        return ""  # silence is heard as well

    def _convolved(self, x: str, name: str, part: Any) -> str:
        weights = [self.writer.weight(f"{name}.{n}", getattr(part, n)) for n in ("weight", "bias")]
        how: dict[str, Any] = {"pads": [1, 1], "strides": list(part.stride)}
        x = self.writer.node("Conv", [x, *weights], f"{name}.out", **how)
        return activated(self.writer, x, "gelu", f"{name}.act")

    def _norm(self, x: str, name: str, part: Any) -> str:
        weights = [self.writer.weight(f"{name}.{n}", getattr(part, n)) for n in ("weight", "bias")]
        how: dict[str, Any] = {"axis": -1, "epsilon": part.eps}
        return self.writer.node("LayerNormalization", [x, *weights], f"{name}.out", **how)

    def _fed(self, x: str, name: str, layer: Any) -> str:
        kind = self.config.activation_function
        y = self._norm(x, f"{name}.mlp_norm", layer.final_layer_norm)
        y = activated(self.writer, self.linear(y, f"{name}.up", layer.fc1), kind, f"{name}.act")
        return self.add(x, self.linear(y, f"{name}.down", layer.fc2), f"{name}.fed")
