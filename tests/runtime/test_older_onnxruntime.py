# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The oldest onnxruntime that a board gets runs what targets ask for: opset 17, IR 8."""

import platform
from pathlib import Path

import pytest

from edgeopt.engines.fetch import fetch
from edgeopt.engines.releases import find
from tests.runtime.compiled import ARCHITECTURES, lower
from tests.runtime.engine_runs import Drive, build_driver, call_of

pytest.importorskip("torch", reason="needs edgeopt[torch]")
pytest.importorskip("onnxruntime", reason="needs edgeopt[onnx]")

pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module")
def driver() -> Path:
    return build_driver("address,undefined")


@pytest.mark.parametrize(
    ("version", "precision"),
    [("1.14.0", "fp32"), ("1.14.0", "int8"), ("1.21.0", "int8")],  # the last: attention is a node
)
def test_an_older_one_answers_as_the_newest(
    driver: Path, version: str, precision: str, tmp_path: Path
) -> None:
    """In FP32 as PyTorch, in INT8 as the newest onnxruntime in Python."""
    arch = platform.machine()
    library = fetch(find("onnx", version, arch), arch).library
    compiled = lower("onnx", ARCHITECTURES[0], tmp_path, precision, version=version)
    drive = Drive(driver, "onnx", library, tmp_path)
    drive.artifact(list(compiled.files), True, compiled.options)
    for seq_len in (16, 8):
        drive.bind(call_of(compiled, seq_len))
    lines = drive.run(0).run(1).done()
    assert lines[0] == f"version {version}"
    assert max(*drive.errors(0).values(), *drive.errors(1).values()) < 1e-5
