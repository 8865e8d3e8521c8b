# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The formula, by hand."""

import math
from dataclasses import replace

import pytest

from edgeopt.errors import InputError
from edgeopt.estimate.operators import KINDS, Network, Operator, dump, encoder, load
from edgeopt.estimate.roofline import Machine, machine, seconds
from edgeopt.target import load_target

M = Machine(
    profile="board",
    core="cortex-a1",
    mode="fp32",
    weight_bytes=4,
    threads=2,
    macs_per_s=1e9,
    bytes_per_s=1e9,
)


def of(*operators: Operator) -> Network:
    return Network(name="n", operators=operators)


def test_an_operator_takes_as_long_as_the_lower_of_its_two_roofs() -> None:
    computing = of(Operator("linear", 4_000_000, 1_000, 0))
    reading = of(Operator("linear", 4_000, 1_000_000, 0))
    none = {"operators": -math.inf}
    assert seconds(computing, M, "x", none) == pytest.approx(4e6 / 2e9)
    assert seconds(reading, M, "x", none) == pytest.approx(4e6 / 1e9)
    assert seconds(reading, replace(M, bytes_per_s=math.inf), "x", none) == pytest.approx(2e-6)


def test_factors_multiply_what_they_name() -> None:
    network = of(Operator("conv", 2_000_000, 10, 1_000_000), Operator("other", 0, 0, 1_000_000))
    told = {"conv": math.log(3), "elements": math.log(5), "operators": math.log(7)}
    told |= {"core cortex-a1": math.log(2), "x on board": math.log(1.5), "y on board": 9.0}
    told |= {"depthwise": 9.0, "conv fp16": 9.0}
    one = 3 * 2e6 / 2e9 + 5 * 2e6 / 2e9 + 2 * 7 / 1e9
    assert seconds(network, M, "x", told) == pytest.approx(3 * one)


def test_a_machine_is_what_its_profile_tells() -> None:
    pi4, pi5 = (load_target(f"raspberry-pi-{n}").device for n in (4, 5))
    assert machine(pi4, "int8", 4).mode == "int8"
    assert machine(pi5, "int8", 4).mode == "dot"
    assert machine(pi4, "fp16", 1).mode == "fp32"
    assert machine(pi5, "fp16", 1).mode == "fp16"
    assert machine(pi4, "fp32", 1).macs_per_s == 7.2e9
    assert machine(pi4, "fp32", 1).bytes_per_s == 4.66e9
    assert machine(pi4, "fp32", 4).instructions_per_s == pytest.approx(3 * 1.8e9 * 4)
    with pytest.raises(InputError, match=r"raspberry-pi-2\.toml: has no compute\.peak_gflops"):
        machine(load_target("raspberry-pi-2").device, "fp32", 1)
    with pytest.raises(InputError, match="int4 is not estimated"):
        machine(pi4, "int4", 1)


def test_networks_are_told_apart_and_kept_whole() -> None:
    made = encoder("e", tokens=8, hidden=4, width=4, heads=2, ffn=16, layers=3)
    assert made.macs == 3 * 8 * (4 * 4 * 4 + 2 * 4 * 16 + 2 * 8 * 4)
    assert made.kind == KINDS[1]
    assert of(Operator("conv", 10, 1, 1), Operator("linear", 9, 1, 1)).kind == KINDS[0]
    import json

    again = load(json.loads(dump(made)))
    assert sorted(again.operators, key=repr) == sorted(made.operators, key=repr)
