# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The reader of known_hosts files, against what ``ssh-keygen -F`` finds in the same file."""

import subprocess
from pathlib import Path

import pytest

from edgeopt.boards.address import Address
from edgeopt.boards.known_hosts import Known, read

ONE = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGFm+KaJsRuNvElGt0o5TBMF6FEyhXSW0ZENRWm3KtpX"
TWO = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"


def known(path: Path, host: str, port: int = 22, **more: str) -> Known:
    return read(Address(user="pi", host=host, port=port, known_hosts=(str(path),), **more))  # type: ignore[arg-type]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "known_hosts"


@pytest.mark.parametrize("hashed", [False, True])
def test_plain_hashed_and_with_a_port(file: Path, hashed: bool) -> None:
    file.write_text(f"# comment\nkitchen.lan,10.0.0.7 {ONE} me@here\n[attic.lan]:2222 {TWO}\n")
    if hashed:
        subprocess.run(["ssh-keygen", "-q", "-H", "-f", file], check=True, capture_output=True)
    assert known(file, "kitchen.lan").keys == (ONE,)
    assert known(file, "Kitchen.LAN").keys == (ONE,)
    assert known(file, "10.0.0.7").keys == (ONE,)
    assert known(file, "attic.lan", 2222).keys == (TWO,)
    assert known(file, "attic.lan") == Known()
    assert known(file, "kitchen.lan", 2222) == Known(elsewhere=(ONE,))
    assert known(file, "10.9.9.9", alias="kitchen.lan").keys == (ONE,)


@pytest.mark.parametrize(
    ("patterns", "host"),
    [
        ("*.lan", "a.lan"),
        ("*.lan", "lan"),
        ("*.lan,!b.lan", "b.lan"),
        ("*.lan,!b.lan", "a.lan"),
        ("10.0.0.?", "10.0.0.7"),
        ("10.0.0.?", "10.0.0.17"),
        ("a[b].lan", "ab.lan"),
        ("!a.lan", "a.lan"),
        ("*", "anything"),
    ],
)
def test_patterns_are_those_of_ssh(file: Path, patterns: str, host: str) -> None:
    file.write_text(f"{patterns} {ONE}\n")
    command = ["ssh-keygen", "-F", host, "-f", str(file)]
    wanted = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    assert bool(known(file, host).keys) == bool(wanted)


@pytest.mark.parametrize(
    "line",
    [
        b"old.lan ssh-rsa AAAAB",
        b"old.lan ssh-rsa !!!",
        b"old.lan ssh-ed25519 " + ONE.split()[1][:-8].encode(),
        b"old.lan ssh-rsa " + ONE.split()[1].encode(),
        b"old.lan 1024 35 123456789",
        b"broken",
        b"@unknown * " + ONE.encode(),
        b"\x00\xff\x1b[31m",
        b"@revoked",
    ],
)
def test_a_line_that_cannot_be_read_is_told_and_skipped(file: Path, line: bytes) -> None:
    file.write_bytes(b"# caf\xe9\n" + line + b"\nkitchen.lan " + ONE.encode() + b"\n")
    told: list[str] = []
    address = Address(user="pi", host="kitchen.lan", port=22, known_hosts=(str(file),))
    assert read(address, tell=told.append) == Known(keys=(ONE,))
    assert told == [f"{file}:2: skipped, no line with a host key"]


def test_a_revoked_key_is_not_trusted(file: Path) -> None:
    file.write_text(f"kitchen.lan {ONE}\nkitchen.lan {TWO}\n@revoked * {ONE}\n")
    found = known(file, "kitchen.lan")
    assert not found.trusts(ONE)
    assert found.trusts(TWO)


def test_a_certificate_authority_is_no_host_key(file: Path) -> None:
    file.write_text(f"@cert-authority *.lan {ONE}\n")
    assert known(file, "kitchen.lan") == Known()


def test_without_a_file_nothing_is_known(tmp_path: Path) -> None:
    assert known(tmp_path / "no", "kitchen.lan") == Known()
    assert known(tmp_path, "kitchen.lan") == Known()
