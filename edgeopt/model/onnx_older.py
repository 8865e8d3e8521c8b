# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Operators as older opsets have them, with nodes in front that make what these want."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def pad_everywhere(graph: Any, pad: Any) -> None:
    """Give a Pad that names its axes, as of opset 18, a size for every axis, zeros elsewhere.

    It needs opset 11, which has ScatterElements.
    """
    from onnx import helper, numpy_helper

    data, pads, _, axes = pad.input
    names = {n: f"{pad.output[0]}_{n}" for n in (
        "two", "sizes", "rank", "behind", "axis", "after", "both", "count", "zeros", "pads",
    )}  # fmt: skip
    node = helper.make_node
    made = [
        node("Constant", [], [names["two"]], value=numpy_helper.from_array(np.array([2]))),
        node("Shape", [data], [names["sizes"]]),
        node("Shape", [names["sizes"]], [names["rank"]]),
        node("Add", [axes, names["rank"]], [names["behind"]]),
        node("Mod", [names["behind"], names["rank"]], [names["axis"]]),
        node("Add", [names["axis"], names["rank"]], [names["after"]]),
        node("Concat", [names["axis"], names["after"]], [names["both"]], axis=0),
        node("Mul", [names["rank"], names["two"]], [names["count"]]),
        node("ConstantOfShape", [names["count"]], [names["zeros"]],
             value=numpy_helper.from_array(np.array([0]))),
        node("ScatterElements", [names["zeros"], names["both"], pads], [names["pads"]], axis=0),
    ]  # fmt: skip
    _insert(graph, pad, made)
    pad.input[1] = names["pads"]
    del pad.input[3:]


def split_into(graph: Any, split: Any, count: int, axis: int) -> None:
    """Give a Split into ``count`` parts, the last of which may be shorter, their sizes as an input.

    It needs opset 13, from which they may be computed; ``num_outputs`` is for the caller to drop.
    """
    from onnx import helper, numpy_helper

    data = split.input[0]
    names = {n: f"{split.output[0]}_{n}" for n in (
        "axis", "count", "others", "sizes", "size", "more", "part", "before", "last", "split",
    )}  # fmt: skip
    node = helper.make_node
    made = [
        *(
            node("Constant", [], [names[n]], value=numpy_helper.from_array(np.array([value])))
            for n, value in (("axis", axis), ("count", count), ("others", count - 1))
        ),
        node("Shape", [data], [names["sizes"]]),
        node("Gather", [names["sizes"], names["axis"]], [names["size"]]),
        node("Add", [names["size"], names["others"]], [names["more"]]),
        node("Div", [names["more"], names["count"]], [names["part"]]),
        node("Mul", [names["part"], names["others"]], [names["before"]]),
        node("Sub", [names["size"], names["before"]], [names["last"]]),
        node("Concat", [names["part"]] * (count - 1) + [names["last"]], [names["split"]], axis=0),
    ]
    _insert(graph, split, made)
    split.input.append(names["split"])


def _insert(graph: Any, node: Any, made: Sequence[Any]) -> None:
    """Put ``made`` into the graph before ``node``."""
    at = next(i for i, other in enumerate(graph.node) if other.output == node.output)
    for offset, one in enumerate(made):
        graph.node.insert(at + offset, one)
