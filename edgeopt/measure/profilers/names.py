# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The layers of the original model by the names that converters kept of them.

Names are those of torch's modules, as in INT8's layer check and in fault localisation. Converters
leave out parts of a path, number later calls, and do so differently; OpenVINO's files keep most. If
a path may be one of several modules, it is all of them: nothing here chooses by guess.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from edgeopt.backends.inside import split
from edgeopt.extras import require
from edgeopt.measure.profilers import Join

Scope = tuple[str, ...]

_NETWORK = "network"
"""What edgeopt's wrapper calls the network; of no use to a reader."""

MODULE = "__module."
"""Before a module's path in OpenVINO's names."""

_NAMES = re.compile(r'<layer id="\d+" name="(__module\.[^"/]*)')
_LATER = re.compile(r"_\d+$")  # the exporter numbers a module's later calls


@dataclass(frozen=True, kw_only=True, slots=True)
class Layers:
    """``known`` are the modules by their whole paths, ``unsure`` paths that may be several.

    ``taken`` are modules that another path of the file is for sure. If ``known`` are not ``whole``
    paths, they are names as good as any: one that is the same is it.
    """

    known: frozenset[Scope]
    unsure: frozenset[Scope] = frozenset()
    taken: frozenset[Scope] = frozenset()
    whole: bool = True
    _found: dict[Scope, tuple[str, ...]] = field(default_factory=dict)

    @staticmethod
    def of(join: Join, paths: Iterable[Scope] = (), unsure: Iterable[Scope] = ()) -> Layers:
        """Return the layers that the bundle knows.

        ``paths`` are those in the artifact's file, and ``unsure`` those of them that are known to
        be several modules'.
        """
        xml = join.file_of("openvino", "fp32") or join.file_of("openvino", "int8")
        if xml is not None:
            return among(modules_in(xml), paths, unsure)
        graph = join.file_of("onnx", "fp32") or join.file_of("onnx", "int8")
        if graph is not None and importlib.util.find_spec("onnx") is not None:
            return among(_modules_in_graph(graph), paths, unsure, whole=False)
        return among((), paths, unsure)

    def owners(self, paths: Iterable[Scope]) -> tuple[str, ...]:
        """Return the layers that ``paths`` are, each once; an empty path is of none."""
        return tuple(dict.fromkeys(name for path in paths if path for name in self._of(path)))

    def candidates(self, path: Scope) -> frozenset[Scope]:
        """Return the modules that ``path`` may be, itself if none is known."""
        plain = _plain(path)
        if path in self.known and not self.whole:
            return frozenset([path])
        if path not in self.unsure:
            for exact in (path, plain):
                if exact in self.known:
                    return frozenset([exact])
        fitting = {one for one in self.known if _fits(plain, _plain(one))}
        return frozenset(fitting - self.taken or fitting or {path})

    def _of(self, path: Scope) -> tuple[str, ...]:
        if path not in self._found:
            self._found[path] = tuple(sorted(map(shown, self.candidates(path))))
        return self._found[path]


def among(
    known: Iterable[Scope],
    paths: Iterable[Scope],
    unsure: Iterable[Scope] = (),
    *,
    whole: bool = True,
) -> Layers:
    """Return the layers ``known``, or those of ``paths`` if there are none; as ``Layers.of``."""
    own = {path for path in paths if path}
    plain: dict[Scope, set[Scope]] = {}
    for path in own:
        plain.setdefault(_plain(path), set()).add(path)
    several = {path for same in plain.values() if len(same) > 1 for path in same} | set(unsure)
    others = frozenset(known)
    first = Layers(
        known=others or frozenset(own), unsure=frozenset(several), whole=whole and bool(others)
    )
    sure = [first.candidates(path) for path in own - several]
    taken = frozenset(one for found in sure if len(found) == 1 for one in found)
    return replace(first, taken=taken, _found={})


def modules_in(xml: Path) -> set[Scope]:
    """Return the modules that an OpenVINO file names."""
    return {scope_in(name) for name in _NAMES.findall(xml.read_text(encoding="utf-8"))}


def scope_in(name: str) -> Scope:
    """Return the module that a node of an OpenVINO file came out of, nothing if it names none."""
    where = name.partition("/")[0]
    return split(where.removeprefix(MODULE)) if where.startswith(MODULE) else ()


def shown(path: Scope) -> str:
    """Return a module's name as ``quantize.keep`` has it."""
    return ".".join(path[1:] if path[:1] == (_NETWORK,) and len(path) > 1 else path)


def _plain(path: Scope) -> Scope:
    return tuple(_LATER.sub("", part) for part in path)


def _fits(parts: Scope, whole: Scope) -> bool:
    """Tell whether ``parts`` are among ``whole`` in that order, the last of both being the same."""
    left = iter(whole)
    return parts[-1:] == whole[-1:] and all(part in left for part in parts)


def _modules_in_graph(path: Path) -> set[Scope]:
    graph = require("onnx", "onnx").load(str(path), load_external_data=False).graph
    return {scope for node in graph.node if (scope := split(node.name.rpartition("/")[0]))}
