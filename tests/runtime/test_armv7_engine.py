# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""A 32-bit Arm board with the onnxruntime that its Debian has: the agent finds it, and agrees."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

import edgeopt
from edgeopt import cache
from edgeopt.boards.emulated import rootfs
from edgeopt.runtime.build import build_runtime
from tests import checkpoints

pytest.importorskip("transformers", reason="needs edgeopt[torch]")
pytest.importorskip("onnxruntime", reason="needs edgeopt[onnx]")
pytest.importorskip("ziglang", reason="needs edgeopt[cross]")

pytestmark = [pytest.mark.heavy, pytest.mark.board]
PACKAGES = ("libc6", "libonnxruntime1.21")


@pytest.fixture(scope="module")
def userland() -> Path:
    """Debian 13 for armhf: the C library and onnxruntime with all that it needs."""
    if shutil.which("qemu-arm") is None:
        pytest.skip("qemu-arm is not installed")

    def build(folder: Path) -> None:
        debs = rootfs.download("trixie", PACKAGES, folder / "apt", "armhf")
        rootfs.unpack(debs, folder / "root")
        shutil.rmtree(folder / "apt")

    return cache.entry("userland", cache.key(suite="trixie", packages=PACKAGES), build) / "root"


def agent(userland: Path, *words: str | Path) -> list[dict[str, Any]]:
    """Run the armv7 agent with QEMU; nothing tells it where a library is."""
    program = build_runtime("armv7").agent
    command = ["qemu-arm", "-L", str(userland), str(program), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True)
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, events or done.stderr[-2000:]
    return events


def test_the_library_is_found_among_the_systems(userland: Path) -> None:
    """It is libonnxruntime.so.1.21, without a link of a shorter name."""
    (found,) = (e for e in agent(userland, "info", "--engine", "onnx") if e["event"] == "engine")
    assert found["version"] == "1.21.0"
    assert found["library"] == "/usr/lib/arm-linux-gnueabihf/libonnxruntime.so.1.21"


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_answers_are_those_of_the_original(userland: Path, precision: str, tmp_path: Path) -> None:
    folder = checkpoints.write(tmp_path / "checkpoint", "BertForSequenceClassification")
    bundle = edgeopt.compile(
        folder, "host", output=tmp_path / "b", engines=["onnx"], precisions=[precision]
    )
    words = ["run", "--bundle", bundle.path, "--engine", "onnx", "--precision", precision]
    events = agent(userland, *words, "--runs", "1", "--warmup", "0")
    assert events[-1] == {"event": "done", "outputs_agree": True}
    golden = [event for event in events if event["event"] == "golden"]
    assert {e["directory"] for e in golden} > {"golden/texts.json"}
    assert min(e["cosine"] for e in golden) > (0.9999 if precision == "fp32" else 0.98)
