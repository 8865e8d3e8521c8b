# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""A decoder for onnxruntime: its graph is written with the operators that onnxruntime has for it.

``GroupQueryAttention`` appends keys and values to a buffer that is past and present at once, and
rotates them; exported from PyTorch, each step would copy the whole of it. INT8 has a scale for each
output of a product and for each token. ``MatMulNBits`` has weights in groups with a scale each and
quantises activations inside the kernel: 4 bits, and 8 if they are to lose less. Of 128 tokens at
once an x86 core with AVX2 makes 58 billion products a second by rows, 26 in groups of 8 bits, 40 in
groups of 4, and 36 in FP32. The table of embeddings stands once if the head shares it.

Weights lie in a file beside the graph, which may have any size. onnxruntime maps it, so what it has
packed does not stay in memory twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edgeopt.backends import Artifact, ArtifactGraph, onnx_seq2seq
from edgeopt.backends.onnx_writer import (
    CONTRIB,
    FLOATS,
    GROUPS,
    GROUPS_IN_LAYERS,
    ROWS,
    WEIGHTS,
    Rows,
    Writer,
    activated,
)
from edgeopt.engines.elf import version_key
from edgeopt.errors import CompileError
from edgeopt.extras import require
from edgeopt.host import overflows_int8
from edgeopt.model import MAIN, Model, seq2seq
from edgeopt.model.audio import FEATURES
from edgeopt.model.decoder import GPT2, LOGITS, TOKENS, TOTAL, head_size, key_heads
from edgeopt.model.signature import PAST, SOURCE
from edgeopt.quantize import GROUP_SIZE_INT4, PLAIN, QUANTIZED, Quantize
from edgeopt.target import EngineSpec, Target

_FILE = "model.onnx"
_HEAD_MULTIPLE = 16
"""GroupQueryAttention of onnxruntime 1.31 takes no other sizes of a head on a CPU."""

_SINCE, _GROUPED_SINCE = "1.20", "1.22"
"""What graphs need, and those with weights in groups.

onnxruntime 1.18.1 and 1.19.2 open the graph, and read a prompt wrongly if it comes in parts; 1.20.1
does not. 1.22 is the first whose MatMulNBits takes 8 bits."""

_WINDOW_SINCE = "1.24"
"""The first whose window counts the token itself, as transformers' does: 1.20.1, 1.21.0, 1.22.1 and
1.23.2 look back one token more."""

_INT8_PRODUCTS = 4
"""MatMulNBits' ``accuracy_level``: activations are quantised to 8 bits inside the kernel."""

_WIDER = ("session.x64quantprecision", "1")
"""Session configuration of signed INT8 on an x86 CPU without VNNI, as this host may be."""


def lower(
    model: Model,
    target: Target,
    spec: EngineSpec,
    precision: str,
    directory: Path,
    quantize: Quantize = PLAIN,
) -> Artifact:
    """Write ``model.onnx``: any tokens, with the states of the calls before.

    Raises CompileError for a precision, an engine's version or options that this has not, and for
    sizes that the kernels do not take.
    """
    if precision not in ("fp32", *QUANTIZED):
        raise CompileError(f"onnxruntime has no {precision} CPU kernels", where=f"onnx {precision}")
    way = _way(precision, quantize)
    is_grouped = way in (GROUPS, GROUPS_IN_LAYERS)
    needed = max(_GROUPED_SINCE if is_grouped else _SINCE, since(model), key=version_key)
    if version_key(spec.version) < version_key(needed):
        raise CompileError(
            f"{precision} decoders of this kind need onnxruntime {needed}, but the target runs "
            f"{spec.version}"
        )
    if spec.opset is None or spec.ir_version is None or spec.opset < 17:
        raise CompileError("the target's opset is below 17", where=target.path)
    config: Any = model.module.config
    answers = config.model_type in (*seq2seq.ENCODER_DECODERS, seq2seq.WHISPER)
    size = seq2seq.head_size(config) if answers else head_size(config)
    if size % _HEAD_MULTIPLE:
        raise CompileError(
            f"heads of {size} values; onnxruntime's attention takes multiples of {_HEAD_MULTIPLE}",
            where=model.name,
        )
    level = 0 if quantize.activations == "none" else _INT8_PRODUCTS
    onnx = require("onnx", "onnx")
    with open(directory / WEIGHTS, "wb") as weights:
        writer = Writer(
            weights,
            bits=4 if precision == "int4" else 8,
            way=way,
            group=quantize.group_size or GROUP_SIZE_INT4,
            level=level,
            rows=Rows(unsigned=target.device.arch != "x86_64" or target.device.overflows_int8),
            context=model.text.max_seq_len,
            opset=spec.opset,
        )
        if answers:
            onnx_seq2seq.write(writer, model)
        else:
            (_gpt2 if config.model_type == GPT2 else _llama)(writer, model)
    onnx.save(_proto(writer, model, spec.opset, spec.ir_version), str(directory / _FILE))
    return Artifact(
        engine="onnx",
        precision=precision,
        graphs={
            MAIN: ArtifactGraph(
                files=(_FILE, WEIGHTS), signature=model.main.signature, seq_lens=()
            ),
        },
        route=f"written with GroupQueryAttention{writer.told} (opset {spec.opset})",
        options={},
        tools={n: require(n, "onnx").__version__ for n in ("onnx", "onnxruntime")}
        | {"torch": require("torch", "torch").__version__},
    )


