# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Tiny ``.tflite`` files, written operator by operator, and what LiteRT makes of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

Type = schema.TensorType
Op = schema.BuiltinOperator
ROWS, WIDTH = 60, 3
SIDE = 8


class Writer:
    """Writes one file, function by function."""

    def __init__(self) -> None:
        self.model = schema.ModelT()
        self.model.version = 3
        self.model.buffers = [schema.BufferT()]
        self.model.operatorCodes, self.model.subgraphs = [], []
        self.model.signatureDefs = []

    def function(self, key: str) -> "Function":
        graph = schema.SubGraphT()
        graph.name, graph.tensors, graph.operators = key, [], []
        graph.inputs, graph.outputs = [], []
        self.model.subgraphs.append(graph)
        return Function(self, graph, key)

    def code(self, operator: int, custom: str = "") -> int:
        code = schema.OperatorCodeT()
        code.builtinCode, code.version = operator, 1
        code.deprecatedBuiltinCode = min(operator, 127)
        code.customCode = custom or None
        self.model.operatorCodes.append(code)
        return len(self.model.operatorCodes) - 1

    def bytes(self) -> bytes:
        builder = flatbuffers.Builder(1024)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


class Function:
    def __init__(self, writer: Writer, graph: Any, key: str) -> None:
        self.writer, self.graph = writer, graph
        self.signature = schema.SignatureDefT()
        self.signature.signatureKey = key
        self.signature.subgraphIndex = len(writer.model.subgraphs) - 1
        self.signature.inputs, self.signature.outputs = [], []
        writer.model.signatureDefs.append(self.signature)

    def tensor(
        self,
        name: str,
        kind: int,
        shape: Sequence[int],
        value: np.ndarray | None = None,
        scale: tuple[float, int] | None = None,
    ) -> int:
        tensor = schema.TensorT()
        tensor.name, tensor.type, tensor.buffer = name, kind, 0
        tensor.shape = [abs(n) for n in shape]
        if any(n < 0 for n in shape):
            tensor.shapeSignature = list(shape)
        if value is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(value).tobytes(), np.uint8)
            self.writer.model.buffers.append(buffer)
            tensor.buffer = len(self.writer.model.buffers) - 1
        if scale is not None:
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale, tensor.quantization.zeroPoint = [scale[0]], [scale[1]]
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def constant(self, value: np.ndarray) -> int:
        kind = {"float32": Type.FLOAT32, "int32": Type.INT32}[value.dtype.name]
        return self.tensor(f"c{len(self.graph.tensors)}", kind, value.shape, value)

    def call(
        self,
        operator: int,
        inputs: Sequence[int],
        output: int,
        options: Any = None,
        custom: str = "",
    ) -> int:
        made = schema.OperatorT()
        made.opcodeIndex = self.writer.code(operator, custom)
        made.inputs, made.outputs = list(inputs), [output]
        if options is not None:
            made.builtinOptions = options
            kind = type(options).__name__.removesuffix("T")
            made.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
        self.graph.operators.append(made)
        return output

    def port(self, side: str, name: str, index: int) -> int:
        entry = schema.TensorMapT()
        entry.name, entry.tensorIndex = name, index
        getattr(self.signature, side).append(entry)
        getattr(self.graph, side).append(index)
        return index


def _classify(function: Function, features: int, width: int, softmax: bool) -> int:
    rng = np.random.default_rng(1)
    weight = function.constant(rng.normal(size=(WIDTH, width)).astype(np.float32))
    bias = function.constant(rng.normal(size=WIDTH).astype(np.float32))
    logits = function.tensor("dense", Type.FLOAT32, (1, WIDTH))
    function.call(
        Op.FULLY_CONNECTED, (features, weight, bias), logits, schema.FullyConnectedOptionsT()
    )
    if not softmax:
        return logits
    options = schema.SoftmaxOptionsT()
    options.beta = 1.0
    scores = function.tensor("scores", Type.FLOAT32, (1, WIDTH))
    return function.call(Op.SOFTMAX, (logits,), scores, options)


def texts(
    lengths: Sequence[int] = (16,),
    *,
    names: tuple[str, str] = ("input_ids", "attention_mask"),
    output: str = "logits",
    kind: int = Type.INT32,
    masked: bool = True,
    softmax: bool = False,
    extra: bool = False,
    custom: str = "",
    prefix: str = "seq_",
) -> bytes:
    """Return a file that sums the vectors of unmasked tokens, with a function for each length."""
    writer = Writer()
    table = np.random.default_rng(0).normal(size=(ROWS, 4)).astype(np.float32)
    for n in lengths:
        function = writer.function(f"{prefix}{n}")
        ids = function.port("inputs", names[0], function.tensor("ids", kind, (1, n)))
        mask = function.port("inputs", names[1], function.tensor("mask", Type.INT32, (1, n)))
        looked = function.tensor("looked", Type.FLOAT32, (1, n, 4))
        function.call(Op.GATHER, (function.constant(table), ids), looked, schema.GatherOptionsT())
        shape = function.constant(np.array([1, n, 1], np.int32))
        weights = function.call(Op.CAST, (mask,), function.tensor("weights", Type.FLOAT32, (1, n)))
        column = function.call(
            Op.RESHAPE, (weights, shape), function.tensor("column", Type.FLOAT32, (1, n, 1))
        )
        hidden = function.tensor("hidden", Type.FLOAT32, (1, n, 4))
        function.call(Op.MUL, (looked, column if masked else looked), hidden, schema.MulOptionsT())
        axis = function.constant(np.array([1], np.int32))
        total = function.tensor("total", Type.FLOAT32, (1, 4))
        function.call(Op.SUM, (hidden, axis), total, schema.ReducerOptionsT())
        if custom:
            total = function.call(
                Op.CUSTOM, (total,), function.tensor("odd", Type.FLOAT32, (1, 4)), custom=custom
            )
        function.port("outputs", output, _classify(function, total, 4, softmax))
        if extra:
            function.port("outputs", "hidden", hidden)
    return writer.bytes()


def images(
    *,
    given: tuple[int, tuple[float, int] | None] = (Type.FLOAT32, None),
    gives: tuple[int, tuple[float, int] | None] = (Type.FLOAT32, None),
    batch: int = 1,
    channels: int = 3,
) -> bytes:
    """Return a file that classifies the mean of each channel; -1 is a free batch."""
    writer = Writer()
    function = writer.function("serving_default")
    shape = (batch, SIDE, SIDE, channels)
    pixels = function.tensor("pixels", given[0], shape, scale=given[1])
    function.port("inputs", "pixel_values", pixels)
    if given[1] is not None:
        real = function.tensor("real", Type.FLOAT32, shape)
        pixels = function.call(Op.DEQUANTIZE, (pixels,), real, schema.DequantizeOptionsT())
    axes = function.constant(np.array([1, 2], np.int32))
    mean = function.tensor("mean", Type.FLOAT32, (batch, channels))
    function.call(Op.MEAN, (pixels, axes), mean, schema.ReducerOptionsT())
    found = _classify(function, mean, channels, False)
    if gives[1] is not None:
        packed = function.tensor("packed", gives[0], (1, WIDTH), scale=gives[1])
        found = function.call(Op.QUANTIZE, (found,), packed, schema.QuantizeOptionsT())
    function.port("outputs", "logits", found)
    return writer.bytes()


def ask(content: bytes, key: str, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return what LiteRT gives for one call of the file, under its own names."""
    runner = Interpreter(model_content=content).get_signature_runner(key)
    details = runner.get_input_details()
    return dict(runner(**{n: v.astype(details[n]["dtype"]) for n, v in feeds.items()}))
