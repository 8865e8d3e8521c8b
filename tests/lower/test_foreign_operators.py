# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""An engine that computes an operator of a foreign .onnx file otherwise, without an error."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeopt.pipeline import compile
from tests.model.test_onnx_file import WIDTH, graph

onnx = pytest.importorskip("onnx", reason="needs edgeopt[onnx]")
pytest.importorskip("onnxruntime", reason="needs edgeopt[onnx]")

# Not importorskip: importing OpenVINO here would load its usage reports before edgeopt stops them.
pytestmark = [
    pytest.mark.heavy,
    pytest.mark.skipif(find_spec("openvino") is None, reason="needs edgeopt[openvino]"),
]

node = onnx.helper.make_node
RNG = np.random.default_rng(3)


def weight(name: str, *shape: int) -> Any:
    return onnx.numpy_helper.from_array(RNG.normal(size=shape).astype(np.float32), name)


@pytest.mark.parametrize("activation", ["Tanh", "Sigmoid"])
def test_its_artifact_is_not_shipped_and_the_others_are(activation: str, tmp_path: Path) -> None:
    """OpenVINO takes the activation of onnxruntime's FusedGemm for a Relu (findings)."""
    nodes = [
        node("FusedGemm", ["sum", "dense", "bias"], ["answer"], domain="com.microsoft",
             activation=activation),
    ]  # fmt: skip
    weights = [weight("dense", WIDTH, WIDTH), weight("bias", WIDTH)]
    proto = graph(more=nodes, outputs={"logits": "answer"})
    proto.graph.initializer.extend(weights)
    proto.opset_import.add(domain="com.microsoft", version=1)
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    onnx.save(proto, tmp_path / "foreign.onnx")
    bundle = compile(
        tmp_path / "foreign.onnx",
        "host",
        output=tmp_path / "bundle",
        engines=("onnx", "openvino"),
        precisions=("fp32",),
    )
    assert [a.artifact.engine for a in bundle.manifest.artifacts] == ["onnx"]
    (skipped,) = bundle.manifest.skipped
    assert skipped.engine == "openvino"
    assert "below the recipe's bound" in skipped.reason
