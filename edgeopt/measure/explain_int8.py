# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What operators and board show of an INT8 artifact beside one in floating point."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from edgeopt.measure.measurement import Run
from edgeopt.measure.operator_times import Operator
from edgeopt.quantize import QUANTIZED

DOT_PRODUCTS: Mapping[str, tuple[str, ...]] = {
    "aarch64": ("asimddp", "i8mm"),
    "x86_64": ("avx512_vnni", "avx_vnni", "amx_int8"),
}
"""Names in /proc/cpuinfo of what multiplies and adds 8-bit numbers in one instruction (Linux,
Documentation/arch/arm64/elf_hwcaps.rst and arch/x86/include/asm/cpufeatures.h)."""


def _onnx(one: Operator) -> str | None:
    if one.added or not any(w in one.type for w in ("MatMul", "Gemm", "Conv")):
        return None
    words = ("Integer", "QLinear", "QGemm", "DynamicQuantize", "QAttention", "NBits")
    return "int8" if any(word in one.type for word in words) else "float"


def _tflite(one: Operator) -> str | None:
    if not any(w in one.name for w in ("Fully Connected", "Matrix Multiply", "Convolution")):
        return None
    return "int8" if "QD8" in one.name or "QS8" in one.name or "QP8" in one.name else "float"


def _openvino(one: Operator) -> str | None:
    if not one.type.startswith(("FullyConnected", "MatMul", "Convolution")):
        return None
    return "int8" if one.kernel.lower().endswith(("_i8", "_u8")) else "float"


_PRODUCTS: Mapping[str, Callable[[Operator], str | None]] = {
    "onnx": _onnx,
    "tflite": _tflite,
    "openvino": _openvino,
}
"""Of each engine: whether an operator is a product, and in which numbers by its own name."""


def int8_reasons(
    runs: tuple[Run, Run], boards: tuple[Mapping[str, Any], Mapping[str, Any]]
) -> tuple[str, ...]:
    """Return what is to be seen if one of ``runs`` is INT8 and the other is not, of one engine.

    Nothing is said that the operators' own names, their times or the board's facts do not show.
    """
    quantised = [run for run in runs if run.precision in QUANTIZED]
    if len(quantised) != 1 or runs[0].engine != runs[1].engine:
        return ()
    run = quantised[0]
    board = boards[runs.index(run)]
    other = runs[1 - runs.index(run)]
    return tuple(_lines(run, other, board))


def _lines(run: Run, other: Run, board: Mapping[str, Any]) -> Iterator[str]:
    found, plain = run.operators, other.operators
    if found is None or plain is None:
        return
    added = [one for one in found.operators if one.added]
    if added:
        yield (
            f"{len(added)} operators of {run.name} only quantise or scale back: "
            f"{_us(found.median_ns(added))} us, {found.share(added):.0%} of its operators' time"
        )
    kind = _PRODUCTS.get(run.engine)
    if kind is None:
        yield f"{run.engine} does not name which of its kernels are INT8"
    else:
        yield from _products(run, other, kind)
    wanted = DOT_PRODUCTS.get(str(board.get("arch")))
    isa = board.get("isa")
    if wanted and isa:
        there = [name for name in wanted if name in isa]
        yield (
            f"the board's cores have instructions for 8-bit dot products: {', '.join(there)}"
            if there
            else f"the board's cores have no instruction for 8-bit dot products "
            f"({', '.join(wanted)}): INT8 products are made of several"
        )


def _products(run: Run, other: Run, kind: Callable[[Operator], str | None]) -> Iterator[str]:
    found, plain = run.operators, other.operators
    assert found is not None
    assert plain is not None
    quantised = [one for one in found.operators if kind(one) == "int8"]
    floating = [one for one in found.operators if kind(one) == "float"]
    if not quantised:
        yield f"no product of {run.name} has an INT8 kernel by its name"
    if floating:
        where = sorted({layer for one in floating for layer in one.layers})
        yield (
            f"{len(floating)} products of {run.name} stayed in floating point: "
            f"{_us(found.median_ns(floating))} us, {found.share(floating):.0%}"
            + (f"; in {_some(where)}" if where else "")
        )
    layers = {one.layers for one in quantised if one.layers}
    same = [one for one in plain.operators if kind(one) and one.layers in layers]
    joined = [one for one in quantised if one.layers in {other.layers for other in same}]
    if joined:
        yield (
            f"{len(joined)} INT8 products take {_us(found.median_ns(joined))} us, and in "
            f"{other.precision.upper()} the {len(same)} of the same layers "
            f"{_us(plain.median_ns(same))} us"
        )


def _some(names: Sequence[str], most: int = 4) -> str:
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


def _us(value_ns: float) -> str:
    value = value_ns / 1e3
    return f"{value:.{max(0, 3 - len(str(int(abs(value)))))}f}"
