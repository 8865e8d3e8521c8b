# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The part of a card on the state of the board while an artifact was timed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from edgeopt.report.card import UNDISTURBED
from edgeopt.report.markdown import table, text

_STATE: Mapping[str, Callable[[Mapping[str, Any]], str | None]] = {
    "load": lambda state: f"{state['load_1min']:.2f}" if "load_1min" in state else None,
    "hottest °C": lambda state: _hottest(state.get("temperature_c")),
    "clock MHz": lambda state: _clock(state.get("cpu_khz")),
    "governor": lambda state: text(", ".join(dict.fromkeys(state.get("governors", ())))) or None,
}

_SAMPLED: Mapping[str, Callable[[Mapping[str, Any]], str | None]] = {
    "hottest °C while it ran": lambda found: _hottest(found.get("temperature_c")),
    "clock MHz while it ran": lambda found: _span(found.get("clock_khz")),
}


def conditions(runs: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Iterator[str]:
    """Yield a table of what ``runs`` of a card were timed in, and what is not known of it.

    ``names`` are what they are called. A column is there if the board told of one run at least.
    """
    told = {
        name: [(of(run["state_before"]), of(run["state_after"])) for run in runs]
        for name, of in _STATE.items()
    }
    heads = [name for name, pairs in told.items() if any(map(any, pairs))]
    sampled = {
        name: cells
        for name, of in _SAMPLED.items()
        if any(cells := [of(run.get("conditions") or {}) for run in runs])
    }
    rows = []
    for i, run in enumerate(runs):
        found = run["disturbance"]
        why = f" ({text('; '.join(found['reasons']))})" if found["reasons"] else ""
        cells = [_pair(*told[name][i]) for name in heads]
        cells += [of_runs[i] or "?" for of_runs in sampled.values()]
        rows.append([text(names[i]), *cells, found["verdict"] + why])
    columns = ["artifact", *heads, *sampled, "disturbed?"]
    yield table(columns, rows, range(len(columns)))
    yield "Before → after a run, or both; the load is the mean of the last minute."
    if absent := [name for name in _STATE if name not in heads]:
        yield f"Not told by the board: {', '.join(absent)}."
    if all(run["disturbance"]["verdict"] != UNDISTURBED for run in runs):
        yield "No run of this card is known to have been left alone."


def _pair(before: str | None, after: str | None) -> str:
    return before or "?" if before == after else f"{before or '?'} → {after or '?'}"


def _hottest(zones: Mapping[str, float] | None) -> str | None:
    return f"{max(zones.values()):.1f}" if zones else None


def _span(khz: Sequence[int] | None) -> str | None:
    return _pair(*(f"{end / 1000:.0f}" for end in khz)).replace("→", "to") if khz else None


def _clock(khz: Sequence[int] | None) -> str | None:
    return f"{max(khz) / 1000:.0f}" if khz else None