def _way(precision: str, quantize: Quantize) -> str:
    """Return how weights are quantised. Raises CompileError for options that a decoder has not."""
    if precision not in QUANTIZED:
        return FLOATS
    asked = Quantize(
        weights=quantize.weights,
        group_size=quantize.group_size,
        activations=quantize.activations,
    )
    if asked != quantize or quantize.activations == "static":
        raise CompileError(
            "a decoder's weights are quantised as they are; of [quantize] it has weights, "
            "group_size and activations = dynamic or none"
        )
    if quantize.activations == "none":
        return GROUPS
    if precision == "int4":
        return GROUPS_IN_LAYERS
    return GROUPS if quantize.group_size else ROWS


def finer(precision: str, quantize: Quantize) -> Quantize | None:
    """Return what loses less than ``quantize``, and reads prompts slower; None: nothing."""
    if _way(precision, quantize) != ROWS:
        return None
    return replace(quantize, group_size=GROUP_SIZE_INT4)


def since(model: Model) -> str:
    """Return the first onnxruntime that runs a graph of ``model`` rightly, in FP32 and INT8."""
    network: Any = model.module
    if network.config.model_type == seq2seq.T5:
        return onnx_seq2seq.BIAS_SINCE
    if network.config.model_type in (GPT2, *seq2seq.ENCODER_DECODERS, seq2seq.WHISPER):
        return _SINCE
    windows = [
        _window(layer.self_attn, network.config, model.text.max_seq_len)
        for layer in network.model.layers
    ]
    return _SINCE if windows == [None] * len(windows) else _WINDOW_SINCE


def _window(attention: Any, config: Any, context: int) -> int | None:
    """Return how many tokens a layer looks back, None for all of the context.

    It is of one layer, as in Qwen2, or of all, as in Mistral.
    """
    found = getattr(attention, "sliding_window", getattr(config, "sliding_window", None))
    return None if found is None or found >= context else int(found)


def _attend(
    writer: Writer, name: str, layer: int, inputs: Sequence[str], attention: Any, config: Any,
    rotary: Sequence[str],
) -> str:  # fmt: skip
    """Add the attention of a layer to its own tokens and those before."""
    from onnx import helper

    window = _window(attention, config, writer.context)
    how: dict[str, Any] = {} if window is None else {"local_window_size": window}
    node = helper.make_node(
        "GroupQueryAttention",
        [*inputs, f"past.{layer}.key", f"past.{layer}.value", "last_key", TOTAL, *rotary],
        [f"{name}.context", f"present.{layer}.key", f"present.{layer}.value"],
        name,
        domain=CONTRIB,
        num_heads=config.num_attention_heads,
        kv_num_heads=key_heads(config),
        scale=float(attention.scaling),
        do_rotary=1 if rotary else 0,
        **how,
    )
    writer.nodes.append(node)
    return f"{name}.context"


def _lengths(writer: Writer) -> None:
    """Add what every layer is told: the place of the last token."""
    one = writer.weight("one", np.array([1], np.int32))
    writer.node("Sub", [TOTAL, one], "last_key")


