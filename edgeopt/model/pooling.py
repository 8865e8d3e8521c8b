# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""How an embedding of a text is made of those of its tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from edgeopt.values import OneOf


@dataclass(frozen=True, kw_only=True, slots=True)
class Pooling:
    """The mean of the hidden states, their maximum, or the first; then, maybe, length 1."""

    mode: Annotated[str, OneOf("mean", "cls", "max")]
    normalize: bool
