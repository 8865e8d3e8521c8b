# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""A variant in a process of its own: ``worker.py make|serve MODULE VARIANT MODEL FOLDER LENGTH``.

It runs in the peer's environment, so it imports the standard library and the peer alone. ``make``
lets the peer write into FOLDER what it needs of the checkpoint MODEL. ``serve`` opens that and
answers a line of JSON on stdin with one on stdout: ``{"texts": [], "tries": 5, "quiet": 1.3}``
times each text, after a call of the first that does not count, and gives the times in ns, the index
of the label, the tokens that were read, the probability of each label, and the peak memory so far.
What the peer prints goes to stderr.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from pathlib import Path

from tools.benchmarks.peers.reading import softmax


def main() -> None:
    """Make or serve one variant."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    what, module, variant, model, folder, length = sys.argv[1:]
    peer = importlib.import_module(module)
    if what == "make":
        peer.make(Path(model), Path(folder))
        return
    # Length 0: each text at its own length.
    answer = peer.reader(variant, Path(model), Path(folder), int(length) or None)
    probabilities = list if getattr(peer, "GIVES_PROBABILITIES", False) else softmax
    answer("a text that opens what is opened late")
    print(json.dumps({"peak_mb": peak_mb(), "versions": versions(peer)}), file=answers, flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        answer(asked["texts"][0])
        found = [_timed(answer, text, asked["tries"], asked["quiet"]) for text in asked["texts"]]
        found = [[*told, probabilities(outputs)] for *told, outputs in found]
        print(json.dumps({"answers": found, "peak_mb": peak_mb()}), file=answers, flush=True)


def _timed(answer, text, tries, quiet):  # type: ignore[no-untyped-def]
    """Return CPU and wall time of one text, ns, whether nothing disturbed it, and the answer."""
    best = None
    for _ in range(tries):
        wall, cpu = time.perf_counter_ns(), time.process_time_ns()
        label, tokens, outputs = answer(text)
        wall, cpu = time.perf_counter_ns() - wall, time.process_time_ns() - cpu
        is_quiet = wall <= quiet * cpu
        if best is None or is_quiet or cpu < best[0]:
            best = cpu, wall, is_quiet, int(label), int(tokens), outputs
        if is_quiet:
            break
    return best


def peak_mb() -> float:
    """Return the most memory that this process had so far, MB of 10^6 bytes."""
    status = Path("/proc/self/status").read_text()
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(peak.split()[1]) * 1024 / 1e6


def versions(peer) -> dict[str, str]:  # type: ignore[no-untyped-def]
    """Return the versions of the peer's packages."""
    from importlib import metadata

    return {name: metadata.version(name) for name in getattr(peer, "PACKAGES", ())}


if __name__ == "__main__":
    main()
