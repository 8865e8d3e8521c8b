# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Which layers cost a difference, and what is said of it, on operators whose times are known."""

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from edgeopt.errors import InputError
from edgeopt.measure.explain import SAME, Explanation, Source, explain
from edgeopt.measure.measurement import Run, write
from edgeopt.measure.operator_times import Operator, Operators
from edgeopt.report.explain import render
from tests.measure.test_measurement import MEASUREMENT, RUN

ROUNDS, CALLS = 6, 10


def operator(
    type_: str,
    us: float,
    *layers: str,
    scatter: Sequence[float] = (0.0, 1.0, -1.0, 0.5, -0.5, 0.0),
    **more: Any,
) -> Operator:
    """Return an operator of ``us`` a call, and ``scatter`` of them in each round."""
    return Operator(
        name=more.pop("name", type_),
        type=type_,
        kernel=more.pop("kernel", ""),
        total_ns=tuple(round(1000 * CALLS * (us + one)) for one in scatter),
        layers=layers,
        **more,
    )


def run(precision: str, wall_us: int, *operators: Operator, **more: Any) -> Run:
    times = (1000 * wall_us,) * 60
    found = Operators(
        how="a clock",
        resolution_ns=1,
        wall_ns=((1000 * wall_us + 1,) * CALLS,) * ROUNDS,
        operators=operators,
    )
    return replace(RUN, precision=precision, wall_ns=times, cpu_ns=times, operators=found, **more)


FP32 = run(
    "fp32",
    400,
    operator("MatMul", 300, "a.dense"),
    operator("Gelu", 50, "a.act"),
    operator("Softmax", 20, "a.attention"),
)
INT8 = run(
    "int8",
    600,
    operator("QuantizeLinear", 90, "a.dense", added=True),
    operator("MatMulIntegerToFloat", 310, "a.dense"),
    operator("MatMul", 40, "b.head"),
    operator("Gelu", 50.4, "a.act", scatter=(1.0, -1.0, 0.5, 0.0, 0.0, -0.5)),
    operator("Softmax", 20, "a.attention"),
)


def explained(
    folder: Path, *runs: Run, board: dict[str, Any] | None = None, **more: Any
) -> Explanation:
    m = replace(MEASUREMENT, runs=runs, **{"emulated": False, **more})
    if board is not None:
        m = replace(m, board=board)
    path = folder / f"{len(list(folder.iterdir()))}.json"
    write(m, path)
    return explain(*(Source(path=path, engine=r.engine, precision=r.precision) for r in runs))


