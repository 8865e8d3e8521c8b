# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""sentence-transformers' OpenVINO back end, as it comes and in static INT8.

As it comes it computes in BF16 if the CPU has it. The classifier is put together as for the ONNX
back end. INT8 is calibrated on edgeopt's own texts, as the documentation's data set is on a hub.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from tools.benchmarks.peers.reading import Answer
from tools.benchmarks.peers.sentence_transformers_onnx import answering, composed

VARIANTS = {
    "sentence-transformers OpenVINO": "openvino/openvino_model.xml",
    "sentence-transformers OpenVINO INT8": "openvino/openvino_model_int8.xml",
}
REQUIREMENTS = (
    "torch==2.13.0",
    "sentence-transformers==5.1.2",
    "optimum-intel[openvino]==2.2.0",
    "openvino==2026.4.1",
    "transformers==4.57.6",
    "datasets==4.8.5",
)
REMOVED = ("torchvision",)
"""optimum-intel installs it and needs it for no text; its build does not load beside PyTorch's."""
PACKAGES = ("sentence-transformers", "optimum-intel", "openvino", "nncf")

_TEXTS = Path(__file__).parents[3] / "edgeopt" / "model" / "texts.jsonl"


def make(model: Path, folder: Path) -> None:
    """Export it, and quantise it as the documentation does."""
    from optimum.intel import OVQuantizationConfig
    from sentence_transformers import export_static_quantized_openvino_model

    network = composed(model, folder, "openvino", {"export": True})
    network.save_pretrained(str(folder / "model"))
    rows = [json.loads(line) for line in _TEXTS.read_text().splitlines()]
    data = folder / "texts"
    data.mkdir()
    lines = [json.dumps({"sentence": row["text"]}) for row in rows if "text" in row]
    (data / "train.jsonl").write_text("\n".join(lines) + "\n")
    export_static_quantized_openvino_model(
        network,
        OVQuantizationConfig(num_samples=len(lines)),
        str(folder / "model"),
        dataset_name=str(data),
        dataset_config_name="default",
        dataset_split="train",
        column_name="sentence",
        file_suffix="int8",
    )


def reader(variant: str, model: Path, folder: Path, length: int | None) -> Callable[[str], Answer]:
    """Return what reads a text; its tokens are how many it reads at most."""
    if length:
        raise SystemExit("encode() pads no text to a length")
    one_thread = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": 1}
    return answering(folder / "model", "openvino", {"file_name": variant, "ov_config": one_thread})
