# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgeopt.backends import Artifact, ArtifactGraph
from edgeopt.bundle import Bundle, golden
from edgeopt.bundle.manifest import (
    ArtifactEntry,
    Golden,
    GraphEntry,
    Manifest,
    TargetEntry,
    TextEntry,
)
from edgeopt.bundle.write import write
from edgeopt.evaluate.fidelity import Fidelity
from edgeopt.model import MAIN
from edgeopt.model.signature import Signature, TensorSpec
from edgeopt.model.tasks import SEQUENCE_CLASSIFICATION

MakeBundle = Callable[..., Bundle]

IDS = TensorSpec(name="input_ids", dtype="int64", dims=("batch", "seq"))
LOGITS = TensorSpec(name="logits", dtype="float32", dims=("batch", 2))
SIGNATURE = Signature(inputs=(IDS,), outputs=(LOGITS,))


def manifest(**changes: object) -> Manifest:
    values = {
        "name": "tiny",
        "digest": "",
        "inputs": "",
        "task": SEQUENCE_CLASSIFICATION,
        "labels": ("no", "yes"),
        "activation": "softmax",
        "pooling": None,
        "input": TextEntry(
            max_seq_len=16,
            pad_id=0,
            token_types=True,
            tokenizer=("tokenizer/tokenizer.json",),
        ),
        "graphs": {MAIN: GraphEntry(signature=SIGNATURE)},
        "target": TargetEntry(
            name="host",
            device="host",
            arch="x86_64",
            libc="glibc",
            libc_version=None,
            threads=1,
            cpus=None,
            warmup=1,
            runs=5,
        ),
        "recipe": {"name": "default"},
        "reference": "PyTorch FP32",
        "origin": {"kind": "test"},
        "tools": {"edgeopt": "0"},
        "artifacts": (
            ArtifactEntry(
                artifact=Artifact(
                    engine="onnx",
                    precision="fp32",
                    graphs={
                        MAIN: ArtifactGraph(
                            files=("artifacts/onnx-fp32/model.onnx",),
                            signature=SIGNATURE,
                            seq_lens=(),
                        )
                    },
                    route="a test",
                    options={},
                    tools={},
                ),
                engine_version="1.31.1",
                bytes=10,
                fidelity=Fidelity(
                    cosine_min=1.0, cosine_mean=1.0, max_abs_error=0.0, same_top1=1.0, calls=2
                ),
                bound=0.9999,
            ),
        ),
        "skipped": (),
        "golden": (Golden(directory="golden/seq_4/0", seq_len=4, tokens=3),),
        "files": {},
    }
    return Manifest(**(values | changes))  # type: ignore[arg-type]


@pytest.fixture
def sources(tmp_path: Path) -> dict[str, Path]:
    """Files of a bundle, as ``write`` takes them."""
    folder = tmp_path / "sources"
    folder.mkdir()
    (folder / "tokenizer.json").write_text(json.dumps({"model": {}}))
    (folder / "model.onnx").write_bytes(b"not a model")
    golden.write(
        folder / "golden",
        {"input_ids": np.array([[1, 2, 3, 0]])},
        {"logits": np.array([[0.5, 1.5]])},
    )
    return {
        "tokenizer/tokenizer.json": folder / "tokenizer.json",
        "artifacts/onnx-fp32/model.onnx": folder / "model.onnx",
        "golden/seq_4/0/in.input_ids.npy": folder / "golden/in.input_ids.npy",
        "golden/seq_4/0/out.logits.npy": folder / "golden/out.logits.npy",
    }


@pytest.fixture
def make_bundle(tmp_path: Path, sources: dict[str, Path]) -> Callable[..., Bundle]:
    """Write a small bundle whose artifact is no real model."""

    def make(output: Path | None = None, **changes: object) -> Bundle:
        return write(output or tmp_path / "tiny.edgeopt", manifest(**changes), sources)

    return make
