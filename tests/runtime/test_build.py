# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess

import pytest

from edgeopt.engines.elf import read_needs, version_key
from edgeopt.errors import InputError
from edgeopt.runtime.build import build_agent, build_runtime

needs_zig = pytest.mark.skipif(
    importlib.util.find_spec("ziglang") is None, reason="ziglang is not installed"
)


@needs_zig
@pytest.mark.parametrize("arch", ["aarch64", "x86_64", "armv7"])
def test_it_starts_on_old_boards_and_is_small(arch: str) -> None:
    path = build_agent(arch)
    needs = read_needs(path)
    assert needs.arch == arch
    assert needs.glibc is not None
    assert version_key(needs.glibc) <= (2, 17)
    assert needs.glibcxx is None
    assert set(needs.libraries) <= {"libc.so.6", "libm.so.6", "libdl.so.2"}
    assert build_agent(arch) == path
    generates = build_runtime(arch).generation_agent
    assert read_needs(generates) == needs
    for program, most in ((path, 180_000), (generates, 182_000)):
        size = program.stat().st_size
        print(f"{program.name} for {arch}: {size} bytes")
        assert size < most


@needs_zig
@pytest.mark.heavy
def test_a_static_agent_tells_the_emulated_core() -> None:
    qemu = shutil.which("qemu-aarch64")
    if qemu is None:
        pytest.skip("qemu-aarch64 (qemu-user) is not installed")
    path = build_agent("aarch64", "musl")
    assert read_needs(path).libraries == ()
    features = {}
    for core in ("cortex-a72", "cortex-a76"):
        done = subprocess.run(
            [qemu, "-cpu", core, str(path), "info"], capture_output=True, text=True, check=True
        )
        cpu = json.loads(done.stdout.splitlines()[1])
        assert (cpu["event"], cpu["arch"]) == ("cpu", "aarch64")
        features[core] = set(cpu["features"])
    assert {"fp", "asimd", "crc32"} <= features["cortex-a72"]
    assert "asimddp" not in features["cortex-a72"]
    assert {"asimddp", "asimdhp", "atomics"} <= features["cortex-a76"]


def test_an_unknown_combination_is_refused() -> None:
    with pytest.raises(InputError, match="the runtime is not built for riscv64 with glibc"):
        build_agent("riscv64")
    with pytest.raises(InputError, match="musl has no versions to build against"):
        build_agent("aarch64", "musl", "1.2")


def test_an_unknown_engine_is_refused() -> None:
    with pytest.raises(InputError, match="unknown engine 'ncnn' \\(known: onnx, tflite, openvino"):
        build_runtime("aarch64", engines=("ncnn",))
