# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Training that can go on after its process was killed: checkpoints, random states, metrics.

A checkpoint is written beside its place and renamed, so that it is there whole or not at all.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeopt import cache, progress

if TYPE_CHECKING:
    import torch

METRICS = "metrics.jsonl"


class Store:
    """The files of one training in ``folder``; None keeps nothing, and finds nothing."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)

    def write(self, name: str, state: Mapping[str, Any]) -> None:
        """Write ``state`` (tensors and plain values) in the place of what is there."""
        import torch

        if self.folder is None:
            return
        path = self.folder / name
        temporary = path.with_suffix(".new")
        with temporary.open("wb") as file:
            torch.save(dict(state), file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)

    def read(self, name: str) -> dict[str, Any] | None:
        """Return what was written, its tensors on the CPU; None if nothing was."""
        import torch

        if self.folder is None or not (self.folder / name).is_file():
            return None
        try:
            found: dict[str, Any] = torch.load(
                self.folder / name, map_location="cpu", weights_only=True
            )
        except (RuntimeError, OSError, EOFError) as exc:
            progress.note(f"{self.folder / name} is damaged ({exc}): training begins anew")
            return None
        return found


def copied(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the weights in ``values`` as they are now, on the CPU."""
    import torch

    return {
        name: value.detach().cpu().clone() if isinstance(value, torch.Tensor) else value
        for name, value in values.items()
    }


def finite(values: Mapping[str, Any]) -> bool:
    """Tell whether no weight in ``values`` is infinite or NaN."""
    import torch

    found = [v for v in values.values() if isinstance(v, torch.Tensor) and v.is_floating_point()]
    return all(bool(torch.isfinite(v).all()) for v in found)


def digest(states: Mapping[str, Mapping[str, torch.Tensor]]) -> str:
    """Return a hash of the weights in ``states``."""
    return cache.key(
        **{
            f"{part}.{name}": [str(value.dtype), list(value.shape), _hash(value)]
            for part, state in states.items()
            for name, value in state.items()
            if hasattr(value, "dtype")
        }
    )


def _hash(value: torch.Tensor) -> str:
    import hashlib

    import torch

    raw = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return hashlib.sha256(raw.numpy().tobytes()).hexdigest()


def random_state() -> dict[str, Any]:
    """Return the states of Python's, numpy's and torch's generators, as tensors and values."""
    import torch

    kind, keys, place, has_gauss, cached = np.random.get_state(legacy=True)
    state = {
        "python": random.getstate(),
        "numpy": [kind, torch.from_numpy(keys.astype(np.int64)), place, has_gauss, cached],  # type: ignore[union-attr]
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def set_random_state(state: Mapping[str, Any]) -> None:
    """Take up a state that ``random_state`` returned."""
    import torch

    version, keys, gauss = state["python"]
    random.setstate((version, tuple(keys), gauss))
    kind, numbers, place, has_gauss, cached = state["numpy"]
    np.random.set_state((kind, numbers.numpy().astype(np.uint32), place, has_gauss, cached))
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed Python's, numpy's and torch's generators for the block, and give back what they were."""
    import torch

    before = random_state()
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    try:
        yield
    finally:
        set_random_state(before)


class Metrics:
    """The lines of one training, in ``metrics.jsonl`` of the folder that all share."""

    def __init__(self, folder: Path | None, training: str) -> None:
        self._path = folder / METRICS if folder is not None else None
        self._training = training
        self.lines: list[dict[str, Any]] = []

    def take_up(self, lines: list[dict[str, Any]]) -> None:
        """Go on behind ``lines``: what was written after them is dropped."""
        self.lines = list(lines)
        if self._path is not None:
            others = [
                row for row in read_metrics(self._path.parent) if row["training"] != self._training
            ]
            temporary = self._path.with_suffix(".new")
            temporary.write_text("".join(json.dumps(row) + "\n" for row in [*others, *self.lines]))
            temporary.replace(self._path)

    def add(self, **values: Any) -> None:
        """Write a line."""
        self.lines.append({"training": self._training} | values)
        if self._path is not None:
            with self._path.open("a") as file:
                file.write(json.dumps(self.lines[-1]) + "\n")


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of every training in ``folder``; a last one that was cut is left out."""
    path = folder / METRICS
    if not path.is_file():
        return []
    return [
        json.loads(line) for line in path.read_text().splitlines(keepends=True) if line[-1] == "\n"
    ]
