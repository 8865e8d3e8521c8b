# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""``edgeopt runtime`` as a user types it."""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edgeopt._version import __version__
from edgeopt.engines.elf import read_needs
from edgeopt.runtime.build import NOTICES
from tests import commands

ROOT = Path(__file__).parents[2]
FILES = {
    "include/edgeopt_rt.h",
    "lib/libedgeopt_rt.so",
    "bin/edgeopt-agent",
    "python/edgeopt_pool.py",
    "python/edgeopt_rt.py",
    "ABI.md",
    *NOTICES,
}

needs_zig = pytest.mark.skipif(
    importlib.util.find_spec("ziglang") is None, reason="ziglang is not installed"
)


def edgeopt(*arguments: object) -> subprocess.CompletedProcess[str]:
    return commands.edgeopt("runtime", *arguments)


def document(*arguments: object, status: int = 0) -> Any:
    done = edgeopt(*arguments, "--json")
    assert done.returncode == status, done.stderr
    return json.loads(done.stdout)


@needs_zig
def test_a_targets_runtime_in_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "rt"
    done = document("build", "--target", "raspberry-pi-4", "-o", folder)
    assert {"folder", "arch", "libc", "glibc_needed", "libraries_needed", "files"} == done.keys()
    assert (done["arch"], done["libc"], done["glibc_needed"]) == ("aarch64", "glibc", "2.17")
    assert set(done["files"]) >= FILES
    for name, size in done["files"].items():
        assert (folder / name).stat().st_size == size
    for name in NOTICES:
        assert (folder / name).read_bytes() == (ROOT / name).read_bytes()
    assert os.access(folder / "bin/edgeopt-agent", os.X_OK)
    assert read_needs(folder / "lib/libedgeopt_rt.so").arch == "aarch64"
    (folder / "ABI.md").write_text("old")
    again = edgeopt("build", "--target", "raspberry-pi-4", "-o", folder)
    assert again.stdout.splitlines()[-1] == "for aarch64, needs glibc 2.17 or newer"
    assert (folder / "ABI.md").read_text() != "old"


@needs_zig
def test_the_binding_finds_the_library_of_its_folder(tmp_path: Path) -> None:
    document("build", "--arch", os.uname().machine, "-o", tmp_path)
    code = "import edgeopt_rt; print(edgeopt_rt._load(None).eo_version().decode())"
    environment = {k: v for k, v in os.environ.items() if k != "EDGEOPT_RT"}
    done = subprocess.run(
        [sys.executable, "-B", "-c", code],
        env=environment | {"PYTHONPATH": str(tmp_path / "python")},
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.stdout == f"{__version__}\n", done.stderr


@pytest.mark.heavy
@needs_zig
def test_musl_and_one_engine(tmp_path: Path) -> None:
    document("build", "--arch", "x86_64", "--engine", "onnx", "-o", tmp_path / "one")
    whole = document("build", "--arch", "x86_64", "-o", tmp_path / "all")
    one, every = (tmp_path / name / "lib/libedgeopt_rt.so" for name in ("one", "all"))
    assert one.stat().st_size < every.stat().st_size
    assert ctypes.CDLL(str(one)).eo_abi_version() == 1
    assert whole["glibc_needed"] == "2.17"
    musl = document("build", "--arch", "x86_64", "--libc", "musl", "-o", tmp_path / "musl")
    assert (musl["libc"], musl["glibc_needed"], musl["libraries_needed"]) == ("musl", None, [
        "libc.so"
    ])  # fmt: skip


@pytest.mark.parametrize(
    ("target", "tool"), [("pixel-8", "Android's NDK (CMake)"), ("iphone-13", "Xcode")]
)
def test_a_phones_app_builds_it_itself(tmp_path: Path, target: str, tool: str) -> None:
    error = document("build", "--target", target, "-o", tmp_path / "rt", status=2)["error"]
    assert error["where"] == target
    assert "whose apps compile their own native code" in error["message"]
    assert error["hint"] == (
        "Write the sources with `edgeopt runtime export DIR` and build them with "
        f"{tool} as part of the app."
    )
    assert not (tmp_path / "rt").exists()


def test_wrong_input(tmp_path: Path) -> None:
    unknown = document("build", "--target", "raspbery-pi-4", "-o", tmp_path, status=2)["error"]
    assert unknown["message"].startswith("unknown target 'raspbery-pi-4'")
    neither = document("build", "-o", tmp_path, status=2)["error"]
    assert neither["message"] == "expected one of --target and --arch"
    (tmp_path / "main.c").touch()
    foreign = document("build", "--arch", "aarch64", "-o", tmp_path, status=2)["error"]
    assert foreign["message"] == "holds main.c, which is not of an earlier run"
    assert foreign["where"] == str(tmp_path)
    file = document("build", "--arch", "aarch64", "-o", tmp_path / "main.c", status=2)["error"]
    assert file["message"] == "is a file, expected a folder"


@pytest.mark.heavy
def test_export_writes_two_files_and_what_builds_them(tmp_path: Path) -> None:
    done = document("export", tmp_path / "rt")
    assert set(done["files"]) == {
        "edgeopt_rt.c",
        "edgeopt_rt.h",
        "CMakeLists.txt",
        "README.md",
        "ABI.md",
        *NOTICES,
    }
    for name in NOTICES:
        assert (tmp_path / "rt" / name).read_bytes() == (ROOT / name).read_bytes()
        assert not (tmp_path / "rt" / name).is_symlink()
