# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Rounds the 8-bit weights of a quantised OpenVINO model for the values that they meet.

NNCF takes the nearest number to each weight. Here a weight's error is made up for by the weights
of the same row that are rounded after it, as inputs of a layer go together (Frantar et al. 2023,
GPTQ). SmoothQuant makes rows of a few large weights, and it is there that it matters. Scales, graph
and kernels stay as they were.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgeopt.backends import Batch

_TOKENS = 4096
"""Rows of each layer's input that are looked at, about as many as INT8 calibrates on."""
_WIDEST = 3072
"""Inputs of a layer; of more, the factorisation would take minutes and the nearest number stays."""
_AT_ONCE = 256 << 20  # bytes of sums of products
_BLOCK = 64
_DAMPING = 0.01  # of the mean of the diagonal (Frantar et al. 2023, section 3)
_SCALED = "nncf_smooth_quant"
_PASSED = ("FakeQuantize", "Reshape", "Convert")
_FLOAT = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1}


def round_weights(openvino: Any, given: Any, quantised: Any, calibration: Sequence[Batch]) -> None:
    """Round the weights of ``quantised`` again, in place, from those of ``given`` in FP32.

    They go as far as they went: with 7 bits to 64. A product whose weights are not found in
    ``given`` as they were scaled stays as it is, and so does one of more than 3,072 inputs.
    """
    floats = {name: product for name, product, _ in _products(given)}
    layers = []
    for name, product, constant in _products(quantised):
        weights = _weights(floats.get(name), product, constant)
        if weights is not None:
            layers.append((floats[name], constant, *weights))
    while layers:
        some, layers = _first(layers)
        sums = _sums(openvino, given, [product for product, *_ in some], calibration)
        for (_, constant, weights, scales, smooth), found in zip(some, sums, strict=True):
            largest = int(np.abs(constant.data.astype(np.int16)).max())
            rounded = gptq(weights, found * np.outer(smooth, smooth), scales, largest)
            _put(openvino, constant, rounded.astype(np.int8))


def _put(openvino: Any, constant: Any, numbers: np.ndarray) -> None:
    """Put ``numbers`` in the place of ``constant``, wherever it is used."""
    put = openvino.opset13.constant(numbers)
    put.set_friendly_name(constant.get_friendly_name())
    for place in constant.output(0).get_target_inputs():
        place.replace_source_output(put.output(0))


def gptq(weights: np.ndarray, sums: np.ndarray, scales: np.ndarray, largest: int) -> np.ndarray:
    """Return whole numbers for ``weights`` (outputs, inputs) by ``scales`` (outputs,), float32.

    ``sums`` (inputs, inputs) is the sum over inputs x of x xᵀ: an error ``e`` of a row adds
    e · sums · e to that of its output, squared.
    """
    order = np.argsort(-np.diag(sums), kind="stable")
    left = np.array(weights[:, order], dtype=np.float32)
    within = sums[np.ix_(order, order)].astype(np.float64)
    mean = float(np.diag(within).mean())
    within[np.diag_indices_from(within)] += _DAMPING * mean if mean > 0 else 1.0
    upper = np.linalg.cholesky(np.linalg.inv(within)).T.astype(np.float32)
    rounded = np.empty_like(left)
    for start in range(0, left.shape[1], _BLOCK):
        end = min(start + _BLOCK, left.shape[1])
        errors = np.empty((left.shape[0], end - start), dtype=np.float32)
        for i in range(start, end):
            rounded[:, i] = np.clip(np.rint(left[:, i] / scales), -largest, largest)
            error = (left[:, i] - rounded[:, i] * scales) / upper[i, i]
            left[:, i:end] -= np.outer(error, upper[i, i:end])
            errors[:, i - start] = error
        left[:, end:] -= errors @ upper[start:end, end:]
    found = np.empty_like(rounded)
    found[:, order] = rounded
    return found


