# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The TFLite engine of the runtime, driven from C: INT8, its threads, and what it refuses."""

import platform
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from edgeopt.boards.emulated.rootfs import userland
from edgeopt.engines.fetch import fetch
from edgeopt.engines.releases import find
from tests import tflite_files
from tests.lazily import lazily
from tests.runtime.compiled import ARCHITECTURES, Compiled, lower
from tests.runtime.engine_runs import Call, Drive, build_driver, build_driver_aarch64, call_of

pytest.importorskip("torch", reason="needs edgeopt[torch]")
pytest.importorskip("transformers", reason="needs edgeopt[torch]")
lazily("litert_torch", reason="needs edgeopt[tflite]")

pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module")
def driver() -> Path:
    return build_driver("address,undefined")


@pytest.fixture(scope="module")
def library() -> Path:
    """LiteRT's library as a board gets it."""
    return fetch(find("tflite", "2.3.0"), platform.machine()).library


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    return lower("tflite", ARCHITECTURES[1], tmp_path_factory.mktemp("tflite"))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_int8_agrees_with_litert_in_python(
    driver: Path, library: Path, architecture: str, tmp_path: Path
) -> None:
    compiled = lower("tflite", architecture, tmp_path, "int8")
    drive = Drive(driver, "tflite", library, tmp_path).artifact([compiled.model], True, {})
    for seq_len in (16, 8):
        drive.bind(call_of(compiled, seq_len))
    lines = drive.run(0).run(1).run(0).done()
    assert lines[0] == "version 2.3+"
    results = [line for line in lines if line.startswith("result")]
    assert all(line.endswith("in place") for line in results)  # no output is copied
    assert max(*drive.errors(0).values(), *drive.errors(1).values()) < 1e-5


def in_8_bits(folder: Path) -> tuple[Path, Call]:
    """Return a file of others with uint8 in and int8 out and a free batch, and a call of it."""
    content = tflite_files.images(
        given=(tflite_files.Type.UINT8, (1 / 64, 128)),
        gives=(tflite_files.Type.INT8, (0.05, -3)),
        batch=-1,
    )
    path = folder / "own.tflite"
    path.write_bytes(content)
    stored = np.random.default_rng(0).integers(0, 256, (1, tflite_files.SIDE, tflite_files.SIDE, 3))
    numbers = tflite_files.ask(content, "serving_default", {"pixel_values": stored})["logits"]
    return path, Call(
        inputs={"pixel_values": ((stored - 128) / 64).astype(np.float32)},
        outputs={"logits": (numbers.astype(np.float32) + 3) * np.float32(0.05)},
    )


def test_tensors_in_8_bits_are_float32_to_the_caller(
    driver: Path, library: Path, tmp_path: Path
) -> None:
    model, call = in_8_bits(tmp_path)
    drive = Drive(driver, "tflite", library, tmp_path).artifact([model], True, {}).bind(call)
    drive.run(0, 2).say("unbind", "0").done()
    assert drive.errors(0)["logits"] < 1e-6


@pytest.mark.board
def test_an_older_library_takes_tensors_in_8_bits(tmp_path: Path) -> None:
    pytest.importorskip("ziglang", reason="needs edgeopt[cross]")
    qemu = shutil.which("qemu-aarch64")
    if qemu is None:
        pytest.skip("qemu-aarch64 (qemu-user) is not installed")
    model, call = in_8_bits(tmp_path)
    drive = Drive(
        build_driver_aarch64(),
        "tflite",
        fetch(find("tflite", "2.1.0"), "aarch64").library,
        tmp_path,
        emulator=(qemu, "-cpu", "cortex-a72", "-L", str(userland("bullseye"))),
    ).artifact([model], True, {})
    drive.bind(call).run(0).run(0).done()
    assert drive.errors(0)["logits"] < 1e-6


@pytest.mark.board
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_an_older_library_agrees_on_debian_11(precision: str, tmp_path: Path) -> None:
    """The other C interface, which no x86_64 library has: a core and a userland are emulated."""
    pytest.importorskip("ziglang", reason="needs edgeopt[cross]")
    qemu = shutil.which("qemu-aarch64")
    if qemu is None:
        pytest.skip("qemu-aarch64 (qemu-user) is not installed")
    compiled = lower("tflite", ARCHITECTURES[0], tmp_path, precision)
    old = fetch(find("tflite", "2.1.0"), "aarch64").library
    drive = Drive(
        build_driver_aarch64(),
        "tflite",
        old,
        tmp_path,
        emulator=(qemu, "-cpu", "cortex-a72", "-L", str(userland("bullseye"))),
    ).artifact([compiled.model], True, {})
    for seq_len in (16, 8, 16):
        drive.bind(call_of(compiled, seq_len))
    lines = drive.run(0).run(1).run(2).run(0).say("unbind", "0").run(2).done()
    assert lines[0].startswith("version 2.21.0")
    for binding in range(3):
        assert max(drive.errors(binding).values()) < 1e-4
    drive.words[1] = str(tmp_path / "damaged.tflite")
    Path(drive.words[1]).write_bytes(compiled.model.read_bytes()[:3000])
    assert drive.failure().startswith("damaged.tflite: is not a sound .tflite file (")


