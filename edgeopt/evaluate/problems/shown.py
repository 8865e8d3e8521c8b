# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Inputs as lists of the worst ones show them."""

from __future__ import annotations

from pathlib import Path

from edgeopt.model.answer import Continuation, Question


def shown(sample: Question) -> str:
    """Return the text, both texts of a pair or a continuation, or an image's file name."""
    if isinstance(sample, str):
        return sample
    if isinstance(sample, tuple):
        return " | ".join(sample)
    if isinstance(sample, Continuation):
        return f"{sample.context}{sample.text}"
    return sample.name if isinstance(sample, Path) else "an image"
