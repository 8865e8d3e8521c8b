# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Read a ``.tflite`` file that anybody may have made, and run it in LiteRT.

Names, shapes, dtypes and scales are those in the flatbuffer. A file is taken if the engine on the
device runs it as it is: what it lacks there is said here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from edgeopt.errors import InputError
from edgeopt.extras import require
from edgeopt.model.network_call import Port
from edgeopt.quiet import quiet

_EIGHT_BITS = {"INT8": (-128, 127), "UINT8": (0, 255)}
_TAKEN = {"FLOAT32": "float32", "INT32": "int32", "INT64": "int64"}
_PASSES = ("RESHAPE", "SQUEEZE", "DEQUANTIZE", "QUANTIZE", "CAST")
_LARGEST = (1 << 31) - 1  # flatbuffers count in 32 bits
_SMALL = 1024  # a table of fewer numbers says nothing of the precision
_HINT = "Convert or copy it again."


@dataclass(frozen=True, kw_only=True, slots=True)
class Tensor:
    """One input or output: its name in the signature and its index in the graph.

    ``kind`` is the flatbuffer's name of its dtype. Numbers in 8 bits stand for (number -
    ``zero_point``) * ``scale``. ``dims`` has None for a free size.
    """

    name: str
    index: int
    kind: str
    dims: tuple[int | None, ...]
    scale: float = 1.0
    zero_point: int = 0

    @property
    def dtype(self) -> str:
        """What a caller gives or gets."""
        return "float32" if self.kind in _EIGHT_BITS else _TAKEN[self.kind]


@dataclass(frozen=True, kw_only=True, slots=True)
class Signature:
    """One function of the file: its key, and what it takes and gives."""

    key: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    makers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class TfliteContent:
    """What a file says of itself: its functions, and what its weights are in."""

    signatures: tuple[Signature, ...]
    precision: str


def read(path: Path) -> TfliteContent:
    """Return what the flatbuffer says. Raises InputError if it is damaged, or cannot be shipped."""
    where = str(path)
    schema: Any = require("ai_edge_litert.schema_py_generated", "tflite")
    data = _bytes(path)
    if data[4:8] != b"TFL3":
        raise InputError("is damaged, cut short, or not a .tflite file", where=where, hint=_HINT)
    _verify(path)  # before anything in it is followed
    try:
        model = schema.ModelT.InitFromPackedBuf(data, 0)
        codes = _codes(model, schema)
        _check_state(codes, where)
        signatures = _signatures(model, schema, codes, where)
        precision = _precision(model, schema)
    except InputError:
        raise
    # The generated reader raises struct.error, IndexError, TypeError and more for damaged bytes.
    except Exception as exc:
        raise InputError(
            f"is damaged, cut short, or not a .tflite file ({exc})", where=where, hint=_HINT
        ) from exc
    return TfliteContent(signatures=signatures, precision=precision)


def _check_state(codes: Sequence[str], where: str) -> None:
    """Raise InputError if an answer depends on more than the inputs of the call."""
    if kept := sorted({"VAR_HANDLE", "READ_VARIABLE", "CALL_ONCE"} & set(codes)):
        raise InputError(
            f"keeps variables ({', '.join(kept)}), which no call sets",
            where=where,
            hint="Convert it again with its weights as constants: from a SavedModel, a Keras model "
            "or a frozen function.",
        )


def _bytes(path: Path) -> bytes:
    if not path.is_file():
        raise InputError("is no file" if path.exists() else "no such file", where=str(path))
    if path.stat().st_size > _LARGEST:
        raise InputError("is larger than the 2 GB of a flatbuffer", where=str(path))
    return path.read_bytes()


def _verify(path: Path) -> None:
    """Open the file in LiteRT, which checks its offsets. Raises InputError, with the operators."""
    interpreter: Any = require("ai_edge_litert.interpreter", "tflite")
    try:
        with quiet():
            opened = interpreter.Interpreter(model_path=str(path), num_threads=1)
            opened.allocate_tensors()
    # LiteRT raises ValueError and RuntimeError; kernels of TensorFlow's own more.
    except Exception as exc:
        text = " ".join(str(exc).split())
        if lacking := _lacking(path):
            raise InputError(
                f"has operators that LiteRT does not have: {', '.join(lacking)}",
                where=str(path),
                hint="Convert it again with builtin operators alone (TFLITE_BUILTINS).",
            ) from exc
        raise InputError(
            f"is damaged, or cannot be run by LiteRT ({text[:240]})", where=str(path), hint=_HINT
        ) from exc


