# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""edgeopt's artifacts as an app runs them: the C runtime by its Python binding.

A variant is ENGINE:PRECISION, and the folder a bundle.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

PACKAGES = ()


def generator(
    variant: str, model: Path, folder: Path, context: int
) -> Callable[[Sequence[int], int, Callable[[int], None]], None]:
    """Return what goes on with a prompt."""
    sys.path.insert(0, str(Path(__file__).parents[3] / "edgeopt" / "runtime" / "python"))
    import edgeopt_rt

    engine, precision = variant.split(":")
    opened = edgeopt_rt.Generator(
        str(folder), engine=engine, precision=precision, threads=1, context=context
    )

    def generate(prompt: Sequence[int], count: int, told: Callable[[int], None]) -> None:
        opened.reset()
        opened.prompt(prompt, max_tokens=count)
        for _ in range(count):
            _, token, _ = opened.next()
            told(token)

    return generate
