# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""edgeopt's artifacts as an app runs them: the C runtime by its Python binding, text in, label out.

A variant is ENGINE:PRECISION, and the folder a bundle.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from tools.benchmarks.peers.reading import Answer, labels

PACKAGES = ()
GIVES_PROBABILITIES = True


def reader(variant: str, model: Path, folder: Path, length: int | None) -> Callable[[str], Answer]:
    """Return what reads a text."""
    sys.path.insert(0, str(Path(__file__).parents[3] / "edgeopt" / "runtime" / "python"))
    import edgeopt_rt

    engine, precision = variant.split(":")
    lengths = {"seq_lens": [length]} if length else {}
    session = edgeopt_rt.open(str(folder), engine=engine, precision=precision, threads=1, **lengths)
    index = {name: i for i, name in enumerate(labels(model))}

    def answer(text: str) -> Answer:
        found = session.run(text=text)
        scores = [0.0] * len(index)
        for item in found.items:
            scores[index[item.label]] = item.score
        return index[found.label], found.tokens, scores

    return answer
