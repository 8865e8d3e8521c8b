# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The wheel of ``tools/build-wheel`` in an environment with base dependencies and no compiler."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from edgeopt import cache
from edgeopt.boards.emulated import user_mode
from edgeopt.bundle.manifest import _digest
from tests.runtime.agent_runs import Case, write_model

ROOT = Path(__file__).parents[2]
COMPILERS = ("cc", "gcc", "c99", "c89", "g++", "c++", "clang", "clang++", "zig", "tcc", "cpp")

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.skipif(
        importlib.util.find_spec("ziglang") is None, reason="ziglang is not installed"
    ),
]


def build(folder: Path) -> Path:
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "wheel.py"), str(folder)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    path, size, _ = done.stdout.split()
    assert int(size.replace(",", "")) == Path(path).stat().st_size
    return Path(path)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("setuptools", reason="building a wheel needs setuptools", minversion="77")
    begin = time.monotonic()
    path = build(tmp_path_factory.mktemp("wheel"))
    print(f"{path.name}: {path.stat().st_size:,} bytes in {time.monotonic() - begin:.0f} s")
    return path


class Environment:
    """A virtual environment with the wheel, a PATH without compilers and a cache without builds."""

    def __init__(self, folder: Path, wheel: Path) -> None:
        self.folder = folder
        self.python = folder / "venv" / "bin" / "python"
        subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
        pip = [str(self.python), "-m", "pip", "install", "-q", str(wheel)]
        subprocess.run(pip, check=True, cwd=folder)
        tools = folder / "bin"
        tools.mkdir()
        for place in (
            "/usr/local/sbin",
            "/usr/local/bin",
            "/usr/sbin",
            "/usr/bin",
            "/sbin",
            "/bin",
        ):
            for tool in Path(place).glob("*"):
                is_compiler = tool.name.split("-")[0] in COMPILERS or "-linux-gnu" in tool.name
                if not is_compiler and not (tools / tool.name).exists():
                    (tools / tool.name).symlink_to(tool)
        # What was downloaded stays shared; what was built from C does not.
        (folder / "cache").mkdir()
        for kind in ("userland", "engine", "kernel", "disk"):
            (cache.root() / kind).mkdir(parents=True, exist_ok=True)
            (folder / "cache" / kind).symlink_to(cache.root() / kind)
        kept = {k: v for k, v in os.environ.items() if k.startswith(("PIP_", "SSL_", "XDG_RUN"))}
        self.variables = kept | {
            "PATH": f"{self.python.parent}:{tools}",
            "HOME": str(folder),
            "EDGEOPT_CACHE": str(folder / "cache"),
            "EDGEOPT_CONFIG": str(folder / "config"),
            "XDG_STATE_HOME": str(folder / "state"),
        }

    def run(self, *command: object) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [str(word) for word in command],
            env=self.variables,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    def edgeopt(self, *arguments: object) -> Any:
        program = self.python.parent / "edgeopt"
        return json.loads(self.run(program, *arguments, "--json").stdout)


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return Environment(tmp_path_factory.mktemp("installed"), wheel)


def test_the_same_sources_give_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    before = subprocess.run(["git", "status", "--short"], cwd=ROOT, capture_output=True)
    twins = [hashlib.sha256(path.read_bytes()).digest() for path in (wheel, build(tmp_path))]
    assert twins[0] == twins[1]
    after = subprocess.run(["git", "status", "--short"], cwd=ROOT, capture_output=True)
    assert before.stdout == after.stdout


def test_it_installs_without_a_toolchain_and_helps(installed: Environment) -> None:
    assert "runtime" in installed.run("edgeopt", "--help").stdout
    listed = json.loads(installed.run("pip", "list", "--format", "json").stdout)
    names = {package["name"].lower() for package in listed}
    assert not names & {"ziglang", "torch", "onnx", "onnxruntime", "openvino", "ai-edge-litert"}
    found = installed.run(
        "python", "-c", f"import shutil; print([t for t in {COMPILERS} if shutil.which(t)])"
    )
    assert found.stdout == "[]\n"


def test_the_runtime_comes_out_of_the_wheel(installed: Environment, tmp_path: Path) -> None:
    done = installed.edgeopt("runtime", "build", "--target", "raspberry-pi-4", "-o", tmp_path)
    assert (done["arch"], done["glibc_needed"]) == ("aarch64", "2.17")
    assert (tmp_path / "lib/libedgeopt_rt.so").is_file()
    code = "from edgeopt.runtime.build import *; print(*(build_agent(*p) for p in PLATFORMS))"
    for path in installed.run("python", "-c", code).stdout.split():
        assert "/edgeopt/runtime/prebuilt/" in path
        assert os.access(path, os.X_OK)
    assert not (installed.folder / "cache" / "runtime").exists()


def test_the_carried_library_runs_a_bundle(
    installed: Environment, onnxruntime_library: Path, tmp_path: Path
) -> None:
    case = Case(Path(), onnxruntime_library, tmp_path)
    write_model(case.model)
    code = """
import sys
from edgeopt.runtime.host import open_session
with open_session(sys.argv[1], libraries=sys.argv[2], threads=1) as session:
    session.select(1, 8)
    for name, value in session.inputs().items():
        value[:] = 1
    session.execute()
    print(session.engine, session.outputs()["out"][0, 0].tolist())
"""
    done = installed.run("python", "-c", code, case.write(), onnxruntime_library)
    assert done.stdout == "onnx [1.0, 2.0, 3.0]\n"


@pytest.mark.board
def test_it_profiles_on_an_emulated_board(
    installed: Environment, onnxruntime_library: Path, tmp_path: Path
) -> None:
    if (reason := user_mode.missing()) is not None:
        pytest.skip(f"no user-mode board here: {reason}")
    case = Case(Path(), onnxruntime_library, tmp_path)
    write_model(case.model)
    bundle = case.write()
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["target"] |= {"name": "raspberry-pi-4", "device": "raspberry-pi-4", "arch": "aarch64"}
    manifest["digest"] = _digest(manifest)
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    installed.edgeopt("board", "up", "pi", "--target", "raspberry-pi-4")
    try:
        done = installed.edgeopt("profile", bundle, "--board", "pi", "--runs", "2")
        (run,) = done["runs"]
        assert (run["engine"], run["precision"]) == ("onnx", "fp32")
    finally:
        installed.edgeopt("board", "remove", "pi")
    assert not (installed.folder / "cache" / "runtime").exists()
