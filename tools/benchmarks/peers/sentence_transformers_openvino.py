# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""sentence-transformers' OpenVINO back end in FP32, of the same modules as its ONNX one.

Its INT8 is calibrated on a data set that it fetches, so it is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

VARIANTS = {"sentence-transformers OpenVINO FP32": "openvino"}
REQUIREMENTS = (
    "torch==2.13.0",
    "torchvision==0.28.0",
    "sentence-transformers[openvino]==5.1.2",
)
PACKAGES = ("sentence-transformers", "optimum-intel", "openvino", "transformers")


def make(model: Path, folder: Path) -> None:
    """Export it."""
    from tools.benchmarks.peers.sentence_transformers_onnx import composed

    network = composed(model, folder, "openvino", {"export": True})
    network.save_pretrained(str(folder / "model"))


def reader(
    variant: str, model: Path, folder: Path, length: int | None
) -> Callable[[str], tuple[int, int]]:
    """Return what reads a text: the index of its label, and how many tokens it reads at most."""
    if length:
        raise SystemExit("encode() pads no text to a length")
    from tools.benchmarks.peers.sentence_transformers_onnx import answering

    config = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    return answering(folder / "model", "openvino", {"ov_config": config})
