# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Which engines of a target run an .onnx file, and what is told of one that does not."""

import json
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeopt.errors import InputError
from edgeopt.support import inspect
from edgeopt.support.report import Operator, Support
from edgeopt.target import load_target
from tests.model.test_onnx_file import graph, quantised

onnx = pytest.importorskip("onnx", reason="needs edgeopt[onnx]")
pytest.importorskip("onnxruntime", reason="needs edgeopt[onnx]")

pytestmark = pytest.mark.heavy

Kind = onnx.TensorProto
node = onnx.helper.make_node


def image(folder: Path, nodes: Sequence[Any], *, opset: int = 17, **arrays: np.ndarray) -> Path:
    """Write a file from pixels (n, 3, height, width) to y, of no task that edgeopt knows."""
    ports = [
        onnx.helper.make_tensor_value_info("pixels", Kind.FLOAT, ["n", 3, "h", "w"]),
        onnx.helper.make_tensor_value_info("y", Kind.FLOAT, None),
    ]
    made = onnx.helper.make_graph(
        nodes,
        "image",
        ports[:1],
        ports[1:],
        [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    opsets = [onnx.helper.make_opsetid(*it) for it in (("", opset), ("com.microsoft", 1))]
    path = folder / "image.onnx"
    onnx.save(onnx.helper.make_model(made, opset_imports=opsets, ir_version=8), path)
    return path


def asked(path: Path, *engines: str, target: str = "host") -> Support:
    return inspect(path, load_target(target), engines)


def test_a_file_that_compile_takes_is_tried_on_a_text(tmp_path: Path) -> None:
    onnx.save(graph(opset=20, ir=10), tmp_path / "model.onnx")
    found = asked(tmp_path, "onnx", target="jetson-nano")
    assert (found.runs, found.task, found.refusal) == (True, "token-classification", "")
    assert found.inputs == ("input_ids int64 (batch, seq)", "attention_mask int64 (batch, seq)")
    assert found.operators["Gather"] == 3
    (engine,) = found.engines
    assert (engine.stage, engine.operators) == ("agrees", ())
    assert (engine.needs, engine.takes) == (
        {"opset": 20, "ir_version": 10},
        {"opset": 17, "ir_version": 8},
    )
    assert engine.version == "1.27.0"
    assert engine.tried is not None


def test_a_file_of_another_kind_is_tried_on_made_up_inputs(tmp_path: Path) -> None:
    found = asked(image(tmp_path, [node("GlobalAveragePool", ["pixels"], ["y"])]), "onnx")
    assert (found.runs, found.task) == (True, None)
    assert found.refusal == "input pixels is float32 with 4 dimensions; expected int64 (batch, seq)"
    assert found.hint.startswith("A model of images is imported from its checkpoint")
    assert found.tried_as.startswith("as it came, on made-up inputs (free dimensions 8)")


def test_the_nodes_that_cannot_be_lowered_are_named(tmp_path: Path) -> None:
    nodes = [
        node("Cast", ["pixels"], ["whole"], to=Kind.INT32),
        node("BitwiseNot", ["whole"], ["a"], name="/flip"),
        node("BitwiseNot", ["a"], ["b"], name="/flip_back"),
        node("Cast", ["b"], ["y"], to=Kind.FLOAT),
    ]
    found = asked(image(tmp_path, nodes, opset=18), "onnx")
    (engine,) = found.engines
    assert not found.runs
    assert engine.reason == (
        "opset 18 cannot be rewritten as opset 17 (BitwiseNot: /flip, /flip_back)"
    )
    assert engine.hint == "Export it again at opset 17 or lower."
    assert engine.operators == (
        Operator(
            name="BitwiseNot",
            nodes=("/flip", "/flip_back"),
            count=2,
            stage="refused",
            reason="opset 18 cannot be rewritten as opset 17 (BitwiseNot: /flip)",
            hint="Export it again at opset 17 or lower.",
        ),
    )


def test_an_operator_that_nobody_knows_is_named(tmp_path: Path) -> None:
    nodes = [
        node("Relu", ["pixels"], ["a"]),
        node("Sharpen", ["a"], ["y"], domain="com.microsoft", name="/sharpen"),
    ]
    found = asked(image(tmp_path, nodes), "onnx")
    (engine,) = found.engines
    assert found.tried_as == (
        "as it came; onnxruntime does not run it here, so no answers are compared"
    )
    assert "com.microsoft:Sharpen(-1) is not a registered function/op" in engine.reason
    (operator,) = engine.operators
    assert (operator.name, operator.nodes) == ("com.microsoft.Sharpen", ("/sharpen",))
    assert operator.hint == (
        "Export it again in ONNX's own operators, without com.microsoft.Sharpen."
    )


def test_an_operator_that_an_engine_computes_otherwise_is_found(tmp_path: Path) -> None:
    """OpenVINO takes the Tanh of FusedGemm for a Relu (findings)."""
    if find_spec("openvino") is None:
        pytest.skip("needs edgeopt[openvino]")
    nodes = [
        node("GlobalAveragePool", ["pixels"], ["pooled"]),
        node("Flatten", ["pooled"], ["flat"]),
        node("FusedGemm", ["flat", "w", "b"], ["y"], domain="com.microsoft", name="/pooler/dense",
             activation="Tanh"),
    ]  # fmt: skip
    arrays = {"w": np.eye(3, dtype=np.float32), "b": np.full(3, -0.5, np.float32)}
    found = asked(image(tmp_path, nodes, **arrays), "openvino")
    (engine,) = found.engines
    assert engine.stage == "differs"
    (operator,) = engine.operators
    assert (operator.name, operator.nodes) == ("com.microsoft.FusedGemm", ("/pooler/dense",))
    assert operator.stage == "differs"
    assert operator.hint.startswith("Export it again without com.microsoft.FusedGemm, or leave")


def test_an_operator_that_an_importer_lacks_is_found(tmp_path: Path) -> None:
    pytest.importorskip("tvm", reason="needs edgeopt[tvm]")
    nodes = [
        node("Flatten", ["pixels"], ["flat"], name="/flatten"),
        node("Det", ["pixels"], ["y"], name="/determinant"),
    ]
    (engine,) = asked(image(tmp_path, nodes), "tvm").engines
    (operator,) = engine.operators
    assert (operator.name, operator.nodes) == ("Det", ("/determinant",))
    assert "not supported for frontend ONNX: Det" in operator.reason


@pytest.mark.filterwarnings("ignore")
def test_what_is_quantised_runs_and_compile_says_why_it_refuses(tmp_path: Path) -> None:
    path = tmp_path / "tiny.onnx"
    onnx.save(graph(), path)
    quantised(path, "QDQ")
    found = asked(path, "onnx")
    assert found.runs
    assert found.refusal.startswith("is quantised already (")
    assert found.hint.startswith("Give the FP32 file")


def test_tflite_is_made_of_a_checkpoint(tmp_path: Path) -> None:
    onnx.save(graph(), tmp_path / "model.onnx")
    (engine,) = asked(tmp_path, "tflite").engines
    assert (engine.runs, engine.hint) == (
        False,
        "Compile the checkpoint that the file was exported from.",
    )


def test_an_engine_that_the_target_has_not_is_an_error(tmp_path: Path) -> None:
    onnx.save(graph(), tmp_path / "model.onnx")
    with pytest.raises(InputError, match="jetson-nano has no engine tflite; it has onnx, tvm"):
        asked(tmp_path, "tflite", target="jetson-nano")


@pytest.mark.parametrize("name", ["model.pb", "model.onnx"])
def test_what_is_no_such_file_is_an_error(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"nothing of the kind")
    with pytest.raises(InputError, match=r"expected \.onnx|is damaged, cut short, or not"):
        asked(tmp_path / name, "onnx")


def edgeopt(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "edgeopt", *words], capture_output=True, text=True)


def test_the_command_exits_with_0_if_all_that_were_asked_run_it(tmp_path: Path) -> None:
    path = tmp_path / "tiny.onnx"
    onnx.save(graph(opset=20, ir=10), path)
    found = edgeopt("inspect", str(path), "--target", "host", "--engine", "onnx")
    assert found.returncode == 0
    assert "compile   takes it, for token-classification" in found.stdout
    assert "runs, with the file's own answers" in found.stdout
    assert "rewritten for it: opset 20 as 17, ir_version 10 as 8" in found.stdout


def test_the_command_exits_with_1_if_one_does_not(tmp_path: Path) -> None:
    path = tmp_path / "tiny.onnx"
    onnx.save(graph(), path)
    words = ("inspect", str(path), "-t", "host", "-e", "onnx", "-e", "tflite")
    found = edgeopt(*words, "--json")
    assert found.returncode == 1
    document = json.loads(found.stdout)
    assert document["runs"] is False
    assert [(e["engine"], e["runs"]) for e in document["engines"]] == [
        ("onnx", True),
        ("tflite", False),
    ]
    assert "tflite 2.3.0: DOES NOT OPEN IT" in edgeopt(*words).stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("bundle", "--engine", "onnx"), "error: --engine belongs to --target"),
        (("model.onnx",), "error: model.onnx: is a model's file, not a bundle"),
    ],
)
def test_a_model_needs_a_target(words: tuple[str, ...], said: str) -> None:
    found = edgeopt("inspect", *words)
    assert found.returncode == 2
    assert said in found.stderr
