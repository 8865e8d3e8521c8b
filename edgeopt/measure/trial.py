# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""A trial: two artifacts timed in turns on one board, as raw samples.

The file is JSON, written once and never changed; what is said of it is computed anew each time.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from edgeopt import values
from edgeopt.errors import InputError, MeasurementError
from edgeopt.fields import Table
from edgeopt.measure.measurement import shown, write_document
from edgeopt.values import OneOf

KIND, SCHEMA_VERSION = "trial", 1
FIRST, SECOND = "first", "second"


@dataclass(frozen=True, kw_only=True, slots=True)
class Side:
    """One of the two: an artifact of a bundle, and how it is run. ``seq_len`` 0 is an image."""

    bundle_name: str
    bundle_digest: str
    graph: str
    engine: str
    engine_version: str
    precision: str
    threads: int
    seq_len: int
    artifact_bytes: int

    @property
    def name(self) -> str:
        """What its artifact is called in a table."""
        return shown(self.graph, self.engine, self.precision)


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """Runs of one side, without another in between, ns.

    The first of them is no figure: the other side has had the caches before it.
    """

    side: Annotated[str, OneOf(FIRST, SECOND)]
    wall_ns: tuple[int, ...]
    cpu_ns: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Round:
    """A process of each side, from its start to its end: their blocks as they ran."""

    blocks: tuple[Block, ...]

    def pairs(self) -> Iterator[tuple[Sequence[int], Sequence[int]]]:
        """Yield the times of neighbouring blocks, first and second, without the first run each."""
        for one, other in zip(self.blocks[::2], self.blocks[1::2], strict=True):
            first, second = (one, other) if one.side == FIRST else (other, one)
            yield first.wall_ns[1:], second.wall_ns[1:]


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """All that was taken of two sides in turns.

    ``planned`` are the numbers of rounds after which it was looked whether to end.
    """

    started_utc: str
    edgeopt_version: str
    agent_version: str
    target: str
    board_name: str
    emulated: bool
    board: Mapping[str, Any]
    first: Side
    second: Side
    planned: tuple[int, ...]
    rounds: tuple[Round, ...]
    state_before: Mapping[str, Any]
    state_after: Mapping[str, Any]

    def check(self, table: Table) -> None:
        """Raise InputError if a round is none."""
        for i, one in enumerate(self.rounds):
            sides = [{a.side, b.side} for a, b in zip(one.blocks[::2], one.blocks[1::2])]  # noqa: B905
            if (
                not sides
                or len(one.blocks) % 2
                or any(len(pair) != 2 for pair in sides)
                or any(len(b.wall_ns) < 2 or min(b.wall_ns) < 1 for b in one.blocks)
            ):
                raise table.wrong(f"rounds[{i}]", "is not of pairs of blocks of runs")


def write(trial: Trial, path: Path) -> None:
    """Write ``trial`` as a new file. Raises InputError if ``path`` exists or cannot be written."""
    document = {"kind": KIND, "schema_version": SCHEMA_VERSION} | values.write(trial)
    write_document(document, path, indent=None)


def read(path: Path) -> Trial:
    """Read a trial. Raises MeasurementError if it is damaged or of another version."""
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError) as exc:
        raise MeasurementError(f"cannot be read: {exc}", where=str(path)) from exc
    if not is_one(document) or document.get("schema_version") != SCHEMA_VERSION:
        raise MeasurementError(
            f"is not a trial of schema version {SCHEMA_VERSION}", where=str(path)
        )
    try:
        return values.read(Trial, Table(document, file=str(path)))
    except InputError as exc:
        raise MeasurementError(f"is damaged: {exc}", where=str(path)) from exc


def is_one(document: Any) -> bool:
    """Return whether a JSON document says that it is a trial."""
    return isinstance(document, dict) and document.get("kind") == KIND
