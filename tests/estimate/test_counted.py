# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

from dataclasses import replace
from pathlib import Path

import pytest

from edgeopt.estimate.costs import COUNTED, CountedCosts, Shape
from edgeopt.estimate.counted import MACS, Rates, Work, count, rates
from edgeopt.model import Model
from edgeopt.model.checkpoint import network
from edgeopt.model.importer import import_model
from edgeopt.model.network.widths import keep, layers
from edgeopt.target import load_target
from tests import checkpoints

pytest.importorskip("transformers", reason="needs edgeopt[torch]")
pytestmark = pytest.mark.heavy

SEQ = 16


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.write(tmp_path_factory.mktemp("counted") / "sorter")


def work(model: Model) -> Work:
    import torch

    ids = torch.ones(1, SEQ, dtype=torch.int64)
    return count(model.module, [ids for _ in model.main.signature.inputs])


def test_every_product_is_counted(bert: Path) -> None:
    model = import_model(bert)
    found = work(model)
    projection, expansion = 32 * 32, 32 * 64
    layer = [(SEQ * projection, projection)] * 4 + [(SEQ * expansion, expansion)] * 2
    assert found.products == (*layer, *layer, (projection, projection), (32 * 3, 32 * 3))
    assert found.macs == 2 * 2 * SEQ * SEQ * 32  # layers, products of a layer
    for layer_ in layers(network(model)):
        keep(layer_, range(3), range(40))
    narrow = work(model)
    assert narrow.products[0] == (SEQ * 32 * 24, 32 * 24)
    assert narrow.macs == found.macs * 3 // 4
    assert narrow.elements < found.elements


def test_a_product_costs_what_takes_longer() -> None:
    found = Work(products=((1000, 10), (1000, 500)), macs=7, elements=3)
    known = Rates(precision="int8", weight_mac=0.25, weight_byte=2.0, element=5.0)
    assert found.cost(known) == 250 + 500 * 2 + 7 + 3 * 5
    assert found.cost(replace(known, precision="fp32", weight_byte=0.5)) == 250 + 500 * 2 + 7 + 15


def test_rates_are_those_of_the_profile() -> None:
    pi4, pi5 = load_target("raspberry-pi-4"), load_target("raspberry-pi-5")
    # 14.4 GFLOPS on 4 threads are 28.8e9 multiply-accumulates a second; of 2330 MB copied a
    # second as many are read again as written.
    assert rates(pi4, "fp32").weight_byte == pytest.approx(28.8 / 4.66)
    assert rates(pi4, "int8").weight_mac == pytest.approx(1 / 1.3)
    assert rates(pi5, "int8").weight_mac == 1 / 4  # with a dot product
    assert rates(load_target("galaxy-s23"), "fp32").weight_byte == 0  # no bandwidth is known


@pytest.mark.parametrize(
    "costs", [COUNTED, CountedCosts(rates=rates(load_target("rk3588"), "int8"))]
)
def test_wider_costs_more(costs: CountedCosts) -> None:
    table = costs(Shape(hidden=32, head_dim=8, heads=4, neurons=72), 16)
    assert list(table.heads) == [1, 2, 3, 4]
    assert list(table.neurons) == [16, 32, 48, 64, 72]
    for part in (table.heads, table.neurons):
        assert list(part.values()) == sorted(set(part.values()))


def test_a_layer_by_its_parts_costs_what_it_costs_in_the_model(bert: Path) -> None:
    model = import_model(bert)
    bare = replace(MACS, element=0.0)
    table = CountedCosts(seq_len=SEQ, rates=bare)(
        Shape(hidden=32, head_dim=8, heads=4, neurons=64), 1
    )
    rest = 32 * 32 + 32 * 3  # pooler and classifier
    assert work(model).cost(bare) == 2 * (table.heads[4] + table.neurons[64]) + rest
