# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The operators of a measurement as a trace that ui.perfetto.dev and chrome://tracing open.

It is the JSON of the "Trace Event Format" (Google, 2016), which Perfetto imports: metadata events
(``ph`` M) name a process and its threads, and complete events (``ph`` X) have their begin ``ts``
and duration ``dur`` in microseconds. A track is an artifact; layers enclose their operators.

It shows one inference, composed: each operator lasts as long as in the median round, and they are
laid end to end in the order of execution. What passes between operators is not in it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from edgeopt.errors import InputError
from edgeopt.measure.measurement import Measurement, Run
from edgeopt.measure.operator_times import Operator, Operators, layers_text

_PROCESS = 1


def trace_document(m: Measurement, where: str) -> dict[str, Any]:
    """Return the trace of ``m``. Raises InputError, naming ``where``, if it has no operators."""
    timed = [(run, run.operators) for run in m.runs if run.operators is not None]
    if not timed:
        raise InputError(
            "holds no times of operators",
            where=where,
            hint="Take them with edgeopt profile --operators.",
        )
    name = f"{m.bundle_name} on {m.board_name}" + (", emulated" if m.emulated else "")
    events = [_metadata("process_name", 0, {"name": name})]
    for thread, (run, found) in enumerate(timed, start=1):
        events.append(_metadata("thread_name", thread, {"name": _track(run, m.emulated)}))
        events.append(_metadata("thread_sort_index", thread, {"sort_index": thread}))
        events += _slices(found, thread)
    return {
        "traceEvents": events,
        "displayTimeUnit": "ns",
        "otherData": {
            "edgeopt_version": m.edgeopt_version,
            "started_utc": m.started_utc,
            "bundle_digest": m.bundle_digest,
            "emulated": str(m.emulated).lower(),
            "composed": "each operator's median round, laid end to end in the order of execution",
        },
    }


def _track(run: Run, emulated: bool) -> str:
    length = f"{run.seq_len} tokens" if run.seq_len else "an image"
    return f"{run.name}, {length}" + (" (emulated)" if emulated else "")


def _metadata(name: str, thread: int, arguments: dict[str, Any]) -> dict[str, Any]:
    return {"ph": "M", "name": name, "pid": _PROCESS, "tid": thread, "args": arguments}


def _slices(found: Operators, thread: int) -> Iterator[dict[str, Any]]:
    """Yield a layer's event, and within it its operators', for each that run one after another."""
    begin_ns = 0
    for layers, group in itertools.groupby(found.operators, key=lambda one: one.layers):
        operators = list(group)
        # A figure that was cut below zero has no length to be drawn.
        times = [max(0, round(found.median_ns([one]))) for one in operators]
        yield _slice(layers_text(layers), "layer", begin_ns, sum(times), thread, {})
        for one, time_ns in zip(operators, times, strict=True):
            yield _slice(one.type or one.name, "operator", begin_ns, time_ns, thread, _told(one))
            begin_ns += time_ns


def _slice(
    name: str, category: str, begin_ns: int, time_ns: int, thread: int, arguments: dict[str, Any]
) -> dict[str, Any]:
    return {
        "ph": "X",
        "name": name,
        "cat": category,
        "pid": _PROCESS,
        "tid": thread,
        "ts": begin_ns / 1000,
        "dur": time_ns / 1000,
        "args": arguments,
    }


def _told(one: Operator) -> dict[str, Any]:
    told: dict[str, Any] = {"name": one.name, "layer": layers_text(one.layers)}
    if one.kernel:
        told["kernel"] = one.kernel
    if one.added:
        told["added_by"] = "quantisation"
    return told
