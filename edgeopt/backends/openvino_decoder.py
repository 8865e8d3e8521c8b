# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""A decoder for OpenVINO: a graph that keeps keys and values inside.

Each state is a variable that is read, put before the keys or values of the new tokens, given to
``ScaledDotProductAttention`` and assigned. The plugin fuses that chain into one operator that
appends in place, if a ``Gather`` by the beams stands between reading and appending (as in what
Optimum Intel exports); without, each step copies the whole cache. There is one text here, so the
index of its beam is made inside the graph.

INT8 and INT4 are weights alone (NNCF): products are made in FP32.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from edgeopt.backends import Artifact, ArtifactGraph, decoder_layers
from edgeopt.backends.openvino import FILES, GROUP, HINT, module
from edgeopt.engines.elf import version_key
from edgeopt.errors import CompileError
from edgeopt.extras import require
from edgeopt.model import MAIN, Model, seq2seq
from edgeopt.model.decoder import LOGITS, TOKENS, TOTAL, head_size, key_heads
from edgeopt.quantize import GROUP_SIZE_INT4, PLAIN, QUANTIZED, Quantize
from edgeopt.quiet import quiet
from edgeopt.target import EngineSpec, Target

HELD = True
"""States are inside, and no inputs and outputs."""

OPTIONS = {HINT: "f32", GROUP: "0", "KV_CACHE_PRECISION": "f32"}
"""Of every artifact. Without the last, OpenVINO keeps keys and values in 8 bits."""

_SINCE = "2024.6"
"""2024.6.0, 2025.1.0 and 2026.4.1 give transformers' logits; 2024.0.0 refuses the states."""

_ACTIVATIONS = {
    "gelu_new": "tanh",
    "gelu_pytorch_tanh": "tanh",
    "gelu_fast": "tanh",
    "gelu": "erf",
    "silu": "swish",
    "swish": "swish",
    "relu": "relu",
}


def lower(
    model: Model,
    target: Target,
    spec: EngineSpec,
    precision: str,
    directory: Path,
    quantize: Quantize = PLAIN,
) -> Artifact:
    """Write ``model.xml`` and ``model.bin``: any tokens, after those of the calls before.

    Raises CompileError for a precision, an engine's version or options that this has not, and for
    encoder-decoders.
    """
    del target
    config: Any = model.module.config
    if config.model_type in seq2seq.WITH_ENCODERS:
        raise CompileError(
            "encoder-decoders are made for onnxruntime alone so far", where=model.name
        )
    if precision not in ("fp32", *QUANTIZED):
        raise CompileError(
            f"a decoder is made for OpenVINO in fp32, int8 and int4, not in {precision}"
        )
    _check_options(precision, quantize)
    if version_key(spec.version) < version_key(_SINCE):
        raise CompileError(f"decoders need OpenVINO {_SINCE}, but the target runs {spec.version}")
    openvino = module()
    parts = _Parts(model)
    decoder_layers.write(parts, model)
    graph, route = parts.model(), "written with ScaledDotProductAttention over states"
    with quiet():
        if precision in QUANTIZED:
            graph, line = _compressed(graph, precision, quantize)
            route += f" -> {line}"
        openvino.save_model(graph, str(directory / FILES[0]), compress_to_fp16=False)
    packages = ["openvino", "torch"] + (["nncf"] if precision in QUANTIZED else [])
    return Artifact(
        engine="openvino",
        precision=precision,
        graphs={
            MAIN: ArtifactGraph(files=FILES, signature=model.main.signature, seq_lens=()),
        },
        route=route,
        options=dict(OPTIONS),
        tools={name: version(name) for name in packages},
    )


def finer(precision: str, quantize: Quantize) -> Quantize | None:
    """Return what loses less than ``quantize``: nothing is known."""
    del precision, quantize
    return None


def since(model: Model) -> str:
    """Return the first OpenVINO that runs a graph of ``model`` rightly."""
    del model
    return _SINCE


