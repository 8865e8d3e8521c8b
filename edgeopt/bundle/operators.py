# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What a bundle's network computes, operator by operator, in a call of any length."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgeopt import progress
from edgeopt.bundle import Bundle, golden
from edgeopt.bundle.manifest import ArtifactEntry
from edgeopt.errors import BundleError
from edgeopt.estimate.onnx_operators import count
from edgeopt.estimate.operators import Network
from edgeopt.model.signature import NO_LENGTH

Networks = Callable[[int], Network]
"""Counts a call of so many tokens."""


def networks_of(bundle: Bundle) -> Networks | BundleError:
    """Return what counts the network of ``bundle``: that of its ONNX artifact, FP32 if it can be.

    All artifacts are of one network, so that any one's operators are those of the others.
    """
    entries = [e for e in bundle.manifest.artifacts if e.engine == "onnx"]
    if not entries:
        return BundleError("no ONNX artifact, in which operators could be counted")
    entry = min(entries, key=lambda e: e.precision != "fp32")
    found: dict[int, Network] = {}

    def networks(seq_len: int) -> Network:
        if seq_len not in found:
            with progress.step(f"Counting {bundle.path.name} at {seq_len or 'one image'}"):
                found[seq_len] = _counted(bundle, entry, seq_len)
        return found[seq_len]

    return networks


def _counted(bundle: Bundle, entry: ArtifactEntry, seq_len: int) -> Network:
    """Return the network of a call of ``seq_len`` tokens, which are those of a golden input."""
    artifact = bundle.artifact(entry).main
    if not bundle.manifest.golden:
        raise BundleError("has no golden input to count with", where=str(bundle.path))
    given, _ = golden.read(bundle.path / bundle.manifest.golden[0].directory)
    inputs = {}
    for spec in artifact.signature.inputs:
        value = given[artifact.names.get(spec.name, spec.name)]
        if seq_len != NO_LENGTH and value.ndim == 2:
            value = np.resize(value, (1, seq_len))
        inputs[spec.name] = value
    path = bundle.path / artifact.files[0]
    return count(path, inputs, seq_len, bundle.manifest.digest)
