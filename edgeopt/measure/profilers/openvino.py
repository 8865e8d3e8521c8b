# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""OpenVINO: the CPU plugin's counters (PERF_COUNT), by the names of the model's nodes.

The plugin keeps whole microseconds of each call and tells their mean in whole microseconds. What
it fused into a node is in the graph that it runs, which this machine's OpenVINO shows of the same
file if the board is of its architecture.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

from edgeopt.backends.openvino import compiled_on_host
from edgeopt.extras import require
from edgeopt.measure.profilers import Call, Join, Joined, Told, since
from edgeopt.measure.profilers.names import MODULE, Layers, scope_in

HOW = "the CPU plugin's counters; a mean of whole microseconds"
RESOLUTION_NS = 2000
"""A call is cut to whole microseconds, and the mean of all calls again."""

ELSEWHERE = "what was fused into an operator: it has the name of its main one"

_NUMBER = re.compile(r"_\d+$")


def options(prefix: str, *, first: bool) -> list[str]:
    """Return what switches the counters on."""
    del prefix, first
    return ["PERF_COUNT=YES"]


def calls(told: Told, runs: int) -> list[Call]:
    """Return the nodes that ran, in order: what is there after the runs and was not before."""
    del runs
    return [replace(one, name=_steady(one.name)) for one in since(told)]


def _steady(name: str) -> str:
    """Return a node's name without the number that the plugin counts its own nodes by."""
    return name if name.startswith(MODULE) else _NUMBER.sub("", name)


def layers(join: Join, calls: Sequence[Call]) -> list[Joined]:
    """Return the modules of each node, and of those that were fused into it.

    What NNCF put there to quantise belongs to the layers that it feeds.
    """
    known = Layers.of(join)
    fused = _fused(join) if join.is_here else {}
    users = _users(join.folder / join.artifact.artifact.main.files[0])
    counts = Counter(call.name for call in calls)
    found = []
    for call in calls:
        same = fused.get(call.name, [])
        names = same.pop(0) if len(same) == counts[call.name] else [call.name]
        counts[call.name] -= 1
        added = [name for name in names if _is_added(name)]
        own = [name for name in names if not _is_added(name)]
        if not any(scope_in(name) for name in own):
            own += [user for name in added for user in users.get(name, ())]
        scopes = dict.fromkeys(scope for name in own if (scope := scope_in(name)))
        is_added = call.type == "FakeQuantize" or (_is_added(call.name) and call.type == "Multiply")
        found.append(Joined(layers=known.owners(scopes), added=is_added))
    return found


def _is_added(name: str) -> bool:
    return "/nncf_" in name or "/fq_" in name


def _users(path: Path) -> Mapping[str, list[str]]:
    """Return of each node that NNCF added the names of those behind it that it did not."""
    root = ElementTree.parse(path).getroot()
    names = {layer.attrib["id"]: layer.attrib["name"] for layer in root.iter("layer")}
    behind: dict[str, list[str]] = {}
    for edge in root.iter("edge"):
        behind.setdefault(edge.attrib["from-layer"], []).append(edge.attrib["to-layer"])
    found = {}
    for key, name in names.items():
        if not _is_added(name):
            continue
        left, seen = list(behind.get(key, ())), set[str]()
        while left:
            at = left.pop()
            if at in seen:
                continue
            seen.add(at)
            left += behind.get(at, ()) if _is_added(names[at]) else ()
        found[name] = [names[at] for at in sorted(seen) if not _is_added(names[at])]
    return found


def _fused(join: Join) -> dict[str, list[list[str]]]:
    """Return by the name of each running node the file's nodes that it stands for.

    Nodes that share a name follow one another in the order of execution.
    """
    require("openvino", "openvino")
    entry = join.artifact
    model = compiled_on_host(entry.artifact, join.folder, threads=1).get_runtime_model()
    nodes = [(node.get_friendly_name(), node.get_rt_info()) for node in model.get_ops()]
    told = [(name, info) for name, info in nodes if "originalLayersNames" in info]
    found: dict[str, list[list[str]]] = {}
    for name, info in sorted(told, key=lambda one: int(one[1]["execOrder"].astype(str))):
        names = str(info["originalLayersNames"].astype(str)).split(",")
        found.setdefault(_steady(name), []).append([one for one in names if one])
    return found
