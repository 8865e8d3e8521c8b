"""The steps of compression that a recipe may hold, as data: each technique's name and options.

The options of a technique are ``edgeopt.steps.NAME``, what it does is ``edgeopt.compress.NAME``;
``TECHNIQUES`` is the one place where names are looked up. Each dataclass reads itself from its
``[[compress]]`` table.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

from edgeopt.errors import InputError
from edgeopt.fields import Table
from edgeopt.steps.layers import Layers
from edgeopt.steps.structured import Structured
from edgeopt.steps.tokens import Tokens
from edgeopt.steps.vocabulary import Vocabulary


class Step(Protocol):
    """The options of one technique: a frozen dataclass, so that it can be hashed and stored."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def technique(self) -> str:
        """The technique's name."""

    @property
    def max_drop(self) -> float:
        """The step is rolled back where the score on held-out texts falls by more."""


class Reader(Protocol):
    """A dataclass of options, as a type."""

    def read(self, table: Table) -> Step:
        """Read a step. Raises InputError with the dotted key for what is wrong."""


TECHNIQUES: dict[str, Reader] = {
    "vocabulary": Vocabulary,
    "structured": Structured,
    "layers": Layers,
    "tokens": Tokens,
}
REPEATABLE: frozenset[str] = frozenset()
"""Those that may stand in a recipe more than once."""


def read_steps(tables: Sequence[Table]) -> tuple[Step, ...]:
    """Return the steps of a recipe's ``[[compress]]`` tables, in order.

    Raises InputError, with the dotted key, for what is wrong and for a technique that stands there
    twice: one step of a kind measures on the whole network and does it all.
    """
    steps: list[Step] = []
    for table in tables:
        name = table.choice("technique", tuple(TECHNIQUES))
        if name not in REPEATABLE and any(step.technique == name for step in steps):
            raise table.wrong("technique", f"{name!r} stands there twice, and once does it all")
        steps.append(TECHNIQUES[name].read(table))
        table.close()
    return tuple(steps)


def wrong(step: Step, option: str, message: str) -> InputError:
    """Return the InputError for an option that does not fit the model; the caller raises it."""
    return InputError(message, where=f"compress step {step.technique}: {option}")