def _products(model: Any) -> list[tuple[str, Any, Any]]:
    """Return name, node and constant of each product of a value with weights (outputs, inputs)."""
    found = []
    for node in model.get_ordered_ops():
        if node.get_type_name() != "MatMul" or node.get_attributes()["transpose_a"]:
            continue
        constant = node.input_value(1).get_node()
        while constant.get_type_name() in ("Convert", "Multiply"):
            constant = constant.input_value(0).get_node()
        shaped = constant.get_type_name() == "Constant" and len(constant.get_output_shape(0)) == 2
        if shaped and node.get_attributes()["transpose_b"]:
            found.append((node.get_friendly_name(), node, constant))
    return found


def _weights(
    given: Any, product: Any, constant: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Return the weights in FP32 as SmoothQuant scaled them, their scales, and the inputs' ones.

    None if the 8-bit weights are not those, rounded.
    """
    scaling = product.input_value(1).get_node()
    if given is None or constant.get_element_type().get_type_name() != "i8":
        return None
    source = given.input_value(1).get_node()
    if source.get_type_name() != "Constant" or scaling.get_type_name() != "Multiply":
        return None
    weights = np.array(source.data, dtype=np.float32)
    scales = np.array(scaling.input_value(1).get_node().data, dtype=np.float32).reshape(-1)
    smooth = _smoothing(product, weights.shape[1])
    if weights.shape[1] > _WIDEST or scales.shape != weights.shape[:1] or not scales.all():
        return None
    weights /= smooth
    if np.abs(weights / scales[:, None] - constant.data).max() > 1:
        return None
    return weights, scales, smooth


def _smoothing(product: Any, inputs: int) -> np.ndarray:
    """Return what SmoothQuant multiplies each input of ``product`` by, ones if nothing."""
    node = product.input_value(0).get_node()
    while node.get_type_name() in _PASSED:
        node = node.input_value(0).get_node()
    if node.get_type_name() == "Multiply" and _SCALED in node.get_friendly_name():
        factors = np.array(node.input_value(1).get_node().data, dtype=np.float32).reshape(-1)
        if factors.size == inputs:
            return factors
    return np.ones(inputs, dtype=np.float32)


def _first(layers: list[Any]) -> tuple[list[Any], list[Any]]:
    """Return as many of ``layers`` as have room for their sums, at least one, and the others."""
    taken, used = 0, 0
    for taken, (_, _, weights, *_) in enumerate(layers):
        used += 4 * weights.shape[1] ** 2
        if used > _AT_ONCE and taken > 0:
            return layers[:taken], layers[taken:]
    return layers, []


def _sums(
    openvino: Any, given: Any, products: list[Any], calibration: Sequence[Batch]
) -> list[np.ndarray]:
    """Return the sum of x xᵀ over what comes into each of ``products`` of ``given``, in FP32."""
    inputs: dict[str, int] = {}
    keys = []
    watched = given.clone()
    nodes = {node.get_friendly_name(): node for node in watched.get_ordered_ops()}
    already = len(watched.outputs)
    for product in products:
        source = nodes[product.get_friendly_name()].input_value(0)
        key = f"{source.get_node().get_friendly_name()}:{source.get_index()}"
        if key not in inputs:
            inputs[key] = len(inputs)
            watched.add_outputs(source)
        keys.append(inputs[key])
    request = openvino.Core().compile_model(watched, "CPU", _FLOAT).create_infer_request()
    sums: list[Any] = [0.0] * len(inputs)
    tokens = 0
    for batch in calibration[::-1]:  # the shortest texts come last, and none is left out
        results = request.infer(dict(batch))
        mask = batch.get("attention_mask")
        rows = 0
        for i in range(len(inputs)):
            values = results[already + i]
            if mask is not None and values.ndim > mask.ndim and values.shape[:2] == mask.shape:
                values = values[mask.astype(bool)]
            values = values.reshape(-1, values.shape[-1])
            sums[i] = sums[i] + values.T @ values
            rows = max(rows, values.shape[0])
        tokens += rows
        if tokens >= _TOKENS:
            break
    return [sums[key] for key in keys]
