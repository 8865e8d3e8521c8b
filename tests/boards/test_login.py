# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Which keys are offered, and what is said of one that cannot be; ssh-keygen makes them."""

import base64
import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import paramiko
import pytest

from edgeopt.boards import login
from edgeopt.boards.address import Address
from edgeopt.boards.ssh import SshTransport
from edgeopt.errors import BoardError
from tests.boards.liar import Liar

pytestmark = pytest.mark.heavy  # starts a server for each


def make(path: Path, *options: str, passphrase: str = "") -> str:
    """Write a key; return its public half as ``type base64``."""
    command = ["ssh-keygen", "-q", *(options or ("-t", "ed25519")), "-N", passphrase, "-f", path]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return " ".join(path.with_name(f"{path.name}.pub").read_text().split()[:2])


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    (tmp_path / ".ssh").mkdir()
    return tmp_path


@pytest.fixture
def agent(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    place = str(home / "agent")
    process = subprocess.Popen(["ssh-agent", "-D", "-a", place], stdout=subprocess.DEVNULL)
    try:
        while not os.path.exists(place):
            assert process.poll() is None
        monkeypatch.setenv("SSH_AUTH_SOCK", place)
        yield place
    finally:
        process.terminate()
        process.wait()


@pytest.fixture
def board(home: Path) -> Iterator[Liar]:
    with Liar(home / "board") as liar:
        yield liar


def connect(board: Liar, **changes: object) -> None:
    address = replace(board.address, **{"key": None, **changes})  # type: ignore[arg-type]
    SshTransport("pi", address, host_key=board.host_key).close()


KINDS = {
    "ed25519": ("-t", "ed25519"),
    "ecdsa": ("-t", "ecdsa", "-b", "384"),
    "rsa": ("-t", "rsa", "-b", "2048"),
    "rsa, as of old": ("-t", "rsa", "-b", "2048", "-m", "PEM"),
    "ecdsa, as of old": ("-t", "ecdsa", "-m", "PEM"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_key_of_each_kind_logs_in(home: Path, board: Liar, kind: str) -> None:
    public = make(home / "a key", *KINDS[kind])
    connect(board, key=str(home / "a key"))
    assert board.offered[-1] == public


def test_default_keys_and_the_agents_are_found(home: Path, board: Liar, agent: str) -> None:
    publics = [make(home / ".ssh" / f"id_{kind}", "-t", kind) for kind in ("ed25519", "ecdsa")]
    held = make(home / "held")
    subprocess.run(["ssh-add", "-q", home / "held"], check=True)
    board.key_answer = paramiko.AUTH_FAILED
    with pytest.raises(
        BoardError, match=r"does not accept any key of your agent or ~/\.ssh\nTry: ssh-"
    ):
        connect(board)
    assert list(dict.fromkeys(board.offered)) == [*publics, held]


def test_a_locked_key_is_used_through_the_agent(home: Path, board: Liar, agent: str) -> None:
    for number, options in enumerate((("-t", "ed25519"), ("-t", "rsa", "-m", "PEM"))):
        path = home / f"locked {number}"
        public = make(path, *options, passphrase="secret")
        with pytest.raises(
            BoardError, match=r"has a passphrase and no agent holds it\nRun: ssh-add "
        ):
            connect(board, key=str(path), only_these_keys=True)
        ask = home / "ask"
        ask.write_text("#!/bin/sh\necho secret\n")
        ask.chmod(0o755)
        environment = os.environ | {"SSH_ASKPASS": str(ask), "SSH_ASKPASS_REQUIRE": "force"}
        subprocess.run(["ssh-add", "-q", path], check=True, env=environment)
        connect(board, key=str(path), only_these_keys=True)
        assert board.offered[-1] == public


def test_another_agent_and_none(home: Path, board: Liar, agent: str) -> None:
    make(home / "held")
    subprocess.run(["ssh-add", "-q", home / "held"], check=True)
    os.environ.pop("SSH_AUTH_SOCK")
    with pytest.raises(BoardError, match="no key to log in to"):
        connect(board)
    connect(board, agent=agent)
    for absent in ("none", str(home / "no"), str(home / ".ssh")):
        with pytest.raises(BoardError, match="no key to log in to"):
            connect(board, agent=absent)


def security_key() -> bytes:
    """Return a file as ``ssh-keygen -t ed25519-sk`` writes it; there is no such device here."""

    def field(data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + data

    public = field(b"sk-ssh-ed25519@openssh.com") + field(bytes(32)) + field(b"ssh:")
    blob = b"openssh-key-v1\0" + field(b"none") + field(b"none") + field(b"")
    blob += (1).to_bytes(4, "big") + field(public) + field(bytes(64))
    text = base64.encodebytes(blob)
    return b"-----BEGIN OPENSSH PRIVATE KEY-----\n" + text + b"-----END OPENSSH PRIVATE KEY-----\n"


def files(home: Path) -> dict[str, tuple[bytes, str]]:
    make(home / "k")
    whole = (home / "k").read_bytes()
    damaged = "is no private key, or one that is damaged"
    return {
        "public": ((home / "k.pub").read_bytes(), "is a public key; the private one is beside it"),
        "PuTTY": (b"PuTTY-User-Key-File-3: ssh-ed25519\n", "is one of PuTTY"),
        "DSA": (b"-----BEGIN DSA PRIVATE KEY-----\nAAAA\n", "is of DSA, which is too weak"),
        "empty": (b"", "is empty, or no key"),
        "text": (b"hello\n", damaged),
        "noise": (bytes(range(256)) * 9, damaged),
        "cut": (whole[:120], damaged),
        "no Base64": (whole.replace(whole[60:70], b"!" * 10), damaged),
        "huge": (b"x" * 2_000_000, "is empty, or no key"),
        "sk": (security_key(), "is held by a security key, which only an agent"),
    }


@pytest.mark.parametrize(
    "name",
    [
        "public",
        "PuTTY",
        "DSA",
        "empty",
        "text",
        "noise",
        "cut",
        "huge",
        "no Base64",
        "sk",
    ],
)
def test_a_file_that_is_no_key_is_blamed_itself(home: Path, board: Liar, name: str) -> None:
    data, said = files(home)[name]
    path = home / "mine"
    path.write_bytes(data)
    with pytest.raises(BoardError, match=rf"^pi: the key {path} {said}") as caught:
        connect(board, key=str(path))
    assert "speak SSH" not in str(caught.value)


def test_a_default_key_that_is_none_does_not_stop_another(home: Path, board: Liar) -> None:
    (home / ".ssh/id_ed25519").write_text("hello")
    public = make(home / ".ssh/id_rsa", "-t", "rsa")
    connect(board)
    assert board.offered[-1] == public


def test_a_board_without_keys_is_told_as_such(home: Path, board: Liar) -> None:
    make(home / ".ssh/id_ed25519")
    board.auths = "password,keyboard-interactive"
    with pytest.raises(BoardError, match=r"takes no key, only: password, keyboard-interactive"):
        connect(board)
    board.auths, board.key_answer = (
        "publickey,keyboard-interactive",
        paramiko.AUTH_PARTIALLY_SUCCESSFUL,
    )
    with pytest.raises(BoardError, match=r"accepts ~/\.ssh/id_ed25519, but asks for more"):
        connect(board)


def test_a_board_that_asks_for_nothing_is_let_in_to(home: Path, board: Liar) -> None:
    board.auths = "none"
    connect(board)
    assert board.offered == []


def test_a_certificate_beside_the_key_is_shown(home: Path, board: Liar) -> None:
    make(home / "ca")
    make(home / "k")
    command = ["ssh-keygen", "-q", "-s", home / "ca", "-I", "me", "-n", "pi", home / "k.pub"]
    subprocess.run(command, check=True)
    address = Address(user="pi", host="h", port=22, key=str(home / "k"))
    with login.candidates(address, "pi") as found:
        assert found.usable[0][1].public_blob.key_type == "ssh-ed25519-cert-v01@openssh.com"
