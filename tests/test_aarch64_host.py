# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The base install on a machine that is aarch64: the wheel, its dependencies, a user's commands.

The machine is Debian's arm64 userland under qemu-aarch64, with Debian's Python 3.11. Toolchains
(torch and the like) are not tried there: under the emulator they take too long.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import edgeopt
from edgeopt.boards import open_transport
from edgeopt.boards.emulated import lifecycle
from edgeopt.boards.transport import Transport
from edgeopt.engines.fetch import fetch
from edgeopt.engines.releases import find
from edgeopt.errors import BoardError, MissingDependencyError
from edgeopt.target import load_target, target_names
from tests import checkpoints
from tools import debian_python

pytest.importorskip("torch", reason="needs edgeopt[torch]")
pytest.importorskip("transformers", reason="needs edgeopt[torch]")
pytest.importorskip("onnxruntime", reason="needs edgeopt[onnx]")
pytest.importorskip("ziglang", reason="needs edgeopt[cross]")

pytestmark = [pytest.mark.heavy, pytest.mark.board]

ROOT = Path(__file__).parents[1]
NAME = "aarch64-host"
TEXTS = ("the tool for python", "")


class Host:
    """The machine, and how to give it a command; ``home`` is its home directory as seen here."""

    def __init__(self, transport: Transport, home: Path, port: int, key: str) -> None:
        self.transport, self.home, self.port, self.key = transport, home, port, key

    def python(self, *arguments: str) -> str:
        """Run its Python with what is installed there, and return what it printed."""
        command = ["env", "PYTHONPATH=/root/site", "/root/python/usr/bin/python", *arguments]
        done = self.transport.run(command, timeout_s=120)
        assert done.exit_status == 0, done.stderr
        return done.stdout.decode()

    def edgeopt(self, *arguments: str) -> Any:
        return json.loads(self.python("-m", "edgeopt", *arguments, "--json"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The release wheel with its dependencies as for such a machine, and onnxruntime."""
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if uv is None:
        pytest.skip("uv is not installed")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, str(ROOT / "tools" / "wheel.py"), str(folder / "dist")]
    wheel = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[0]
    install = [uv, "pip", "install", "-q", "-p", sys.executable, "--target", str(folder / "site")]
    install += ["--python-platform", "aarch64-manylinux_2_36", "--python-version", "3.11"]
    install += ["--only-binary", ":all:"]
    subprocess.run([*install, wheel], check=True)
    engine = load_target("host").engines[0]
    assert engine.engine == "onnx"
    subprocess.run([*install, "--no-deps", f"onnxruntime=={engine.version}"], check=True)
    return folder / "site"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> edgeopt.Bundle:
    folder = tmp_path_factory.mktemp("bundle")
    return edgeopt.compile(
        checkpoints.write(folder / "tiny"), "raspberry-pi-4", output=folder / "tiny.edgeopt",
        engines=["onnx"], precisions=["fp32"],
    )  # fmt: skip


@pytest.fixture(scope="module")
def host(site: Path, bundle: edgeopt.Bundle) -> Iterator[Host]:
    try:
        entry = lifecycle.up(NAME, load_target("raspberry-pi-4"), mode="user")
    except (BoardError, MissingDependencyError) as exc:
        pytest.skip(f"no user-mode board here: {exc}")
    try:
        home = Path(os.environ["XDG_STATE_HOME"]) / "edgeopt" / "boards" / NAME / "home"
        python = debian_python.root("3.11", "bookworm", "arm64")
        shutil.copytree(python, home / "python", symlinks=True)
        shutil.copytree(site, home / "site")
        shutil.copytree(bundle.path, home / "tiny.edgeopt")
        with open_transport(entry) as transport:
            assert entry.port is not None
            assert entry.key is not None
            yield Host(transport, home, entry.port, entry.key)
    finally:
        lifecycle.forget(NAME)


def test_it_is_such_a_machine(host: Host) -> None:
    code = "import platform, numpy, sys; print(platform.machine(), *sys.version_info[:2])"
    assert host.python("-c", code) == "aarch64 3 11\n"
    assert "compile" in host.python("-m", "edgeopt", "--help")
    shown = host.edgeopt("targets", "show", "host")
    assert shown["target"]["device"]["arch"] == "aarch64"
    assert {t["name"] for t in host.edgeopt("targets")["targets"]} == set(target_names())


def test_a_bundle_is_inspected_verified_packed_and_run(host: Host, bundle: edgeopt.Bundle) -> None:
    assert host.edgeopt("inspect", "tiny.edgeopt")["digest"] == bundle.manifest.digest
    assert host.edgeopt("verify", "tiny.edgeopt", "--hashes-only")["ok"] is True
    host.edgeopt("pack", "tiny.edgeopt", "-o", "tiny.zip")
    answered = host.edgeopt("run", "tiny.zip", *TEXTS)
    assert (answered["engine"], answered["board"]) == ("onnx", None)
    for there, here in zip(answered["results"], edgeopt.read(bundle, TEXTS).results, strict=True):
        scores = {item["label"]: item["score"] for item in there["items"]}
        assert scores == pytest.approx({i.label: i.score for i in here.items}, abs=1e-5)


def test_it_profiles_over_ssh(host: Host, bundle: edgeopt.Bundle) -> None:
    """The board is the machine itself, behind its own sshd."""
    engine = bundle.manifest.artifacts[0]
    kept = fetch(find(engine.engine, engine.engine_version), "aarch64").library.parents[1]
    shutil.copytree(kept, host.home / ".cache/edgeopt/engine" / kept.name)  # no network there
    shutil.copy(host.key, host.home / "key")
    shown = subprocess.run(
        ["ssh-keygen", "-lf", Path(host.key).with_name("host_key.pub")],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    host.edgeopt(
        "board", "add", "self", "--ssh", f"root@127.0.0.1:{host.port}",
        "--key", "key", "--fingerprint", shown.stdout.split()[1],
    )  # fmt: skip
    (run,) = host.edgeopt("profile", "tiny.edgeopt", "--board", "self", "--runs", "2")["runs"]
    assert (run["engine"], run["precision"]) == ("onnx", "fp32")
