"""Golden inputs and outputs: real texts, or images, with the reference's answer, as .npy files.

One directory holds one call: ``in.NAME.npy`` (int64, (1, seq), or float32,
(1, 3, height, width)) and ``out.NAME.npy`` (float32).
They travel with the bundle and are run on the board before anything is timed there.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from edgeopt.errors import BundleError


def write(
    directory: Path, batch: Mapping[str, np.ndarray], outputs: Mapping[str, np.ndarray]
) -> None:
    """Write one call into ``directory``, which is made."""
    directory.mkdir(parents=True)
    for name, value in batch.items():
        np.save(directory / f"in.{name}.npy", np.ascontiguousarray(value))
    for name, value in outputs.items():
        np.save(directory / f"out.{name}.npy", np.ascontiguousarray(value, dtype=np.float32))


def read(directory: Path) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return the inputs and outputs of ``directory``. Raises BundleError for a damaged file."""
    calls: dict[str, dict[str, np.ndarray]] = {"in": {}, "out": {}}
    for path in sorted(directory.glob("*.npy")):
        side, _, name = path.name.removesuffix(".npy").partition(".")
        try:
            calls[side][name] = np.load(path, allow_pickle=False)
        except (ValueError, OSError, KeyError) as exc:
            raise BundleError(f"is not a golden array: {exc}", where=str(path)) from exc
    return calls["in"], calls["out"]
