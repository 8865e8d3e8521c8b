# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The process in which trials run: pickled trials on stdin, a line of JSON for each on stdout."""

from __future__ import annotations

import json
import os
import pickle
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgeopt import backends
from edgeopt.errors import EdgeoptError, MissingDependencyError
from edgeopt.support.trial import Trial, first_line


def attempt(trial: Trial) -> dict[str, str]:
    """Return stage, reason and hint of a trial that runs in this process."""
    stage = "refused"
    try:
        with tempfile.TemporaryDirectory(prefix="edgeopt-trial-") as folder:
            run = backends.open_onnx(
                trial.spec.engine, trial.file, trial.inputs, trial.spec, Path(folder)
            )
            stage = "fails"
            found = run(trial.inputs)
    except MissingDependencyError as exc:
        return {"stage": "missing", "reason": exc.message, "hint": exc.hint or ""}
    except EdgeoptError as exc:
        return {"stage": stage, "reason": first_line(exc), "hint": exc.hint or ""}
    # Engines raise exceptions of many kinds without a common base.
    except Exception as exc:  # noqa: BLE001
        return {"stage": stage, "reason": first_line(exc), "hint": ""}
    if trial.expected is None:
        return {"stage": "runs", "reason": "", "hint": ""}
    wrong = difference(found, trial.expected, trial.rtol, trial.atol)
    return {"stage": "differs" if wrong else "agrees", "reason": wrong, "hint": ""}


def difference(found: Sequence[Any], expected: Sequence[Any], rtol: float, atol: float) -> str:
    """Return in what the first output differs that does, "" if none does."""
    if len(found) != len(expected):
        return f"{len(found)} outputs, expected {len(expected)}"
    for ours, theirs in zip(found, expected, strict=True):
        if isinstance(theirs, list):
            if not isinstance(ours, list):
                return "a tensor, expected a sequence"
            if wrong := difference(ours, theirs, rtol, atol):
                return wrong
        elif theirs is None or ours is None:
            if ours is not theirs:
                return "a value, expected none" if theirs is None else "no value"
        elif wrong := _apart(np.asarray(ours), np.asarray(theirs), rtol, atol):
            return wrong
    return ""


_SAME_BITS = {("float16", "bfloat16"), ("uint16", "bfloat16")}


def _apart(ours: np.ndarray, theirs: np.ndarray, rtol: float, atol: float) -> str:
    if ours.shape != theirs.shape:
        return f"shape {ours.shape}, expected {theirs.shape}"
    if (str(ours.dtype), str(theirs.dtype)) in _SAME_BITS or (
        ours.dtype == np.uint8 and str(theirs.dtype).startswith("float8")
    ):
        ours = ours.view(theirs.dtype)  # numpy itself has no such type
    if ours.dtype != theirs.dtype and theirs.dtype.kind not in "OUS":
        return f"{ours.dtype}, expected {theirs.dtype}"
    if theirs.dtype.kind in "fcV" or "float" in str(theirs.dtype):
        wide = np.complex128 if theirs.dtype.kind == "c" else np.float64
        a, b = ours.astype(wide), theirs.astype(wide)
        alike = np.isclose(a, b, rtol=rtol, atol=atol, equal_nan=True)
        if alike.all():
            return ""
        at = int(np.flatnonzero(~alike)[0])
        return (
            f"{np.count_nonzero(~alike)} of {alike.size} values are off, such as "
            f"{a.reshape(-1)[at]:.6g} for {b.reshape(-1)[at]:.6g}"
        )
    same = ours.astype(str) == theirs.astype(str) if theirs.dtype.kind in "OUS" else ours == theirs
    if np.all(same):
        return ""
    at = int(np.flatnonzero(~np.asarray(same))[0])
    return (
        f"{np.count_nonzero(~np.asarray(same))} of {np.size(same)} values are off, such as "
        f"{ours.reshape(-1)[at]} for {theirs.reshape(-1)[at]}"
    )


def main() -> None:
    """Run trials until stdin ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # engines print there
    while True:
        try:
            trial: Trial = pickle.load(sys.stdin.buffer)  # of the process that started this one
        except EOFError:
            return
        answers.write(json.dumps(attempt(trial)) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
