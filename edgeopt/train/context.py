# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What stands around a step of compression: the teacher, the target, and where to keep its work."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgeopt.estimate.costs import COUNTED, Costs
from edgeopt.model import Model
from edgeopt.target import Target
from edgeopt.train import distributed


@dataclass(frozen=True, kw_only=True, slots=True)
class Context:
    """What a technique may use beside the model, its options and the data.

    ``teacher`` is the network as it was before any step (None: the step's own model).
    ``target`` is what the model is made for, None if that is not known, and ``costs`` what a
    layer costs there by its widths. Only a step whose option ``latency`` is set gets these two: the
    work of others is the same for every target, and so is its place in the cache. ``work`` is a
    directory that outlives a killed process, so that training can go on from there; None if
    nothing is to be kept. ``source`` is the folder of the checkpoint that came in. ``peers``
    are the processes that train together.
    """

    teacher: Model | None = None
    target: Target | None = None
    costs: Costs = COUNTED
    work: Path | None = None
    source: Path | None = None
    peers: distributed.Peers = distributed.ALONE


ALONE = Context()