def _check_options(precision: str, quantize: Quantize) -> None:
    if precision not in QUANTIZED:
        return
    asked = Quantize(
        weights=quantize.weights,
        group_size=quantize.group_size,
        activations=quantize.activations,
    )
    if asked != quantize or quantize.activations == "static":
        raise CompileError(
            "a decoder's weights are quantised as they are; for OpenVINO [quantize] has weights, "
            "group_size (of int4) and activations = none"
        )
    if quantize.activations == "dynamic":
        raise CompileError(
            "what OpenVINO quantises call by call depends on the device's plugin; for a decoder "
            "[quantize] has activations = none"
        )


def _compressed(graph: Any, precision: str, quantize: Quantize) -> tuple[Any, str]:
    """Return ``graph`` with its weights in fewer bits, and how, in words."""
    nncf = require("nncf", "openvino")
    modes = nncf.CompressWeightsMode
    if precision == "int8":
        made = nncf.compress_weights(graph, mode=modes.INT8_SYM)
        return made, "nncf.compress_weights (int8 by channel)"
    group = quantize.group_size or GROUP_SIZE_INT4
    made = nncf.compress_weights(graph, mode=modes.INT4_SYM, group_size=group)
    return made, f"nncf.compress_weights (int4 groups of {group}, rtn)"


