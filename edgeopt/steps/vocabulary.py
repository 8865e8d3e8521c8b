# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The options of trimming the vocabulary."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from edgeopt.steps.limits import MOST
from edgeopt.steps.step import Aim, Step
from edgeopt.values import Range


@dataclass(frozen=True, kw_only=True, slots=True)
class Vocabulary(Step):
    """Keep the tokens of the user's data.

    Also kept are always the special tokens and the pieces without which a text might not tokenise.
    """

    inputs: ClassVar[frozenset[str]] = frozenset({"text"})
    aims: ClassVar[Aim] = "size"
    undoes: ClassVar[frozenset[str]] = frozenset({"changed table"})
    technique: str = field(default="vocabulary", init=False)
    size: Annotated[int | None, Range(1, MOST, "tokens"), "at most so many are kept"] = None
    first: Annotated[
        int, Range(0, MOST, "tokens"), "so many of the original order are kept besides"
    ] = 0
