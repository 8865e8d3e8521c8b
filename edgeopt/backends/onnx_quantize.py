# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The quantised forms of an ONNX graph, each by onnxruntime's own quantisers.

dynamic    ``quantize_dynamic`` after rewrites that make attention one node and give every token its
           own scale, then with ranges that are known beforehand: nothing of a call's other tokens
           enters an answer
static     ``quantize_static`` (QDQ), the ranges found on calibration texts
none       ``MatMulNBits``: the weights alone, in groups, of 4 or 8 bits; embeddings in 8 bits
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgeopt.backends import Batch
from edgeopt.backends.fp32_layers import Kept
from edgeopt.backends.onnx_attention import fuse_attention
from edgeopt.backends.onnx_scaling import Range, fix_ranges, scale_tokens
from edgeopt.engines.elf import version_key
from edgeopt.errors import CompileError
from edgeopt.extras import require
from edgeopt.model import Model
from edgeopt.quantize import Abilities, Plan, Quantize, plan
from edgeopt.quiet import quiet

_GROUPS = (32, 64, 128, 256)
ABILITIES = Abilities(
    activations={"int8": ("dynamic", "static", "none"), "int4": ("none", "dynamic")},
    calibrations=("min-max", "percentile", "entropy"),
    algorithms={
        "int4 none": ("rtn", "hqq"),
        "int4 dynamic": ("rtn", "hqq"),
    },
    groups={"int8 none": _GROUPS, "int4 none": _GROUPS, "int4 dynamic": _GROUPS},
    why={
        "activations static": "int4 weights go with activations in floating point",
        "calibration mse": "onnxruntime has no such calibration",
        # Mean cosine .966 against .986 of rtn, after 293 s against 9 s (MiniLM-L6, 16 classes).
        "algorithm gptq": "that of onnxruntime 1.31 rounds worse than rtn",
    },
)

_GROUPED_SINCE = {4: "1.17", 8: "1.22"}
"""onnxruntime's pull requests 17890 (October 2023) and 24384 (April 2025)."""

_ENTROPY_BINS = 1024
"""Half of TensorRT's (Migacz 2017, "8-bit Inference with TensorRT"), as the search is slow."""

_INT8_PRODUCTS = 4
"""MatMulNBits' ``accuracy_level``: activations are quantised to 8 bits inside the kernel."""


_OF_WEIGHT = {"MatMulIntegerToFloat": (1, 3, 5), "MatMulInteger": (1, 3)}
"""The inputs of a quantised product that are its weight's: values first, scale, zero point."""


def quantize(
    model: Model,
    path: Path,
    precision: str,
    asked: Quantize,
    calibration: Sequence[Batch],
    version: str,
) -> str:
    """Replace the FP32 graph at ``path`` by its quantised form and return how, in a line.

    Raises CompileError for options that onnxruntime, or that of the target's ``version``, has not,
    and if its tools fail.
    """
    how = plan("onnx", precision, asked, ABILITIES)
    grouped = how.bits == 4 or how.activations == "none"
    if grouped and version_key(version) < version_key(_GROUPED_SINCE[how.bits]):
        raise CompileError(
            f"MatMulNBits of {how.bits} bits came with onnxruntime {_GROUPED_SINCE[how.bits]}, but "
            f"the target runs {version}"
        )
    kept = Kept(model, asked.keep)
    onnx = require("onnx", "onnx")
    require("onnxruntime", "onnx")
    if how.activations == "static" and not calibration:
        raise CompileError("static activations need texts to calibrate on", where=model.name)
    with quiet():
        fp32 = path.with_name("fp32.onnx")
        try:
            scaled = how.activations == "dynamic" and how.bits == 8
            # Calibration does not see behind a fused operator, whose type is not inferred.
            if how.activations == "static":
                shutil.copy(path, fp32)
            else:
                _fuse(path, fp32)
            proto = onnx.load(str(fp32))
            excluded = _nodes(proto, kept)
            kept.check("onnx")
            if how.activations == "static":
                line = _static(fp32, path, excluded, how, calibration)
            elif scaled:
                opset = next(i.version for i in proto.opset_import if i.domain in ("", "ai.onnx"))
                fused = fuse_attention(proto, version)
                ranges = scale_tokens(proto, opset, excluded)
                onnx.save(proto, str(fp32))
                line = ("GELU fusion -> " + "attention as one node -> " * bool(fused)) + _dynamic(
                    fp32, path, ranges
                )
            else:
                line = _weights(proto, path, excluded, how)
        except CompileError:
            raise
        # onnxruntime's Python tools raise what they meet, plain Exception among it.
        except Exception as exc:
            raise CompileError(f"onnxruntime's quantiser failed ({exc})", where=model.name) from exc
        finally:
            fp32.unlink(missing_ok=True)
    return line


