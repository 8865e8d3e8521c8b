# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""An ONNX file that is opened to be changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np


class Graph:
    """The graph of the file at ``path``; ``save`` writes it back."""

    def __init__(self, path: Path) -> None:
        import onnx

        self.path = path
        self.proto = onnx.load(str(path))

    def save(self) -> None:
        """Write the file."""
        import onnx

        onnx.save(self.proto, str(self.path))

    def node(self, name: str) -> Any:
        """Return the node of this name. Raises LookupError, as a fault not planted is no fault."""
        found = [n for n in self.proto.graph.node if n.name == name]
        if len(found) != 1:
            raise LookupError(f"{self.path.name} has {len(found)} nodes {name}")
        return found[0]

    def nodes(self, kind: str) -> list[Any]:
        """Return the nodes of an operator."""
        return [n for n in self.proto.graph.node if n.op_type == kind]

    def get(self, name: str) -> np.ndarray:
        """Return a constant, as an initializer or made by a node; those that are alike are one."""
        from onnx import numpy_helper

        array: np.ndarray
        for tensor in self.proto.graph.initializer:
            if tensor.name == name:
                array = numpy_helper.to_array(tensor)
                return array
        maker = next(n for n in self.proto.graph.node if name in n.output)
        if maker.op_type == "Identity":
            return self.get(maker.input[0])
        array = numpy_helper.to_array(maker.attribute[0].t)
        return array

    def constant(self, value: Any) -> str:
        """Add an initializer and return its name."""
        from onnx import numpy_helper

        name = f"planted_{len(self.proto.graph.initializer)}"
        self.proto.graph.initializer.append(
            numpy_helper.from_array(np.ascontiguousarray(value), name)
        )
        return name

    def put(self, node: str, at: int, value: Any) -> None:
        """Give input ``at`` of a node another constant; ``value`` may be a function of the old."""
        found = self.node(node)
        old = self.get(found.input[at]) if callable(value) else None
        new = value(old) if callable(value) else value
        if old is not None and new.shape == old.shape and np.array_equal(new, old):
            raise LookupError(f"{node}: the fault changes nothing")
        found.input[at] = self.constant(np.asarray(new, None if old is None else old.dtype))

    def table(self, name: str, value: Any) -> None:
        """Change an initializer in its place."""
        from onnx import numpy_helper

        for tensor in self.proto.graph.initializer:
            if tensor.name == name:
                old = numpy_helper.to_array(tensor)
                tensor.CopyFrom(numpy_helper.from_array(value(old).astype(old.dtype), name))
                return
        raise LookupError(f"{self.path.name} has no {name}")

    def before(self, node: str, at: int, kind: str, *more: str, **attributes: Any) -> None:
        """Put a node of ``kind`` before input ``at`` of a node."""
        from onnx import helper

        nodes = list(self.proto.graph.node)
        found = self.node(node)
        name = f"{node}_planted_{len(nodes)}"
        made = helper.make_node(kind, [found.input[at], *more], [name], name=name, **attributes)
        found.input[at] = name
        self.proto.graph.node.insert(nodes.index(found), made)

    def rewire(self, old: str, new: str, within: str = "") -> None:
        """Have the nodes whose name starts with ``within`` read ``new`` in the place of ``old``."""
        count = 0
        for node in self.proto.graph.node:
            for at, name in enumerate(node.input):
                if name == old and node.name.startswith(within):
                    node.input[at] = new
                    count += 1
        if not count:
            raise LookupError(f"nothing reads {old}")

    def attribute(self, node: str, name: str, value: Any) -> None:
        """Give a node another attribute."""
        from onnx import helper

        found = self.node(node)
        kept = [item for item in found.attribute if item.name != name]
        del found.attribute[:]
        found.attribute.extend([*kept, helper.make_attribute(name, value)])


def swap_bytes(path: Path, old: np.ndarray, new: np.ndarray) -> None:
    """Replace a constant in any file by another of the same size."""
    data, a = path.read_bytes(), np.ascontiguousarray(old).tobytes()
    b = np.ascontiguousarray(new, old.dtype).tobytes()
    if a not in data or len(a) != len(b) or a == b:
        raise LookupError(f"{path.name} has no such constant")
    path.write_bytes(data.replace(a, b))
