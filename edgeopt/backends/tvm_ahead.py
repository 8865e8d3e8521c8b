# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The process that compiles with TVM beside the one that lowers to other engines."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path

from edgeopt.beside import given
from edgeopt.errors import EdgeoptError
from edgeopt.garbage import rarely_collected


def main() -> None:
    """Compile what was ordered; an order that fails is left to the process that ordered it."""
    # TVM FFI takes torch if it is there, for tensors that it is never given here.
    sys.modules["torch"] = None  # type: ignore[assignment]
    from edgeopt.backends.tvm_library import Graph, Order, made

    work: tuple[Path, Sequence[Order]] = given()
    source, orders = work
    graph = Graph(source)
    for order in orders:
        with contextlib.suppress(EdgeoptError), rarely_collected():
            made(order, graph)


if __name__ == "__main__":
    main()
