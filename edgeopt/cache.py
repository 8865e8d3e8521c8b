# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Work kept by content: the same inputs, options and tool versions are never worked on twice.

An entry is a directory ``<cache>/<kind>/<key>``, whose key is a hash of everything that the
work depends on, its own code too (``edgeopt.closure``). It appears whole or not at all (built
beside, then renamed), and a lock lets one of several processes build it while the others wait.
It stays while a process that was given it lives, and then as ``edgeopt.retention`` says.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from edgeopt import retention
from edgeopt.errors import InputError
from edgeopt.retention import root as root

_CHUNK = 1 << 20
_SETTLED_NS = 10_000_000_000
"""How old a file's last change has to be: of two in one tick of its disk's clock (2 s on FAT) the
second does not show."""


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hex.

    A process hashes a file again if it was changed since, or within its last seconds.
    """
    told = path.stat()
    if max(told.st_mtime_ns, told.st_ctime_ns) > time.time_ns() - _SETTLED_NS:
        return _hashed(path)
    return _remembered(
        path, told.st_dev, told.st_ino, told.st_size, told.st_mtime_ns, told.st_ctime_ns
    )


@functools.lru_cache(maxsize=8192)
def _remembered(path: Path, *state: int) -> str:
    return _hashed(path)


def _hashed(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def key(**parts: Any) -> str:
    """Return the hash (64 hex digits) of ``parts``, which must be plain JSON values."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def entry(kind: str, key: str, build: Callable[[Path], None]) -> Path:
    """Return the directory of entry ``key``, calling ``build(empty_dir)`` if it is not there yet.

    If ``build`` raises, or the process is killed, no entry is left. Processes that want the same
    entry wait for the one that builds it. Once it is built, others may go (``edgeopt.retention``).
    Raises InputError if the cache cannot be written, or its limit is no size.
    """
    from filelock import FileLock

    retention.limit()  # what is wrong with it is told before the work
    place = root() / kind
    path = place / key[:32]
    if retention.take(path):
        return path
    try:
        place.mkdir(parents=True, exist_ok=True)
        lock = FileLock(place / f".{path.name}.lock")
        lock.acquire()
    except OSError as exc:
        raise InputError(
            f"the cache cannot be written ({exc.strerror})",
            where=str(place),
            hint="Set EDGEOPT_CACHE to a directory that can.",
        ) from exc
    try:
        if retention.take(path):
            return path
        for stale in place.glob(f".{path.name}.build-*"):  # of a process that was killed
            retention.remove(stale)
        work = _filled(place, path.name, build)
        retention.note(path)
        try:
            work.rename(path)
        except BaseException:
            retention.remove(work)
            raise
    finally:
        lock.release()
    retention.keep_within_limit(path)
    return path


def has(kind: str, key: str) -> bool:
    """Tell whether entry ``key`` is there now; it may go unless ``entry`` returned it."""
    return (root() / kind / key[:32]).is_dir()


def _filled(place: Path, name: str, build: Callable[[Path], None]) -> Path:
    """Return a directory that ``build`` filled; a disk that is full is the user's to see to."""
    work = None
    try:
        work = Path(tempfile.mkdtemp(dir=place, prefix=f".{name}.build-"))
        build(work)
        work.chmod(0o755)
    except BaseException as exc:
        if work is not None:
            retention.remove(work)
        if not isinstance(exc, OSError) or exc.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise InputError(
            f"the cache cannot be written ({exc.strerror})",
            where=str(place),
            hint="Free some space there ('edgeopt cache clean --to 5GB' removes what was used "
            "least recently), or set EDGEOPT_CACHE to a directory that has it.",
        ) from exc
    return work


@contextlib.contextmanager
def scratch(kind: str, key: str) -> Iterator[Path]:
    """Give a directory for work that can be taken up again: removed only if the block ends well.

    The caller holds the lock of the entry that the work is for.
    """
    path = folder(kind, key)
    yield path
    retention.remove(path)


def folder(kind: str, key: str) -> Path:
    """Return the directory of what keeps order in it by itself, such as a compiler's own cache.

    It is made if it is not there yet. Raises InputError if it cannot be.
    """
    path = root() / kind / key[:32]
    retention.note(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        os.utime(path)
    except OSError as exc:
        raise InputError(f"cannot be written ({exc.strerror})", where=str(path)) from exc
    return path
