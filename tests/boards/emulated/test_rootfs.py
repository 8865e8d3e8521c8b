# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

from dataclasses import replace

import pytest

from edgeopt.boards.emulated import rootfs
from edgeopt.device import DeviceProfile
from edgeopt.errors import BoardError, MissingDependencyError
from edgeopt.target import load_target


def device(libc: str, version: str | None) -> DeviceProfile:
    pi = load_target("raspberry-pi-4").device
    return replace(pi, os=replace(pi.os, libc=libc, libc_version=version))


DEB822 = """\
# comment
Types: deb
URIs: http://security.example/debian-security
Suites: bookworm-security
Components: main

Types: deb-src
URIs: http://source.example/debian
Suites: bookworm

Types: deb
Enabled: no
URIs: http://off.example/debian
Suites: bookworm

Types: deb deb-src
URIs: http://one.example/debian
 http://two.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
"""

ONE_LINE = """\
# deb http://comment.example/debian bookworm main
deb-src http://source.example/debian bookworm main
deb http://security.example/debian-security bookworm-security main
deb http://ubuntu.example/ubuntu jammy main
deb [arch=amd64 signed-by=/x.gpg] http://one.example/debian stable main contrib
"""


@pytest.mark.parametrize(
    ("text", "deb822", "expected"),
    [
        (DEB822, True, ["http://one.example/debian", "http://two.example/debian"]),
        (ONE_LINE, False, ["http://one.example/debian"]),
        ("", True, []),
        ("Types: deb\nURIs: http://x.example\nSuites: jammy\n", True, []),
    ],
)
def test_the_debian_mirrors_of_a_sources_file(text: str, deb822: bool, expected: list[str]) -> None:
    assert list(rootfs.mirrors(text, deb822)) == expected


@pytest.mark.parametrize(
    ("version", "suite", "note"),
    [
        ("2.27", "bullseye", "userland has glibc 2.31, newer than the real board's 2.27"),
        ("2.31", "bullseye", None),
        ("2.35", "bookworm", "userland has glibc 2.36, newer than the real board's 2.35"),
        ("2.36", "bookworm", None),
        ("2.39", "trixie", "userland has glibc 2.41, newer than the real board's 2.39"),
        ("2.41", "trixie", None),
        ("2.42", "trixie", "userland has glibc 2.41, older than the real board's 2.42"),
        (None, "bookworm", None),
    ],
)
def test_the_suite_with_the_nearest_glibc(
    version: str | None, suite: str, note: str | None
) -> None:
    found = device("glibc", version)
    assert rootfs.suite_for(found) == suite
    assert rootfs.libc_note(found, suite) == note


def test_a_device_with_another_libc_has_no_such_userland() -> None:
    with pytest.raises(BoardError, match="an emulated board has glibc, this device has musl"):
        rootfs.suite_for(device("musl", "1.2.5"))


def test_a_mirror_that_does_not_answer_is_told_and_leaves_nothing(
    tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEOPT_CACHE", str(tmp_path))
    monkeypatch.setenv("EDGEOPT_DEBIAN_MIRROR", "http://me:secret@127.0.0.1:1/debian")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    try:
        with pytest.raises(BoardError, match="the arm64 packages cannot be had") as caught:
            rootfs.userland("bookworm")
    except MissingDependencyError as exc:
        pytest.skip(str(exc))
    assert "EDGEOPT_DEBIAN_MIRROR" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert not [p for p in (tmp_path / "userland").iterdir() if p.is_dir()]
