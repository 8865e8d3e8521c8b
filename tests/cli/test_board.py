# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""``edgeopt board`` as a user types it."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from edgeopt.boards import registry
from edgeopt.boards.address import fingerprint
from edgeopt.boards.emulated import lifecycle, user_mode
from tests import commands


def edgeopt(*arguments: str) -> subprocess.CompletedProcess[str]:
    return commands.edgeopt("board", *arguments)


def document(*arguments: str, status: int = 0) -> Any:
    done = edgeopt(*arguments, "--json")
    assert done.returncode == status, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGEOPT_CONFIG", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    # Python finds ~/.ssh by HOME; what is cached stays shared.
    monkeypatch.setenv("EDGEOPT_CACHE", os.environ.get("EDGEOPT_CACHE") or _cache())
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def _cache() -> str:
    from edgeopt import cache

    return str(cache.root())


def test_the_list_always_holds_this_machine() -> None:
    assert [b["name"] for b in document("list")["boards"]] == ["host"]
    assert edgeopt("list").stdout.splitlines()[1].split() == ["host", "local"]


def test_a_typing_error_is_told_once_and_as_json() -> None:
    registry.save(registry.BoardEntry(name="kitchen", kind="ssh", user="pi", host="kitchen.lan"))
    done = edgeopt("down", "kichen")
    assert done.returncode == 2
    assert "no board is called 'kichen'; did you mean 'kitchen'?" in done.stderr
    assert done.stdout == ""
    error = document("remove", "kichen", status=2)["error"]
    assert error["kind"] == "InputError"
    assert error["exit_code"] == 2


def test_a_real_board_is_not_stopped_from_here_but_forgotten() -> None:
    registry.save(registry.BoardEntry(name="kitchen", kind="ssh", user="pi", host="kitchen.lan"))
    assert "only an emulated board can be stopped" in edgeopt("down", "kitchen").stderr
    assert document("remove", "kitchen") == {"removed": "kitchen"}
    assert registry.get("kitchen") is None
    assert "always there" in edgeopt("remove", "host").stderr


def test_an_address_that_is_none() -> None:
    done = edgeopt("add", "kitchen", "--ssh", "pi@")
    assert done.returncode == 2
    assert "--ssh: 'pi@' is not user@host or user@host:port" in done.stderr


def test_a_target_that_does_not_exist_is_told_before_anything_is_asked() -> None:
    done = edgeopt("add", "kitchen", "--ssh", "pi@127.0.0.1:1", "--target", "rasberry-pi-4")
    assert done.returncode == 2
    assert "raspberry-pi-4" in done.stderr
    done = edgeopt("up", "pi", "--target", "rasberry-pi-4")
    assert done.returncode == 2


def test_check_of_this_machine() -> None:
    found = document("check", "host")
    assert found["facts"]["arch"] == os.uname().machine
    assert {e["engine"] for e in found["engines"]} <= {"onnx", "tflite", "openvino", "tvm"}
    assert all(isinstance(e["reason"], str) for e in found["engines"])
    shown = edgeopt("check", "host").stdout
    assert found["facts"]["kernel"] in shown


@pytest.mark.board
def test_a_board_from_up_to_remove(own: Path) -> None:
    if (reason := user_mode.missing()) is not None:
        pytest.skip(f"no user-mode board here: {reason}")
    up = document("up", "pi", "--target", "raspberry-pi-4")["board"]
    try:
        assert (up["kind"], up["target"], up["running"]) == ("emulated", "raspberry-pi-4", True)
        assert up["fingerprint"].startswith("SHA256:")
        assert "already running" in edgeopt("up", "pi", "--target", "raspberry-pi-4").stderr
        assert edgeopt("list").stdout.splitlines()[2].split()[-1] == "up"

        # The same sshd as if it were a real board's: added by address, its key compared.
        address = f"root@127.0.0.1:{up['port']}"
        add = ("add", "kitchen", "--ssh", address, "--key", up["key"])
        refused = edgeopt(*add)
        assert refused.returncode == 6
        assert f"--fingerprint {up['fingerprint']}" in refused.stderr
        added = document(*add, "--fingerprint", up["fingerprint"])
        assert added["facts"]["cores"] == ["cortex-a72"] * 4
        assert fingerprint(registry.find("kitchen").host_key) == up["fingerprint"]

        assert document("clean", "pi") == {"name": "pi", "bundles": [], "freed_bytes": 0}
        assert document("down", "pi") == {"name": "pi", "stopped": True}
        assert document("down", "pi") == {"name": "pi", "stopped": False}
        down = document("check", "pi", status=6)["error"]
        assert down["message"] == "this emulated board is down"
        gone = document("check", "kitchen", status=6)["error"]
        assert "refuses the connection" in gone["message"]
    finally:
        edgeopt("remove", "pi")
    assert lifecycle.running("pi") is None
    assert registry.get("pi") is None
    assert not (own / "state/edgeopt/boards/pi").exists()
