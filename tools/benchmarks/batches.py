# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What calls of several texts bring: each artifact of a bundle in the runtime, one thread."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from math import log
from pathlib import Path
from typing import Any

from edgeopt.bundle import open_bundle
from edgeopt.measure.difference import paired
from edgeopt.measure.timing import interleaved
from edgeopt.runtime.build import ROOT, build_for_host

_TOKEN = 2000  # an ordinary word of BERT's vocabulary; which one does not matter to the time


def compare(
    bundle: str, lengths: Sequence[int], batches: Sequence[int], rounds: int, output: str
) -> None:
    """Time calls of one input and of ``batches`` in turns, and print how many times as many inputs
    a second the latter do, by process CPU time.
    """
    sys.path.insert(0, str(ROOT / "python"))
    import edgeopt_rt

    library = str(build_for_host().library)
    found: dict[str, Any] = {}
    for artifact in open_bundle(bundle).manifest.artifacts:
        name = f"{artifact.engine} {artifact.precision}"
        if not any("batch" in spec.dims for spec in artifact.artifact.main.signature.inputs):
            print(f"{name}: takes one input at a time")
            continue
        with edgeopt_rt.open(
            bundle,
            library=library,
            engine=artifact.engine,
            precision=artifact.precision,
            threads=1,
            batch=max(batches),
        ) as session:
            for length in lengths:
                calls = {str(n): _call(session, n, length) for n in (1, *batches)}
                samples = interleaved(calls, rounds, f"{name}, {length} tokens").samples
                texts = []
                for n in batches:
                    each = zip(samples["1"], samples[str(n)], strict=True)
                    effect = paired([log(one * n / many) for one, many in each])
                    found[f"{name} {length} {n}"] = asdict(effect)
                    texts.append(f"{n}: {effect.ratio:.2f} [{effect.low:.2f}, {effect.high:.2f}]")
                print(f"{name}, {length} tokens: {', '.join(texts)}", flush=True)
    Path(output).parent.mkdir(parents=True, exist_ok=True)
    Path(output).write_text(json.dumps(found, indent=1))


def _call(session: Any, batch: int, length: int) -> Callable[[int], object]:
    def call(_: int) -> None:
        session.select(batch, length)
        for name, values in session.inputs().items():
            values[...] = _TOKEN if name == "input_ids" else int(name == "attention_mask")
        session.execute()

    return call
