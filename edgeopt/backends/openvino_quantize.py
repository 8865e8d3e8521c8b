# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The quantised forms of an OpenVINO model, by NNCF.

static    ``nncf.quantize``: weights and activations in 8 bits, ranges found on calibration texts;
          if asked, GPTQ then rounds the weights again for the values that they meet
none      ``nncf.compress_weights``: the weights alone, in 8 bits by channel or 4 bits in groups;
          with 4 bits embeddings and the last layer have 8
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgeopt.backends import Batch, only_lengths
from edgeopt.backends.fp32_layers import Kept
from edgeopt.backends.openvino_rounding import round_weights
from edgeopt.errors import CompileError
from edgeopt.extras import require
from edgeopt.model import Model
from edgeopt.quantize import GROUP_SIZES, Abilities, Plan, Quantize, plan
from edgeopt.quiet import quiet

_SHORTEST = 16  # tokens; shorter texts are padded to it, longer ones to powers of two
_OF_TEXTS = 2  # axes of token ids

ABILITIES = Abilities(
    activations={"int8": ("static", "none"), "int4": ("none",)},
    calibrations=("min-max", "percentile", "mse"),
    algorithms={
        "int8 static": ("rtn", "gptq"),
        "int4 none": ("rtn", "gptq", "awq", "scale-estimation"),
    },
    groups={"int4 none": (32, *(size for size in GROUP_SIZES if size != 32))},
    smooth_quant=True,
    bias_correction=True,
    why={
        "activations dynamic": "what it quantises call by call depends on the device's plugin",
        "calibration entropy": "NNCF has no such estimator",
    },
)


def quantize(
    model: Model,
    converted: Any,
    precision: str,
    asked: Quantize,
    calibration: Sequence[Batch],
    overflows: bool,
) -> tuple[Any, str]:
    """Return the openvino.Model ``converted`` quantised, and how, in a line.

    Weights beside quantised activations get 7 bits if the device's kernels overflow with 8
    (``DeviceProfile.overflows_int8``); a random RoBERTa's worst cosine went from .906 to .981.
    Raises CompileError for options that NNCF has not, without texts, and if NNCF fails.
    """
    how = plan("openvino", precision, asked, ABILITIES)
    if how.activations != "static" and (asked.smooth_quant, asked.bias_correction) != (None, None):
        raise CompileError("smooth_quant and bias_correction go with static activations alone")
    if not calibration and (how.activations == "static" or how.algorithm != "rtn"):
        raise CompileError(
            f"{precision.upper()} needs texts or images to calibrate on, and there are none",
            where=model.name,
        )
    kept = Kept(model, asked.keep)
    with quiet():
        nncf = require("nncf", "openvino")
        names = [n for n, w in _products(converted) if w in kept]
        names += _behind(converted) + _of_means(converted) + _beside_depthwise(converted)
        ignored = nncf.IgnoredScope(names=names)
        kept.check("openvino")
        try:
            if how.activations == "static":
                fixed = bool(only_lengths(model))
                return _static(nncf, converted, how, asked, ignored, calibration, overflows, fixed)
            return _weights(nncf, converted, how, ignored, calibration)
        # NNCF raises its own kinds, RuntimeError and what OpenVINO's nodes raise.
        except Exception as exc:
            text = (str(exc).strip().splitlines() or [type(exc).__name__])[0]
            name = "quantize" if how.activations == "static" else "compress_weights"
            raise CompileError(f"nncf.{name} failed ({text})", where=model.name) from exc


def _behind(converted: Any) -> list[str]:
    """Return the names of what is computed of all hidden states together, to give an embedding.

    NNCF would give 8 bits to places of tokens, masks and sums, which are exact as they are.
    """
    names = [node.get_friendly_name() for node in converted.get_ordered_ops()]
    return [name for name in names if name.startswith("__module.steps.")]


def _of_means(converted: Any) -> list[str]:
    """Return the names of the products that take a mean, such as a classifier's of all patches.

    SmoothQuant would scale the mean, and OpenVINO 2026.4 fuses mean, scale and rounding wrongly
    (findings/openvino-fuses-a-scaled-quantised-mean-wrongly.sh): a CLIP's worst cosine was .68.
    """
    products = [n for n in converted.get_ordered_ops() if n.get_type_name() == "MatMul"]
    return [
        node.get_friendly_name()
        for node in products
        if node.input_value(0).get_node().get_type_name() == "ReduceMean"
    ]


