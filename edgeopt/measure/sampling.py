# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What is to be read on a board beside a measurement: its state, and the power of its rails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edgeopt.boards import Board, files
from edgeopt.errors import InputError
from edgeopt.measure import conditions
from edgeopt.measure.trace import Source
from edgeopt.power import sensors
from edgeopt.power.rail import Found

IDLE_MS = 3000
"""How long the board rests before each run in which power is measured."""

_MOST_SOURCES = 128  # EO_MAX_READS of runtime/agent/state_sampler.h


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """What the agent reads beside a run, and how long the board idles before it.

    ``power`` are the fields of a trace that say how that becomes watts, and ``told`` what the
    board's own tools say once.
    """

    sources: tuple[Source, ...] = ()
    idle_ms: int = 0
    power: Mapping[str, Any] = field(default_factory=dict)
    told: Mapping[str, str] = field(default_factory=dict)


def plan(board: Board, rails: Sequence[str] = (), idle_ms: int = 0) -> Sampling:
    """Look at the board and return what is to be read there.

    ``rails`` are those whose sum is wanted; without any, those that a sensor says are the whole
    board. ``idle_ms`` is how long it rests before a run at least. Raises InputError if a rail is
    not there or its sensor may not be used, BoardError if the board does not answer.
    """
    seen = files.look(
        board.transport,
        (*conditions.FILES, *sensors.patterns()),
        (*conditions.COMMANDS, *sensors.commands()),
    )
    state = conditions.sources(seen)
    power, read = choose(sensors.of(seen), rails, emulated=board.emulated, where=board.entry.name)
    sources = (*read, *state)[:_MOST_SOURCES]
    return Sampling(
        sources=sources,
        idle_ms=max(idle_ms, IDLE_MS if power else 0),
        power=power,
        told=conditions.told_once(seen),
    )


def usable(found: Sequence[Found], *, emulated: bool) -> list[Found]:
    """Return the sensors that tell something: of an emulated board only those that are synthetic.

    An emulated board has no power; what its kernel shows of one is made up.
    """
    return [
        sensor
        for sensor in found
        if sensor.refused is None and (not emulated or all(rail.synthetic for rail in sensor.rails))
    ]


def choose(
    found: Sequence[Found], rails: Sequence[str], *, emulated: bool, where: str
) -> tuple[dict[str, Any], tuple[Source, ...]]:
    """Return the fields of a trace for the rails that are wanted, and what is to be read."""
    sensors_here = usable(found, emulated=emulated)
    by_name = {rail.name: (rail, sensor) for sensor in sensors_here for rail in sensor.rails}
    if rails:
        if missing := [name for name in rails if name not in by_name]:
            refused = "".join(f"\n  {s.sensor}: {s.refused}" for s in found if s.refused)
            raise InputError(
                f"has no rail {missing[0]!r}{refused}",
                where=where,
                hint=f"Its rails are {', '.join(by_name)}."
                if by_name
                else "An emulated board has no power."
                if emulated
                else f"It shows no power sensor; edgeopt board check {where} lists them.",
            )
        chosen = [by_name[name][0] for name in dict.fromkeys(rails)]
        total, covers = tuple(dict.fromkeys(rails)), "the rails that were asked for"
        leaves_out = "all else"
    elif sensors_here:
        # The first that knows the whole; of one that does not, each rail stands for itself.
        whole = next((s for s in sensors_here if s.total), sensors_here[0])
        chosen, total = list(whole.rails), whole.total
        covers, leaves_out = whole.covers, whole.leaves_out
    else:
        return {}, ()
    every = {term.what: rail.every_ms for rail in chosen for term in rail.terms}
    power = {"rails": tuple(chosen), "total": total, "covers": covers, "leaves_out": leaves_out}
    return power, tuple(Source(what=what, every_ms=ms) for what, ms in every.items())