def failure(
    driver: Path, library: Path | str, model: Path, call: Call, folder: Path, mapped: bool = False
) -> str:
    return (
        Drive(driver, "tflite", library, folder).artifact([model], mapped, {}).bind(call).failure()
    )


def test_a_wrong_library_is_named(driver: Path, compiled: Compiled, tmp_path: Path) -> None:
    call = call_of(compiled, 8)
    assert failure(driver, "libm.so.6", compiled.model, call, tmp_path) == (
        "libm.so.6: has no LiteRtCreateEnvironment: it is not LiteRT's library of 2.1.6 or newer"
    )
    notes = tmp_path / "notes.so"
    notes.write_text("not a library")
    assert failure(driver, notes, compiled.model, call, tmp_path).startswith(
        f"{notes}: cannot be loaded ({notes}: "
    )


def test_a_library_of_an_older_interface_is_not_called(
    driver: Path, compiled: Compiled, tmp_path: Path
) -> None:
    """2.1.5 and older have functions of the same names that take other arguments."""
    source = tmp_path / "old.c"
    source.write_text(
        "".join(
            f"void {name}(void) {{}}\n"
            for name in (
                "LiteRtCreateEnvironment",
                "LiteRtDestroyEnvironment",
                "LiteRtCreateModelFromBuffer",
            )
        )
    )
    old = tmp_path / "libLiteRt.so"
    subprocess.run(["gcc", "-shared", "-fPIC", str(source), "-o", str(old)], check=True)
    assert failure(driver, old, compiled.model, call_of(compiled, 8), tmp_path) == (
        f"{old}: has no LiteRtCreateModelFromFd: it is not LiteRT's library of 2.1.6 or newer"
    )


@pytest.mark.parametrize("mapped", [False, True], ids=["path", "memory"])
@pytest.mark.parametrize("kept", [0.0, 0.3, 0.99])
def test_a_damaged_model_is_refused(
    driver: Path, library: Path, compiled: Compiled, tmp_path: Path, kept: float, mapped: bool
) -> None:
    content = compiled.model.read_bytes()
    damaged = tmp_path / "damaged.tflite"
    damaged.write_bytes(content[: int(len(content) * kept)] or b"PK\x03\x04 not a model at all")
    found = failure(driver, library, damaged, call_of(compiled, 8), tmp_path, mapped)
    assert found.startswith("damaged.tflite: "), found


def test_an_absent_model_is_named(
    driver: Path, library: Path, compiled: Compiled, tmp_path: Path
) -> None:
    absent = tmp_path / "absent.tflite"
    found = failure(driver, library, absent, call_of(compiled, 8), tmp_path)
    assert found == f"{absent}: cannot be opened (No such file or directory)"


def test_an_option_is_refused(
    driver: Path, library: Path, compiled: Compiled, tmp_path: Path
) -> None:
    drive = Drive(driver, "tflite", library, tmp_path)
    drive.artifact([compiled.model], False, {"delegate": "gpu"}).bind(call_of(compiled, 8))
    assert drive.failure() == "delegate: unknown option of engine tflite (known: operators)"


def test_a_shape_without_a_signature_is_refused(
    driver: Path, library: Path, compiled: Compiled, tmp_path: Path
) -> None:
    call = call_of(compiled, 8)
    longer = Call(
        inputs={name: np.repeat(value, 3, axis=1) for name, value in call.inputs.items()},
        outputs=call.outputs,
    )
    found = failure(driver, library, compiled.model, longer, tmp_path)
    assert found == (
        "input_ids: the artifact has no signature for (1, 24), expected one of (1, 8), (1, 16)"
    )
    wrong = Call(inputs=call.inputs, outputs={n: v[:, :7] for n, v in call.outputs.items()})
    assert "is float32 (1, 8) in the artifact, expected float32 (1, 7)" in failure(
        driver, library, compiled.model, wrong, tmp_path
    )
