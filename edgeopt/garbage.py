# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Python's garbage collector, out of the way of work that makes millions of small objects."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

RARELY = 100_000
"""Objects between two collections; by default they are 700 (2,000 since Python 3.13)."""


@contextlib.contextmanager
def rarely_collected() -> Iterator[None]:
    """Have the block collect only once every ``RARELY`` objects.

    A graph of torch or ONNX is objects that stay, which each collection walks again for nothing:
    converting MiniLM to TFLite took 24 s of CPU time, and 16 s so, with 1 % more memory.
    """
    before = gc.get_threshold()
    gc.set_threshold(max(before[0], RARELY) if before[0] else 0, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
