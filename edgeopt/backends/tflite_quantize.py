# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The quantised forms of a TFLite file, by ai-edge-quantizer.

dynamic    int8 or int4 weights, activations quantised call by call inside the kernels
none       the weights alone; they are made floating point again for the product
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgeopt.backends import tflite_versions
from edgeopt.backends.fp32_layers import Kept
from edgeopt.errors import CompileError
from edgeopt.extras import require
from edgeopt.model import Model
from edgeopt.quantize import GROUP_SIZES, Abilities, Plan, Quantize, plan
from edgeopt.quiet import quiet

_GROUPS = (32, *(size for size in GROUP_SIZES if size != 32))
ABILITIES = Abilities(
    activations={"int8": ("dynamic", "none"), "int4": ("dynamic", "none")},
    algorithms={},
    groups={"int4 dynamic": _GROUPS},
    why={"activations static": "calibrated ones broke this kind of model (cosine .14)"},
)


def quantize(
    model: Model, path: Path, precision: str, asked: Quantize, min_runtime: str | None = None
) -> str:
    """Replace the FP32 file at ``path`` by its FP16, INT8 or INT4 form; return how, in a line.

    A ``min_runtime`` without kernels for int8 weights by channel gets them made floating point
    before the product, unless the recipe says otherwise: a single scale for each tensor, which
    those kernels take, was wrong for every fourth text (cosine .85 for MiniLM).

    Raises CompileError for options that the quantiser has not, and if it fails.
    """
    if asked.activations is None and tflite_versions.lacks(
        min_runtime, tflite_versions.PER_CHANNEL_DYNAMIC
    ):
        asked = replace(asked, activations="none")
    how = None if precision == "fp16" else plan("tflite", precision, asked, ABILITIES)
    kept = Kept(model, asked.keep if how is not None else ())
    source = path.rename(path.with_name("fp32.tflite"))
    try:
        with quiet():
            require("ai_edge_quantizer", "tflite")
            from ai_edge_quantizer import quantizer

            work = quantizer.Quantizer(str(source))
            if how is None:
                recipe, line = _fp16_recipe(), "float16 weights"
            else:
                recipe, line = _recipe(how, _scopes(source, kept))
                kept.check("tflite")
            work.load_quantization_recipe(recipe)
            try:
                work.quantize().export_model(str(path))
            # The quantizer raises ValueError, RuntimeError and what its C++ part maps them to.
            except Exception as exc:
                raise CompileError(f"ai-edge-quantizer failed ({exc})", where=model.name) from exc
    finally:
        source.unlink()
    tflite_versions.write_versions(path, inside=min_runtime is not None)
    return line


def _fp16_recipe() -> Any:
    from ai_edge_quantizer import algorithm_manager, qtyping, recipe_manager

    recipe = recipe_manager.RecipeManager()
    operations = qtyping.TFLOperationName
    for operation in (
        operations.FULLY_CONNECTED,
        operations.EMBEDDING_LOOKUP,
        operations.CONV_2D,
        operations.DEPTHWISE_CONV_2D,
        operations.CONV_2D_TRANSPOSE,
    ):
        recipe.add_weight_only_config(
            regex=".*",
            operation_name=operation,
            num_bits=16,
            algorithm_key=algorithm_manager.AlgorithmName.FLOAT_CASTING,
        )
    return recipe.get_quantization_recipe()


def _recipe(how: Plan, kept: Sequence[str]) -> tuple[Any, str]:
    """Return the quantizer's recipe, which leaves the scopes ``kept`` as they are, and its name.

    Embeddings have 8 bits beside products of 4, as with the other engines.
    """
    from ai_edge_quantizer import algorithm_manager, qtyping, recipe_manager

    algorithms = algorithm_manager.AlgorithmName
    operations = qtyping.TFLOperationName
    granularity = qtyping.QuantGranularity
    by = granularity[f"BLOCKWISE_{how.group_size}"] if how.group_size else granularity.CHANNELWISE
    recipe = recipe_manager.RecipeManager()
    add = (
        recipe.add_dynamic_config if how.activations == "dynamic" else recipe.add_weight_only_config
    )
    add(
        regex=".*",
        operation_name=operations.ALL_SUPPORTED,
        num_bits=8,
        granularity=granularity.CHANNELWISE,
    )
    line = f"{'dynamic' if how.activations == 'dynamic' else 'weight_only'}_wi{how.bits}"
    if how.bits == 4:
        add(
            regex=".*",
            operation_name=operations.FULLY_CONNECTED,
            num_bits=4,
            granularity=by,
        )
        line += f"{f'b{how.group_size}' if how.group_size else 'c'}"
    for scope in kept:
        recipe.add_quantization_config(
            regex=f"^{re.escape(scope)}$",
            operation_name=operations.FULLY_CONNECTED,
            algorithm_key=algorithms.NO_QUANTIZE,
        )
    line += "_afp32"
    return recipe.get_quantization_recipe(), line


def _scopes(source: Path, kept: Kept) -> list[str]:
    """Return what the quantizer calls the operations of ``source`` whose weights are ``kept``."""
    from ai_edge_quantizer import qtyping
    from ai_edge_quantizer.utils import tfl_flatbuffer_utils as flatbuffer

    model = flatbuffer.read_model(str(source))
    product = flatbuffer.TFL_OP_NAME_TO_CODE[qtyping.TFLOperationName.FULLY_CONNECTED]
    scopes = []
    for graph in model.subgraphs:
        for operator in graph.operators:
            if model.operatorCodes[operator.opcodeIndex].builtinCode != product:
                continue
            weight = flatbuffer.get_tensor_data(graph.tensors[operator.inputs[1]], model.buffers)
            if weight in kept:
                scopes.append(flatbuffer.get_op_scope(operator, graph.tensors))
    return scopes
