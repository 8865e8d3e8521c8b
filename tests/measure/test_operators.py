# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Reading what engines tell of operators (recorded), joining names, and what is made of times."""

import io
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from edgeopt.errors import InputError, MeasurementError
from edgeopt.measure.measurement import Measurement, read, write
from edgeopt.measure.operator_times import (
    NOT_JOINED,
    Operator,
    Operators,
    by_layer,
    by_operator,
)
from edgeopt.measure.profilers import Call, Told, onnx, openvino, profiler, since, tflite, tvm
from edgeopt.measure.profilers.names import among, shown
from edgeopt.measure.report import report
from edgeopt.report.profile import render
from edgeopt.target import ENGINES
from tests.measure.test_measurement import MEASUREMENT, RUN

RECORDED = Path(__file__).with_name("recorded")


def operator(type_: str, *total_ns: int, layers: tuple[str, ...] = (), **more: Any) -> Operator:
    return Operator(
        name=more.pop("name", f"/{type_}"), type=type_, kernel="", total_ns=total_ns,
        layers=layers, **more,
    )  # fmt: skip


OPERATORS = Operators(
    how="a clock",
    resolution_ns=1,
    wall_ns=((900, 1100), (1000, 1200)),
    operators=(
        operator("MatMul", 800, 1000, layers=("a.query",)),
        operator("Cast", 200, 200, name="/Cast"),
        operator("Add", 100, 300, layers=("a.query",)),
    ),
)


def with_operators(found: Operators | None = OPERATORS, **more: Any) -> Measurement:
    return replace(MEASUREMENT, runs=(replace(RUN, operators=found, **more),))


def test_every_engine_has_a_profiler() -> None:
    for engine in ENGINES:
        found = profiler(engine)
        assert found.HOW
        assert found.RESOLUTION_NS > 0
        assert all("=" in option for option in found.options("/a/x", first=True))
        assert isinstance(found.ELSEWHERE, str)
    assert profiler("onnx").options("/a/x", first=False) == ["operators=/a/x"]


def test_onnxruntimes_file_tells_the_last_calls_of_each_node() -> None:
    told = Told(files={".json": (RECORDED / "onnxruntime-1.31.1-profile.json").read_bytes()})
    found = onnx.calls(told, runs=2)
    place = "/network/bert/encoder/layer.0/attention"
    assert found == [
        Call(
            name=f"{place}/self/Reshape_3_output_0_even_QuantizeLinear",
            type="QuantizeLinear",
            total_ns=8000,
        ),
        Call(
            name=f"{place}/output/dense/MatMul_quant", type="MatMulIntegerToFloat", total_ns=14000
        ),
        Call(name=f"{place}/output/dense/MatMul_output_0", type="Mul", total_ns=9000),
    ]
    with pytest.raises(ValueError, match="has 4 runs, and 5 were timed"):
        onnx.calls(told, runs=5)


def test_litert_tells_operators_in_order_with_the_sum_that_it_says() -> None:
    text = (RECORDED / "litert-2.3.0-summary.txt").read_text()
    found = tflite.calls(Told(report=text), runs=20)
    assert len(found) == 127
    assert [(c.type, c.kernel) for c in found[:2]] == [("RESHAPE", "TFLite"), ("CAST", "TFLite")]
    assert found[24].name == "Fully Connected (NC, QD8, F32, QC8W) GEMM delegate 18"
    assert (found[24].type, found[24].kernel) == ("Fully Connected", "XNNPACK")
    assert sum(c.total_ns for c in found) == 4_516_000
    with pytest.raises(ValueError, match="has 20 calls of RESHAPE"):
        tflite.calls(Told(report=text), runs=19)
    with pytest.raises(ValueError, match="no order of the run"):
        tflite.calls(Told(report="nothing"), runs=20)


def test_what_ran_before_the_timed_runs_is_taken_off() -> None:
    before = [Call(name="a", type="t", total_ns=5), Call(name="a", type="t", total_ns=7)]
    after = [
        Call(name="a", type="t", total_ns=15),
        Call(name="b", type="t", total_ns=4),
        Call(name="a", type="t", total_ns=27),
    ]
    assert [c.total_ns for c in since(Told(before=before, after=after))] == [10, 4, 20]


def test_openvinos_numbers_of_its_own_nodes_are_left_out() -> None:
    own = "__module.network.layer.1/aten::transpose/Transpose_3"
    after = [Call(name=name, type="t", total_ns=1) for name in ("Multiply_4635", own)]
    assert [c.name for c in openvino.calls(Told(after=after), 1)] == ["Multiply", own]