def _lacking(path: Path) -> list[str]:
    """Return the custom operators of a file by name, TensorFlow's own among them."""
    schema: Any = require("ai_edge_litert.schema_py_generated", "tflite")
    try:
        codes = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0).operatorCodes or []
        names = {_text(code.customCode) for code in codes if code.customCode}
    # As above: the file may be damaged as well.
    except Exception:  # noqa: BLE001
        return []
    return sorted(
        f"{name.removeprefix('Flex')} (of TensorFlow, by Flex)" if name.startswith("Flex") else name
        for name in names
    )


def functions(content: TfliteContent, where: str) -> tuple[Signature, ...]:
    """Return the functions that a call may go to: all, which differ in their lengths alone.

    Raises InputError if they differ in more: the runtime goes by names and shapes.
    """
    first, *others = content.signatures
    for other in others:
        for side in ("inputs", "outputs"):
            own, wanted = getattr(other, side), getattr(first, side)
            if [(t.name, t.kind, len(t.dims)) for t in own] != [
                (t.name, t.kind, len(t.dims)) for t in wanted
            ]:
                raise InputError(
                    f"has several signatures with other {side}: "
                    + ", ".join(s.key for s in content.signatures),
                    where=where,
                    hint="The runtime goes by names and shapes: convert each signature into a file "
                    "of its own.",
                )
    return content.signatures


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value or "")


def _codes(model: Any, schema: Any) -> list[str]:
    names = {v: k for k, v in vars(schema.BuiltinOperator).items() if isinstance(v, int)}
    return [
        names.get(max(code.builtinCode, code.deprecatedBuiltinCode), "CUSTOM")
        for code in model.operatorCodes
    ]


def _signatures(model: Any, schema: Any, codes: Sequence[str], where: str) -> tuple[Signature, ...]:
    kinds = {v: k for k, v in vars(schema.TensorType).items() if isinstance(v, int)}
    if not model.signatureDefs:
        raise InputError(
            "has no signature, by which the runtime on a device calls its inputs and outputs",
            where=where,
            hint="Convert it again with a TensorFlow of 2.5 or newer.",
        )
    found = []
    for signature in model.signatureDefs:
        graph = model.subgraphs[signature.subgraphIndex]
        sides = [
            tuple(
                _tensor(_text(entry.name), entry.tensorIndex, graph, kinds, where)
                for entry in sorted(side or [], key=lambda entry: _text(entry.name))
            )
            for side in (signature.inputs, signature.outputs)
        ]
        makers = {t.name: _maker(graph, codes, t.index) for t in sides[1]}
        key = _text(signature.signatureKey)
        found.append(Signature(key=key, inputs=sides[0], outputs=sides[1], makers=makers))
    return tuple(found)


def _tensor(name: str, index: int, graph: Any, kinds: Mapping[int, str], where: str) -> Tensor:
    tensor = graph.tensors[index]
    kind = kinds.get(tensor.type, str(tensor.type))
    if kind not in _TAKEN and kind not in _EIGHT_BITS:
        raise InputError(
            f"{name} is {kind.lower()}; expected one of "
            + ", ".join(k.lower() for k in (*_TAKEN, *_EIGHT_BITS)),
            where=where,
            hint="Convert it again with inputs and outputs of these; the runtime on a device has "
            "no others.",
        )
    shape = [int(n) for n in (() if tensor.shape is None else tensor.shape)]
    signature = tensor.shapeSignature
    dims = shape if signature is None or not len(signature) else [int(n) for n in signature]
    scale, zero_point = _scale(tensor.quantization, name, where) if kind in _EIGHT_BITS else (1, 0)
    return Tensor(
        name=name,
        index=index,
        kind=kind,
        dims=tuple(None if n < 0 else n for n in dims),
        scale=scale,
        zero_point=zero_point,
    )


def _scale(found: Any, name: str, where: str) -> tuple[float, int]:
    """Return scale and zero point; (1, 0) if there are none: numbers then are what they are."""
    scales = [] if found is None or found.scale is None else [float(s) for s in found.scale]
    points = [] if found is None or found.zeroPoint is None else [int(p) for p in found.zeroPoint]
    if len(scales) > 1:
        raise InputError(
            f"{name} has {len(scales)} scales; expected one for the whole tensor", where=where
        )
    return (scales or [1.0])[0], (points or [0])[0]


