# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Attention as one node: the same answers, and only where the pattern is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeopt.backends.onnx_attention import SINCE, fuse_attention

onnx = pytest.importorskip("onnx", reason="needs edgeopt[onnx]")
ort = pytest.importorskip("onnxruntime", reason="needs edgeopt[onnx]")
torch = pytest.importorskip("torch", reason="needs edgeopt[torch]")

pytestmark = pytest.mark.heavy

HEADS, WIDTH = 2, 4
HIDDEN = HEADS * WIDTH


class Layer(torch.nn.Module):  # type: ignore[name-defined, misc]
    """Attention as transformers' eager form writes it."""

    def __init__(self, masked: float) -> None:
        super().__init__()
        self.query, self.key, self.value = (torch.nn.Linear(HIDDEN, HIDDEN) for _ in range(3))
        self.masked = masked

    def forward(self, states: Any, attention_mask: Any) -> Any:
        mask = (1.0 - attention_mask[:, None, None, :].to(torch.float32)) * self.masked
        shape = (*states.shape[:-1], -1, WIDTH)
        q, k, v = (
            part(states).view(shape).transpose(1, 2) for part in (self.query, self.key, self.value)
        )
        scores = torch.matmul(q, k.transpose(2, 3)) * WIDTH**-0.5 + mask
        context = torch.matmul(scores.softmax(-1), v).transpose(1, 2)
        return context.reshape(*states.shape[:-1], -1).contiguous()


def exported(path: Path, masked: float = -3.4e38) -> Any:
    torch.manual_seed(0)
    axes = {0: "batch", 1: "seq"}
    torch.onnx.export(
        Layer(masked).eval(),
        (torch.zeros(2, 5, HIDDEN), torch.ones(2, 5, dtype=torch.int64)),
        str(path),
        dynamo=False,
        opset_version=17,
        input_names=["states", "attention_mask"],
        output_names=["context"],
        dynamic_axes={"states": axes, "attention_mask": axes, "context": axes},
    )
    return onnx.load(str(path))


def run(proto: Any, feed: dict[str, np.ndarray]) -> np.ndarray:
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, feed)
    return np.asarray(found)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_one_node_computes_the_same_with_and_without_padding(tmp_path: Path) -> None:
    proto = exported(tmp_path / "layer.onnx")
    draw = np.random.default_rng(0)
    mask = np.ones((3, 9), np.int64)
    mask[1, 4:], mask[2, 1:] = 0, 0
    states = draw.normal(size=(3, 9, HIDDEN)).astype(np.float32)
    feed = {"states": states, "attention_mask": mask}
    expected = run(proto, feed)
    assert fuse_attention(proto, SINCE) == 1
    kinds = [node.op_type for node in proto.graph.node]
    assert kinds.count("MultiHeadAttention") == 1
    assert not {"Softmax", "Transpose", "Reshape"} & set(kinds)
    np.testing.assert_allclose(run(proto, feed), expected, atol=1e-5)
    alone = run(proto, {"states": states[1:2, :4], "attention_mask": mask[1:2, :4]})
    np.testing.assert_allclose(alone[0], expected[1, :4], atol=1e-5)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_is_not_known_stays(tmp_path: Path) -> None:
    """A mask that lets something through is no mask, and an older engine has no such node."""
    weak = exported(tmp_path / "weak.onnx", masked=-2.0)
    before = weak.SerializeToString()
    assert fuse_attention(weak, SINCE) == 0
    assert weak.SerializeToString() == before
    proto = exported(tmp_path / "layer.onnx")
    assert fuse_attention(proto, "1.14.0") == 0
    assert "Softmax" in {node.op_type for node in proto.graph.node}
