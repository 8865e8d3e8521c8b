# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

from pathlib import Path

import pytest

from edgeopt.boards.emulated import rootfs
from edgeopt.engines.elf import read_needs
from edgeopt.engines.fetch import fetch
from edgeopt.engines.releases import SYSTEM, Release, find, releases
from edgeopt.errors import BoardError
from edgeopt.target import load_target, target_names


def test_newest_first_within_an_engine() -> None:
    versions = [tuple(map(int, r.version.split("."))) for r in releases() if r.engine == "onnx"]
    assert versions == sorted(versions, reverse=True)


def test_an_unknown_version_names_the_known_ones() -> None:
    with pytest.raises(BoardError) as caught:
        find("tflite", "1.0.0")
    assert str(caught.value) == "no C library of tflite 1.0.0 is known\nKnown: 2.3.0, 2.1.0"


@pytest.mark.parametrize("name", target_names())
def test_every_shipped_target_names_versions_that_are_known(name: str) -> None:
    target = load_target(name)
    for spec in target.engines:
        release = find(spec.engine, spec.version, target.device.arch)
        assert target.is_host or target.device.arch in release.arch
        assert spec.opset is None or spec.opset <= (release.opset or 0)
        assert spec.ir_version is None or spec.ir_version <= (release.ir_version or 0)


@pytest.mark.heavy
@pytest.mark.parametrize(
    "release", [r for r in releases() if r.registry != SYSTEM], ids=lambda r: r.name
)
def test_the_table_says_what_the_files_ask_for(release: Release) -> None:
    for arch in release.arch:
        build = fetch(release, arch)
        assert build.needs.arch == arch
        assert build.needs.glibc == release.glibc[arch]
        assert build.needs.glibcxx == release.glibcxx[arch]
        assert build.library == build.files[0]
        assert len(build.files) >= sum(len(package.members) for package in release.packages)


@pytest.mark.heavy
@pytest.mark.parametrize(
    "release", [r for r in releases() if r.registry == SYSTEM], ids=lambda r: r.name
)
def test_the_table_says_what_the_systems_package_asks_for(release: Release) -> None:
    """Of Debian 13, as an emulated board has it."""
    for arch in release.arch:
        root = rootfs.userland("trixie", arch, (release.packages[0].name,))
        paths = [str(path) for path in (root / "usr/lib").glob("*/*.so*")]
        needs = read_needs(Path(release.library_among(paths) or ""))
        assert needs.arch == arch
        assert (needs.glibc, needs.glibcxx) == (release.glibc[arch], release.glibcxx[arch])
        (listed,) = (
            name.split("_")[1].split("+")[0]
            for name in (root.parent / "packages.txt").read_text().split()
            if name.startswith(f"{release.packages[0].name}_")
        )
        assert listed == release.version