def _last(writer: Writer, x: str) -> str:
    """Add the choice of the last token's row of (1, seq, size): (1, size)."""
    at = writer.weight("last", np.array(-1, np.int64))
    return writer.node("Gather", [x, at], "last_row", axis=1)


def _gpt2(writer: Writer, model: Model) -> None:
    """Write GPT-2: learnt positions, layer norms before each part, queries to values in one."""
    network: Any = model.module
    config = network.config
    body = network.transformer
    context = model.text.max_seq_len
    _lengths(writer)
    # positions total - seq .. total - 1
    writer.node("Shape", [TOKENS], "seq", start=1, end=2)
    total = writer.node("Cast", [TOTAL], "total", to=7)
    first = writer.node("Sub", [total, "seq"], "first")
    scalar = writer.weight("scalar", np.array([], np.int64))
    bounds = [
        writer.node("Reshape", [value, scalar], f"{value}.scalar") for value in (first, total)
    ]
    step = writer.weight("step", np.array(1, np.int64))
    writer.node("Range", [*bounds, step], "positions")
    x = writer.table(TOKENS, "wte", body.wte.weight)
    places = writer.weight("wpe.weight", body.wpe.weight[:context])
    x = writer.node("Add", [x, writer.node("Gather", [places, "positions"], "places")], "embedded")

    def norm(x: str, name: str, part: Any) -> str:
        weights = [writer.weight(f"{name}.{n}", getattr(part, n)) for n in ("weight", "bias")]
        how: dict[str, Any] = {"axis": -1, "epsilon": part.eps}
        return writer.node("LayerNormalization", [x, *weights], f"{name}.out", **how)

    for i, layer in enumerate(body.h):
        name = f"h.{i}"
        qkv = layer.attn.c_attn  # a Conv1D: (inputs, outputs)
        y = norm(x, f"{name}.ln_1", layer.ln_1)
        y = writer.linear(y, f"{name}.c_attn", qkv.weight.T, qkv.bias)
        y = _attend(writer, f"{name}.attn", i, [y, "", ""], layer.attn, config, ())
        out = layer.attn.c_proj
        y = writer.linear(y, f"{name}.c_proj", out.weight.T, out.bias)
        x = writer.node("Add", [x, y], f"{name}.attended")
        y = norm(x, f"{name}.ln_2", layer.ln_2)
        y = writer.linear(y, f"{name}.c_fc", layer.mlp.c_fc.weight.T, layer.mlp.c_fc.bias)
        y = activated(writer, y, config.activation_function, f"{name}.act")
        down = layer.mlp.c_proj
        y = writer.linear(y, f"{name}.down", down.weight.T, down.bias)
        x = writer.node("Add", [x, y], f"{name}.fed")
    x = norm(_last(writer, x), "ln_f", body.ln_f)
    tied = network.lm_head.weight is body.wte.weight
    writer.head(x, network.lm_head.weight, "wte", tied=tied)


def _llama(writer: Writer, model: Model) -> None:
    """Write a network as Llama is: rotary positions, RMS norms, a gated feed-forward network."""
    network: Any = model.module
    config = network.config
    body = network.model
    _lengths(writer)
    rotary = _rotary(writer, model)
    x = writer.table(TOKENS, "embed_tokens", body.embed_tokens.weight)
    scale = getattr(body.embed_tokens, "embed_scale", None)  # Gemma's
    if scale is not None:
        by = writer.weight("embed_scale", np.float32(float(scale)))
        x = writer.node("Mul", [x, by], "embedded")
    plus = 1.0 if config.model_type == "gemma" else 0.0  # its norms store weight - 1
    epsilon = float(config.rms_norm_eps)

    def norm(x: str, name: str, part: Any) -> str:
        weight = writer.weight(f"{name}.weight", part.weight + plus)
        how: dict[str, Any] = {"axis": -1, "epsilon": epsilon, "stash_type": 1}
        return writer.node("SimplifiedLayerNormalization", [x, weight], f"{name}.out", **how)

    for i, layer in enumerate(body.layers):
        name = f"layers.{i}"
        y = norm(x, f"{name}.input_norm", layer.input_layernorm)
        y = _mixed(writer, name, i, y, layer.self_attn, config, rotary)
        x = writer.node("Add", [x, y], f"{name}.attended")
        y = norm(x, f"{name}.mlp_norm", layer.post_attention_layernorm)
        gate, up = _gates(writer, name, y, layer.mlp)
        kind = getattr(config, "hidden_activation", None) or config.hidden_act
        gate = activated(writer, gate, kind, f"{name}.act")
        y = writer.node("Mul", [gate, up], f"{name}.gated")
        y = writer.linear(y, f"{name}.down", layer.mlp.down_proj.weight, layer.mlp.down_proj.bias)
        x = writer.node("Add", [x, y], f"{name}.fed")
    x = norm(_last(writer, x), "norm", body.norm)
    tied = network.lm_head.weight is body.embed_tokens.weight
    writer.head(x, network.lm_head.weight, "embed_tokens", tied=tied)


