# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""OpenVINO: the CPU plugin's counters (PERF_COUNT), by the names of the model's nodes.

The plugin keeps whole microseconds of each call and tells their mean in whole microseconds. What
it fused into a node is in the graph that it runs, which this machine's OpenVINO shows of the same
file if the board is of its architecture.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from edgeopt.backends.inside import split
from edgeopt.backends.openvino import compiled_on_host
from edgeopt.extras import require
from edgeopt.measure.profilers import Call, Join, Joined, Told, since
from edgeopt.measure.profilers.names import Layers

HOW = "the CPU plugin's counters; a mean of whole microseconds"
RESOLUTION_NS = 2000
"""A call is cut to whole microseconds, and the mean of all calls again."""

_MODULE = "__module."
_NUMBER = re.compile(r"_\d+$")
_NAMES = re.compile(r'<layer id="\d+" name="(__module\.[^"/]*)')


def options(prefix: str) -> list[str]:
    """Return what switches the counters on."""
    del prefix
    return ["PERF_COUNT=YES"]


def calls(told: Told, runs: int) -> list[Call]:
    """Return the nodes that ran, in order: what is there after the runs and was not before."""
    del runs
    return [replace(one, name=_steady(one.name)) for one in since(told)]


def _steady(name: str) -> str:
    """Return a node's name without the number that the plugin counts its own nodes by."""
    return name if name.startswith(_MODULE) else _NUMBER.sub("", name)


def scopes_of(path: Path) -> set[tuple[str, ...]]:
    """Return the modules that the .xml file at ``path`` names."""
    return {_scope(name) for name in _NAMES.findall(path.read_text(encoding="utf-8"))}


def _scope(name: str) -> tuple[str, ...]:
    where = name.partition("/")[0]
    return split(where.removeprefix(_MODULE)) if where.startswith(_MODULE) else ()


def layers(join: Join, calls: Sequence[Call]) -> list[Joined]:
    """Return the modules of each node, and of those that were fused into it."""
    known = Layers.of(join)
    fused = _fused(join) if join.is_here else {}
    found = []
    for call in calls:
        names = fused.get(call.name, [call.name])
        scopes = dict.fromkeys(scope for name in names if (scope := _scope(name)))
        found.append(Joined(layers=known.owners(scopes), added=call.type == "FakeQuantize"))
    return found


def _fused(join: Join) -> Mapping[str, list[str]]:
    """Return the names of the nodes of the file that each node of the running graph stands for."""
    require("openvino", "openvino")
    entry = join.artifact
    model = compiled_on_host(entry.artifact, join.folder, threads=1).get_runtime_model()
    found = {}
    for node in model.get_ordered_ops():
        told = node.get_rt_info()
        if "originalLayersNames" in told:
            names = str(told["originalLayersNames"].astype(str)).split(",")
            found[node.get_friendly_name()] = [name for name in names if name]
    return found
