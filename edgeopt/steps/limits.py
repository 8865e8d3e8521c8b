"""What the options of several techniques share."""

from __future__ import annotations

from edgeopt.fields import Table

MIN_SAMPLES = 16
"""Fewer texts say nothing about what a part of a network is for."""

MOST = 1_000_000


def read_max_drop(table: Table) -> float:
    """Return ``max_drop``: the step is rolled back where the score falls by more."""
    return table.number("max_drop", 0.01, low=0.0, high=1.0)
