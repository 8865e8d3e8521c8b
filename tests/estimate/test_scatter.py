# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What no estimate can tell, on figures whose scatter is known."""

import math

import pytest

from edgeopt.estimate.published import Latency, latencies, networks
from tools.estimate_error.scatter import additive, twice

COSTS = {"a": 1.0, "b": 3.0, "c": 10.0, "d": 20.0}
SPEEDS = {"slow": 9.0, "fast": 2.0, "faster": 1.0}


def latency(board: str, network: str, ms: float) -> Latency:
    return Latency(
        board=board, profile="chip", kernels="ncnn", precision="fp32", threads=4, network=network,
        ms=ms, source="a test",
    )  # fmt: skip


def figures(off: float = 0.0) -> list[Latency]:
    """Return the figures of a table whose one cell is off by a factor."""
    rows = [
        latency(board, network, speed * cost)
        for board, speed in SPEEDS.items()
        for network, cost in COSTS.items()
    ]
    first = rows[0]
    rows[0] = latency(first.board, first.network, first.ms * math.exp(off))
    return rows


def test_a_table_of_costs_and_speeds_has_no_scatter() -> None:
    found = additive(figures())
    assert found.most == pytest.approx(0)
    assert (found.figures, found.networks, found.settings) == (12, 4, 3)


def test_a_cell_is_estimated_without_itself() -> None:
    rows = figures(off=1.0)
    alone = additive(rows[:1] + rows[4:5] + rows[1:2] + rows[5:6])  # two boards, two networks
    # Any three cells give the fourth, which is off by e or by 1/e: the factor is in each estimate.
    assert sorted({round(e, 9) for e in (alone.median, alone.most)}) == [
        round(e, 9) for e in sorted({(math.expm1(1) - math.expm1(-1)) / 2, math.expm1(1)})
    ]


def test_what_is_alone_in_its_row_is_left_out() -> None:
    assert additive([*figures(), latency("slow", "e", 5.0)]).figures == 12


def test_one_chip_on_two_boards() -> None:
    rows = [latency("one", name, cost) for name, cost in COSTS.items()]
    rows += [latency("two", name, 4 * cost) for name, cost in COSTS.items()]
    (found,) = twice(rows, fewest=4)
    assert (found.boards, found.networks) == (("one", "two"), 4)
    assert (found.ratio, found.half) == (pytest.approx(4), pytest.approx(1))
    assert found.rest == pytest.approx(0)
    assert twice(rows, fewest=5) == []


def test_the_published_figures_have_both() -> None:
    known = networks()
    rows = [row for row in latencies() if known[row.network].kind == "cnn"]
    assert additive([row for row in rows if row.kernels == "ncnn"]).figures > 400
    assert twice(rows)
