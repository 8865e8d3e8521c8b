# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The fit finds what was planted, and what is left out is out."""

import math
import random
from collections.abc import Sequence
from dataclasses import asdict, replace

import pytest

from edgeopt.estimate.operators import KINDS, Network, Operator
from edgeopt.estimate.prediction import Error, Estimate, Measured, estimate, load, shift
from edgeopt.estimate.roofline import Machine, exponent, factors, seconds

pytest.importorskip("scipy", reason="needs edgeopt[evaluate]")

from tools.estimate_error import __main__ as tool
from tools.estimate_error.fit import Row, fit, prior, residual
from tools.estimate_error.held_out import HeldOut, interval, quantile

pytestmark = pytest.mark.heavy  # fits again and again

PLANTED = {
    "conv": 0.4, "linear": -0.3, "elements": 2.0, "operators": 12.5, "threads": 0.5,
    "core b": -0.25, "kernels fast": -0.4, "fast on b": 0.1,
}  # fmt: skip


def on(name: str, threads: int = 1) -> Machine:
    return Machine(
        profile=name,
        core=name,
        mode="fp32",
        weight_bytes=4,
        threads=threads,
        macs_per_s=5e9,
        bytes_per_s=5e9,
    )


def planted(noise: float = 0.0) -> list[Row]:
    """Return 20 networks on two boards by two engines, with one thread and with four."""
    draw = random.Random(7)
    rows = []
    for i in range(20):
        most = 10 ** (5 + i % 4)  # from those of which operators take the time to those of products
        parts = [Operator("conv", draw.randrange(most), 10**4, draw.randrange(most // 100))]
        parts += [Operator("linear", draw.randrange(most), 10**3, 10**3)]
        parts += [Operator("other", 0, 0, draw.randrange(10**6))] * draw.randrange(1, 100)
        network = Network(name=f"n{i}", operators=tuple(parts))
        for board in ("a", "b"):
            for kernels in ("slow", "fast"):
                for threads in (1, 4):
                    machine = on(board, threads)
                    s = seconds(network, machine, kernels, PLANTED)
                    rows.append(
                        Row(
                            board=board,
                            kernels=kernels,
                            network=network,
                            machine=machine,
                            seconds=s * math.exp(draw.gauss(0, noise)),
                        )
                    )
    return rows


def test_the_fit_recovers_what_was_planted() -> None:
    rows = planted()
    found = fit(rows)
    assert max(abs(residual(row, found)) for row in rows) < 0.02
    # The priors share out what no row tells apart; what an operator costs in the end is known.
    for row in rows[:8]:
        needed = factors(row.machine, row.kernels)
        for names in (
            needed.products["conv"],
            needed.products["linear"],
            needed.elements,
            needed.operators,
        ):
            costs = [exponent(names, of) + exponent(needed.call, of) for of in (found, PLANTED)]
            assert costs[0] == pytest.approx(costs[1], abs=0.1)


def test_a_wild_figure_moves_little() -> None:
    rows = planted(noise=0.05)
    wild = [*rows[:-1], replace(rows[-1], seconds=rows[-1].seconds * 20)]
    calm, moved = fit(rows), fit(wild)
    assert abs(residual(rows[0], moved) - residual(rows[0], calm)) < 0.02


def test_a_parameter_of_no_row_is_what_it_was_held_to_be() -> None:
    found = fit(planted())
    assert found["depthwise"] == pytest.approx(prior("depthwise")[0], abs=1e-6)


def test_what_is_left_out_is_out() -> None:
    """A left-out network's own figures change neither its fit nor another's estimate of it."""
    rows = planted()
    lies = [replace(r, seconds=r.seconds * 100) if r.network.name == "n3" else r for r in rows]
    honest, lied = (HeldOut(of, fit(rows)) for of in (rows, lies))
    left, first = honest.without(family="n3", profile="a", kernels="fast")
    assert {(r.network.name == "n3", r.machine.profile, r.kernels) for r in left} == {
        (False, "b", "slow")
    }
    _, second = lied.without(family="n3", profile="a", kernels="fast")
    assert first == second
    held = [h for h in lied.situation("family") if h.row.network.name == "n3"]
    assert all(h.off == pytest.approx(math.log(100), abs=0.05) for h in held)


def test_other_networks_tell_of_engines_not_of_operators() -> None:
    few = [r for r in planted() if r.network.name == "n1" and r.kernels == "slow"]
    alone, drawn = fit(few), fit(few, drawn_to={"kernels fast": -0.7, "core a": 0.5, "conv": 5.0})
    assert drawn["kernels fast"] == -0.7  # no row says otherwise
    assert "kernels fast" not in alone
    assert drawn["core a"] - alone["core a"] > 0.1
    assert drawn["conv"] < 1
    assert prior("kernels fast", {"kernels fast": -0.7})[0] == -0.7
    assert prior("conv fp16", {"conv fp16": -0.7})[0] == 0


def test_what_rows_are_drawn_to_has_not_seen_what_is_left_out() -> None:
    rows = planted()
    others = HeldOut(rows, fit(rows))
    left_out = {"family": "n3", "profile": "a"}
    first = HeldOut(rows[:80], {}, others).without(**left_out)[1]
    lies = [replace(r, seconds=r.seconds * 9) if r.machine.profile == "a" else r for r in rows]
    second = HeldOut(rows[:80], {}, HeldOut(lies, others.whole)).without(family="n3", profile="a")[
        1
    ]
    assert first == second


def test_a_family_is_left_out_together() -> None:
    rows = [
        replace(r, network=replace(r.network, family="f")) if r.network.name in ("n1", "n2") else r
        for r in planted()
    ]
    left, _ = HeldOut(rows, {}).without(family="f")
    assert {r.network.name for r in left} == {f"n{i}" for i in range(20)} - {"n1", "n2"}


def test_situations_need_what_they_name() -> None:
    tried = HeldOut(planted(), {})
    assert {h.row.machine.profile for h in tried.situation("device")} == {"a", "b"}
    only = [r for r in planted() if (r.kernels, r.machine.profile) != ("slow", "b")]
    alone = HeldOut([r for r in only if r.machine.profile == "a" or r.kernels == "fast"], {})
    assert {(h.row.kernels, h.row.machine.profile) for h in alone.situation("device")} == {
        ("fast", "a"),
        ("fast", "b"),
    }


def test_bounds_are_of_units_not_of_rows() -> None:
    """Three boards, each off by its own: a hundred rows of each do not make it surer."""
    few = [[-0.3] * 2, [0.0] * 2, [0.3] * 2]
    many = [[-0.3] * 100, [0.0] * 100, [0.3] * 100]
    assert interval(few) == pytest.approx(interval(many))
    # Student's t with 2 degrees of freedom at 90 %: 1.886; the mean of three is not known either.
    assert interval(few)[1] == pytest.approx(1.8856 * 0.3 * math.sqrt(4 / 3), rel=1e-3)
    low, high = interval([[i / 100] for i in range(100)])
    assert (low, high) == (pytest.approx(0.09), pytest.approx(0.89))


def test_a_weighted_quantile() -> None:
    import numpy as np

    values, weights = np.array([3.0, 1.0, 2.0]), np.array([1.0, 1.0, 2.0])
    assert [quantile(values, weights, s) for s in (0.25, 0.5, 0.75, 1.0)] == [1.0, 2.0, 2.0, 3.0]


def test_measurements_of_the_users_scale_an_estimate() -> None:
    fits = load()
    network = Network(name="big", operators=(Operator("conv", 10**9, 10**5, 10**6),))
    others = [
        Network(name=f"n{i}", operators=(Operator("conv", i * 10**8, 10**5, 10**6),))
        for i in range(1, 5)
    ]
    machine = on("raspberry-pi-9")
    alone = estimate(network, machine, "tvm", fits=fits)
    twice = [
        Measured(
            network=n,
            machine=machine,
            seconds=2 * seconds(n, machine, "tvm", fits["cnn"].parameters),
        )
        for n in others
    ]
    found = estimate(network, machine, "tvm", twice, fits)
    assert isinstance(alone, Estimate)
    assert isinstance(found, Estimate)
    assert (alone.error.situation, found.error.situation) == ("both", "yours 3")
    assert found.calibrated_on == 4
    assert found.ms / alone.ms == pytest.approx(
        math.exp(shift([math.log(2)] * 4, fits["cnn"])), rel=1e-9
    )
    assert 1.7 < found.ms / alone.ms < 2
    assert found.own_error is not None
    assert 0 < found.own_error < 0.15
    # One network at four lengths is one network.
    same = [Measured(network=others[0], machine=machine, seconds=m.seconds) for m in twice]
    one = estimate(network, machine, "tvm", same, fits)
    assert isinstance(one, Estimate)
    assert (one.calibrated_on, one.own_error) == (1, None)


def test_the_shipped_figures_are_what_the_tool_computes() -> None:
    shipped = load()
    computed = tool.fitted_all()
    assert set(computed) == set(shipped) == set(KINDS)
    for kind, made in computed.items():
        wanted = shipped[kind]
        assert made.parameters == pytest.approx(wanted.parameters, abs=2e-3)
        assert made.seen == wanted.seen
        assert (made.least_macs, made.most_macs) == (wanted.least_macs, wanted.most_macs)
        assert (made.scale_spread, made.network_spread) == pytest.approx(
            (wanted.scale_spread, wanted.network_spread), abs=5e-3
        )
        _alike(made.errors, wanted.errors)


def _alike(made: Sequence[Error], wanted: Sequence[Error]) -> None:
    """Check that figures are the same but for what another BLAS rounds otherwise."""
    for one, other in zip(made, wanted, strict=True):
        for name, value in asdict(one).items():
            wanted_value = getattr(other, name)
            if isinstance(value, float):
                wanted_value = pytest.approx(wanted_value, rel=5e-3, abs=5e-3)
            assert value == wanted_value, (other.situation, name)