def test_tvms_own_calls_are_one_operator() -> None:
    after = [
        Call(name=name, type="", total_ns=ns)
        for name, ns in (("vm.builtin.alloc_tensor", 3), ("matmul12", 5), ("vm.builtin.copy", 4))
    ]
    found = tvm.calls(Told(after=after), 1)
    assert [(c.name, c.type, c.total_ns) for c in found] == [
        ("matmul12", "matmul", 5),
        ("vm.builtin.*", "housekeeping", 7),
    ]


KNOWN = [
    ("network", "layer", "0", "attention", "output", "dense"),
    ("network", "layer", "0", "output", "dense"),
    ("network", "layer", "0", "attention", "self", "query"),
]


def test_names_of_which_parts_were_left_out_are_joined() -> None:
    found = among(KNOWN, [("network", "layer", "0", "query")])
    assert found.owners([("network", "layer", "0", "query")]) == ("layer.0.attention.self.query",)


def test_a_path_that_may_be_two_modules_is_both() -> None:
    one, other = ("network", "layer", "0", "output", "dense"), ("network", "layer", "0")
    later = (*other, "output", "dense_1")
    both = ("layer.0.attention.output.dense", "layer.0.output.dense")
    found = among(KNOWN, [one, later])
    assert found.owners([one]) == both
    assert found.owners([later]) == both
    assert among(KNOWN, [one]).owners([one]) == ("layer.0.output.dense",)
    assert among(KNOWN, [one], unsure=[one]).owners([one]) == both


def test_what_another_path_is_for_sure_is_ruled_out() -> None:
    short = ("network", "0", "output", "dense")
    sure = ("network", "0", "attention", "output", "dense")
    assert among(KNOWN, [short, sure]).owners([short]) == ("layer.0.output.dense",)
    assert len(among(KNOWN, [short]).owners([short])) == 2


def test_names_of_an_onnx_file_stand_for_modules_if_there_are_no_better_ones() -> None:
    first = ("network", "layer", "1", "output", "dense")
    known = [first, (*first[:-1], "dense_1"), ("network", "layer", "1", "query")]
    graph = among(known, known, whole=False)
    assert graph.owners([first]) == ("layer.1.output.dense",)
    assert graph.owners(known[1:2]) == ("layer.1.output.dense_1",)
    query, dense = ("network", "1", "query"), ("network", "1", "output", "dense")
    file = among(known, [query, dense], unsure=[dense], whole=False)
    assert file.owners([query]) == ("layer.1.query",)
    assert file.owners([dense]) == ("layer.1.output.dense", "layer.1.output.dense_1")


def test_without_known_modules_paths_are_taken_as_they_are() -> None:
    assert among([], [("network", "a", "b")]).owners([("network", "a", "b")]) == ("a.b",)
    assert among(KNOWN, [()]).owners([()]) == ()
    assert shown(("classifier",)) == "classifier"


class _Node(SimpleNamespace):
    def __init__(self, name: str, op_type: str, takes: str, gives: str) -> None:
        super().__init__(name=name, op_type=op_type, input=takes.split(), output=gives.split())


def test_a_fused_operator_is_all_of_its_nodes_and_a_quantising_one_what_it_feeds() -> None:
    base = SimpleNamespace(
        node=[
            _Node("/q/MatMul", "MatMul", "x w", "m"),
            _Node("/q/Add", "Add", "m b", "s"),
            _Node("/act/Gelu", "Gelu", "s", "g"),
        ]
    )
    running = SimpleNamespace(
        node=[
            _Node("quantise", "QuantizeLinear", "x scale", "x8"),
            _Node("product", "MatMulInteger", "x8 w8", "m32"),
            _Node("fused", "BiasGelu", "m32", "g"),
        ]
    )
    graph = onnx._Graph(running, onnx._makers(base))
    everything = frozenset(node.name for node in base.node)
    assert [graph.covered(node) for node in running.node] == [everything] * 3
    unfused = SimpleNamespace(node=[base.node[0], _Node("fused", "BiasGelu", "m b", "g")])
    graph = onnx._Graph(unfused, onnx._makers(base))
    assert [sorted(graph.covered(node)) for node in unfused.node] == [
        ["/q/MatMul"],
        ["/act/Gelu", "/q/Add"],
    ]


def test_operators_are_kept_in_the_measurement(tmp_path: Path) -> None:
    m = with_operators(
        replace(OPERATORS, operators=(operator("Add", -3, 5, layers=("a", "b"), added=True),))
    )
    write(m, tmp_path / "m.json")
    assert read(tmp_path / "m.json") == m


