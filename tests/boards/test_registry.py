# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

import multiprocessing
import stat
from pathlib import Path

import pytest

from edgeopt.boards import registry
from edgeopt.boards.registry import BoardEntry
from edgeopt.errors import InputError


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGEOPT_CONFIG", str(tmp_path))
    return tmp_path


def entry(name: str = "kitchen", **changes: str) -> BoardEntry:
    values = {"user": "pi", "host": "fe80::1%eth0", "host_key": "ssh-ed25519 AAAA"} | changes
    return BoardEntry(name=name, kind="ssh", port=2222, **values)


def test_what_was_saved_is_found_again() -> None:
    odd = entry(key='/home/me/My "keys"/id\\ed', note="ü\tß")
    registry.save(odd)
    assert registry.find("kitchen") == odd
    assert registry.list_all() == (registry.LOCAL, odd)


def test_only_the_user_may_read_the_file(config: Path) -> None:
    registry.save(entry())
    assert stat.S_IMODE((config / "boards.toml").stat().st_mode) == 0o600
    assert not list(config.glob(".boards-*"))  # no temporary left


def test_a_taken_name_is_refused_and_the_first_entry_stays() -> None:
    registry.save(entry())
    with pytest.raises(InputError, match="a board called 'kitchen' exists"):
        registry.save(entry(user="root"))
    assert registry.find("kitchen").user == "pi"


def test_replace_overwrites() -> None:
    registry.save(entry())
    registry.save(entry(user="root"), replace=True)
    assert registry.find("kitchen").user == "root"


def test_removed_boards_are_gone() -> None:
    registry.save(entry())
    registry.save(entry("attic"))
    registry.remove("kitchen")
    assert registry.get("kitchen") is None
    assert registry.find("attic")


def test_an_unknown_name_gets_the_nearest() -> None:
    registry.save(entry())
    with pytest.raises(InputError, match="no board is called 'kichen'; did you mean 'kitchen'"):
        registry.find("kichen")


@pytest.mark.parametrize("name", ["", "Kitchen", "a b", "-x", "../x", "x" * 33, "a.b", "ä"])
def test_names_that_could_be_paths_or_options_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="cannot be a board's name"):
        registry.check_name(name)


def test_host_is_reserved() -> None:
    with pytest.raises(InputError, match="'host' is this machine"):
        registry.save(entry("host"))


def test_a_damaged_file_is_told_with_its_place(config: Path) -> None:
    (config / "boards.toml").write_text('[kitchen]\nkind = "serial"\n')
    with pytest.raises(InputError, match=r"boards\.toml: kitchen\.kind: expected one of ssh"):
        registry.list_all()


def _save(name: str) -> None:
    registry.save(entry(name))


@pytest.mark.heavy
def test_boards_saved_by_several_processes_at_once_are_all_kept() -> None:
    names = [f"b{n}" for n in range(12)]
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        pool.map(_save, names)
    assert {e.name for e in registry.list_all()} == {"host", *names}
