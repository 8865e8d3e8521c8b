# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What is told of a foreign file, whatever its format: which engines of a target run it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgeopt.support.trial import Stage


@dataclass(frozen=True, kw_only=True, slots=True)
class Operator:
    """An operator that an engine does not run, or runs otherwise than the file's own tool.

    ``name`` has its domain if that is not the format's own; ``nodes`` name some of its ``count``
    nodes, or what they make if they have no name. ``hint`` is what to do.
    """

    name: str
    nodes: tuple[str, ...]
    count: int
    stage: Stage
    reason: str
    hint: str


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineSupport:
    """What one engine makes of the whole file, and, if it does not run it, of its operators.

    ``version`` is the target's, ``tried`` the one that was asked, on this host (None if the engine
    was not asked). ``needs`` is what the file needs, and ``takes`` what the target's engine reads,
    by name (``opset``, ``ir_version``; empty for engines without such numbers).
    """

    engine: str
    version: str
    tried: str | None
    stage: Stage
    reason: str
    hint: str
    needs: Mapping[str, int]
    takes: Mapping[str, int]
    operators: tuple[Operator, ...]

    @property
    def runs(self) -> bool:
        """Whether the engine runs the file, with the file's own answers as far as known."""
        return self.stage in ("agrees", "runs")


@dataclass(frozen=True, kw_only=True, slots=True)
class Support:
    """A file, its operators with their counts, and what each engine of a target makes of it.

    ``task`` is what ``edgeopt compile`` takes it for, None if it does not take it; ``refusal`` and
    ``hint`` then say why. ``tried_as`` says in a line in what form and with what inputs it was run.
    """

    file: str
    format: str
    versions: Mapping[str, int]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    operators: Mapping[str, int]
    target: str
    task: str | None
    refusal: str
    hint: str
    tried_as: str
    engines: tuple[EngineSupport, ...]

    @property
    def runs(self) -> bool:
        """Whether every engine that was asked runs it."""
        return all(engine.runs for engine in self.engines)
