# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Login shells of many kinds, and what their start-up files write, read and run."""

import os
import shutil
import time
from pathlib import Path

import pytest

from edgeopt.boards import facts, ssh
from edgeopt.boards.ssh import SshTransport
from edgeopt.errors import BoardError
from tests.boards.liar import Liar

pytestmark = pytest.mark.heavy  # starts a server for each shell

ODD = [
    "a b",
    "",
    "$HOME",
    "'",
    '"',
    "\\",
    "\\n",
    "*",
    ";ls",
    "-n",
    "ü\n",
    "a!b",
    "%s",
    "`id`",
    "@@edgeopt-end",
]
SHELLS = {
    "sh": ("sh", "-c"),
    "bash": ("bash", "-c"),
    "bash, login": ("bash", "-l", "-c"),
    "bash, restricted": ("bash", "-r", "-c"),
    "fish": ("fish", "-c"),
    "tcsh": ("tcsh", "-c"),
    "zsh": ("zsh", "-c"),
    "BusyBox": ("busybox", "sh", "-c"),
}
FILES = {
    "silent": "",
    "a greeting": "echo Welcome; echo; echo more; ",
    "no line's end": "printf 'hi '; ",
    "on stderr": "echo oops >&2; ",
    "bytes": r"printf '\377\001\033[2J'; ",
    "many lines": "head -c 300000 /dev/zero | tr '\\0' '\\n'; ",
    "marks of ours": "printf '@@edgeopt-end\\n'; echo edgeopt-pid 1 >&2; ",
    "a locale that is not there": "export LC_ALL=xx_YY.UTF-8; ",
    "variables checked": "set -u; ",
    "all checked, by its children too": "set -euo pipefail; export SHELLOPTS; ",
    "a trace": "set -x; ",
    "words at the end": "trap 'echo bye; printf end' EXIT; ",
}


def check(liar: Liar) -> None:
    """Hold that everything works which edgeopt asks of a board."""
    with SshTransport("pi", liar.address, host_key=liar.host_key) as wire:
        done = wire.run(["printf", "%s\\0", *ODD], timeout_s=20)
        assert done.stdout.decode().split("\0")[:-1] == ODD
        data = os.urandom(200_000)
        assert wire.run(["cat"], stdin=data, timeout_s=20).stdout == data
        done = wire.run(["sh", "-c", "cat; echo bad >&2; exit 7"], stdin=b"\0in", timeout_s=20)
        assert (done.exit_status, done.stdout) == (7, b"\0in")
        assert done.stderr.endswith(b"bad\n")
        lines = wire.lines(["sh", "-c", "echo a; echo; printf b"], timeout_s=20)
        assert list(lines) == ["a", "", "b"]


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_starts_what_it_is_given(tmp_path: Path, shell: str) -> None:
    words = SHELLS[shell]
    assert shutil.which(words[0]), f"tools/setup --tests installs {words[0]}"
    with Liar(tmp_path / "home of it") as liar:
        liar.shell = words
        check(liar)
        with SshTransport("pi", liar.address, host_key=liar.host_key) as wire:
            assert facts.gather(wire).home == str(tmp_path / "home of it")


@pytest.mark.parametrize("file", FILES)
def test_what_start_up_files_write_is_left_out(tmp_path: Path, file: str) -> None:
    with Liar(tmp_path / "home") as liar:
        liar.shell = ("bash", "-c", FILES[file] + 'bash -c "$0"')
        check(liar)


@pytest.mark.parametrize("other", ["exec cat", "exec sh", "read -r x; exec sh", "exec python3 -i"])
def test_another_program_gets_nothing_of_what_was_meant_for_ours(
    tmp_path: Path, other: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh, "_START_TIMEOUT_S", 1.0)
    marker = tmp_path / "marker"
    began = time.monotonic()
    with Liar(tmp_path / "home") as liar:
        liar.shell = ("bash", "-c", other)
        with (
            SshTransport("pi", liar.address, host_key=liar.host_key) as wire,
            pytest.raises(BoardError, match=r"pi: its login shell started no program"),
        ):
            wire.run(["sh"], stdin=f"touch {marker}\n".encode(), timeout_s=20)
    assert not marker.exists()
    assert time.monotonic() - began < 8


@pytest.mark.parametrize(
    ("shell", "said"),
    [
        ("exit 0", "''"),
        ("echo This account is currently not available.; exit 1", "currently not available"),
        ("PATH=; eval 'sh -c true'", "sh: "),
        ("echo no shell for you >&2; exit 1", "no shell for you"),
    ],
)
def test_a_shell_that_starts_nothing_is_told_with_what_it_said(
    tmp_path: Path, shell: str, said: str
) -> None:
    with Liar(tmp_path / "home") as liar:
        liar.shell = ("bash", "-c", shell)
        with (
            SshTransport("pi", liar.address, host_key=liar.host_key) as wire,
            pytest.raises(
                BoardError, match=rf"(?s)started no program \(it said .*{said}.*start-up"
            ) as e,
        ):
            facts.gather(wire)
        assert "needs a login shell" in str(e.value)
