# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""From which release of TensorFlow Lite on a .tflite file runs, by its operators' versions.

A file numbers the form of each operator that it uses, and a runtime registers the forms that it
knows. ai-edge-quantizer (0.10) leaves the numbers of the network in floating point where it
quantises, so that an older runtime opens such a file and computes something else
(``findings/ai-edge-quantizer-leaves-operator-versions.sh``): they are computed anew here from the
tensors, and written.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeopt.backends import tflite_write
from edgeopt.engines.elf import version_key
from edgeopt.errors import CompileError

PER_CHANNEL_DYNAMIC = "2.18"
"""The first with int8 weights by channel under activations that are quantised call by call, in
products (2.17) and in embeddings."""
GELU = "2.9"

_METADATA = "min_runtime_version"

# The release that brought each version of an operator, from version 1 on; "-" where there is none.
# From TensorFlow's tensorflow/compiler/mlir/lite/tools/versioning/runtime_version.cc (March 2026).
_RELEASES = {
    name: tuple(releases.split())
    for name, _, releases in (
        line.strip().partition(" ")
        for line in """
        ABS 1.13 2.4 2.5 2.6 2.12
        ADD 1.5 1.14 2.4 2.6 2.13 2.23
        ADD_N 1.14
        ARG_MAX 1.9 1.14 2.9
        ARG_MIN 1.9 1.14 2.9
        ASSIGN_VARIABLE 2.6
        ATAN2 2.10
        AVERAGE_POOL_2D 1.5 1.14 2.3
        BATCH_MATMUL 2.3 2.3 2.4 2.5
        BATCH_TO_SPACE_ND 1.6 1.14 2.3 2.12
        BITCAST 2.13
        BITWISE_XOR 2.13
        BROADCAST_ARGS 2.6
        BROADCAST_TO - 2.5 2.5
        BUCKETIZE 2.8
        CALL_ONCE 2.5
        CAST 1.5 2.7 2.8 2.9 2.12 2.15 2.17 2.21
        CEIL 1.14
        COMPLEX_ABS 2.5
        CONCATENATION 1.5 1.14 2.3 2.14 2.21
        CONV_2D 1.5 1.14 1.14 2.3 2.4 2.9 2.11 2.15
        CONV_3D 2.5
        CONV_3D_TRANSPOSE 2.6
        COS 1.14
        CUMSUM 2.4
        DENSIFY 2.2
        DEPTHWISE_CONV_2D 1.5 1.12 1.14 2.2 2.3 2.3 2.11
        DEPTH_TO_SPACE 2.1 2.5
        DEQUANTIZE 1.13.1 1.14 1.15 2.2 2.7 2.18 2.21 2.22
        DILATE 2.15
        DIV 1.6 2.3
        DYNAMIC_UPDATE_SLICE 2.9 2.17 2.19 2.20 2.21 2.22
        ELU 1.14
        EMBEDDING_LOOKUP 1.13 1.14 1.14 2.18 2.21
        EMBEDDING_LOOKUP_SPARSE 1.5
        EQUAL 1.14 1.14 2.3 2.13 2.21
        EXP 1.7 2.12
        EXPAND_DIMS 1.10
        FAKE_QUANT 1.5 1.10
        FILL 1.13 2.3 2.5 2.12
        FLOOR 1.9
        FLOOR_DIV 1.14 1.14 2.13
        FLOOR_MOD 1.13 2.13
        FULLY_CONNECTED 1.5 1.10 1.14 1.14 2.0 2.1 2.3 2.3 2.3 2.11 2.15 2.17 2.18 2.21
        GATHER 1.6 1.14 1.15 2.4 2.5 2.13 2.15
        GATHER_ND 1.14 2.3 2.5 2.13 2.16
        GELU 2.9 2.9
        GREATER 1.14 1.14
        GREATER_EQUAL 1.14 1.14 2.13
        HARD_SWISH 1.15
        HASHTABLE_LOOKUP 1.5
        IF 1.15
        L2_NORMALIZATION 1.5 1.14
        L2_POOL_2D 1.5
        LEAKY_RELU 1.13.1 2.3
        LESS 1.14 1.14 2.13
        LESS_EQUAL 1.14 1.14
        LOCAL_RESPONSE_NORMALIZATION 1.5
        LOG 1.14 2.15
        LOGICAL_AND 1.11
        LOGICAL_NOT 1.11
        LOGICAL_OR 1.11
        LOGISTIC 1.14 1.14 2.3
        LOG_SOFTMAX 1.14 1.14
        MATRIX_DIAG 1.14
        MATRIX_SET_DIAG 1.14
        MAXIMUM 1.14 1.14 2.3 2.3
        MAX_POOL_2D 1.5 1.14 2.3
        MEAN 1.6 1.14 2.4
        MINIMUM 1.14 1.14 2.3 2.3
        MIRROR_PAD 1.13.1 2.3 2.12
        MUL 1.5 1.14 1.15 2.3 2.6 2.11 2.13 2.23
        NEG 1.9
        NOT_EQUAL 1.14 1.14 2.3 2.21
        ONE_HOT 1.11
        PACK 1.11 1.14 2.3 2.13
        PAD 1.5 1.14 2.4 2.6 2.20
        PADV2 1.9 1.14 2.4 2.6 2.20
        POW 1.10
        PRELU 1.8
        QUANTIZE 1.14 1.15 2.7 2.21 2.21 2.21
        RANGE 1.13 2.14
        RANK 1.14
        READ_VARIABLE 2.6
        REDUCE_ALL 2.6
        REDUCE_ANY 1.11
        REDUCE_MAX 1.11 1.14 2.5
        REDUCE_MIN 1.11 1.14 2.5
        REDUCE_PROD 1.11 2.6
        REDUCE_WINDOW 2.15
        RELU 1.5 2.1 2.5
        RELU6 1.5 1.14 2.5
        RELU_0_TO_1 2.10
        RELU_N1_TO_1 1.5
        RESHAPE 1.5
        RESIZE_BILINEAR 1.7 1.14 2.2 2.5
        RESIZE_NEAREST_NEIGHBOR 1.13.1 1.14 2.3 2.4
        REVERSE_SEQUENCE 1.14
        REVERSE_V2 1.14 2.2 2.5
        RIGHT_SHIFT 2.13
        ROUND 1.14
        RSQRT 1.10 2.5 2.15
        SCATTER_ND 2.1
        SEGMENT_SUM 2.2
        SELECT 1.14 1.14 2.12 2.12
        SELECT_V2 2.2 2.12
        SHAPE 1.10
        SIGN 2.11 2.12
        SIN 1.9
        SLICE 1.14 1.14 1.14 2.4 2.5 2.14 2.21
        SOFTMAX 1.5 1.14 2.3
        SPACE_TO_BATCH_ND 1.6 1.14 2.3 2.12
        SPACE_TO_DEPTH 1.5 1.14
        SPARSE_TO_DENSE 1.9 1.14 1.15
        SPLIT 1.5 1.14 1.14 2.3
        SPLIT_V 1.13.1 2.3
        SQRT 1.10 2.21
        SQUARE 1.12
        SQUARED_DIFFERENCE 1.13.1 2.5
        SQUEEZE 1.6 2.5
        STABLEHLO_ADD 2.16
        STABLEHLO_AND 2.17
        STABLEHLO_CASE 2.17
        STABLEHLO_CBRT 2.17
        STABLEHLO_COMPOSITE 2.17
        STABLEHLO_GATHER 2.16
        STABLEHLO_MAXIMUM 2.16
        STABLEHLO_MINIMUM 2.16
        STABLEHLO_MULTIPLY 2.16
        STABLEHLO_PAD 2.16
        STABLEHLO_REDUCE_WINDOW 2.16
        STABLEHLO_SCATTER 2.15
        STABLEHLO_SHIFT_LEFT 2.17
        STRIDED_SLICE 1.6 1.14 2.1 2.2 2.5 2.6 2.14 2.14
        SUB 1.6 1.14 2.3 2.4 2.4
        SUM 1.10 1.15
        TANH 1.14 1.14 2.3
        TILE 1.10.1 2.2 2.8
        TOPK_V2 1.7 1.14 2.13
        TRANSPOSE 1.6 1.14 1.15 2.3 2.4 2.12 2.14.4 2.22
        TRANSPOSE_CONV 1.9 2.2 2.3 2.13 2.15
        UNIQUE 1.14
        UNPACK 1.11 1.14 2.2 2.3 2.22
        UNSORTED_SEGMENT_MAX 2.10
        UNSORTED_SEGMENT_MIN 2.11
        UNSORTED_SEGMENT_PROD 2.10
        UNSORTED_SEGMENT_SUM 2.10
        VAR_HANDLE 2.6
        WHERE 1.14 2.8
        WHILE 1.15
        ZEROS_LIKE 1.12
        """.strip().splitlines()
    )
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Need:
    """An operator's form in one place: ``layer`` is what it computes, by the file's own name, or
    what takes it in, if it makes weights floating point.

    ``since`` is the release that brought the form, None where none is known.
    """

    operator: str
    version: int
    since: str | None
    layer: str


def lacks(min_runtime: str | None, release: str) -> bool:
    """Return whether ``min_runtime`` (None: LiteRT alone) is older than ``release``."""
    return min_runtime is not None and version_key(min_runtime) < version_key(release)


def check(path: Path, min_runtime: str, where: str) -> None:
    """Raise CompileError, with operator and layer, if a file needs a newer TensorFlow Lite."""
    blocking = [
        need for need in needs(path) if need.since is None or lacks(min_runtime, need.since)
    ]
    if not blocking:
        return
    first = blocking[0]
    had = f"came with {first.since}" if first.since else "is in no release that is known"
    others = {(n.operator, n.version) for n in blocking} - {(first.operator, first.version)}
    raise CompileError(
        f"TensorFlow Lite {min_runtime} does not run {first.operator} version {first.version} "
        f"({first.layer}), which {had}"
        + "".join(f"; nor {name} version {version}" for name, version in sorted(others)),
        where=where,
        hint="Set a newer min_runtime for tflite in the target, or leave this precision out.",
    )


def needs(path: Path) -> list[Need]:
    """Return what each operator of a file needs, in the order of its graphs."""
    model, schema = tflite_write.read(path)
    return [need for _, need in _needs(model, schema)]


def write_versions(path: Path, *, inside: bool) -> None:
    """Write into a file which version each operator is of, and which release runs it.

    ``inside`` moves weights that the quantiser put behind the flatbuffer into it: older runtimes
    look for them nowhere else ("Input tensor lacks data").
    """
    model, schema = tflite_write.read(path)
    found = list(_needs(model, schema))
    for code, need in found:
        code.version = max(code.version, need.version)
    since = [need.since for _, need in found if need.since is not None]
    for entry in model.metadata or []:
        if entry.name == _METADATA.encode() and since:
            newest = max(since, key=version_key)
            text = newest if newest.count(".") == 2 else f"{newest}.0"  # as the converter has it
            model.buffers[entry.buffer].data = np.frombuffer(
                text.encode().ljust(16, b"\0"), np.uint8
            )
    tflite_write.write(path, model, inside=inside)


def _needs(model: Any, schema: Any) -> Iterator[tuple[Any, Need]]:
    """Yield the operator code, which is to be numbered, and the need of each operator."""
    names = {v: k for k, v in vars(schema.BuiltinOperator).items() if isinstance(v, int)}
    for graph in model.subgraphs:
        takers = {i: taker for taker in reversed(graph.operators) for i in _inputs(taker)}
        for operator in graph.operators:
            code = model.operatorCodes[operator.opcodeIndex]
            name = names.get(max(code.builtinCode, code.deprecatedBuiltinCode), "CUSTOM")
            tensors = [graph.tensors[i] if i >= 0 else None for i in _inputs(operator)]
            asked, known = _version(name, operator, tensors, schema.TensorType)
            version = max(code.version, asked)
            releases = _RELEASES.get(name, ())
            since = releases[version - 1] if known and version <= len(releases) else "-"
            shown = takers.get(operator.outputs[0], operator) if name == "DEQUANTIZE" else operator
            layer = graph.tensors[shown.outputs[0]].name or b""
            yield (
                code,
                Need(
                    operator=name,
                    version=version,
                    since=None if since == "-" else since,
                    layer=layer.decode("utf-8", "replace").rstrip(";").rpartition("/")[2],
                ),
            )


def _version(name: str, operator: Any, inputs: list[Any], types: Any) -> tuple[int, bool]:
    """Return the version that quantised weights ask for, and whether a release is known for it.

    It is what TensorFlow's ``op_version.cc`` gives for the forms that ai-edge-quantizer writes:
    weights of 8 bits under activations in floating point, and what makes weights floating point.
    """
    at = 0 if name == "DEQUANTIZE" else 1
    weight = inputs[at] if len(inputs) > at else None
    if weight is None:
        return 1, True
    if name == "DEQUANTIZE":
        by_type = {types.FLOAT16: 3, types.INT8: 2, types.INT16: 4, types.INT4: 6}
        by_channel = 5 if weight.type == types.INT8 and _by_channel(weight) else 1
        return max(by_type.get(weight.type, 1), by_channel), True
    first = inputs[0]
    hybrid = first is not None and (first.type == types.FLOAT32 or name == "EMBEDDING_LOOKUP")
    if not hybrid or weight.type not in (types.INT8, types.INT4):
        return 1, True
    one, many = {
        "FULLY_CONNECTED": (3, 12),
        "EMBEDDING_LOOKUP": (3, 4),
        "CONV_2D": (2, 5),
        "DEPTHWISE_CONV_2D": (4, 6),
    }.get(name, (1, 1))
    asymmetric = getattr(operator.builtinOptions, "asymmetricQuantizeInputs", False)
    if asymmetric and name == "FULLY_CONNECTED":
        one = 9
    # No table says which release has products of 4 bits under floating point.
    known = weight.type == types.INT8 or name == "EMBEDDING_LOOKUP"
    return many if _by_channel(weight) or weight.type == types.INT4 else one, known


def _inputs(operator: Any) -> list[int]:
    return [] if operator.inputs is None else [int(i) for i in operator.inputs]


def _by_channel(tensor: Any) -> bool:
    scale = getattr(tensor.quantization, "scale", None)
    return scale is not None and len(scale) > 1
