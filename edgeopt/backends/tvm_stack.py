# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Small buffers of TVM's kernels on the stack, from where LLVM takes them into registers.

TVM 0.26 has that for buffers of scope "global" and up to 1 KiB. For those of scope "local" it calls
its runtime, which took 34 calls for every tile of an INT8 product, and 2 for one of FP32. It can go
once a scheduled kernel has no TVMBackendAllocWorkspace (tests/backends/test_tvm_stack.py).
"""

from __future__ import annotations

from math import prod
from typing import Any

PIPELINE = "edgeopt"
"""Name of the passes, for ``tvm.compile(tir_pipeline=...)`` once ``register`` was called."""

MOST = 8192
"""Bytes of a buffer that goes there: far below any thread's stack, and two tiles of AMX."""

_STAYS = "disable_lower_builtin"  # src/tirx/transform/lower_tvm_builtin.cc


def register() -> str:
    """Make the passes known to TVM and return their name."""
    from tvm.tirx import compilation_pipeline

    compilation_pipeline.PIPELINE_MAP[PIPELINE] = _passes
    return PIPELINE


def _passes() -> tuple[Any, Any, Any]:
    import tvm
    from tvm.tirx import compilation_pipeline

    lower, host, device = compilation_pipeline.get_tir_pipeline("default")

    @tvm.transform.module_pass(opt_level=0)
    def lower_and_mark(module: Any, _: Any) -> Any:
        return _marked(lower(module))

    return lower_and_mark, host, device


def _marked(module: Any) -> Any:
    """Return ``module`` with all small buffers of known size marked to stay on the stack."""
    from tvm import tirx
    from tvm.tirx.stmt_functor import ir_transform

    stays = tirx.IntImm("bool", 1)

    def mark(statement: Any) -> Any:
        buffer = statement.buffer
        sizes = [int(size) for size in buffer.shape if isinstance(size, tirx.IntImm)]
        if len(sizes) < len(buffer.shape) or prod(sizes) * _bytes(buffer.dtype) > MOST:
            return None
        return tirx.AllocBuffer(buffer, {**dict(statement.annotations or {}), _STAYS: stays})

    for variable, function in module.functions_items():
        if isinstance(function, tirx.PrimFunc):
            body = ir_transform(function.body, None, mark, ["tirx.AllocBuffer"])
            module[variable] = function.with_body(body)
    return module


def _bytes(dtype: Any) -> int:
    from tvm import DataType

    kind = DataType(str(dtype))
    return -(-kind.bits * kind.lanes // 8)
