# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What a comparison found, as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeopt.measure.compare import Compared, Comparison
from edgeopt.measure.difference import RESOLUTION, SAME, SESSIONS
from edgeopt.measure.trial import Side
from edgeopt.report.tables import ms

if TYPE_CHECKING:
    from rich.console import Console


def render(found: Comparison, console: Console) -> None:
    """Print both sides, the ratio with its interval, and a verdict if that allows one."""
    mark = " in the emulator" if found.emulated else ""
    for pair in found.pairs:
        console.print(f"A: {_named(pair, pair.first)}")
        console.print(f"B: {_named(pair, pair.second)}")
        if found.emulated:
            console.print("median, emulated: ", end="")
        else:
            console.print("median: ", end="")
        console.print(
            f"A {ms(pair.p50_ns[0])} ms, B {ms(pair.p50_ns[1])} ms, of {pair.runs[0]} and "
            f"{pair.runs[1]} runs{mark}"
        )
        effect = pair.effect
        console.print(
            f"B takes {effect.ratio:.4f} times as long as A{mark} "
            f"(95 % interval {effect.low:.4f} to {effect.high:.4f}, {effect.units} "
            f"{'rounds' if found.in_turns else 'batches'})"
        )
        for line in _verdict(pair, found):
            console.print(line, style="bold")
        console.print()
    for note in found.notes:
        console.print(note, style="yellow")
    if not found.in_turns:
        console.print(
            "They were measured in sessions of their own: what differs from session to session "
            "(process, clock, temperature, other load) is not in the interval. To have it in: "
            "edgeopt compare BUNDLE_A BUNDLE_B --board NAME",
            style="yellow",
        )
    if found.emulated:
        console.print(
            f"{' and '.join(dict.fromkeys(found.board_names))} is emulated: these are times of the "
            "emulator, and which is faster on a device may be the other.",
            style="yellow",
        )
    console.print(f"raw samples: {', '.join(found.files)}")


def _named(pair: Compared, side: Side) -> str:
    """Return what ``side`` is called, with as much as it takes to tell the two apart."""
    words = [side.bundle_name, side.name, side.engine_version]
    words.append(f"{side.seq_len} tokens" if side.seq_len else "an image")
    words.append(f"{side.threads} thread{'' if side.threads == 1 else 's'}")
    return ", ".join(words)


def _verdict(pair: Compared, found: Comparison) -> list[str]:
    effect = pair.effect
    where = "in the emulator" if found.emulated else "" if found.in_turns else "in these sessions"
    if found.verdict(pair) == SESSIONS:
        return [
            f"{SESSIONS}: B's runs took {effect.ratio - 1:+.1%}; whether B is {effect.verdict}, or "
            "its session was, two sessions do not tell"
        ]
    if effect.verdict != SAME:
        by = abs(effect.ratio - 1)
        return [f"B is {effect.verdict} than A {where}".rstrip() + f", by {by:.1%}"]
    lines = [f"cannot tell apart {where}".rstrip()]
    if effect.within(RESOLUTION):
        lines[0] += f": any difference is below {RESOLUTION:.0%}"
    elif pair.more_units is None:
        lines[0] += (
            f"; a difference of {abs(effect.ratio - 1):.2%}, as seen, would take over 5,000 "
        )
        lines[0] += "rounds" if found.in_turns else "batches"
    else:
        unit = "rounds" if found.in_turns else "batches"
        runs = pair.more_units * pair.runs_per_unit
        lines[0] += (
            f"; about {runs} more runs of each ({pair.more_units} {unit}) would, in 4 of 5 tries, "
            f"if the difference is the {abs(effect.ratio - 1):.2%} seen"
        )
    return lines