def _rotary(writer: Writer, model: Model) -> tuple[str, str]:
    """Keep the cosines and sines of all positions, as the network computes them."""
    torch = require("torch", "torch")
    network: Any = model.module
    with torch.inference_mode():
        places = torch.arange(model.text.max_seq_len)[None]
        waves = network.model.rotary_emb(torch.zeros(1), places)
    names = []
    for name, wave in zip(("cos", "sin"), waves, strict=True):
        half = wave[0].numpy()  # (context, rotated): the second half is the first one again
        names.append(writer.weight(name, half[:, : half.shape[1] // 2]))
    return names[0], names[1]


def _mixed(
    writer: Writer, name: str, index: int, x: str, part: Any, config: Any,
    rotary: Sequence[str],
) -> str:  # fmt: skip
    """Add queries, keys and values, the attention, and the product behind it."""
    import torch

    rotates = getattr(part, "use_rope", True)
    waves = rotary if rotates else ()
    if hasattr(part, "qkv_proj"):
        weight, bias = part.qkv_proj.weight, part.qkv_proj.bias
    else:
        parts = (part.q_proj, part.k_proj, part.v_proj)
        weight = torch.cat([p.weight for p in parts])
        biases = [p.bias for p in parts]
        bias = None if biases[0] is None else torch.cat(biases)
    y = writer.linear(x, f"{name}.qkv", weight, bias)
    inputs = [y, "", ""]
    if getattr(part, "q_norm", None) is not None:
        inputs = _normed(writer, name, y, part, config)
    y = _attend(writer, f"{name}.attention", index, inputs, part, config, waves)
    return writer.linear(y, f"{name}.o_proj", part.o_proj.weight, part.o_proj.bias)


def _normed(writer: Writer, name: str, x: str, part: Any, config: Any) -> list[str]:
    """Add the norms that Qwen3 has on each head of queries and keys; return all three."""
    from onnx import helper

    size, keys = head_size(config), key_heads(config)
    widths = [config.num_attention_heads * size, keys * size, keys * size]
    split = writer.weight(f"{name}.widths", np.array(widths, np.int64))
    outputs = [f"{name}.{n}" for n in ("q", "k", "v")]
    writer.nodes.append(helper.make_node("Split", [x, split], outputs, f"{name}.split", axis=-1))
    for at, norm in enumerate((part.q_norm, part.k_norm)):
        heads = writer.weight(f"{name}.heads.{at}", np.array([0, 0, -1, size], np.int64))
        y = writer.node("Reshape", [outputs[at], heads], f"{outputs[at]}.heads")
        epsilon = float(norm.variance_epsilon)
        how: dict[str, Any] = {"axis": -1, "epsilon": epsilon, "stash_type": 1}
        weight = writer.weight(f"{outputs[at]}.norm.weight", norm.weight)
        y = writer.node("SimplifiedLayerNormalization", [y, weight], f"{outputs[at]}.normed", **how)
        joined = writer.weight("joined", np.array([0, 0, -1], np.int64))
        outputs[at] = writer.node("Reshape", [y, joined], f"{outputs[at]}.joined")
    return outputs


def _gates(writer: Writer, name: str, x: str, part: Any) -> tuple[str, str]:
    if hasattr(part, "gate_up_proj"):
        gate, up = part.gate_up_proj.weight.chunk(2)
        return (
            writer.linear(x, f"{name}.gate", gate),
            writer.linear(x, f"{name}.up", up),
        )
    return (
        writer.linear(x, f"{name}.gate", part.gate_proj.weight, part.gate_proj.bias),
        writer.linear(x, f"{name}.up", part.up_proj.weight, part.up_proj.bias),
    )


def _proto(writer: Writer, model: Model, opset: int, ir_version: int) -> Any:
    """Return the file's content."""
    from onnx import TensorProto, helper

    types = {"float32": TensorProto.FLOAT, "int32": TensorProto.INT32, "int64": TensorProto.INT64}
    signature, states = model.main.signature, model.main.states

    def value(name: str, dtype: str, dims: Sequence[int | str]) -> Any:
        fixed = [1 if dim == "batch" else dim for dim in dims]
        return helper.make_tensor_value_info(name, types[dtype], fixed)

    sides = []
    for specs, side in ((signature.inputs, "input"), (signature.outputs, "output")):
        values = [value(spec.name, spec.dtype, spec.dims) for spec in specs]
        grown = {PAST: PAST if side == "input" else "present"}
        for state in states:
            dims = [grown.get(str(dim), dim) for dim in state.dims]
            values += [value(name, state.dtype, dims) for name in state.names(side)]
        sides.append(values)
    inputs, outputs = sides
    weights = list(writer.weights.values())
    graph = helper.make_graph(writer.nodes, model.name, inputs, outputs, weights)
    return helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid(CONTRIB, 1)],
        ir_version=ir_version,
        producer_name="edgeopt",
    )


class Decoder:
    """A generator's artifact on this host, with a cache of its own."""

    def __init__(self, path: Path, model: Model, threads: int) -> None:
        """Open ``path``, an artifact of ``model``, with room for all its tokens."""
        ort = require("onnxruntime", "onnx")
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3  # errors
        if overflows_int8():
            options.add_session_config_entry(*_WIDER)
        self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._io = self._session.io_binding()
        self._count = 0
        self._most = model.text.max_seq_len
        self._states = model.main.states
        self.states: dict[str, Any] = {}
        self._bind(PAST, self._most)

    def _bind(self, along: str, most: int) -> None:
        """Set memory for ``most`` tokens in the states that are ``along`` them."""
        ort = require("onnxruntime", "onnx")
        for state in self._states:
            if along not in state.dims:
                continue
            shape = [dim if isinstance(dim, int) else most for dim in state.dims]
            for given, made in zip(state.names("input"), state.names("output"), strict=True):
                value = ort.OrtValue.ortvalue_from_numpy(np.zeros(shape, state.dtype))
                self._io.bind_ortvalue_input(given, value)
                self._io.bind_ortvalue_output(made, value)
                self.states[made] = value

    def reset(self, source: Sequence[int] | np.ndarray = ()) -> None:
        """Forget all tokens; an encoder-decoder reads ``source``.

        It is of tokens, (seq,), or of the features of sound, float32 (bins, frames).
        """
        self._count = 0
        if isinstance(source, np.ndarray):
            self._bind(SOURCE, source.shape[1] // 2)
            self._io.bind_cpu_input(FEATURES, source[None])
            self._run([0], 0)
        elif source:
            self._bind(SOURCE, len(source))
            self._io.bind_cpu_input(seq2seq.SOURCE_TOKENS, np.array([source], np.int64))
            self._io.bind_cpu_input(seq2seq.SOURCE_TOTAL, np.array([len(source)], np.int32))
            self._run([0], 0)

    def run(self, tokens: Sequence[int]) -> np.ndarray:
        """Append ``tokens`` and return the logits after the last one, float32 (vocabulary,)."""
        # An encoder-decoder takes them one by one.
        parts = [[t] for t in tokens] if SOURCE in self._dims() else [list(tokens)]
        for part in parts:
            self._count += len(part)
            found = self._run(part, self._count)
        return found

    def _dims(self) -> set[int | str]:
        return {dim for state in self._states for dim in state.dims}

    def _run(self, tokens: Sequence[int], total: int) -> np.ndarray:
        self._io.bind_cpu_input(TOKENS, np.array([tokens], np.int64))
        self._io.bind_cpu_input(TOTAL, np.array([total], np.int32))
        self._io.bind_output(LOGITS)
        self._session.run_with_iobinding(self._io)
        found: np.ndarray = self._io.get_outputs()[-1].numpy()[0]
        return found