def _fuse(source: Path, path: Path) -> None:
    """Write ``source`` to ``path`` with GELU as one node.

    On an x86 core with VNNI at 128 tokens this, with every token's own scale, took 14.1 ms against
    13.4 ms for ``quantize_dynamic`` on the plain graph and 30.5 ms in FP32, and lifted the worst
    cosine from .967 to .988. Slower or worse there: fused SkipLayerNormalization (+2 ms),
    MatMulNBits (21 ms), uint8 weights (22 ms), FFN output in FP32 (19 ms), SmoothQuant (.976).
    """
    from onnxruntime.transformers.fusion_options import FusionOptions
    from onnxruntime.transformers.optimizer import optimize_model

    wanted = FusionOptions("bert")
    wanted.enable_attention = False
    wanted.enable_embed_layer_norm = False
    wanted.enable_skip_layer_norm = False
    # opt_level 0 runs the fusions alone: onnxruntime's own passes would tie the file to a version.
    optimize_model(
        str(source), model_type="bert", opt_level=0, optimization_options=wanted
    ).save_model_to_file(str(path))  # which also names the domains in use


def _nodes(proto: Any, kept: Kept) -> list[str]:
    """Return the names of the products whose weights are ``kept``."""
    from onnx import numpy_helper

    return [
        node.name
        for node, weight in _products(proto)
        if weight is not None and numpy_helper.to_array(weight) in kept
    ]


def _products(proto: Any) -> Iterable[tuple[Any, Any]]:
    """Yield the matrix products with their weights, None if both factors are activations."""
    constants = {tensor.name: tensor for tensor in proto.graph.initializer}
    for node in proto.graph.node:
        if node.op_type in ("MatMul", "Gemm"):
            yield node, constants.get(node.input[1])


def _dynamic(fp32: Path, path: Path, ranges: Mapping[str, Range]) -> str:
    """Quantise the products of the inputs ``ranges``, and the embeddings.

    All else stays as it is: the quantiser would give an unscaled product, a Conv or a fused
    Attention one range for the whole call, so that an answer depended on its neighbours.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    others = [
        node.name
        for node, _ in _products(onnx.load(str(fp32), load_external_data=False))
        if node.input[0] not in ranges
    ]
    quantize_dynamic(
        fp32,
        path,
        op_types_to_quantize=["MatMul", "Gather", "Transpose", "EmbedLayerNormalization"],
        weight_type=QuantType.QInt8,
        per_channel=True,
        # The quantiser names a product so if it replaces a Gemm.
        nodes_to_exclude=[*others, *(f"{name}_MatMul" for name in others)],
        # Shape inference stops at fused operators; what follows them is float as well.
        extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
    )
    proto = onnx.load(str(path))
    fix_ranges(proto, ranges)
    onnx.save(proto, str(path))
    return "scale per token -> quantize_dynamic (int8 weights by channel)"


def _static(
    fp32: Path, path: Path, excluded: Sequence[str], how: Plan, calibration: Sequence[Batch]
) -> str:
    """Quantise weight products and embeddings: with all operators accuracy breaks (cosine .37)."""
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantType, quantize_static

    methods = {
        "min-max": CalibrationMethod.MinMax,
        "percentile": CalibrationMethod.Percentile,
        "entropy": CalibrationMethod.Entropy,
    }
    products = ["MatMul", "Gemm", "Gather"]
    ranges = path.with_name("ranges.json")
    if how.calibration == "entropy":
        _entropy(fp32, ranges, products, calibration)
    attention = [node.name for node, weight in _products(onnx.load(str(fp32))) if weight is None]
    try:
        quantize_static(
            fp32,
            path,
            _reader(calibration),
            op_types_to_quantize=products,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=[*excluded, *attention],
            calibrate_method=methods[how.calibration],
            extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
            calibration_cache_path=ranges if how.calibration == "entropy" else None,
        )
    finally:
        ranges.unlink(missing_ok=True)
    return f"quantize_static (QDQ, {how.calibration}, {len(calibration)} samples)"


def _entropy(
    fp32: Path, ranges: Path, products: Sequence[str], calibration: Sequence[Batch]
) -> None:
    """Write ranges of least entropy to ``ranges``, as ``quantize_static`` reads them.

    With the 128 bins that ``quantize_static`` of onnxruntime 1.31 is bound to there is nothing to
    choose from: every range stays whole.
    """
    from onnxruntime.quantization import CalibrationMethod, calibrate

    calibrator = calibrate.create_calibrator(
        fp32,
        products,
        augmented_model_path=str(fp32.with_name("augmented.onnx")),
        calibrate_method=CalibrationMethod.Entropy,
        extra_options={"num_bins": _ENTROPY_BINS},
    )
    try:
        calibrator.collect_data(_reader(calibration))
        calibrate.save_tensors_data(calibrator.compute_data(), ranges)
    finally:
        fp32.with_name("augmented.onnx").unlink(missing_ok=True)


def _reader(calibration: Sequence[Batch]) -> Any:
    """Return onnxruntime's kind of reader; all calls have one length, as histograms need."""
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.rewind()

        def rewind(self) -> None:
            self._calls = iter(calibration)

        def get_next(self) -> Batch | None:
            return next(self._calls, None)

    return Reader()


