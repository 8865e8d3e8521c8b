# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""A network in a file of another kind than ``.onnx``: what it takes, and how it is called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from edgeopt.model.onnx_call import Feed, feed

TFLITE, SAVED_MODEL, KERAS = "tflite", "saved-model", "keras"
"""The kinds of file; ``edgeopt.model.network_open`` has a module for each."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Port:
    """One input: its name, its dtype (numpy's name), and its sizes, None for a free one.

    Numbers that are stored in 8 bits count as float32: ``Network.run`` takes real values.
    """

    name: str
    dtype: str
    dims: tuple[int | None, ...]


class Network(Protocol):
    """A file that was opened in the tool that its user has."""

    @property
    def tool(self) -> str:
        """What runs it, with its version: "LiteRT 2.3.0"."""

    @property
    def inputs(self) -> tuple[Port, ...]:
        """What it takes, in the file's order."""

    @property
    def seq_lens(self) -> tuple[int, ...]:
        """The lengths that it takes, ascending; () for any, and if there is no sequence."""

    def operator(self, output: str) -> str:
        """Return the operator that makes an output, lower case ("softmax"); "" if unknown."""

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return all outputs by the file's names; raises what the tool raises."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkFile:
    """The file or folder as it came, its inputs, and its outputs in the signature's order.

    ``signature`` names one of the functions that it holds, "" if it has no names for them.
    ``precision`` is what its weights are in. ``column`` tells that its one output has a score a
    text, (batch,), whereas ours is (batch, 1).
    """

    kind: str
    path: Path
    feeds: tuple[Feed, ...]
    outputs: tuple[str, ...]
    signature: str = ""
    precision: str = "fp32"
    column: bool = False


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FileSource:
    """A graph as a file of another kind than ``.onnx``, which is the reference."""

    given: NetworkFile


def call(network: Network, file: NetworkFile, batch: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """Return float32 arrays in the order of ``file.outputs`` for inputs by *our* names."""
    found = network.run(feeds_of(file.feeds, batch))
    arrays = [np.asarray(found[name], dtype=np.float32) for name in file.outputs]
    return [array[:, None] for array in arrays] if file.column else arrays


def feeds_of(feeds: tuple[Feed, ...], batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the file's inputs for a call with ours: ids, masks and types, or pixels."""
    if "input_ids" in batch:
        return feed(feeds, batch)
    return {f.name: np.ascontiguousarray(batch[f.ours]).astype(f.dtype) for f in feeds}
