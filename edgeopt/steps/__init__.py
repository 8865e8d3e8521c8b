# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The steps of compression that a recipe may hold, as data: each technique's name and options.

The options of a technique are ``edgeopt.steps.NAME``, what it does is ``edgeopt.compression.NAME``;
``TECHNIQUES`` is the one place where names are looked up. ``edgeopt.options`` reads each dataclass
from its ``[[compress]]`` table.
"""

from __future__ import annotations

from collections.abc import Sequence

from edgeopt.errors import InputError
from edgeopt.fields import Table
from edgeopt.steps.blocks import Blocks
from edgeopt.steps.distil import Distil
from edgeopt.steps.embeddings import Embeddings
from edgeopt.steps.gradual import Gradual
from edgeopt.steps.hidden import Hidden
from edgeopt.steps.layers import Layers
from edgeopt.steps.lottery import Lottery
from edgeopt.steps.low_rank import LowRank
from edgeopt.steps.movement import Movement
from edgeopt.steps.qat import Qat
from edgeopt.steps.step import Step
from edgeopt.steps.structured import Structured
from edgeopt.steps.tokens import Tokens
from edgeopt.steps.unstructured import Unstructured
from edgeopt.steps.vocabulary import Vocabulary

TECHNIQUES: dict[str, type[Step]] = {
    "vocabulary": Vocabulary,
    "structured": Structured,
    "layers": Layers,
    "distil": Distil,
    "low_rank": LowRank,
    "hidden": Hidden,
    "embeddings": Embeddings,
    "unstructured": Unstructured,
    "blocks": Blocks,
    "gradual": Gradual,
    "movement": Movement,
    "lottery": Lottery,
    "qat": Qat,
    "tokens": Tokens,
}
REPEATABLE: frozenset[str] = frozenset({"distil"})
"""Those that may stand in a recipe more than once."""


def read_steps(tables: Sequence[Table]) -> tuple[Step, ...]:
    """Return the steps of a recipe's ``[[compress]]`` tables, in order.

    Raises InputError, with the dotted key, for what is wrong, for a technique that stands there
    twice (one step of a kind measures on the whole network and does it all), and for a step that
    does not keep, or cannot take, what one before it made.
    """
    steps: list[Step] = []
    for table in tables:
        name = table.choice("technique", tuple(TECHNIQUES))
        if name not in REPEATABLE and any(step.technique == name for step in steps):
            raise table.wrong("technique", f"{name!r} stands there twice, and once does it all")
        step = TECHNIQUES[name].read(table)
        _check_order(steps, step, table)
        steps.append(step)
    return tuple(steps)


def _check_order(before: Sequence[Step], step: Step, table: Table) -> None:
    """Raise InputError if ``step`` would undo what one of those ``before`` it made."""
    for earlier in before:
        lost = step.undoes & earlier.makes
        if lost:
            raise table.wrong(
                "technique",
                f"{step.technique!r} would undo the {' and '.join(sorted(lost))} that "
                f"{earlier.technique!r} makes before it",
                hint=f"Put {step.technique!r} before {earlier.technique!r}.",
            )


def wrong(step: Step, option: str, message: str) -> InputError:
    """Return the InputError for an option that does not fit the model; the caller raises it."""
    return InputError(message, where=f"compress step {step.technique}: {option}")