def _weights(proto: Any, path: Path, excluded: Sequence[str], how: Plan) -> str:
    """Quantise the weights of products in groups along the inputs, then the embeddings."""
    import onnx
    from onnxruntime.quantization import QuantType, matmul_nbits_quantizer, quantize_dynamic

    hqq = matmul_nbits_quantizer.HQQWeightOnlyQuantConfig(block_size=how.group_size, bits=how.bits)
    quantizer = matmul_nbits_quantizer.MatMulNBitsQuantizer(
        proto,
        bits=how.bits,
        block_size=how.group_size,
        is_symmetric=True,
        accuracy_level=_INT8_PRODUCTS if how.activations == "dynamic" else None,
        nodes_to_exclude=list(excluded),
        algo_config=hqq if how.algorithm == "hqq" else None,
    )
    quantizer.process()
    grouped = path.with_name("grouped.onnx")
    try:
        quantizer.model.save_model_to_file(str(grouped))
        quantize_dynamic(
            grouped,
            path,
            op_types_to_quantize=["Gather"],
            weight_type=QuantType.QInt8,
            extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
        )
    finally:
        grouped.unlink(missing_ok=True)
    return (
        f"GELU fusion -> MatMulNBits ({how.bits} bits, groups of {how.group_size}, "
        f"{how.algorithm}), embeddings in 8 bits"
    )


def shared(path: Path) -> bool:
    """Tell whether quantised products of a file share a weight."""
    onnx = require("onnx", "onnx")
    return bool(_sharing(onnx.load(str(path), load_external_data=False)))


def unshare(path: Path) -> None:
    """Give each quantised product of a file a weight, scale and zero point of its own."""
    onnx = require("onnx", "onnx")
    proto = onnx.load(str(path))
    constants = {tensor.name: tensor for tensor in proto.graph.initializer}
    sharing = _sharing(proto)
    for number, node in enumerate(sharing):
        for at in _OF_WEIGHT[node.op_type]:
            name = node.input[at] if at < len(node.input) else ""
            if name in constants:
                copy = proto.graph.initializer.add()
                copy.CopyFrom(constants[name])
                copy.name = node.input[at] = f"{name}_own_{number}"
    if sharing:
        onnx.save(proto, str(path))


def widen(proto: Any) -> None:
    """Make the weights of INT8 products unsigned, as onnxruntime does if it computes wider.

    ``session.x64quantprecision`` asks it to, and it does so in its optimisation alone: a file that
    is run as it stands, of which nothing is fused, needs it done. Products of two uint8 do not
    overflow on an x86 CPU without VNNI. Weights and zero points each move by 128.
    """
    from onnx import numpy_helper

    held = {tensor.name: tensor for tensor in proto.graph.initializer}
    moved: dict[str, str] = {}

    def move(name: str, values: np.ndarray) -> str:
        if name not in moved:
            moved[name] = f"{name}/unsigned"
            unsigned = (values.astype(np.int16) + 128).astype(np.uint8)
            proto.graph.initializer.append(numpy_helper.from_array(unsigned, moved[name]))
        return moved[name]

    for node in proto.graph.node:
        if node.op_type not in _OF_WEIGHT:
            continue
        weight = held.get(node.input[1])
        if weight is None or (values := numpy_helper.to_array(weight)).dtype != np.int8:
            continue
        at = _OF_WEIGHT[node.op_type][-1]  # the zero point, the last input
        node.input.extend([""] * (at + 1 - len(node.input)))
        if (zero := node.input[at]) and zero not in held:
            continue
        points = numpy_helper.to_array(held[zero]) if zero else np.zeros((), np.int8)
        node.input[at] = move(zero or "no zero point", points)
        node.input[1] = move(node.input[1], values)


def _sharing(proto: Any) -> list[Any]:
    """Return the quantised products whose weight another one has taken before."""
    taken: set[str] = set()
    found = []
    for node in proto.graph.node:
        if node.op_type in _OF_WEIGHT:
            weight = node.input[_OF_WEIGHT[node.op_type][0]]
            if weight in taken:
                found.append(node)
            taken.add(weight)
    return found
