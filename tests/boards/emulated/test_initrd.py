# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

import shutil
import subprocess
from pathlib import Path

import pytest

from edgeopt.boards.emulated import initrd
from edgeopt.errors import BoardError


def members(archive: bytes) -> dict[str, tuple[int, bytes]]:
    """Read a newc archive back by its specification: path -> mode, data."""
    found = {}
    at = 0
    while True:
        assert archive[at : at + 6] == b"070701"
        fields = [int(archive[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        mode, size, name_size = fields[1], fields[6], fields[11]
        name = archive[at + 110 : at + 110 + name_size - 1].decode()
        start = (at + 110 + name_size + 3) & ~3
        if name == "TRAILER!!!":
            return found
        found[name] = (mode, archive[start : start + size])
        at = (start + size + 3) & ~3


def test_files_folders_and_modes() -> None:
    archive = initrd.cpio(
        {"init": (b"#!x", 0o755), "etc/ssh/key": (b"k" * 5, 0o600), "proc/": (b"", 0o755)}
    )
    assert members(archive) == {
        "init": (0o100755, b"#!x"),
        "etc": (0o040755, b""),
        "etc/ssh": (0o040755, b""),
        "etc/ssh/key": (0o100600, b"k" * 5),
        "proc": (0o040755, b""),
    }
    assert len(archive) % 4 == 0


def test_cpio_reads_it(tmp_path: Path) -> None:
    if shutil.which("cpio") is None:
        pytest.skip("cpio is not installed")
    archive = initrd.cpio({"a/b": (b"text", 0o640)})
    command = ["cpio", "-i", "--quiet", "-d"]
    subprocess.run(command, input=archive, cwd=tmp_path, check=True)
    assert (tmp_path / "a/b").read_text() == "text"
    assert (tmp_path / "a/b").stat().st_mode & 0o777 == 0o640


def module(folder: Path, name: str, depends: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    text = f"\0license=GPL\0depends={depends}\0name={name}\0"
    (folder / f"{name}.ko").write_bytes(b"\x7fELF" + text.encode())


def test_modules_come_after_those_they_need(tmp_path: Path) -> None:
    module(tmp_path / "kernel/fs", "ext4", "mbcache,jbd2,crc16")
    module(tmp_path / "kernel/fs", "jbd2", "")
    module(tmp_path / "kernel/fs", "mbcache", "")
    module(tmp_path / "kernel/net", "virtio-net", "net_failover")
    module(tmp_path / "kernel/net", "net_failover", "failover")
    module(tmp_path / "kernel/net", "failover", "")
    (tmp_path / "modules.builtin").write_text("kernel/lib/crc16.ko\n")
    order = [p.stem for p in initrd.load_order(tmp_path, ("virtio_net", "ext4", "jbd2"))]
    assert order == ["failover", "net_failover", "virtio-net", "mbcache", "jbd2", "ext4"]


def test_a_module_that_is_nowhere_is_told(tmp_path: Path) -> None:
    module(tmp_path / "kernel", "a", "b")
    (tmp_path / "modules.builtin").write_text("")
    with pytest.raises(BoardError, match="the arm64 kernel has no module b"):
        initrd.load_order(tmp_path, ("a",))
