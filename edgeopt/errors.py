# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Every error that edgeopt raises on purpose.

    EdgeoptError                 exit code
    ├── InputError               2   the user's file, name, option or data is wrong
    ├── MissingDependencyError   3   a Python extra, a system package or a tool is not installed
    ├── CompileError             4   a model could not be imported, lowered or checked
    ├── BundleError              5   a bundle is damaged, incomplete or of another version
    ├── BoardError               6   a board cannot be reached, trusted, or run this bundle
    ├── MeasurementError         7   a measurement failed or would not be true
    └── BusyError                8   another edgeopt process holds what this one needs

A message says what was wrong, where, what was expected and what to do next. ``str(error)`` is
that text; the attributes carry the same facts for programs. Foreign exceptions are mapped once,
where they enter, with ``raise ... from exc``.
"""

from __future__ import annotations


class EdgeoptError(Exception):
    """Base of all errors a user or an embedding program should expect.

    ``where`` names the file, dotted key, node or board; ``hint`` is the next step. ``str()``
    gives ``"{where}: {message}\\n{hint}"`` with the absent parts left out.
    """

    exit_code = 1

    def __init__(self, message: str, *, where: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        text = f"{self.where}: {self.message}" if self.where else self.message
        return f"{text}\n{self.hint}" if self.hint else text


class InputError(EdgeoptError):
    """The user's file, name, option or data is wrong."""

    exit_code = 2


class MissingDependencyError(EdgeoptError):
    """A Python extra, a system package or a tool is not installed."""

    exit_code = 3


class CompileError(EdgeoptError):
    """A model could not be imported, lowered or checked."""

    exit_code = 4


class BundleError(EdgeoptError):
    """A bundle is damaged, incomplete or of another schema version."""

    exit_code = 5


class BoardError(EdgeoptError):
    """A board cannot be reached, trusted, or run this bundle."""

    exit_code = 6


class MeasurementError(EdgeoptError):
    """A measurement failed, or its figures would not be true."""

    exit_code = 7


class BusyError(EdgeoptError):
    """Another edgeopt process holds what this one needs."""

    exit_code = 8