def printed(found: Explanation) -> str:
    console = Console(file=io.StringIO(), width=100)
    render(found, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_layers_are_ranked_by_what_they_cost(tmp_path: Path) -> None:
    found = explained(tmp_path, FP32, INT8)
    assert [(one.name, round(one.center)) for one in found.groups] == [
        ("a.dense", 100_000),
        ("b.head", 40_000),
    ]
    first = found.groups[0]
    assert first.low < 100_000 < first.high
    assert (first.first, first.second) == (("MatMul",), ("QuantizeLinear", "MatMulIntegerToFloat"))
    assert found.paired
    assert found.ship == "A"
    assert found.advice == "A, onnx fp32: it is faster, and no less precise"


def test_what_scatter_hides_is_not_ranked(tmp_path: Path) -> None:
    found = explained(tmp_path, FP32, INT8)
    assert [one.name for one in found.unknown] == ["a.act", "a.attention"]
    assert {one.verdict for one in found.unknown} == {SAME}
    noisy = run("int8", 600, operator("MatMul", 330, "a.dense", scatter=(90, -80, 70, -60, 50, 0)))
    found = explained(tmp_path, FP32, noisy)
    assert "a.dense" in [one.name for one in found.unknown]


def test_what_the_engine_cuts_off_is_in_the_interval(tmp_path: Path) -> None:
    def coarse(one: Run) -> Run:
        assert one.operators is not None
        return replace(one, operators=replace(one.operators, resolution_ns=50_000))

    found = explained(tmp_path, coarse(FP32), coarse(INT8))
    assert found.groups == ()
    assert found.whole.verdict == SAME
    assert found.advice == "cannot tell: the interval of all operators together holds 0"


def test_layers_that_an_operator_spans_are_one_group_on_both_sides(tmp_path: Path) -> None:
    fused = run("int8", 200, operator("Fused", 100, "a.dense", "a.act"), *_rest())
    found = explained(tmp_path, FP32, fused)
    (group,) = found.groups
    assert group.layers == ("a.dense", "a.act")
    assert (round(group.a_ns), round(group.b_ns)) == (350_000, 100_000)
    assert (group.first, group.second) == (("MatMul", "Gelu"), ("Fused",))


def _rest() -> tuple[Operator, ...]:
    return (operator("Softmax", 20, "a.attention"),)


def test_what_is_not_joined_could_be_any_layers(tmp_path: Path) -> None:
    lost = run("int8", 600, operator("Other", 310), operator("Gelu", 90, "a.act"), *_rest())
    found = explained(tmp_path, FP32, lost)
    assert [one.name for one in found.groups] == ["not joined", "a.act"]
    (dense,) = (one for one in found.unknown if one.name == "a.dense")
    assert dense.center == pytest.approx(-300_000)
    assert dense.low < -300_000
    assert dense.high > 10_000


def test_an_operator_of_one_path_in_both_graphs_hides_nothing(tmp_path: Path) -> None:
    def also(one: Run, us: float) -> Run:
        assert one.operators is not None
        mask = operator("Cast", us, name="/Cast")
        found = replace(one.operators, operators=(*one.operators.operators, mask))
        return replace(one, operators=found)

    found = explained(tmp_path, also(FP32, 500), also(INT8, 500))
    assert [one.name for one in found.groups] == ["a.dense", "b.head"]


def test_int8_is_explained_by_what_is_there_to_see(tmp_path: Path) -> None:
    board = {"arch": "aarch64", "isa": ["fp", "asimd"]}
    text = " ".join(printed(explained(tmp_path, FP32, INT8, board=board)).split())
    assert "1 operators of onnx int8 only quantise or scale back: 90.0 us, 18%" in text
    assert "1 products of onnx int8 stayed in floating point: 40.0 us, 8%; in b.head" in text
    assert "1 INT8 products take 310 us, and in FP32 the 1 of the same layers 300 us" in text
    assert (
        "no instruction for 8-bit dot products (asimddp, i8mm): INT8 products are made of several"
    ) in text
    board = {"arch": "aarch64", "isa": ["asimddp"]}
    text = printed(explained(tmp_path, FP32, INT8, board=board))
    assert "instructions for 8-bit dot products: asimddp" in text
    assert "dot products" not in printed(explained(tmp_path, FP32, INT8, board={"arch": "armv7"}))
    assert explained(tmp_path, FP32, replace(FP32, engine="tflite")).reasons == ()


def test_of_an_emulated_board_nothing_is_concluded(tmp_path: Path) -> None:
    found = explained(tmp_path, FP32, INT8, emulated=True)
    assert found.ship is None
    text = printed(found)
    assert "ship: cannot tell: the board is emulated" in text
    assert "which layer costs more on a device may be another" in " ".join(text.split())
    assert text.count("emulated") > 8


FAST = run("int8", 200, operator("MatMulInteger", 100, "a.dense"), *_rest())


def test_a_faster_int8_is_shipped_if_its_accuracy_is_known_to_hold(tmp_path: Path) -> None:
    found = explained(tmp_path, FP32, FAST)
    assert found.ship is None
    assert "what int8 costs in accuracy was not measured: edgeopt evaluate" in found.advice
    kept = {"measure": "accuracy", "texts": 200, "score": 0.9, "drop": 0.001, "drop_se": 0.002}
    found = explained(tmp_path, FP32, replace(FAST, accuracy=kept))
    assert found.ship == "B"
    assert "no loss of accuracy is seen (0.0010, standard error 0.0020, 200 texts)" in found.advice
    found = explained(tmp_path, FP32, replace(FAST, accuracy=kept | {"drop": 0.05}))
    assert found.ship is None
    assert "loses 0.0500 of accuracy" in found.advice


def test_timed_runs_have_to_say_the_same(tmp_path: Path) -> None:
    slow = (900_000,) * 60
    found = explained(tmp_path, FP32, replace(FAST, wall_ns=slow, cpu_ns=slow))
    assert found.ship is None
    assert "the runs that were timed without a profiler the other" in found.advice


def test_two_files_are_two_sessions(tmp_path: Path) -> None:
    paths = [tmp_path / "a.json", tmp_path / "b.json"]
    for path, one in zip(paths, (FP32, INT8), strict=True):
        write(replace(MEASUREMENT, runs=(one,), emulated=False), path)
    found = explain(*(Source(path=path) for path in paths))
    assert not found.paired
    assert [one.name for one in found.groups] == ["a.dense", "b.head"]
    assert found.ship is None
    assert "two sessions differ by more than the artifacts" in found.advice
    assert "was not profiled" not in printed(found)
    assert "The two were not profiled in turns" in printed(found)
    document = found.document()
    assert document["groups"][0]["verdict"] == "costs"
    assert document["groups"][0]["difference_ns"] == pytest.approx(100_000)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"precision": "fp32"}, "2 are meant, and a side is one"),
        ({"seq_len": 16}, "onnx fp32 ran on 32 tokens there, and onnx int8 on 16"),
        ({"operators": None, "no_operators": "it tells none"}, "operators of onnx int8: it tells"),
        ({"operators": None}, "holds no times of the operators of onnx int8"),
    ],
)
def test_what_cannot_be_explained_is_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        explained(tmp_path, FP32, replace(INT8, **changes))


def test_an_emulated_side_and_a_real_one_are_refused(tmp_path: Path) -> None:
    paths = [tmp_path / "a.json", tmp_path / "b.json"]
    for path, emulated in zip(paths, (False, True), strict=True):
        write(replace(MEASUREMENT, runs=(FP32,), emulated=emulated), path)
    with pytest.raises(InputError, match="an emulated time is no device's"):
        explain(*(Source(path=path) for path in paths))
