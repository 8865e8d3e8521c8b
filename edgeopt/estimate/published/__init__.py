# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Latencies that others measured and published, with the networks that they are of.

``latencies.jsonl`` has a figure a line, each with its source. ``networks.jsonl`` has what each
network computes, counted from its published file or from the sizes that its paper names.
``fit.toml`` was computed from both by ``python -m tools.estimate_error``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from edgeopt.estimate.operators import Network, load

FOLDER = Path(__file__).parent


@dataclass(frozen=True, kw_only=True, slots=True)
class Latency:
    """One published figure: the mean or median of a call, on the CPU, in ms.

    ``board`` is the very board of a source, ``profile`` its device profile. ``kernels`` is the
    library that computed (``xnnpack`` is in LiteRT and in ExecuTorch), ``precision`` what it
    multiplied in. ``note`` says what the source does not, and was taken as the engine's habit.
    """

    board: str
    profile: str
    kernels: str
    precision: str
    threads: int
    network: str
    ms: float
    source: str
    note: str = ""


def latencies() -> tuple[Latency, ...]:
    """Return all published figures, in the order of the file."""
    text = (FOLDER / "latencies.jsonl").read_text(encoding="utf-8")
    return tuple(Latency(**json.loads(line)) for line in text.splitlines())


def networks() -> dict[str, Network]:
    """Return the networks by name."""
    text = (FOLDER / "networks.jsonl").read_text(encoding="utf-8")
    found = [load(json.loads(line)) for line in text.splitlines()]
    return {network.name: network for network in found}
