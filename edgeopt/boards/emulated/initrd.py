# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""An initial RAM disk without cpio or depmod: the archive, and the order of kernel modules."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from pathlib import Path

from edgeopt.errors import BoardError

_DIRECTORY, _REGULAR = 0o040000, 0o100000


def cpio(files: Mapping[str, tuple[bytes, int]]) -> bytes:
    """Return a cpio archive in the ``newc`` format, all owned by root.

    ``files`` maps a path without a leading slash to bytes and mode; a path that ends in ``/`` is a
    directory, and directories that a path needs are added. Several archives, each compressed,
    make one initrd (Linux Documentation/driver-api/early-userspace/buffer-format.rst).
    """
    entries: dict[str, tuple[bytes, int]] = {}
    for path, (data, mode) in files.items():
        parent = posixpath.dirname(path.rstrip("/"))
        folders = []
        while parent:
            folders.append(parent)
            parent = posixpath.dirname(parent)
        for folder in reversed(folders):
            entries.setdefault(folder, (b"", _DIRECTORY | 0o755))
        kind = _DIRECTORY if path.endswith("/") else _REGULAR
        entries[path.rstrip("/")] = (data, kind | mode)
    members = [_member(n, path, *entry) for n, (path, entry) in enumerate(entries.items(), 1)]
    return b"".join(members) + _member(0, "TRAILER!!!", b"", 0)


def _member(inode: int, path: str, data: bytes, mode: int) -> bytes:
    name = path.encode() + b"\0"
    links = 2 if mode & _DIRECTORY and not mode & _REGULAR else 1
    # inode mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
    fields = (inode, mode, 0, 0, links, 0, len(data), 0, 0, 0, 0, len(name), 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + name
    return _padded(head) + _padded(data)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def load_order(modules: Path, wanted: tuple[str, ...]) -> list[Path]:
    """Return the module files below ``modules`` to insert, each after those that it depends on.

    Modules that the kernel has built in are left out. Raises BoardError for one that is neither.
    """
    found = {path.stem.replace("-", "_"): path for path in modules.rglob("*.ko")}
    builtin = {
        Path(line).stem.replace("-", "_")
        for line in (modules / "modules.builtin").read_text().split()
    }
    order: dict[str, Path] = {}

    def add(name: str) -> None:
        if name in order or name in builtin:
            return
        if name not in found:
            raise BoardError(f"the arm64 kernel has no module {name}", where=modules.name)
        for needed in _depends(found[name]):
            add(needed)
        order[name] = found[name]

    for name in wanted:
        add(name)
    return list(order.values())


def _depends(module: Path) -> list[str]:
    """Return what the module's ``.modinfo`` says that it depends on."""
    line = re.search(rb"\0depends=([^\0]*)\0", module.read_bytes())
    names = line[1].decode().split(",") if line else []
    return [name.replace("-", "_") for name in names if name]
