# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Every engine of the runtime, driven from C: all bindings of one model, from files and memory."""

import importlib.util
import platform
from pathlib import Path

import pytest

from edgeopt.engines.fetch import fetch
from edgeopt.engines.releases import find
from edgeopt.target import load_target
from tests.runtime.compiled import ARCHITECTURES, Compiled, lower
from tests.runtime.engine_runs import Call, Drive, build_driver, call_of

pytest.importorskip("torch", reason="needs edgeopt[torch]")
pytest.importorskip("transformers", reason="needs edgeopt[torch]")

pytestmark = pytest.mark.heavy

_MODULES = {
    "onnx": "onnxruntime",
    "openvino": "openvino",
    "tflite": "litert_torch",
    "tvm": "tvm",
}
# OpenVINO's library does not start under the address sanitizer.
_SANITIZERS = {"openvino": "undefined"}


@pytest.fixture(scope="module", params=_MODULES)
def engine(request: pytest.FixtureRequest) -> str:
    module = _MODULES[request.param]
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed")
    return request.param


@pytest.fixture(scope="module")
def driver(engine: str) -> Path:
    return build_driver(_SANITIZERS.get(engine, "address,undefined"))


@pytest.fixture(scope="module")
def library(engine: str) -> Path:
    """The engine's library as a board gets it."""
    (spec,) = (spec for spec in load_target("host").engines if spec.engine == engine)
    return fetch(find(engine, spec.version), platform.machine()).library


@pytest.fixture(scope="module")
def lowered(engine: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Compiled]:
    return {name: lower(engine, name, tmp_path_factory.mktemp(engine)) for name in ARCHITECTURES}


@pytest.fixture(params=ARCHITECTURES)
def compiled(lowered: dict[str, Compiled], request: pytest.FixtureRequest) -> Compiled:
    return lowered[request.param]


@pytest.mark.parametrize("mapped", [False, True], ids=["path", "memory"])
def test_bindings_of_one_model_take_turns(
    driver: Path, library: Path, compiled: Compiled, mapped: bool, tmp_path: Path
) -> None:
    drive = Drive(driver, compiled.engine, library, tmp_path)
    drive.artifact(list(compiled.files), mapped, compiled.options)
    for seq_len in (8, 16, 8):
        drive.bind(call_of(compiled, seq_len))
    drive.run(0, 2).run(1).run(2).run(0).run(1, 2)
    drive.say("unbind", "0").run(2).done()
    for binding in range(3):
        errors = drive.errors(binding)
        assert set(errors) == set(compiled.outputs)
        assert max(errors.values()) < 1e-4, (binding, errors)


def test_two_models_in_memory_do_not_meet(
    driver: Path, library: Path, lowered: dict[str, Compiled], tmp_path: Path
) -> None:
    first, second = lowered.values()
    drive = Drive(driver, second.engine, library, tmp_path)
    drive.artifact(list(first.files), True, first.options).say("beside")
    drive.artifact(list(second.files), True, second.options)
    drive.bind(call_of(second, 8)).run(0).done()
    assert max(drive.errors(0).values()) < 1e-4


def test_a_run_takes_the_threads_that_it_was_given(
    driver: Path, library: Path, compiled: Compiled, tmp_path: Path
) -> None:
    def threads(asked: int) -> int:
        drive = Drive(driver, compiled.engine, library, tmp_path, threads=asked)
        drive.artifact(list(compiled.files), False, compiled.options)
        lines = drive.bind(call_of(compiled, 16)).run(0, 3).say("status").done()
        (found,) = (line for line in lines if line.startswith("Threads:"))
        return int(found.split()[1])

    assert threads(2) - threads(1) == 1


def test_what_is_wrong_is_named(
    driver: Path, library: Path, compiled: Compiled, tmp_path: Path
) -> None:
    def failure(files: list[Path], mapped: bool, library: Path | str, **options: str) -> str:
        drive = Drive(driver, compiled.engine, library, tmp_path)
        drive.artifact(files, mapped, compiled.options | options)
        return drive.bind(call_of(compiled, 8)).failure()

    files = list(compiled.files)
    assert failure(files, False, "libm.so.6").startswith(
        "libtvm_ffi.so: cannot be loaded" if compiled.engine == "tvm" else "libm.so.6: has no "
    )
    absent = tmp_path / "absent.model"
    assert absent.name in failure([absent, *files[1:]], False, library)
    damaged = tmp_path / files[0].name
    # A shared library that ends too soon kills the system's loader itself.
    damaged.write_bytes(b"notes" * 99 if compiled.engine == "tvm" else files[0].read_bytes()[:999])
    for mapped in (False, True):
        assert damaged.name in failure([damaged, *files[1:]], mapped, library)
    assert "speed" in failure(files, False, library, speed="1")


@pytest.mark.parametrize("engine", ["openvino"], indirect=True)
def test_shapes_that_do_not_fit_inside_an_openvino_model_are_told(
    driver: Path, library: Path, engine: str, tmp_path: Path
) -> None:
    """With one thread OpenVINO says nothing, and leaves the results of the run before."""
    import numpy as np
    import onnx
    import openvino

    ids = onnx.helper.make_tensor_value_info("input_ids", 7, ["batch", "seq"])
    logits = onnx.helper.make_tensor_value_info("logits", 1, ["batch", 3])
    generator = np.random.default_rng(0)
    tables = {
        name: generator.normal(size=shape).astype(np.float32)
        for name, shape in {"words": (50, 8), "positions": (1, 16, 8), "weight": (8, 3)}.items()
    }
    nodes = [
        onnx.helper.make_node("Gather", ["words", "input_ids"], ["found"]),
        onnx.helper.make_node("Add", ["found", "positions"], ["placed"]),
        onnx.helper.make_node("MatMul", ["placed", "weight"], ["products"]),
        onnx.helper.make_node("ReduceMean", ["products"], ["logits"], axes=[1], keepdims=0),
    ]
    constants = [onnx.numpy_helper.from_array(value, name) for name, value in tables.items()]
    graph = onnx.helper.make_graph(nodes, "of 16 tokens", [ids], [logits], constants)
    opsets = [onnx.helper.make_opsetid("", 17)]
    onnx.save(
        onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8),
        tmp_path / "model.onnx",
    )
    openvino.save_model(openvino.convert_model(tmp_path / "model.onnx"), tmp_path / "model.xml")

    def call(seq_len: int) -> Call:
        given = np.arange(seq_len)[None]
        answer = (tables["words"][given] + tables["positions"][:, :seq_len]) @ tables["weight"]
        return Call(inputs={"input_ids": given}, outputs={"logits": answer.mean(1)})

    files = [tmp_path / "model.xml", tmp_path / "model.bin"]
    for order in ((16, 8), (8, 16)):
        drive = Drive(driver, engine, library, tmp_path)
        drive.artifact(files, False, {"INFERENCE_PRECISION_HINT": "f32"})
        for seq_len in order:
            drive.bind(call(seq_len)).run(order.index(seq_len))
        assert drive.failure().endswith(
            "logits: OpenVINO gave no result: shapes inside the model do not fit this input"
        )
