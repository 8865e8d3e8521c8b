# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""A generator in a process of its own: ``worker.py make|serve MODULE VARIANT MODEL FOLDER N``.

It runs in the peer's environment, so it imports the standard library and the peer alone. ``serve``
opens what ``make`` wrote and answers a line of JSON on stdin with one on stdout: ``{"prompt": [],
"count": 128}`` gives CPU and wall times, ns, from the prompt to each token of the answer, and the
answer. N is the context. The first line says what opening took. What the peer prints goes to
stderr.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from pathlib import Path

from tools.benchmarks.peers.worker import peak_mb, versions

WARM = 4
"""Tokens of the prompt and of the answer of a call that is not timed."""


def main() -> None:
    """Make or serve one variant."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    what, module, variant, model, folder, context = sys.argv[1:]
    peer = importlib.import_module(module)
    if what == "make":
        peer.make(Path(model), Path(folder))
        return
    began, cpu = time.perf_counter_ns(), time.process_time_ns()
    generate = peer.generator(variant, Path(model), Path(folder), int(context))
    opened = {
        "open_wall_ns": time.perf_counter_ns() - began,
        "open_cpu_ns": time.process_time_ns() - cpu,
        "open_peak_mb": peak_mb(),
    }
    timed(generate, list(range(1, WARM + 1)), WARM)
    print(json.dumps(opened | {"versions": versions(peer)}), file=answers, flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        found = timed(generate, asked["prompt"], asked["count"])
        memory = {"peak_mb": peak_mb(), "pss_mb": pss_mb()}
        print(json.dumps(found | memory), file=answers, flush=True)


def timed(generate, prompt, count):  # type: ignore[no-untyped-def]
    """Return when each token was there, ns of CPU and wall time since the call, and the tokens."""
    cpu, wall, tokens = [], [], []

    def told(token):  # type: ignore[no-untyped-def]
        cpu.append(time.process_time_ns())
        wall.append(time.perf_counter_ns())
        tokens.append(int(token))

    began, began_cpu = time.perf_counter_ns(), time.process_time_ns()
    generate(prompt, count, told)
    if len(tokens) != count:
        raise SystemExit(f"made {len(tokens)} tokens, expected {count}")
    return {
        "cpu_ns": [at - began_cpu for at in cpu],
        "wall_ns": [at - began for at in wall],
        "tokens": tokens,
    }


def pss_mb() -> float:
    """Return what memory this process has now, its share of what others map too, in MB."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    found = next(line for line in lines if line.startswith("Pss:"))
    return int(found.split()[1]) * 1024 / 1e6


if __name__ == "__main__":
    main()
