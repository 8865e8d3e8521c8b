# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Where transformers' networks have their layers, and the linear modules of each.

By ``model_type`` of config.json. What is not here can be compiled, but not changed inside.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """The names of a kind of network, counted from its base model, or from a layer.

    ``blocks`` is the list of layers; a ``*`` in it stands for the number of a stage. ``qkv``,
    ``attention_output``, ``ffn_input`` and ``ffn_output`` are linear modules of a layer; () and ""
    if it has no such attention. ``head_size`` is the attribute, of the module with the queries,
    that has the size of a head.

    ``residual`` are the modules that are given the residual stream, before attention and before
    the FFN; None if what a layer writes is scaled first, or if layers do not follow each other.
    ``per_head`` are parameters with a place for each head, and in which dimension. ``between`` are
    modules between the FFN's two, with a channel for each neuron.

    The rest is of config.json: ``section`` the part with these keys, "" for the whole; ``depth``
    how many layers there are; ``neurons`` how wide the FFN is, "" if nothing says it, and
    ``neurons_are`` of what kind that number is ("fixed" if more hangs on it); ``says_head_size``
    whether ``head_dim`` is read.
    ``first_stays`` says that the first layer of a stage also leads into it.
    """

    blocks: str
    qkv: tuple[str, ...] = ()
    attention_output: str = ""
    ffn_input: str
    ffn_output: str
    head_size: str = "head_dim"
    residual: tuple[str, str] | None = None
    per_head: tuple[tuple[str, int], ...] = ()
    between: tuple[str, ...] = ()
    section: str = ""
    depth: str = "num_hidden_layers"
    neurons: str = "intermediate_size"
    neurons_are: Literal["count", "fixed", "ratio", "whole ratio", "ratios"] = "count"
    says_head_size: bool = False
    first_stays: bool = False

    @property
    def staged(self) -> bool:
        """Whether layers stand in stages, each of another width."""
        return "*" in self.blocks

    def config(self, config: Any) -> Any:
        """Return the part of a configuration with this family's keys."""
        return getattr(config, self.section) if self.section else config


_BERT = Family(
    blocks="encoder.layer",
    qkv=("attention.self.query", "attention.self.key", "attention.self.value"),
    attention_output="attention.output.dense",
    ffn_input="intermediate.dense",
    ffn_output="output.dense",
    head_size="attention_head_size",
    # Norms stand behind: the attention and the FFN are given the stream itself.
    residual=("attention.self.query", "intermediate.dense"),
)
_DISTILBERT = Family(
    blocks="transformer.layer",
    qkv=("attention.q_lin", "attention.k_lin", "attention.v_lin"),
    attention_output="attention.out_lin",
    ffn_input="ffn.lin1",
    ffn_output="ffn.lin2",
    head_size="attention_head_size",
    residual=("attention.q_lin", "ffn.lin1"),
    neurons="hidden_dim",
)

_QKV = ("attention.q_proj", "attention.k_proj", "attention.v_proj")
_OUTPUT = "attention.o_proj"
_MLP = ("mlp.fc1", "mlp.fc2")
_NORMS = ("layernorm_before", "layernorm_after")
_VIT = Family(
    blocks="layers",
    qkv=_QKV,
    attention_output=_OUTPUT,
    ffn_input=_MLP[0],
    ffn_output=_MLP[1],
    residual=_NORMS,
    says_head_size=True,
)
_DINOV2 = Family(
    blocks="encoder.layer",
    qkv=_QKV,
    attention_output=_OUTPUT,
    ffn_input=_MLP[0],
    ffn_output=_MLP[1],
    neurons="mlp_ratio",
    neurons_are="whole ratio",
    says_head_size=True,
)
_CLIP = Family(
    blocks="vision_model.encoder.layers",
    qkv=("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    attention_output="self_attn.out_proj",
    ffn_input=_MLP[0],
    ffn_output=_MLP[1],
    residual=("layer_norm1", "layer_norm2"),
    section="vision_config",
)
_CONVNEXT = Family(
    blocks="encoder.stages.*.layers",
    ffn_input="pwconv1",
    ffn_output="pwconv2",
    depth="depths",
    neurons="",
)
FAMILIES: Mapping[str, Family] = {
    "bert": _BERT,
    "roberta": _BERT,
    "distilbert": _DISTILBERT,
    "vit": _VIT,
    "deit": _VIT,
    "vit_msn": _VIT,
    "ijepa": _VIT,
    "beit": Family(
        blocks="layers",
        qkv=_QKV,
        attention_output=_OUTPUT,
        ffn_input=_MLP[0],
        ffn_output=_MLP[1],
        per_head=(("relative_position_bias.relative_position_bias_table", 1),),
        says_head_size=True,
    ),
    "dinov2": _DINOV2,
    "dinov2_with_registers": _DINOV2,
    "clip": _CLIP,
    # What pools the image is as wide as the layers' FFNs, by the same key.
    "siglip": replace(_CLIP, neurons_are="fixed"),
    "data2vec-vision": Family(
        blocks="encoder.layer",
        qkv=("attention.attention.query", "attention.attention.key", "attention.attention.value"),
        attention_output="attention.output.dense",
        ffn_input="intermediate.dense",
        ffn_output="output.dense",
        head_size="attention_head_size",
        per_head=(("attention.attention.relative_position_bias.relative_position_bias_table", 1),),
    ),
    "swin": Family(
        blocks="encoder.layers.*.blocks",
        qkv=_QKV,
        attention_output=_OUTPUT,
        ffn_input=_MLP[0],
        ffn_output=_MLP[1],
        per_head=(("attention.relative_position_bias.relative_position_bias_table", 1),),
        depth="depths",
        neurons="mlp_ratio",
        neurons_are="ratio",
    ),
    # A network of its own makes a bias for each head: heads stay.
    "swinv2": Family(
        blocks="encoder.layers.*.blocks",
        ffn_input="intermediate.dense",
        ffn_output="output.dense",
        depth="depths",
        neurons="mlp_ratio",
        neurons_are="ratio",
    ),
    # Queries, keys and values are one module, and pooled: heads stay.
    "hiera": Family(
        blocks="encoder.stages.*.layers",
        ffn_input=_MLP[0],
        ffn_output=_MLP[1],
        depth="depths",
        neurons="mlp_ratio",
        neurons_are="ratio",
        first_stays=True,
    ),
    "pvt": Family(
        blocks="encoder.block.*",
        qkv=("attention.self.query", "attention.self.key", "attention.self.value"),
        attention_output="attention.output.dense",
        ffn_input="mlp.dense1",
        ffn_output="mlp.dense2",
        head_size="attention_head_size",
        depth="depths",
        neurons="mlp_ratios",
        neurons_are="ratios",
    ),
    "segformer": Family(
        blocks="stages.*.blocks",
        qkv=_QKV,
        attention_output=_OUTPUT,
        ffn_input=_MLP[0],
        ffn_output=_MLP[1],
        between=("mlp.dwconv.dwconv",),
        depth="depths",
        neurons="mlp_ratios",
        neurons_are="ratios",
    ),
    "convnext": _CONVNEXT,
    "convnextv2": Family(
        blocks=_CONVNEXT.blocks,
        ffn_input="pwconv1",
        ffn_output="pwconv2",
        between=("grn",),
        depth="depths",
        neurons="",
    ),
}
TEXTS = ("bert", "roberta", "distilbert")
"""Those of networks of texts; the others are of images."""
