# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

import getpass
from dataclasses import replace
from pathlib import Path

import pytest

from edgeopt.boards import enrol, registry
from edgeopt.boards.address import Address, fingerprint
from edgeopt.boards.registry import BoardEntry
from edgeopt.errors import BoardError, InputError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("pi@kitchen.lan", ("pi", "kitchen.lan", 22)),
        ("pi@10.0.0.7:2222", ("pi", "10.0.0.7", 2222)),
        ("pi@[fe80::1%eth0]:2222", ("pi", "fe80::1%eth0", 2222)),
        ("pi@[::1]", ("pi", "::1", 22)),
        ("kitchen", (getpass.getuser(), "kitchen", 22)),
    ],
)
def test_addresses(text: str, expected: tuple[str, str, int]) -> None:
    found = enrol.parse_address(text)
    assert (found.user, found.host, found.port) == expected


@pytest.mark.parametrize(
    "text", ["", "pi@", "@host", "pi@host:", "pi@host:0", "pi@host:70000", "pi@::1", "a b@c", "-oX"]
)
def test_addresses_that_are_none(text: str) -> None:
    with pytest.raises(InputError, match="is not user@host or user@host:port"):
        enrol.parse_address(text)


@pytest.fixture
def address(emulated_board: BoardEntry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Address:
    monkeypatch.setenv("EDGEOPT_CONFIG", str(tmp_path / "config"))
    monkeypatch.setenv("HOME", str(tmp_path))
    entry = emulated_board
    return Address(user=entry.user, host=entry.host, port=entry.port, key=entry.key)


@pytest.mark.board
def test_an_unknown_host_key_is_never_trusted_by_itself(
    address: Address, emulated_board: BoardEntry
) -> None:
    shown = fingerprint(emulated_board.host_key)
    with pytest.raises(BoardError, match="is not known: it shows") as caught:
        enrol.add("kitchen", address)
    assert f"--fingerprint {shown}" in str(caught.value)
    assert registry.get("kitchen") is None


@pytest.mark.board
def test_a_fingerprint_that_agrees_is_pinned(address: Address, emulated_board: BoardEntry) -> None:
    shown = fingerprint(emulated_board.host_key)
    entry, facts = enrol.add("kitchen", address, target="raspberry-pi-4", fingerprint=shown)
    assert entry.host_key == emulated_board.host_key
    assert facts.cores == ("cortex-a72",) * 4
    assert registry.find("kitchen") == entry
    with pytest.raises(InputError, match="a board called 'kitchen' exists"):
        enrol.add("kitchen", address, fingerprint=shown)


@pytest.mark.board
def test_another_fingerprint_is_refused(address: Address) -> None:
    with pytest.raises(BoardError, match=r"shows the host key SHA256:.* expected SHA256:other"):
        enrol.add("kitchen", address, fingerprint="SHA256:other")
    assert registry.get("kitchen") is None


@pytest.mark.board
def test_the_user_is_asked_and_may_refuse(address: Address, emulated_board: BoardEntry) -> None:
    asked = []

    def refuse(fingerprint: str) -> bool:
        asked.append(fingerprint)
        return False

    with pytest.raises(BoardError, match="was not trusted; nothing was saved"):
        enrol.add("kitchen", address, confirm=refuse)
    assert asked == [fingerprint(emulated_board.host_key)]
    assert registry.get("kitchen") is None


@pytest.mark.board
def test_the_users_known_hosts_are_trusted_and_nobody_is_asked(
    address: Address, emulated_board: BoardEntry, tmp_path: Path
) -> None:
    (tmp_path / ".ssh").mkdir()
    line = f"{address.known_as} {emulated_board.host_key}\n"
    (tmp_path / ".ssh/known_hosts").write_text(line)
    enrol.add("kitchen", address, confirm=lambda _: pytest.fail("asked"))
    assert registry.find("kitchen").host_key == emulated_board.host_key


@pytest.mark.board
def test_a_login_that_fails_saves_nothing(address: Address, emulated_board: BoardEntry) -> None:
    shown = fingerprint(emulated_board.host_key)
    with pytest.raises(BoardError, match="cannot be read"):
        enrol.add("kitchen", replace(address, key="/no/key"), fingerprint=shown)
    with pytest.raises(BoardError, match="The user needs a login shell"):
        enrol.add("kitchen", replace(address, user="nobody"), fingerprint=shown)
    assert registry.get("kitchen") is None
