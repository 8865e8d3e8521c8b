# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""An ``.onnx`` file as it came: what it calls its inputs and outputs, and how it is run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeopt.extras import require

POSITIONS = "position_ids"
"""An input that no tokenizer gives: it is 0, 1, 2, ... for every text."""

FOLDERS = re.compile(r"/(?:[^\s/'\":]+/)*(?=[^\s/'\":]+\.(?:onnx|cc|cpp|h|xml|bin)\b)")
"""The folders before a file's name in what an engine says; a node's name has slashes as well."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Feed:
    """One input: the file's name for it, ours, and the dtype (numpy's name) that it takes.

    One that no operator reads is not ``used``; onnxruntime asks for it all the same.
    """

    name: str
    ours: str
    dtype: str
    used: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class OnnxFile:
    """The file to run, its inputs, and its outputs in the order of the model's signature.

    ``precision`` is what its weights are in: FP32 or FP16. ``column`` tells that its one output
    has a score a text, (batch,), whereas ours is (batch, 1).
    """

    path: Path
    feeds: tuple[Feed, ...]
    outputs: tuple[str, ...]
    precision: str = "FP32"
    column: bool = False


def open_session(source: str | bytes, *, optimize: bool = True) -> Any:
    """Return the onnxruntime session of a path, or of a file's bytes, on one thread of the CPU.

    Without ``optimize`` it runs every operator as it stands in the graph.
    """
    ort = require("onnxruntime", "onnx")
    options = ort.SessionOptions()
    if not optimize:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4  # fatal: what goes wrong is raised as well
    options.intra_op_num_threads = 1
    return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def run(session: Any, file: OnnxFile, batch: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """Return float32 arrays in the order of ``file.outputs`` for inputs by *our* names."""
    values = session.run(list(file.outputs), feed(file.feeds, batch))
    arrays = [np.asarray(value, dtype=np.float32) for value in values]
    return [array[:, None] for array in arrays] if file.column else arrays


def feed(feeds: tuple[Feed, ...], batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the file's inputs for a call with those of ours that it uses, which are int64."""
    ids = batch["input_ids"]
    made = {
        "attention_mask": np.ones_like(ids),
        "token_type_ids": np.zeros_like(ids),
        POSITIONS: np.broadcast_to(np.arange(ids.shape[1]), ids.shape),
    }
    given = {**made, **batch}
    return {f.name: np.ascontiguousarray(given[f.ours]).astype(f.dtype) for f in feeds}
