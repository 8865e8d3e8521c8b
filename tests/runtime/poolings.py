# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The files by which sentence-transformers says how to pool."""

from __future__ import annotations

import json
from pathlib import Path


def write_pooling(folder: Path, mode: str) -> None:
    """Make of the checkpoint in ``folder`` one that pools by ``mode`` and normalises."""
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {
            "idx": 1,
            "name": "1",
            "path": "1_Pooling",
            "type": "sentence_transformers.models.Pooling",
        },
        {"idx": 2, "name": "2", "path": "2", "type": "sentence_transformers.models.Normalize"},
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    key = {"mean": "mean_tokens", "cls": "cls_token", "max": "max_tokens"}[mode]
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({f"pooling_mode_{key}": True}))
