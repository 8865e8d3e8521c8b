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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from edgeopt.backends import Artifact, ArtifactGraph
from edgeopt.engines.elf import version_key
from edgeopt.errors import CompileError
from edgeopt.extras import require
from edgeopt.host import overflows_int8
from edgeopt.model import MAIN, Model
from edgeopt.model.decoder import GPT2, LOGITS, TOKENS, TOTAL, head_size, key_heads
from edgeopt.model.signature import PAST
from edgeopt.quantize import GROUP_SIZE_INT4, PLAIN, QUANTIZED, Quantize
from edgeopt.target import EngineSpec, Target

if TYPE_CHECKING:
    import torch

_FILE = "model.onnx"
_WEIGHTS = "weights.bin"
_INLINE_BYTES = 1024  # of tensors in the graph itself: shapes and the like, which engines fold
_LARGE_BYTES, _PAGE, _ALIGNMENT = 65536, 4096, 64
"""Tensors that are large begin with a page, others with a line of the processor's cache."""
_OURS = "com.microsoft"
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

_INT8_MOST, _MIDDLE, _LEAST = 127, 128, 1e-30
_AXES_AS_INPUT = 18
"""The first opset whose ReduceMax takes its axes as an input."""

_WIDER = ("session.x64quantprecision", "1")
"""Session configuration of signed INT8 on an x86 CPU without VNNI, as this host may be."""

_ACTIVATIONS = {
    "gelu_new": "FastGelu",
    "gelu_pytorch_tanh": "FastGelu",
    "gelu_fast": "FastGelu",
    "gelu": "Gelu",
    "silu": "QuickGelu",  # with alpha = 1: x * sigmoid(x)
    "relu": "Relu",
}


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
    is_grouped = way in (_GROUPS, _GROUPS_IN_LAYERS)
    needed = max(_GROUPED_SINCE if is_grouped else _SINCE, since(model), key=version_key)
    if version_key(spec.version) < version_key(needed):
        raise CompileError(
            f"{precision} decoders of this kind need onnxruntime {needed}, but the target runs "
            f"{spec.version}"
        )
    if spec.opset is None or spec.ir_version is None or spec.opset < 17:
        raise CompileError("the target's opset is below 17", where=target.path)
    config: Any = model.module.config
    if head_size(config) % _HEAD_MULTIPLE:
        raise CompileError(
            f"heads of {head_size(config)} values; onnxruntime's attention takes multiples of "
            f"{_HEAD_MULTIPLE}",
            where=model.name,
        )
    level = 0 if quantize.activations == "none" else _INT8_PRODUCTS
    onnx = require("onnx", "onnx")
    with open(directory / _WEIGHTS, "wb") as weights:
        writer = _Writer(
            weights,
            bits=4 if precision == "int4" else 8,
            way=way,
            group=quantize.group_size or GROUP_SIZE_INT4,
            level=level,
            rows=_Rows(unsigned=target.device.arch != "x86_64" or target.device.overflows_int8),
            context=model.text.max_seq_len,
            opset=spec.opset,
        )
        (_gpt2 if config.model_type == GPT2 else _llama)(writer, model)
    onnx.save(_proto(writer, model, spec.opset, spec.ir_version), str(directory / _FILE))
    return Artifact(
        engine="onnx",
        precision=precision,
        graphs={
            MAIN: ArtifactGraph(
                files=(_FILE, _WEIGHTS), signature=model.main.signature, seq_lens=()
            ),
        },
        route=f"written with GroupQueryAttention{writer.told} (opset {spec.opset})",
        options={},
        tools={n: require(n, "onnx").__version__ for n in ("onnx", "onnxruntime")}
        | {"torch": require("torch", "torch").__version__},
    )


_FLOATS, _GROUPS, _GROUPS_IN_LAYERS, _ROWS = "floats", "groups", "groups in layers", "rows"
"""How weights are quantised: not; in groups; so in layers, and embeddings and head by rows; all
by rows."""