def _beside_depthwise(converted: Any) -> list[str]:
    """Return the names of all convolutions, if one of them is depthwise.

    OpenVINO 2026.4 computes some of those wrongly in INT8 (the worst cosine of a small ConvNeXTV2
    was -.95, and is .99 without), and a small MobileNetV2 ended the process.
    """
    nodes = converted.get_ordered_ops()
    if not any(node.get_type_name() == "GroupConvolution" for node in nodes):
        return []
    kinds = ("Convolution", "GroupConvolution")
    return [node.get_friendly_name() for node in nodes if node.get_type_name() in kinds]


def _products(converted: Any) -> list[tuple[str, Any]]:
    """Return the name of each matrix product with its constant factor, if it has one."""
    found = []
    for node in converted.get_ordered_ops():
        if node.get_type_name() == "MatMul":
            factor = node.input_value(1).get_node()
            constant = factor.data if factor.get_type_name() == "Constant" else None
            found.append((node.get_friendly_name(), constant))
    return found


def _static(
    nncf: Any,
    converted: Any,
    how: Plan,
    asked: Quantize,
    ignored: Any,
    calibration: Sequence[Batch],
    overflows: bool,
    fixed: bool,
) -> tuple[Any, str]:
    told = ["TRANSFORMER", f"{len(calibration)} samples"]
    advanced: dict[str, Any] = {}
    if asked.calibration is not None:
        from nncf.quantization.range_estimator import RangeEstimatorParametersSet as Ranges

        ranges = {
            "min-max": Ranges.MINMAX,
            "percentile": Ranges.MEAN_QUANTILE,
            "mse": Ranges.HISTOGRAM,  # the range of least quantisation error
        }
        advanced["activations_range_estimator_params"] = ranges[how.calibration]
        told.append(how.calibration)
    if asked.smooth_quant is not None:
        alphas = nncf.AdvancedSmoothQuantParameters(matmul=asked.smooth_quant)
        advanced["smooth_quant_alphas"] = alphas
        told.append(f"SmoothQuant {asked.smooth_quant:g}")
    if asked.bias_correction is not None:
        advanced["disable_bias_correction"] = asked.bias_correction == "off"
        told.append(f"bias correction {asked.bias_correction}")
    if overflows:
        advanced["overflow_fix"] = nncf.OverflowFix.ENABLE
        told.append("weights in 7 bits for x86-64 without VNNI")
    made = nncf.quantize(
        converted,
        nncf.Dataset([dict(batch) for batch in calibration]),
        model_type=nncf.ModelType.TRANSFORMER,
        subset_size=len(calibration),
        fast_bias_correction=asked.bias_correction != "accurate",
        ignored_scope=ignored,
        advanced_parameters=nncf.AdvancedQuantizationParameters(**advanced) if advanced else None,
    )
    line = f"nncf.quantize ({', '.join(told)})"
    if how.algorithm == "gptq":
        batches = calibration if fixed else [_cut(batch) for batch in calibration]
        round_weights(require("openvino", "openvino"), converted, made, batches)
        line += " -> GPTQ"
    return made, line


def _cut(batch: Batch) -> Batch:
    """Return ``batch`` without most of its padding: as long as the runtime makes such a text."""
    mask = batch.get("attention_mask")
    if mask is None or mask.ndim != _OF_TEXTS:
        return batch
    used, length = int(np.flatnonzero(mask.any(axis=0)).max(initial=0)) + 1, _SHORTEST
    while length < used:
        length *= 2
    return {
        name: values[:, :length] if values.shape == mask.shape else values
        for name, values in batch.items()
    }


def _weights(
    nncf: Any, converted: Any, how: Plan, ignored: Any, calibration: Sequence[Batch]
) -> tuple[Any, str]:
    modes = nncf.CompressWeightsMode
    if how.bits == 8:
        made = nncf.compress_weights(converted, mode=modes.INT8_SYM, ignored_scope=ignored)
        return made, "nncf.compress_weights (int8 by channel)"
    learns = how.algorithm != "rtn"
    made = nncf.compress_weights(
        converted,
        mode=modes.INT4_SYM,
        group_size=how.group_size or -1,
        ignored_scope=ignored,
        dataset=nncf.Dataset([dict(batch) for batch in calibration]) if learns else None,
        subset_size=max(1, len(calibration)),
        gptq=True if how.algorithm == "gptq" else None,
        awq=True if how.algorithm == "awq" else None,
        scale_estimation=True if how.algorithm == "scale-estimation" else None,
    )
    by = f"groups of {how.group_size}" if how.group_size else "by channel"
    return made, f"nncf.compress_weights (int4 {by}, {how.algorithm})"
