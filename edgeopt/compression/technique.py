# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What a technique of compression is: its contract, and the one place where it is looked up.

A technique is a module of this package with the two functions of ``Technique``; its options are
the module of the same name in ``edgeopt.steps``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

if TYPE_CHECKING:
    from edgeopt.evaluate.data import Data
    from edgeopt.model import Model
    from edgeopt.train.context import Context


class Change(NamedTuple):
    """What a technique made of a model.

    ``text`` says in a line what changed, for the report. ``modified`` is False if nothing did, and
    ``model`` then computes what the one that came in does.
    """

    model: Model
    text: str
    modified: bool = True


class Technique(Protocol):
    """What the module of a technique has."""

    def check(self, model: Model, options: Any) -> None:
        """Raise InputError if ``options`` cannot be done to ``model``, or are of another kind."""

    def apply(self, model: Model, options: Any, data: Data, context: Context = ...) -> Change:
        """Apply the technique to a copy of ``model``, which itself stays as it is.

        ``data`` are the texts to learn or to measure on. Raises InputError as ``check`` does, and
        if the texts do not suffice.
        """


def module_name(name: str) -> str:
    """Return the module of the technique ``name``, one of ``edgeopt.steps.TECHNIQUES``."""
    return f"edgeopt.compression.{name}"


def technique(name: str) -> Technique:
    """Return the technique ``name``, one of ``edgeopt.steps.TECHNIQUES``."""
    return cast(Technique, importlib.import_module(module_name(name)))
