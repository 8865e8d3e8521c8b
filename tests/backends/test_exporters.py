# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What one engine's exporter does to a network does not reach the next one's."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from edgeopt.model.importer import import_model
from tests.model import test_image_families as images

pytestmark = pytest.mark.heavy
PACKAGES = {"onnx": "onnxruntime", "openvino": "openvino", "tvm": "tvm", "tflite": "litert_torch"}


def test_a_network_that_writes_down_its_call_is_lowered_for_every_engine_after_another(
    lower: Callable, tmp_path: Path
) -> None:
    """Swin keeps the size of its windows; within a trace that is a tensor of the trace."""
    for module in PACKAGES.values():
        if find_spec(module) is None:
            pytest.skip(f"{module} is not installed")
    (swin,) = (row for row in images.FAMILIES if row[0] == "Swin")
    model = import_model(images.write(tmp_path / "model", *swin))
    before = [dict(vars(part)) for part in model.module.modules()]
    for engine in PACKAGES:
        lower(model, engine, "fp32")
        assert [dict(vars(part)) for part in model.module.modules()] == before, engine
