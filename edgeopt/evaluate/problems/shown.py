# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Inputs as lists of the worst ones show them."""

from __future__ import annotations

from pathlib import Path

from edgeopt.model.answer import Sample


def shown(sample: Sample) -> str:
    """Return the text, both texts of a pair, or an image's file name."""
    if isinstance(sample, str):
        return sample
    if isinstance(sample, tuple):
        return " | ".join(sample)
    return sample.name if isinstance(sample, Path) else "an image"
