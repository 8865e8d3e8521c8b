# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The tensors inside an artifact, as its own engine computes them on one call.

An engine hands out what lies between its operators only if it does not fuse them there. What comes
out is therefore also the answer of the same file with (almost) nothing fused: if that is right and
the artifact's own answer is not, the engine's fusion or its faster kernels are to blame.

An engine has this if ``edgeopt.backends.ENGINE_inside`` has

    inside(model, artifact, directory, batch) -> Inside

and, if the engine can fuse on either side of a tensor that it keeps,

    fused(artifact, directory, batch, keep) -> Outputs
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeopt.backends import Artifact, Batch, Outputs
from edgeopt.errors import CompileError, EdgeoptError
from edgeopt.model import Model
from edgeopt.target import ENGINES


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Tensor:
    """A float32 tensor, by the engine's ``name`` and ``operator``.

    ``scope`` has the names of the torch modules that it came out of, the outermost first, as far
    as converters kept them.
    """

    name: str
    operator: str
    scope: tuple[str, ...]
    value: np.ndarray


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Inside:
    """The tensors of a file in the order of its graph, and its outputs with nothing fused."""

    tensors: Sequence[Tensor]
    outputs: Outputs


def look_inside(model: Model, artifact: Artifact, directory: Path, batch: Batch) -> Inside:
    """Run one call and return what lies inside.

    Raises CompileError if the engine does not show it.
    """
    module = _module(artifact.engine)
    try:
        found: Inside = module.inside(model, artifact, directory, batch)
    except EdgeoptError:
        raise
    # Engines refuse graphs with more outputs by exceptions without a common base.
    except Exception as exc:
        text = (str(exc).strip().splitlines() or [type(exc).__name__])[0]
        raise CompileError(f"{artifact.engine} does not show its tensors ({text})") from exc
    return found


def run_fused(
    artifact: Artifact, directory: Path, batch: Batch, keep: Sequence[str]
) -> Outputs | None:
    """Run one call as the artifact is run, with but the tensors ``keep`` kept from being fused.

    None if the engine cannot.
    """
    module = _module(artifact.engine)
    if not hasattr(module, "fused"):
        return None
    found: Outputs = module.fused(artifact, directory, batch, keep)
    return found


def _module(engine: str) -> Any:
    if engine not in ENGINES:
        raise CompileError(f"edgeopt does not see inside {engine}")
    return importlib.import_module(f"edgeopt.backends.{engine}_inside")


def split(path: str, separators: str = "/.") -> tuple[str, ...]:
    """Return the parts of a module's path, as exporters write it."""
    for separator in separators[1:]:
        path = path.replace(separator, separators[0])
    return tuple(part for part in path.split(separators[0]) if part)