def _maker(graph: Any, codes: Sequence[str], index: int) -> str:
    """Return the operator that makes a tensor, through those that leave values alone."""
    made = {int(i): operator for operator in graph.operators for i in operator.outputs}
    while (operator := made.get(index)) is not None:
        code = codes[operator.opcodeIndex]
        if code not in _PASSES:
            return {"LOGISTIC": "sigmoid"}.get(code, code.lower())
        index = int(operator.inputs[0])
    return ""


def _precision(model: Any, schema: Any) -> str:
    """Return what most of the weights' numbers are in: fp32, fp16, int8 or int4."""
    kinds = schema.TensorType
    names = {
        kinds.FLOAT32: "fp32", kinds.FLOAT16: "fp16", kinds.INT8: "int8", kinds.UINT8: "int8",
        kinds.INT4: "int4",
    }  # fmt: skip
    numbers = dict.fromkeys(("fp32", "fp16", "int8", "int4"), 0)
    seen = set()
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            data = model.buffers[tensor.buffer].data
            stored = (data is not None and len(data)) or model.buffers[tensor.buffer].size
            if stored and tensor.type in names and tensor.buffer not in seen:
                seen.add(tensor.buffer)
                count = (
                    int(np.prod(tensor.shape, dtype=np.int64)) if tensor.shape is not None else 1
                )
                numbers[names[tensor.type]] += count
    least = max(numbers, key=lambda name: numbers[name])
    return least if numbers[least] else "fp32"


class TfliteNetwork:
    """A file opened in LiteRT; ``functions`` are those that a call may go to.

    They have the same tensors in other lengths, and the one whose shapes fit is run.
    """

    def __init__(self, path: Path, functions: Sequence[Signature], threads: int = 1) -> None:
        self.tool = f"LiteRT {version('ai-edge-litert')}"
        interpreter: Any = require("ai_edge_litert.interpreter", "tflite")
        with quiet():
            self._opened = interpreter.Interpreter(model_path=str(path), num_threads=threads)
            self._runners = [self._opened.get_signature_runner(f.key or None) for f in functions]
        self._functions = tuple(functions)
        first = functions[0]
        self.inputs = tuple(Port(name=t.name, dtype=t.dtype, dims=t.dims) for t in first.inputs)
        self.seq_lens = _lengths(functions)
        with quiet():  # XNNPACK announces itself when a graph is first prepared
            for function, runner in zip(functions, self._runners, strict=True):
                runner(**{t.name: _zeros(t) for t in function.inputs})

    def operator(self, output: str) -> str:
        """Return the operator that makes an output."""
        return self._functions[0].makers.get(output, "")

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return all outputs, real values; raises ValueError if no function has these shapes."""
        for function, runner in zip(self._functions, self._runners, strict=True):
            if all(_fits(t.dims, feeds[t.name].shape) for t in function.inputs):
                given = {t.name: quantised(t, feeds[t.name]) for t in function.inputs}
                found = runner(**given)
                return {t.name: real(t, found[t.name]) for t in function.outputs}
        shapes = ", ".join(f"{name} {value.shape}" for name, value in feeds.items())
        raise ValueError(f"takes no {shapes}")


def _zeros(tensor: Tensor) -> np.ndarray:
    return quantised(tensor, np.zeros([n or 1 for n in tensor.dims], np.float32))


def _fits(dims: Sequence[int | None], shape: Sequence[int]) -> bool:
    # The runtime binds a free batch to 1.
    fixed = [1 if i == 0 and n is None else n for i, n in enumerate(dims)]
    return list(shape) == fixed


def _lengths(functions: Sequence[Signature]) -> tuple[int, ...]:
    dims = [f.inputs[0].dims for f in functions if f.inputs]
    return tuple(sorted({d[1] for d in dims if len(d) == 2 and d[1] is not None}))


def quantised(tensor: Tensor, values: np.ndarray) -> np.ndarray:
    """Return ``values`` as the file takes them: rounded half away from zero, as TFLite rounds."""
    if tensor.kind not in _EIGHT_BITS:
        return np.ascontiguousarray(values, dtype=tensor.dtype)
    low, high = _EIGHT_BITS[tensor.kind]
    scaled = np.asarray(values, np.float32) / np.float32(tensor.scale)
    numbers = np.trunc(scaled + np.copysign(np.float32(0.5), scaled)) + tensor.zero_point
    return np.clip(numbers, low, high).astype(tensor.kind.lower())


def real(tensor: Tensor, numbers: np.ndarray) -> np.ndarray:
    """Return what the numbers of an output stand for."""
    if tensor.kind not in _EIGHT_BITS:
        return np.array(numbers)
    found = numbers.astype(np.int32) - tensor.zero_point
    return (found * np.float32(tensor.scale)).astype(np.float32)
