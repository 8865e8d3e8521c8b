# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""onnxruntime: its profiler's file of events, and the graph that it made of the artifact.

An operator of that graph stands for the nodes of the model between what it takes and what it gives,
by the names of the tensors, which its optimisation keeps. In an INT8 artifact those that quantise,
and whose tensors FP32's file has not, belong to the layers that they feed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from edgeopt.backends.inside import split
from edgeopt.errors import InputError
from edgeopt.extras import require
from edgeopt.measure.profilers import Call, Join, Joined, Told
from edgeopt.measure.profilers.names import Layers

HOW = "onnxruntime's profiler; whole microseconds of each call"
RESOLUTION_NS = 1000
ELSEWHERE = ""

_SUFFIX = "_kernel_time"
_RUN = "model_run"
_QUANTISING = (
    *("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"),
    *("Abs", "ReduceMax", "ReduceMin", "Max", "Min", "Div", "Mul", "Sub", "Add", "Cast"),
)
"""What quantisation is spelled in; one of these is its own if the model has another there."""


def options(prefix: str, *, first: bool) -> list[str]:
    """Return what has onnxruntime write its times, and at first its graph, weights beside it."""
    times = [f"operators={prefix}"]
    if not first:
        return times
    name = prefix.rpartition("/")[2]
    return [
        *times,
        f"graph={prefix}",
        f"session.optimized_model_external_initializers_file_name={name}.weights",
        "session.optimized_model_external_initializers_min_size_in_bytes=256",
    ]


def calls(told: Told, runs: int) -> list[Call]:
    """Return the nodes in the order of the run, each with its calls in the last ``runs`` runs."""
    events = json.loads(told.files[".json"])
    begins = sorted(int(event["ts"]) for event in events if event.get("name") == _RUN)
    if len(begins) < runs:
        raise ValueError(f"the profiler's file has {len(begins)} runs, and {runs} were timed")
    times: dict[tuple[str, str], int] = {}
    kinds: dict[tuple[str, str], str] = {}
    for event in events:
        name = event.get("name", "")
        if event.get("cat") != "Node" or not name.endswith(_SUFFIX):
            continue
        if int(event["ts"]) >= begins[-runs]:
            args = event["args"]
            key = (name.removesuffix(_SUFFIX), str(args["node_index"]))
            times[key] = times.get(key, 0) + int(event["dur"])
            kinds[key] = str(args["op_name"])
    return [Call(name=key[0], type=kinds[key], total_ns=1000 * us) for key, us in times.items()]


def layers(join: Join, calls: Sequence[Call]) -> list[Joined]:
    """Return the modules of the nodes that each operator stands for.

    Raises InputError if the graph was not written, MissingDependencyError without onnx.
    """
    onnx = require("onnx", "onnx")
    if "" not in join.files:
        raise InputError("onnxruntime wrote no graph to join by")
    running = onnx.ModelProto.FromString(join.files[""]).graph
    own = join.folder / join.artifact.artifact.main.files[0]
    plain = join.file_of("onnx", "fp32") or own
    base = onnx.load(str(plain), load_external_data=False).graph
    makers = _makers(base)
    scopes = {node.name: split(node.name.rpartition("/")[0]) for node in base.node}
    known = Layers.of(join, scopes.values())
    graph = _Graph(running, makers)
    kinds = {node.name: node.op_type for node in base.node}
    found = {}
    for node in running.node:
        covered = graph.covered(node)
        paths = [scope for name in sorted(covered) if (scope := scopes.get(name, ()))]
        is_models = any(name in makers for name in node.output) and node.op_type in {
            kinds[name] for name in covered
        }
        found[node.name] = Joined(
            layers=known.owners(paths),
            added=plain != own and node.op_type in _QUANTISING and not is_models,
        )
    return [found.get(call.name, Joined()) for call in calls]


def _makers(graph: Any) -> dict[str, Any]:
    return {name: node for node in graph.node for name in node.output if name}


class _Graph:
    """The graph that runs, over the nodes of the model that make its tensors."""

    def __init__(self, running: Any, makers: Mapping[str, Any]) -> None:
        self._makers = makers
        self._live = {name for node in running.node for name in (*node.input, *node.output)}
        self._users: dict[str, list[Any]] = {}
        for node in running.node:
            for name in node.input:
                self._users.setdefault(name, []).append(node)
        self._below: dict[str, frozenset[str]] = {}

    def covered(self, node: Any) -> frozenset[str]:
        """Return the names of the model's nodes that ``node`` computes, or feeds if none."""
        if node.name not in self._below:
            self._below[node.name] = frozenset()  # a circle there is not
            own = [name for name in node.output if name in self._makers]
            if own:
                found = self._between(own)
            else:
                users = [user for name in node.output for user in self._users.get(name, ())]
                found = frozenset(one for user in users for one in self.covered(user))
            self._below[node.name] = found
        return self._below[node.name]

    def _between(self, outputs: Sequence[str]) -> frozenset[str]:
        found, left = set(), list(outputs)
        while left:
            maker = self._makers.get(left.pop())
            if maker is None or maker.name in found or maker.op_type == "Constant":
                continue
            found.add(maker.name)
            left += [name for name in maker.input if name not in self._live]
        return frozenset(found)
