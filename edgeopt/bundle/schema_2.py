# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""A manifest of schema 2 as one of schema 3.

Schema 2 had one graph without a name, and for a model of images ``image`` beside a length of 0.
What is missing or of another type is left so, for the reader to tell.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeopt.model import MAIN

_TEXT = ("max_seq_len", "pad_id", "token_types", "tokenizer", "prompt")
_GRAPH = ("files", "signature", "seq_lens")
_ARTIFACT = ("engine", "precision", "route", "options", "tools")
_FIDELITY = ("cosine_min", "cosine_mean", "max_abs_error", "same_top1", "calls")


def upgraded(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``document``, of schema 2, as schema 3 has it."""
    moved = {*_TEXT, "image", "signature", "limits", "artifacts"}
    found = {key: value for key, value in document.items() if key not in moved}
    image = document.get("image")
    if isinstance(image, dict):
        found["input"] = {"kind": "image", **image}
    else:
        found["input"] = {"kind": "text", **_of(document, _TEXT)}
    if "signature" in document:
        signature = _limited(document["signature"], document.get("limits"))
        found["graphs"] = {MAIN: {"signature": signature}}
    if "artifacts" in document:
        found["artifacts"] = _artifacts(document["artifacts"])
    return found


def _of(document: Mapping[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: document[key] for key in keys if key in document}


def _limited(signature: Any, limits: Any) -> Any:
    """Return ``signature`` with the limits that schema 2 kept beside it."""
    if not isinstance(limits, dict) or not isinstance(signature, dict):
        return signature
    inputs = signature.get("inputs")
    if not isinstance(inputs, list):
        return signature
    return signature | {
        "inputs": [
            spec | {"limit": limits[spec["name"]]}
            if isinstance(spec, dict) and spec.get("name") in limits
            else spec
            for spec in inputs
        ]
    }


def _artifacts(entries: Any) -> Any:
    if not isinstance(entries, list):
        return entries
    return [_artifact(entry) if isinstance(entry, dict) else entry for entry in entries]


def _artifact(entry: Mapping[str, Any]) -> dict[str, Any]:
    moved = {*_GRAPH, *_ARTIFACT, *_FIDELITY}
    found = {key: value for key, value in entry.items() if key not in moved}
    found["artifact"] = _of(entry, _ARTIFACT) | {"graphs": {MAIN: _of(entry, _GRAPH)}}
    found["fidelity"] = _of(entry, _FIDELITY)
    return found