class _Parts:
    """A decoder's parts in OpenVINO's operators; a value is a node, or an output of one."""

    def __init__(self, model: Model) -> None:
        self._openvino = module()
        import openvino.opset13 as ops

        self._ops, self._name = ops, model.name
        config: Any = model.module.config
        self._config, self._context = config, model.text.max_seq_len
        self._heads, self._keys = int(config.num_attention_heads), key_heads(config)
        self._size = head_size(config)
        self._waves: tuple[Any, ...] = ()
        self._masks: dict[int | None, Any] = {}
        self._tables: dict[str, Any] = {}
        self._assigns: list[Any] = []
        self._logits: Any = None
        self._tokens = ops.parameter([1, -1], self._openvino.Type.i64, name=TOKENS)
        self._total = ops.parameter([1], self._openvino.Type.i32, name=TOTAL)
        for port, name in ((self._tokens, TOKENS), (self._total, TOTAL)):
            port.output(0).tensor.set_names({name})
        seq = ops.gather(ops.shape_of(self._tokens, "i64"), self._whole(1), self._whole(0))
        self._end = ops.squeeze(ops.convert(self._total, "i64"), self._whole(0))
        first = ops.subtract(self._end, seq)
        self._positions = ops.range(first, self._end, self._whole(1), "i64")
        self._beam = ops.subtract(
            self._total, self._total
        )  # 0: the fused operator wants no constant

    def model(self) -> Any:
        """Return the openvino.Model of what was written."""
        self._logits.output(0).tensor.set_names({LOGITS})
        return self._openvino.Model(
            [self._ops.result(self._logits)],
            self._assigns,
            [self._tokens, self._total],
            self._name,
        )

    def _whole(self, value: int | Sequence[int]) -> Any:
        return self._ops.constant(np.array(value, np.int64))

    def _real(self, value: float) -> Any:
        return self._ops.constant(np.float32(value))

    def _weight(self, name: str, values: Any) -> Any:
        array = values.detach().numpy()
        return self._ops.constant(np.asarray(array, order="C"), name=name)

    def _row(self, weight: Any, at: Any) -> Any:
        return self._ops.gather(weight, at, self._whole(0))

    def table(self, name: str, weight: Any) -> Any:
        """Return the rows of ``weight`` that the tokens name."""
        self._tables[name] = self._weight(name, weight)
        return self._row(self._tables[name], self._tokens)

    def places(self, name: str, weight: Any) -> Any:
        """Return the rows at positions total - seq .. total - 1: (seq, size)."""
        return self._row(self._weight(name, weight), self._positions)

    def add(self, a: Any, b: Any, name: str) -> Any:
        """Return the sum of two values."""
        return self._ops.add(a, b, name=name)

    def multiply(self, a: Any, b: Any, name: str) -> Any:
        """Return the product of two values, element by element."""
        return self._ops.multiply(a, b, name=name)

    def scale(self, x: Any, by: float, name: str) -> Any:
        """Return ``x`` times a number."""
        return self._ops.multiply(x, self._real(by), name=name)

    def layer_norm(self, x: Any, name: str, part: Any) -> Any:
        """Return the layer norm ``part`` of ``x``."""
        ops = self._ops
        y = ops.mvn(x, self._whole([-1]), True, part.eps, "inside_sqrt", name=name)
        y = ops.multiply(y, self._weight(f"{name}.weight", part.weight))
        return ops.add(y, self._weight(f"{name}.bias", part.bias))

    def rms_norm(self, x: Any, name: str, weight: Any, epsilon: float) -> Any:
        """Return ``x`` over the root of its mean square, times ``weight``; the plugin fuses it."""
        ops = self._ops
        mean = ops.reduce_mean(ops.power(x, self._real(2)), self._whole([-1]), True)
        root = ops.sqrt(ops.add(mean, self._real(epsilon)))
        y = ops.multiply(x, ops.power(root, self._real(-1)))
        return ops.multiply(y, self._weight(f"{name}.weight", weight), name=name)

    def linear(self, x: Any, name: str, weight: Any, bias: Any = None) -> Any:
        """Return the product of ``x`` and ``weight``, with a bias if there is one."""
        held = self._weight(f"{name}.weight", weight)
        y = self._ops.matmul(x, held, False, True, name=name)
        return y if bias is None else self._ops.add(y, self._weight(f"{name}.bias", bias))

    def activate(self, x: Any, kind: str, name: str) -> Any:
        """Return the activation ``kind`` of transformers. Raises CompileError if it has none."""
        found = _ACTIVATIONS.get(kind)
        if found is None:
            raise CompileError(f"the activation {kind!r} is not written for OpenVINO", where=name)
        if found in ("tanh", "erf"):
            return self._ops.gelu(x, found, name=name)
        return getattr(self._ops, found)(x, name=name)

    def rotate(self, cosines: Any, sines: Any) -> None:
        """Take the rows of the tokens' positions, (1, 1, seq, rotated)."""
        rows = (
            self._row(self._weight(name, wave), self._positions)
            for name, wave in (("cos", cosines), ("sin", sines))
        )
        self._waves = tuple(self._ops.unsqueeze(row, self._whole([0, 1])) for row in rows)

    def _turned(self, x: Any) -> Any:
        """Return ``x`` (1, heads, seq, size) with its first values rotated by their positions."""
        ops, (cos, sin) = self._ops, self._waves
        rotated = cos.get_output_partial_shape(0)[3].get_length()
        rest = self._size - rotated
        if rest:
            x, kept = ops.variadic_split(x, self._whole(3), self._whole([rotated, rest])).outputs()
        half = rotated // 2
        low, high = ops.variadic_split(x, self._whole(3), self._whole([half, half])).outputs()
        across = ops.concat([ops.multiply(high, self._real(-1)), low], 3)
        y = ops.add(ops.multiply(x, cos), ops.multiply(across, sin))
        return ops.concat([y, kept], 3) if rest else y

    def _mask(self, window: int | None) -> Any:
        """Return 0 for each token's own and those before, within ``window``: (1, 1, seq, total)."""
        if window not in self._masks:
            ops = self._ops
            keys = ops.range(self._whole(0), self._end, self._whole(1), "i64")
            keys = ops.unsqueeze(keys, self._whole(0))
            own = ops.unsqueeze(self._positions, self._whole(1))
            seen = ops.less_equal(keys, own)
            if window is not None:
                seen = ops.logical_and(
                    seen, ops.greater(keys, ops.subtract(own, self._whole(window)))
                )
            never = self._real(float(np.finfo(np.float32).min))
            mask = ops.select(seen, self._real(0), never)
            self._masks[window] = ops.unsqueeze(mask, self._whole([0, 1]))
        return self._masks[window]

    def attend(self, qkv: Any, name: str, layer: int, part: Any) -> Any:
        """Return the attention of a layer to its own tokens and those before."""
        ops = self._ops
        counts = (self._heads, self._keys, self._keys)
        widths = self._whole([count * self._size for count in counts])
        three = []
        for side, count, x in zip(
            "qkv", counts, ops.variadic_split(qkv, self._whole(2), widths).outputs(), strict=True
        ):
            y = ops.reshape(x, self._whole([0, 0, count, self._size]), special_zero=True)
            norm = getattr(part, f"{side}_norm", None)
            if norm is not None:  # Qwen3's, of each head
                y = self.rms_norm(
                    y, f"{name}.{side}_norm", norm.weight, float(norm.variance_epsilon)
                )
            y = ops.transpose(y, self._whole([0, 2, 1, 3]))
            turns = side != "v" and self._waves and getattr(part, "use_rope", True)
            three.append(self._turned(y) if turns else y)
        q, k, v = three
        y = ops.scaled_dot_product_attention(
            q,
            self._kept(k, f"past.{layer}.key"),
            self._kept(v, f"past.{layer}.value"),
            self._mask(decoder_layers.window(part, self._config, self._context)),
            self._real(float(part.scaling)),
            causal=False,
            name=name,
        )
        y = ops.transpose(y, self._whole([0, 2, 1, 3]))
        return ops.reshape(y, self._whole([0, 0, self._heads * self._size]), special_zero=True)

    def _kept(self, x: Any, name: str) -> Any:
        """Return what the state ``name`` has, and then ``x``: (1, heads, total, size).

        It is kept for the next call. Heads that queries share are repeated.
        """
        from openvino.op.util import Variable, VariableInfo

        ops = self._ops
        info = VariableInfo()
        info.data_shape = self._openvino.PartialShape([1, self._keys, -1, self._size])
        info.data_type, info.variable_id = self._openvino.Type.f32, name
        variable = Variable(info)
        none = ops.constant(np.zeros((1, self._keys, 0, self._size), np.float32))
        past = ops.gather(ops.read_value(none, variable), self._beam, self._whole(0))
        present = ops.concat([past, x], 2)
        self._assigns.append(ops.assign(present, variable))
        if self._keys == self._heads:
            return present
        share = self._heads // self._keys
        repeated = ops.broadcast(
            ops.unsqueeze(present, self._whole(2)),
            self._whole([1, 1, share, 1, 1]),
            broadcast_spec="BIDIRECTIONAL",
        )
        shape = self._whole([0, self._heads, -1, self._size])
        return ops.reshape(repeated, shape, special_zero=True)

    def last(self, x: Any) -> Any:
        """Return the last token's row: (1, 1, size)."""
        return self._ops.gather(x, self._whole([-1]), self._whole(1))

    def head(self, x: Any, weight: Any, table: str, *, tied: bool) -> None:
        """Make the logits (1, vocabulary)."""
        held = self._tables[table] if tied else self._weight("lm_head.weight", weight)
        self._logits = self._ops.squeeze(
            self._ops.matmul(x, held, False, True, name="lm_head"), self._whole(1)
        )


class Decoder:
    """A generator's artifact on this host, with states of its own."""

    def __init__(self, path: Path, model: Model, threads: int) -> None:
        """Open ``path``, an artifact of ``model``."""
        del model
        options: dict[str, Any] = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
        with quiet():
            self._compiled = module().Core().compile_model(str(path), "CPU", OPTIONS | options)
        self.states: dict[str, Any] = {}
        self.reset()

    def reset(self, source: Sequence[int] = ()) -> None:
        """Forget all tokens, as the runtime does; a decoder alone has no ``source``."""
        del source
        self._request = self._compiled.create_infer_request()
        self._count = 0

    def run(self, tokens: Sequence[int]) -> np.ndarray:
        """Append ``tokens`` and return the logits after the last one, float32 (vocabulary,)."""
        self._count += len(tokens)
        given = {
            TOKENS: np.array([tokens], np.int64),
            TOTAL: np.array([self._count], np.int32),
        }
        return np.array(self._request.infer(given)[LOGITS][0], np.float32)
