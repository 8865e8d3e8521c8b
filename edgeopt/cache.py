"""Work kept by content: the same inputs, options and tool versions are never worked on twice.

An entry is a directory ``<cache>/<kind>/<key>``, where the key is a hash of everything that the
work depends on. It appears whole or not at all (built beside, then renamed), and a lock lets one
of several processes build it while the others wait.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from edgeopt.errors import InputError

_CHUNK = 1 << 20


def root() -> Path:
    """Return the cache directory: ``$EDGEOPT_CACHE``, else ``$XDG_CACHE_HOME/edgeopt``."""
    if own := os.environ.get("EDGEOPT_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgeopt"


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hex."""
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

    Where ``build`` raises, or the process is killed, no entry is left. Processes that want the
    same entry wait for the one that builds it. Raises InputError where the cache cannot be written.
    """
    from filelock import FileLock

    folder = root() / kind
    path = folder / key[:32]
    if path.is_dir():
        return path
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / f".{path.name}.lock")
        lock.acquire()
    except OSError as exc:
        raise InputError(
            f"the cache cannot be written ({exc.strerror})",
            where=str(folder),
            hint="Set EDGEOPT_CACHE to a directory that can.",
        ) from exc
    try:
        if not path.is_dir():
            for stale in folder.glob(f".{path.name}.build-*"):  # of a process that was killed
                shutil.rmtree(stale, ignore_errors=True)
            work = Path(tempfile.mkdtemp(dir=folder, prefix=f".{path.name}.build-"))
            try:
                _filled(folder, work, build)
                work.chmod(0o755)
                work.rename(path)
            finally:
                shutil.rmtree(work, ignore_errors=True)
        return path
    finally:
        lock.release()


def _filled(folder: Path, work: Path, build: Callable[[Path], None]) -> None:
    """Call ``build(work)``; a disk that is full is the user's to see to."""
    try:
        build(work)
    except OSError as exc:
        if exc.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise InputError(
            f"the cache cannot be written ({exc.strerror})",
            where=str(folder),
            hint="Free some space there, or set EDGEOPT_CACHE to a directory that has it.",
        ) from exc


@contextlib.contextmanager
def scratch(kind: str, key: str) -> Iterator[Path]:
    """Give a directory for work that can be taken up again: removed only where the block ends well.

    The caller holds the lock of the entry that the work is for.
    """
    path = root() / kind / key[:32]
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise InputError(f"cannot be written ({exc.strerror})", where=str(path)) from exc
    yield path
    shutil.rmtree(path, ignore_errors=True)