def _way(precision: str, quantize: Quantize) -> str:
    """Return how weights are quantised. Raises CompileError for options that a decoder has not."""
    if precision not in QUANTIZED:
        return _FLOATS
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
        return _GROUPS
    if precision == "int4":
        return _GROUPS_IN_LAYERS
    return _GROUPS if quantize.group_size else _ROWS


def finer(precision: str, quantize: Quantize) -> Quantize | None:
    """Return what loses less than ``quantize``, and reads prompts slower; None: nothing."""
    if _way(precision, quantize) != _ROWS:
        return None
    return replace(quantize, group_size=GROUP_SIZE_INT4)


def since(model: Model) -> str:
    """Return the first onnxruntime that runs a graph of ``model`` rightly, in FP32 and INT8."""
    network: Any = model.module
    if network.config.model_type == GPT2:
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


@dataclass(frozen=True, kw_only=True, slots=True)
class _Rows:
    """INT8 with a scale for each output of a product, and one for each token's activations.

    An x86 CPU without VNNI adds two products of uint8 and int8 in 16 bits, which overflow; of two
    uint8 it does not. With VNNI those are slower, and on ARM both are alike. ``unsigned`` weights
    have 128 in the place of 0.
    """

    unsigned: bool

    def pack(self, weight: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Return ``weight`` (outputs, inputs) in 8 bits, and the scale of each output."""
        floats = weight.detach().numpy()
        scales = np.abs(floats).max(axis=1) / _INT8_MOST
        scales = np.where(scales == 0, 1, scales).astype(np.float32)
        values = np.rint(floats / scales[:, None])
        return (
            (values + _MIDDLE).astype(np.uint8) if self.unsigned else values.astype(np.int8),
            scales,
        )


class _Writer:
    """The nodes and weights of a graph that is being written; large weights go to ``file``.

    ``way`` says what is quantised in groups of ``group`` weights and what by ``rows``. ``level`` is
    MatMulNBits' accuracy, and ``context`` the most tokens.
    """

    def __init__(
        self,
        file: BinaryIO,
        *,
        way: str,
        bits: int,
        group: int,
        level: int,
        rows: _Rows,
        context: int,
        opset: int,
    ) -> None:
        self.bits, self.group, self.level, self.context = bits, group, level, context
        self.way, self.rows, self.opset = way, rows, opset
        self.nodes: list[Any] = []
        self.weights: dict[str, Any] = {}
        self._file = file
        self._quantised: dict[str, tuple[str, str]] = {}

    @property
    def told(self) -> str:
        """How weights are quantised, in words."""
        groups = f", MatMulNBits ({self.bits} bits, groups of {self.group})"
        rows = ", MatMulIntegerToFloat (8 bits, a scale for each output and token)"
        told = {_FLOATS: "", _GROUPS: groups, _GROUPS_IN_LAYERS: groups + rows, _ROWS: rows}
        return told[self.way]

    def _by_groups(self, weight: torch.Tensor) -> bool:
        """Return whether a layer's ``weight`` is in groups."""
        return self.way in (_GROUPS, _GROUPS_IN_LAYERS) and weight.shape[1] % self.group == 0

    def _table_by_rows(self) -> bool:
        return self.way in (_GROUPS_IN_LAYERS, _ROWS)

    def weight(self, name: str, values: Any) -> str:
        """Keep a tensor of the network, or an array, under ``name``, and return that."""
        from onnx import StringStringEntryProto, TensorProto, helper, numpy_helper

        array = values.detach().numpy() if hasattr(values, "detach") else np.asarray(values)
        array = np.asarray(array, order="C")
        if array.nbytes <= _INLINE_BYTES:
            self.weights[name] = numpy_helper.from_array(array, name)
            return name
        self._pad(_PAGE if array.nbytes >= _LARGE_BYTES else _ALIGNMENT)
        place = {"location": _WEIGHTS, "offset": self._file.tell(), "length": array.nbytes}
        self.weights[name] = TensorProto(
            name=name,
            data_type=helper.np_dtype_to_tensor_dtype(array.dtype),
            dims=array.shape,
            data_location=TensorProto.EXTERNAL,
            external_data=[
                StringStringEntryProto(key=key, value=str(value)) for key, value in place.items()
            ],
        )
        array.tofile(self._file)
        return name

    def _pad(self, to: int) -> None:
        self._file.write(bytes(-self._file.tell() % to))

    def node(
        self, kind: str, inputs: Sequence[str], name: str, domain: str = "", **how: Any
    ) -> str:
        """Add a node with the output ``name``, and return that."""
        from onnx import helper

        self.nodes.append(helper.make_node(kind, list(inputs), [name], name, domain=domain, **how))
        return name

    def linear(self, x: str, name: str, weight: torch.Tensor, bias: Any = None) -> str:
        """Add a product with ``weight`` (outputs, inputs), and its bias if it has one."""
        if self._by_groups(weight):
            inputs = [x, *self._packed(name, weight, self.bits)]
            out = self._product(inputs, name, weight, self.bits)
        elif self.way in (_GROUPS_IN_LAYERS, _ROWS):
            values, scales = self.rows.pack(weight)
            out = self._by_row(x, name, self.weight(f"{name}.values", values.T), scales)
        else:
            out = self.node("MatMul", [x, self.weight(f"{name}.weight", weight.T)], f"{name}.out")
        if bias is None:
            return out
        return self.node("Add", [out, self.weight(f"{name}.bias", bias)], f"{name}.sum")

    def _by_row(self, x: str, name: str, values: str, scales: np.ndarray) -> str:
        """Add the product of ``x``, quantised, and ``values`` (inputs, outputs) in 8 bits."""
        quantised, largest = self._tokens(x)
        middle = self.weight("middle", np.uint8(_MIDDLE))
        none = middle if self.rows.unsigned else self.weight(f"{name}.none", np.int8(0))
        unit = self.weight("unit", np.float32(1))
        by = self.weight(f"{name}.scales", scales / _INT8_MOST)
        out = self.node(
            "MatMulIntegerToFloat",
            [quantised, values, unit, by, middle, none],
            f"{name}.shares",
            _OURS,
        )
        return self.node("Mul", [out, largest], f"{name}.out")

    def _tokens(self, x: str) -> tuple[str, str]:
        """Add the quantising of each token's values by their largest one, once for each ``x``."""
        if x not in self._quantised:
            least = self.weight("least", np.float32(_LEAST))
            sizes = self.node("Abs", [x], f"{x}.sizes")
            largest = self._largest(sizes, f"{x}.most")
            largest = self.node("Max", [largest, least], f"{x}.largest")  # no token of zeros alone
            share = self.node("Div", [x, largest], f"{x}.share")
            step = self.weight("step_of_share", np.float32(1 / _INT8_MOST))
            middle = self.weight("middle", np.uint8(_MIDDLE))
            self._quantised[x] = (
                self.node("QuantizeLinear", [share, step, middle], f"{x}.quantised"),
                largest,
            )
        return self._quantised[x]

    def _largest(self, x: str, name: str) -> str:
        """Add the largest value of each row."""
        if self.opset < _AXES_AS_INPUT:
            return self.node("ReduceMax", [x], name, keepdims=1, axes=[-1])
        last = self.weight("last_axis", np.array([-1], np.int64))
        return self.node("ReduceMax", [x, last], name, keepdims=1)

    def _product(self, inputs: list[str], name: str, weight: torch.Tensor, bits: int) -> str:
        return self.node(
            "MatMulNBits",
            inputs,
            f"{name}.out",
            _OURS,
            K=weight.shape[1],
            N=weight.shape[0],
            bits=bits,
            block_size=self.group,
            accuracy_level=self.level,
        )

    def _packed(self, name: str, weight: torch.Tensor, bits: int) -> tuple[str, str]:
        """Quantise ``weight`` with onnxruntime's own code: values, and scales of the groups."""
        from onnxruntime.capi import _pybind_state as native

        outputs, inputs = weight.shape
        groups = inputs // self.group
        values = np.zeros((outputs, groups, self.group * bits // 8), np.uint8)
        scales = np.zeros((outputs, groups), np.float32)
        zeros = np.zeros((outputs, (groups * bits + 7) // 8), np.uint8)
        pack = native.quantize_matmul_4bits if bits == 4 else native.quantize_matmul_8bits
        columns = np.ascontiguousarray(weight.detach().numpy().T)  # (inputs, outputs)
        pack(values, columns, scales, zeros, self.group, outputs, inputs, True)
        return (
            self.weight(f"{name}.values", values),
            self.weight(f"{name}.scales", scales),
        )

    def table(self, ids: str, name: str, weight: torch.Tensor) -> str:
        """Look ``ids`` up in a table of (rows, size), in 8 bits if weights are quantised."""
        if self._table_by_rows():
            values, scales = self.rows.pack(weight)
            self.weight(f"{name}.scales", scales[:, None])
            rows = self.node(
                "Gather", [self.weight(f"{name}.values", values), ids], f"{name}.gathered"
            )
            rows = self.node("Cast", [rows], f"{name}.floats", to=1)
            if self.rows.unsigned:
                zero = self.weight("zero_of_table", np.float32(_MIDDLE))
                rows = self.node("Sub", [rows, zero], f"{name}.signed")
            of = self.node("Gather", [f"{name}.scales", ids], f"{name}.scale")
            return self.node("Mul", [rows, of], f"{name}.rows")
        if not self._by_groups(weight):
            return self.node("Gather", [self.weight(f"{name}.weight", weight), ids], f"{name}.rows")
        values, scales = self._packed(name, weight, 8)
        # (1, seq, groups, group) of 128 + value / scale
        rows = self.node("Gather", [values, ids], f"{name}.gathered")
        rows = self.node("Cast", [rows], f"{name}.floats", to=1)
        middle = self.weight("zero_of_table", np.float32(_MIDDLE))
        rows = self.node("Sub", [rows, middle], f"{name}.signed")
        of = self.node("Gather", [scales, ids], f"{name}.scale")
        last = self.weight("last_axis", np.array([-1], np.int64))
        of = self.node("Unsqueeze", [of, last], f"{name}.scale_of_group")
        rows = self.node("Mul", [rows, of], f"{name}.scaled")
        size = self.weight("joined", np.array([0, 0, -1], np.int64))
        return self.node("Reshape", [rows, size], f"{name}.rows")

    def head(self, x: str, weight: torch.Tensor, table: str, *, tied: bool) -> str:
        """Add the product with the head's weight, which is the table's if they are ``tied``."""
        if self._table_by_rows():
            values, scales = self.rows.pack(weight)
            name = f"{table}.values" if tied else self.weight("lm_head.values", values)
            # Engines fold it when they open the file.
            turned = self.node("Transpose", [name], "lm_head.turned", perm=[1, 0])
            return self.node("Identity", [self._by_row(x, "lm_head", turned, scales)], LOGITS)
        if not self._by_groups(weight):
            name = f"{table}.weight" if tied else self.weight("lm_head.weight", weight)
            return self.node("Gemm", [x, name], LOGITS, transB=1)
        names = (f"{table}.values", f"{table}.scales")
        if not tied:
            names = self._packed("lm_head", weight, 8)
        out = self._product([x, *names], "lm_head", weight, 8)
        return self.node("Identity", [out], LOGITS)


def _attend(
    writer: _Writer, name: str, layer: int, inputs: Sequence[str], attention: Any, config: Any,
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
        domain=_OURS,
        num_heads=config.num_attention_heads,
        kv_num_heads=key_heads(config),
        scale=float(attention.scaling),
        do_rotary=1 if rotary else 0,
        **how,
    )
    writer.nodes.append(node)
    return f"{name}.context"


def _lengths(writer: _Writer) -> None:
    """Add what every layer is told: the place of the last token."""
    one = writer.weight("one", np.array([1], np.int32))
    writer.node("Sub", [TOTAL, one], "last_key")


def _last(writer: _Writer, x: str) -> str:
    """Add the choice of the last token's row of (1, seq, size): (1, size)."""
    at = writer.weight("last", np.array(-1, np.int64))
    return writer.node("Gather", [x, at], "last_row", axis=1)


def _activated(writer: _Writer, x: str, kind: str, name: str) -> str:
    found = _ACTIVATIONS.get(kind)
    if found is None:
        raise CompileError(f"the activation {kind!r} has no operator in onnxruntime", where=name)
    domain = "" if found == "Relu" else _OURS
    how: dict[str, Any] = {"alpha": 1.0} if found == "QuickGelu" else {}
    return writer.node(found, [x], name, domain, **how)


def _gpt2(writer: _Writer, model: Model) -> None:
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
        y = _activated(writer, y, config.activation_function, f"{name}.act")
        down = layer.mlp.c_proj
        y = writer.linear(y, f"{name}.down", down.weight.T, down.bias)
        x = writer.node("Add", [x, y], f"{name}.fed")
    x = norm(_last(writer, x), "ln_f", body.ln_f)
    tied = network.lm_head.weight is body.wte.weight
    writer.head(x, network.lm_head.weight, "wte", tied=tied)


def _llama(writer: _Writer, model: Model) -> None:
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
        gate = _activated(writer, gate, kind, f"{name}.act")
        y = writer.node("Mul", [gate, up], f"{name}.gated")
        y = writer.linear(y, f"{name}.down", layer.mlp.down_proj.weight, layer.mlp.down_proj.bias)
        x = writer.node("Add", [x, y], f"{name}.fed")
    x = norm(_last(writer, x), "norm", body.norm)
    tied = network.lm_head.weight is body.embed_tokens.weight
    writer.head(x, network.lm_head.weight, "embed_tokens", tied=tied)


def _rotary(writer: _Writer, model: Model) -> tuple[str, str]:
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
    writer: _Writer, name: str, index: int, x: str, part: Any, config: Any,
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


def _normed(writer: _Writer, name: str, x: str, part: Any, config: Any) -> list[str]:
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


def _gates(writer: _Writer, name: str, x: str, part: Any) -> tuple[str, str]:
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


def _proto(writer: _Writer, model: Model, opset: int, ir_version: int) -> Any:
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
        opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid(_OURS, 1)],
        ir_version=ir_version,
        producer_name="edgeopt",
    )


class Decoder:
    """A decoder's artifact on this host, with a cache of its own."""

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
        self._kept = []
        for state in model.main.states:
            most = model.text.max_seq_len
            shape = [dim if isinstance(dim, int) else most for dim in state.dims]
            for given, made in zip(state.names("input"), state.names("output"), strict=True):
                value = ort.OrtValue.ortvalue_from_numpy(np.zeros(shape, state.dtype))
                self._io.bind_ortvalue_input(given, value)
                self._io.bind_ortvalue_output(made, value)
                self._kept.append(value)

    def reset(self) -> None:
        """Forget all tokens."""
        self._count = 0

    def run(self, tokens: Sequence[int]) -> np.ndarray:
        """Append ``tokens`` and return the logits after the last one, float32 (vocabulary,)."""
        self._count += len(tokens)
        self._io.bind_cpu_input(TOKENS, np.array([tokens], np.int64))
        self._io.bind_cpu_input(TOTAL, np.array([self._count], np.int32))
        self._io.bind_output(LOGITS)
        self._session.run_with_iobinding(self._io)
        found: np.ndarray = self._io.get_outputs()[-1].numpy()[0]
        return found
