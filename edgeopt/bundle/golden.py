# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Golden inputs and outputs: real texts, or images, with the reference's answer, as .npy files.

One directory holds one call: ``in.NAME.npy`` (int64, (1, seq), or float32,
(1, 3, height, width)) and ``out.NAME.npy`` (float32).
They travel with the bundle and are run on the board before anything is timed there.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgeopt.errors import BundleError, InputError
from edgeopt.fields import read_regular

_MOST_BYTES = 1 << 30  # 2^28 elements, the runtime's most


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
    try:
        paths = sorted(path for path in directory.iterdir() if path.suffix == ".npy")
    except OSError as exc:
        raise BundleError(f"cannot be read ({exc.strerror})", where=str(directory)) from exc
    for path in paths:
        side, _, name = path.name.removesuffix(".npy").partition(".")
        try:
            calls[side][name] = _array(read_regular(path, _MOST_BYTES))
        except InputError as exc:
            raise BundleError(exc.message, where=str(path)) from exc
        except (ValueError, OSError, KeyError) as exc:
            raise BundleError(f"is not a golden array: {exc}", where=str(path)) from exc
    return calls["in"], calls["out"]


def _array(data: bytes) -> np.ndarray:
    """Return the array of a .npy file; no more is allocated than its bytes, whatever it says."""
    file = io.BytesIO(data)
    read_header = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(np.lib.format.read_magic(file))
    if read_header is None:
        raise ValueError("version 1.0 or 2.0 of the format was expected")
    shape, _, dtype = read_header(file)
    left_bytes = len(data) - file.tell()
    if dtype.kind not in "iuf" or math.prod(shape) * dtype.itemsize != left_bytes:
        raise ValueError(f"{left_bytes} bytes of data, the header says {shape} of {dtype}")
    file.seek(0)
    found: np.ndarray = np.load(file, allow_pickle=False)
    return found


TEXTS = "golden/texts.json"
"""Raw texts with what the user's own tool answered: ``{"tool", "error_max": {precision: most},
"texts": [{"text", "pair", "values"}]}``. ``values`` are the scores in the order of the labels, or
the embedding; an artifact may be off by ``error_max`` of its precision (``off``). The agent runs
them text in, answer out, before it times anything."""


def read_texts(bundle: Path, precision: str) -> tuple[float, list[dict[str, Any]]]:
    """Return how far an artifact may be off, and the texts. Raises BundleError if damaged."""
    path = bundle / TEXTS
    try:
        document = json.loads(read_regular(path, _MOST_BYTES))
        most = float(document["error_max"][precision])
        found = [
            {
                "text": str(entry["text"]),
                "pair": None if entry.get("pair") is None else str(entry["pair"]),
                "values": [float(value) for value in entry["values"]],
            }
            for entry in document["texts"]
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise BundleError(f"is not golden texts: {exc!r}", where=str(path)) from exc
    return most, found


def off(got: Sequence[float], wanted: Sequence[float], *, vector: bool) -> float:
    """Return how far ``got`` is off: a vector by its length, scores beyond 1 by the largest."""
    if len(got) != len(wanted):
        return math.inf
    a, b = np.asarray(got, np.float64), np.asarray(wanted, np.float64)
    error = float(np.linalg.norm(a - b)) if vector else float(np.abs(a - b).max(initial=0.0))
    unit = float(np.linalg.norm(b)) if vector else max(1.0, float(np.abs(b).max(initial=0.0)))
    found = error / (unit or 1.0)
    return found if math.isfinite(found) else math.inf
