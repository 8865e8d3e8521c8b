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

from edgeopt.backends import Artifact, ArtifactGraph, decoder_layers, onnx_seq2seq
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

HELD = False
"""States are inputs and outputs, of the same memory."""

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
    answers = config.model_type in seq2seq.WITH_ENCODERS
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
            decoder_layers.write(_Parts(writer, config), model)
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
    if network.config.model_type in (GPT2, *seq2seq.WITH_ENCODERS):
        return _SINCE
    windows = [
        decoder_layers.window(layer.self_attn, network.config, model.text.max_seq_len)
        for layer in network.model.layers
    ]
    return _SINCE if windows == [None] * len(windows) else _WINDOW_SINCE


class _Parts:
    """A decoder's parts in onnxruntime's operators; a value is the name of a tensor."""

    def __init__(self, writer: Writer, config: Any) -> None:
        self._writer, self._config = writer, config
        self._rotary: tuple[str, ...] = ()
        # What every layer is told: the place of the last token.
        one = writer.weight("one", np.array([1], np.int32))
        writer.node("Sub", [TOTAL, one], "last_key")

    def table(self, name: str, weight: Any) -> str:
        """Return the rows of ``weight`` that the tokens name."""
        return self._writer.table(TOKENS, name, weight)

    def places(self, name: str, weight: Any) -> str:
        """Return the rows at positions total - seq .. total - 1."""
        writer = self._writer
        writer.node("Shape", [TOKENS], "seq", start=1, end=2)
        total = writer.node("Cast", [TOTAL], "total", to=7)
        first = writer.node("Sub", [total, "seq"], "first")
        scalar = writer.weight("scalar", np.array([], np.int64))
        bounds = [
            writer.node("Reshape", [value, scalar], f"{value}.scalar") for value in (first, total)
        ]
        step = writer.weight("step", np.array(1, np.int64))
        writer.node("Range", [*bounds, step], "positions")
        return writer.node(
            "Gather", [writer.weight(f"{name}.weight", weight), "positions"], "places"
        )

    def add(self, a: str, b: str, name: str) -> str:
        """Return the sum of two values."""
        return self._writer.node("Add", [a, b], name)

    def multiply(self, a: str, b: str, name: str) -> str:
        """Return the product of two values, element by element."""
        return self._writer.node("Mul", [a, b], name)

    def scale(self, x: str, by: float, name: str) -> str:
        """Return ``x`` times a number."""
        factor = self._writer.weight(f"{name}.scale", np.float32(by))
        return self._writer.node("Mul", [x, factor], name)

    def layer_norm(self, x: str, name: str, part: Any) -> str:
        """Return the layer norm ``part`` of ``x``."""
        weights = [self._writer.weight(f"{name}.{n}", getattr(part, n)) for n in ("weight", "bias")]
        how: dict[str, Any] = {"axis": -1, "epsilon": part.eps}
        return self._writer.node("LayerNormalization", [x, *weights], f"{name}.out", **how)

    def rms_norm(self, x: str, name: str, weight: Any, epsilon: float) -> str:
        """Return ``x`` over the root of its mean square, times ``weight``."""
        how: dict[str, Any] = {"axis": -1, "epsilon": epsilon, "stash_type": 1}
        held = self._writer.weight(f"{name}.weight", weight)
        return self._writer.node("SimplifiedLayerNormalization", [x, held], f"{name}.out", **how)

    def linear(self, x: str, name: str, weight: Any, bias: Any = None) -> str:
        """Return the product of ``x`` and ``weight``, with a bias if there is one."""
        return self._writer.linear(x, name, weight, bias)

    def activate(self, x: str, kind: str, name: str) -> str:
        """Return the activation ``kind`` of transformers. Raises CompileError if it has none."""
        return activated(self._writer, x, kind, name)

    def rotate(self, cosines: Any, sines: Any) -> None:
        """Keep the waves: of each the first half, which the second repeats."""
        half = cosines.shape[1] // 2
        waves = (("cos", cosines), ("sin", sines))
        self._rotary = tuple(self._writer.weight(name, wave[:, :half]) for name, wave in waves)

    def attend(self, qkv: str, name: str, layer: int, part: Any) -> str:
        """Return the attention of a layer to its own tokens and those before."""
        from onnx import helper

        config = self._config
        inputs = [qkv, "", ""]
        if getattr(part, "q_norm", None) is not None:
            inputs = self._normed(name.rpartition(".")[0], qkv, part)
        found = decoder_layers.window(part, config, self._writer.context)
        how: dict[str, Any] = {} if found is None else {"local_window_size": found}
        rotary = self._rotary if getattr(part, "use_rope", True) else ()
        node = helper.make_node(
            "GroupQueryAttention",
            [*inputs, f"past.{layer}.key", f"past.{layer}.value", "last_key", TOTAL, *rotary],
            [f"{name}.context", f"present.{layer}.key", f"present.{layer}.value"],
            name,
            domain=CONTRIB,
            num_heads=config.num_attention_heads,
            kv_num_heads=key_heads(config),
            scale=float(part.scaling),
            do_rotary=1 if rotary else 0,
            **how,
        )
        self._writer.nodes.append(node)
        return f"{name}.context"

    def _normed(self, name: str, x: str, part: Any) -> list[str]:
        """Add the norms that Qwen3 has on each head of queries and keys; return all three."""
        from onnx import helper

        writer, config = self._writer, self._config
        size, keys = head_size(config), key_heads(config)
        widths = [config.num_attention_heads * size, keys * size, keys * size]
        split = writer.weight(f"{name}.widths", np.array(widths, np.int64))
        outputs = [f"{name}.{n}" for n in ("q", "k", "v")]
        writer.nodes.append(
            helper.make_node("Split", [x, split], outputs, f"{name}.split", axis=-1)
        )
        for at, norm in enumerate((part.q_norm, part.k_norm)):
            heads = writer.weight(f"{name}.heads.{at}", np.array([0, 0, -1, size], np.int64))
            y = writer.node("Reshape", [outputs[at], heads], f"{outputs[at]}.heads")
            y = self.rms_norm(y, f"{outputs[at]}.norm", norm.weight, float(norm.variance_epsilon))
            joined = writer.weight("joined", np.array([0, 0, -1], np.int64))
            outputs[at] = writer.node("Reshape", [y, joined], f"{outputs[at]}.joined")
        return outputs

    def last(self, x: str) -> str:
        """Return the last token's row of (1, seq, size): (1, size)."""
        at = self._writer.weight("last", np.array(-1, np.int64))
        return self._writer.node("Gather", [x, at], "last_row", axis=1)

    def head(self, x: str, weight: Any, table: str, *, tied: bool) -> None:
        """Make the logits; the weight is that of ``table`` if they are ``tied``."""
        self._writer.head(x, weight, table, tied=tied)


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
