# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What each engine's own profiler says of operators, and which layers these are: a module each.

    HOW, RESOLUTION_NS, ELSEWHERE
    options(prefix, first) -> ["KEY=VALUE"]    what the agent opens the artifact with
    calls(told, runs) -> [Call]         the operators of one round
    layers(join, calls) -> [Joined]     of each call the model's layers

``prefix`` begins the names of files on the board that the engine may write, and ``first`` is true
in the first round. ``ELSEWHERE`` says what is not known on a board of another architecture than
this machine's, if anything.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from edgeopt.bundle import Bundle
from edgeopt.bundle.manifest import ArtifactEntry


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """An operator in one round: its time in all inferences of it, ns."""

    name: str
    type: str
    kernel: str = ""
    total_ns: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """What a round brought: the agent's operators before and after the timed runs, the engine's
    report if it writes one, and its files by the end of their names."""

    before: Sequence[Call] = ()
    after: Sequence[Call] = ()
    report: str = ""
    files: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Joined:
    """The layers of one operator; ``added`` as in ``Operator``."""

    layers: tuple[str, ...] = ()
    added: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Join:
    """What joining takes: the bundle of one graph, the artifact, the length that ran, the files
    that the engine wrote, and whether the board's architecture is this machine's."""

    bundle: Bundle
    artifact: ArtifactEntry
    seq_len: int
    files: Mapping[str, bytes]
    is_here: bool

    @property
    def folder(self) -> Path:
        """Where the bundle's files are."""
        return self.bundle.path

    def file_of(self, engine: str, precision: str) -> Path | None:
        """Return the first file of another artifact of the bundle; None if it has none."""
        for entry in self.bundle.manifest.artifacts:
            if (entry.engine, entry.precision) == (engine, precision):
                return self.folder / entry.artifact.main.files[0]
        return None


class Profiler(Protocol):
    """A module of this package."""

    HOW: str
    RESOLUTION_NS: int
    ELSEWHERE: str

    def options(self, prefix: str, *, first: bool) -> list[str]:
        """Return the options that the agent opens the artifact with."""

    def calls(self, told: Told, runs: int) -> list[Call]:
        """Return the operators of one round. Raises ValueError if they cannot be read."""

    def layers(self, join: Join, calls: Sequence[Call]) -> list[Joined]:
        """Return the layers of each call. Raises EdgeoptError if they cannot be known."""


def profiler(engine: str) -> Profiler:
    """Return the module of ``engine``."""
    found: Any = importlib.import_module(f"edgeopt.measure.profilers.{engine}")
    return found


def since(told: Told) -> list[Call]:
    """Return what ``after`` has above ``before``, operator by operator, those of one name in turn.

    An operator that did not run before has all of its time since.
    """
    earlier: dict[tuple[str, str], list[int]] = {}
    for one in told.before:
        earlier.setdefault((one.name, one.type), []).append(one.total_ns)
    found = []
    for one in told.after:
        queue = earlier.get((one.name, one.type))
        found.append(replace(one, total_ns=one.total_ns - (queue.pop(0) if queue else 0)))
    return found
