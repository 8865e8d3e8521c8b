# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""sentence-transformers' ONNX back end.

Its CrossEncoder takes pairs of texts alone, so a classifier of single texts is put together of its
modules: the encoder, the first token, and the pooler and the head as its Dense.

sentence-transformers 6 wants transformers 5, and Optimum's ONNX part 4: 5.1 goes with both.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tools.benchmarks.peers.reading import Answer, limit

VARIANTS = {
    "sentence-transformers ONNX FP32": "onnx/model.onnx",
    "sentence-transformers ONNX INT8": "onnx/model_int8.onnx",
}
REQUIREMENTS = (
    "torch==2.13.0",
    "sentence-transformers==5.1.2",
    "optimum-onnx[onnxruntime]==0.1.0",
    "onnxruntime==1.31.1",
    "transformers==4.57.6",
)
PACKAGES = ("sentence-transformers", "optimum-onnx", "onnxruntime")


def make(model: Path, folder: Path) -> None:
    """Export it, and quantise it as the documentation does, for this machine."""
    from sentence_transformers import export_dynamic_quantized_onnx_model

    from tools.benchmarks.peers.optimum import isa

    network = composed(model, folder, "onnx", {"export": True})
    network.save_pretrained(str(folder / "model"))
    export_dynamic_quantized_onnx_model(
        network, isa()[2:], str(folder / "model"), file_suffix="int8"
    )


def composed(model: Path, folder: Path, backend: str, options: dict[str, object]) -> Any:
    """Return a classifier of BERT's kind as a SentenceTransformer whose embedding is the logits."""
    import torch
    from sentence_transformers import SentenceTransformer, models
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    network = AutoModelForSequenceClassification.from_pretrained(model).float()
    if network.config.model_type != "bert":
        raise SystemExit(f"has no head of {network.config.model_type}'s kind")
    network.bert.save_pretrained(folder / "encoder")
    AutoTokenizer.from_pretrained(model).save_pretrained(folder / "encoder")
    encoder = models.Transformer(
        str(folder / "encoder"),
        max_seq_length=limit(model),
        backend=backend,
        model_args=options,
    )
    width = network.config.hidden_size
    parts = [encoder, models.Pooling(width, pooling_mode="cls")]
    for linear, activation in (
        (network.bert.pooler.dense, torch.nn.Tanh()),
        (network.classifier, torch.nn.Identity()),
    ):
        dense = models.Dense(width, linear.out_features, activation_function=activation)
        dense.linear.load_state_dict(linear.state_dict())
        parts.append(dense)
    return SentenceTransformer(modules=parts, device="cpu", backend=backend)


def reader(variant: str, model: Path, folder: Path, length: int | None) -> Callable[[str], Answer]:
    """Return what reads a text; its tokens are how many it reads at most."""
    if length:
        raise SystemExit("encode() pads no text to a length")
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    given = {"file_name": variant, "session_options": options, "provider": "CPUExecutionProvider"}
    return answering(folder / "model", "onnx", given)


def answering(place: Path, backend: str, options: dict[str, object]) -> Callable[[str], Answer]:
    """Return what reads a text with the SentenceTransformer in ``place``, by ``encode``."""
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(1)
    network = SentenceTransformer(str(place), backend=backend, model_kwargs=options, device="cpu")

    def answer(text: str) -> Answer:
        logits = network.encode(text, show_progress_bar=False)
        return int(logits.argmax()), network.max_seq_length, logits

    return answer
