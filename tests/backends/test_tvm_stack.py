# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""A scheduled kernel keeps its tile in registers; TVM itself still calls its runtime for it."""

import pytest

from edgeopt.backends.tvm_schedule import NEON, schedule_function
from edgeopt.backends.tvm_stack import register
from tests.backends.test_tvm_schedule import dense, tvm

pytestmark = pytest.mark.heavy


@pytest.mark.parametrize("ours", [True, False])
def test_a_tile_is_in_registers(ours: bool) -> None:
    kernel = schedule_function(dense(8, 24, 16), NEON, frozenset({1})).function
    code = tvm.compile(
        kernel.with_attr("global_symbol", "main"),
        target={"kind": "llvm", "mtriple": "aarch64-linux-gnu", "mcpu": "cortex-a72"},
        tir_pipeline=register() if ours else "default",
    ).mod.inspect_source("asm")
    # Without ours: once TVM does it itself, the passes can go.
    assert ("TVMBackendAllocWorkspace" in code) is not ours