def test_times_of_other_rounds_are_refused(tmp_path: Path) -> None:
    m = with_operators(replace(OPERATORS, operators=(operator("Add", 1),)))
    write(m, tmp_path / "m.json")
    with pytest.raises(MeasurementError, match="the times are not of the same rounds"):
        read(tmp_path / "m.json")


def test_a_time_is_of_an_inference_in_the_median_round() -> None:
    assert OPERATORS.round_ns(OPERATORS.operators) == (550.0, 750.0)
    assert OPERATORS.median_ns(OPERATORS.operators[:1]) == 450.0
    assert OPERATORS.profiled_ns == 1050
    assert OPERATORS.joined_share == pytest.approx((900 / 1100 + 1300 / 1500) / 2)
    rows = by_layer(OPERATORS)
    assert [(row.name, len(row.operators)) for row in rows] == [("a.query", 2), (NOT_JOINED, 1)]
    assert sum(row.share for row in rows) == pytest.approx(1.0)
    assert [row.operators[0].type for row in by_operator(OPERATORS)] == ["MatMul", "Cast", "Add"]


def printed(m: Measurement) -> str:
    console = Console(file=io.StringIO(), width=80)
    render(report(m, Path("m.json")), console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_longest_are_shown_with_what_profiling_cost() -> None:
    text = printed(with_operators())
    assert "MatMul    a.query        4     0.45 69.7%" in text
    assert "/Cast     not joined     4     0.10 15.8%" in text
    assert "onnx int8 layer      calls emulated share" in text
    assert "0.65 us in 3 operators; not joined: 15.8%" in text
    assert (
        "an inference took 1.05 us while it was profiled, and 0.00 us without (emulated); a clock"
    ) in " ".join(text.split())
    document = report(with_operators(), Path("m.json")).document()["runs"][0]["operators"]
    assert document["operators"][0]["layers"] == ["a.query"]
    assert (document["profiled_ns"], document["timed_ns"]) == (1050, 2)


def test_why_there_are_none_is_told() -> None:
    text = printed(with_operators(None, no_operators="it tells no times"))
    assert "onnx int8: no times of operators: it tells no times" in text


def test_a_trace_of_no_operators_is_refused() -> None:
    from edgeopt.report.operator_trace import trace_document

    with pytest.raises(InputError, match="holds no times of operators"):
        trace_document(MEASUREMENT, "m.json")


def test_a_trace_is_of_the_published_format() -> None:
    """Field by field: "Trace Event Format", sections "JSON Object Format", "Complete Events" and
    "Metadata Events", the subset that Perfetto documents for its import."""
    from edgeopt.report.operator_trace import trace_document

    two = (replace(RUN, operators=OPERATORS), replace(RUN, precision="fp32", operators=OPERATORS))
    found = trace_document(replace(MEASUREMENT, runs=two), "m.json")
    assert set(found) == {"traceEvents", "displayTimeUnit", "otherData"}
    assert found["displayTimeUnit"] in ("ms", "ns")
    assert all(isinstance(value, str) for value in found["otherData"].values())
    metadata = [e for e in found["traceEvents"] if e["ph"] == "M"]
    slices = [e for e in found["traceEvents"] if e["ph"] == "X"]
    assert len(metadata) + len(slices) == len(found["traceEvents"])
    for event in metadata:
        assert set(event) == {"ph", "name", "pid", "tid", "args"}
        given = {"process_name": "name", "thread_name": "name", "thread_sort_index": "sort_index"}
        assert set(event["args"]) == {given[event["name"]]}
    for event in slices:
        assert set(event) == {"ph", "name", "cat", "pid", "tid", "ts", "dur", "args"}
        assert isinstance(event["name"], str)
        assert isinstance(event["cat"], str)
        assert isinstance(event["pid"], int)
        assert isinstance(event["tid"], int)
        assert event["ts"] >= 0
        assert event["dur"] >= 0
    tracks = {e["tid"]: e["args"]["name"] for e in metadata if e["name"] == "thread_name"}
    assert tracks == {
        1: "onnx int8, 32 tokens (emulated)",
        2: "onnx fp32, 32 tokens (emulated)",
    }
    mine = [e for e in slices if e["tid"] == 1]
    assert [(e["cat"], e["name"], e["ts"], e["dur"]) for e in mine] == [
        ("layer", "a.query", 0, 0.45),
        ("operator", "MatMul", 0, 0.45),
        ("layer", "not joined", 0.45, 0.1),
        ("operator", "Cast", 0.45, 0.1),
        ("layer", "a.query", 0.55, 0.1),
        ("operator", "Add", 0.55, 0.1),
    ]
    assert mine[1]["args"] == {"name": "/MatMul", "layer": "a.query"}
