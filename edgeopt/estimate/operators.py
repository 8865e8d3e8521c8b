# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What a network computes, operator by operator, whatever engine runs it."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

PRODUCTS = ("conv", "pointwise", "depthwise", "linear", "matmul")
"""Classes of operators that multiply.

A ``conv`` has a window, a ``pointwise`` one of 1 x 1, a ``depthwise`` one channel a group; a
``linear`` is a matrix product with a weight, a ``matmul`` one of two activations.
"""

OTHER = "other"
"""All that does not multiply matrices: additions, normalisations, softmax, pooling, copies."""

CONVOLUTIONAL, TRANSFORMER = "cnn", "transformer"
KINDS = (CONVOLUTIONAL, TRANSFORMER)


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator of one call.

    ``macs`` are its multiply-accumulates, ``weights`` how many numbers its weight has (0 without
    one), ``elements`` how many numbers it reads and writes, the weight left out.
    """

    kind: str
    macs: int
    weights: int
    elements: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Network:
    """The operators of one call, in any order.

    Networks of one ``family`` are sizes or versions of one design, "" for one that is not told.
    """

    name: str
    operators: tuple[Operator, ...]
    family: str = ""

    @property
    def macs(self) -> int:
        """All multiply-accumulates."""
        return sum(o.macs for o in self.operators)

    @property
    def kind(self) -> str:
        """``transformer`` if most multiply-accumulates are of matrix products, else ``cnn``."""
        matrix = sum(o.macs for o in self.operators if o.kind in ("linear", "matmul"))
        return TRANSFORMER if 2 * matrix > self.macs else CONVOLUTIONAL


def encoder(
    name: str,
    *,
    tokens: int,
    hidden: int,
    width: int,
    heads: int,
    ffn: int,
    layers: int,
    before: Iterable[Operator] = (),
) -> Network:
    """Return a transformer's encoder of layers that are alike.

    ``width`` is that of all heads together, ``before`` what runs before the first layer.
    """
    size = tokens * hidden
    scores = heads * tokens * tokens
    layer = [
        *[Operator("linear", size * width, hidden * width, size + tokens * width)] * 3,
        Operator("matmul", tokens * tokens * width, 0, 2 * tokens * width + scores),
        Operator(OTHER, 0, 0, 2 * scores),  # softmax
        Operator("matmul", tokens * tokens * width, 0, 2 * tokens * width + scores),
        Operator("linear", size * width, hidden * width, size + tokens * width),
        *[Operator(OTHER, 0, 0, 3 * size)] * 2,  # residuals
        *[Operator(OTHER, 0, 0, 2 * size)] * 2,  # normalisations
        *[Operator("linear", size * ffn, hidden * ffn, size + tokens * ffn)] * 2,
        Operator(OTHER, 0, 0, 2 * tokens * ffn),  # GELU
    ]
    return Network(name=name, operators=(*before, *layer * layers))


def dump(network: Network) -> str:
    """Return ``network`` as a line of JSON; operators that are alike stand once, with a count."""
    counts = Counter(network.operators)
    rows = [[n, o.kind, o.macs, o.weights, o.elements] for o, n in counts.items()]
    return json.dumps(
        {"name": network.name, "family": network.family, "operators": rows}, separators=(",", ":")
    )


def load(document: dict[str, Any]) -> Network:
    """Return the network of a line that ``dump`` wrote."""
    return Network(
        name=document["name"],
        family=document["family"],
        operators=tuple(
            Operator(*fields) for n, *fields in document["operators"] for _ in range(n)
        ),
    )


def elements(shape: Iterable[int]) -> int:
    """Return how many numbers a tensor of ``shape`` has."""
    return math.prod(shape)
