# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Operators of a small BERT on this machine, by onnxruntime, LiteRT and OpenVINO themselves."""

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

import edgeopt
from edgeopt.cli import cli
from edgeopt.measure.measurement import Measurement, Run, read
from edgeopt.measure.operators import ROUNDS, RUNS
from tests import checkpoints

pytestmark = [pytest.mark.heavy]

ENGINES = {"onnx": "onnxruntime", "tflite": "ai_edge_litert", "openvino": "openvino"}

SIZES = {"hidden_size": 256, "intermediate_size": 1024, "initializer_range": 0.06}
"""Of which every product takes many microseconds, which all of these engines tell."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a measurement with operators."""
    for package in ENGINES.values():
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    home = tmp_path_factory.mktemp("operators")
    target = replace(edgeopt.load_target("host"), seq_lens=(32,))
    made = edgeopt.compile(
        checkpoints.write(home / "checkpoint", **SIZES),
        target,
        output=home / "b.edgeopt",
        engines=list(ENGINES),
        precisions=["fp32", "int8"],
    )
    path = home / "m.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home / "board"))
        (home / "board").mkdir()
        edgeopt.profile(made, "host", runs=10, warmup=2, with_operators=True, output=path)
    return path


@pytest.fixture(scope="module")
def found(place: Path) -> Measurement:
    return read(place)


def run_of(m: Measurement, engine: str, precision: str) -> Run:
    (run,) = (r for r in m.runs if (r.engine, r.precision) == (engine, precision))
    return run


def layers_of(run: Run) -> set[str]:
    assert run.operators is not None, run.no_operators
    return {layer for one in run.operators.operators for layer in one.layers}


@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_tells_its_operators_by_the_same_layers(
    found: Measurement, engine: str
) -> None:
    run = run_of(found, engine, "fp32")
    assert run.operators is not None, run.no_operators
    assert [len(one) for one in run.operators.wall_ns] == [RUNS] * ROUNDS
    products = [
        one
        for one in run.operators.operators
        if one.type in ("MatMul", "Gemm", "FusedGemm", "Fully Connected", "FullyConnected")
    ]
    assert len(products) >= 12
    # In a TFLite file the last one has the output's name alone.
    assert all(one.layers for one in products[:-1])
    assert bool(products[-1].layers) == (engine != "tflite")
    for part in ("query", "key", "value"):
        assert f"bert.encoder.layer.0.attention.self.{part}" in layers_of(run)
    assert "bert.encoder.layer.1.output.dense" in layers_of(run)
    assert "bert.encoder.layer.0.attention.output.dense" in layers_of(run)


def test_a_fused_operator_names_all_of_its_layers(found: Measurement) -> None:
    operators = run_of(found, "onnx", "fp32").operators
    assert operators is not None
    (gelu, _) = (one for one in operators.operators if one.type == "BiasGelu")
    place = "bert.encoder.layer.0.intermediate"
    assert set(gelu.layers) == {f"{place}.dense", f"{place}.intermediate_act_fn"}


def test_what_quantises_belongs_to_the_layers_that_it_feeds(found: Measurement) -> None:
    operators = run_of(found, "onnx", "int8").operators
    assert operators is not None
    quantising = [one for one in operators.operators if one.type == "QuantizeLinear"]
    assert quantising
    assert all(one.added for one in quantising)
    place = "bert.encoder.layer.0.attention.self"
    fed = {f"{place}.query", f"{place}.key", f"{place}.value"}
    assert fed in [set(one.layers) for one in quantising]
    assert not any(one.added for one in operators.operators if "MatMul" in one.type)


def test_profiling_leaves_nothing_on_the_board(place: Path) -> None:
    assert (place.parent / "board/.edgeopt").is_dir()
    assert not list((place.parent / "board/.edgeopt").glob("operators-*"))


def test_int8_is_explained_and_the_trace_has_a_track_for_each(place: Path) -> None:
    runner = CliRunner()
    done = runner.invoke(cli, ["explain", f"{place}@onnx,fp32", "@onnx,int8", "--json"])
    assert done.exit_code == 0, done.output
    document = json.loads(done.output)
    assert document["names"] == ["onnx fp32", "onnx int8"]
    assert document["paired"] is True
    assert document["groups"] or document["unknown"]
    assert any("only quantise or scale back" in line for line in document["reasons"])
    trace = place.with_name("trace.json")
    done = runner.invoke(cli, ["trace", str(place), "-o", str(trace)])
    assert done.exit_code == 0, done.output
    events = json.loads(trace.read_text())["traceEvents"]
    tracks = [e["args"]["name"] for e in events if e["name"] == "thread_name"]
    assert [name.partition(",")[0] for name in tracks] == [
        run.name for run in read(place).runs if run.operators
    ]
