"""A directory that appears at its place whole, or not at all."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from edgeopt.errors import BusyError, InputError


@contextlib.contextmanager
def reserved(output: Path, marker: str, kind: str) -> Iterator[None]:
    """Hold ``output`` for one run: check that it can be written, and lock out other runs.

    What is there already may be replaced where it holds the file ``marker``; ``kind`` ("bundle")
    is what such a directory is called. Raises InputError where ``output`` is something else or
    cannot be written, and BusyError where another process writes it. Checked before the hours of
    work, not after.
    """
    from filelock import FileLock, Timeout

    _check_replaceable(output, marker, kind)
    made: list[Path] = []
    try:
        _make_folders(output.parent, made)
        tempfile.TemporaryFile(dir=output.parent).close()
        lock = FileLock(output.parent / f".{output.name}.lock", timeout=0)
        lock.acquire()
    except Timeout as exc:
        raise BusyError(
            f"another edgeopt is writing this {kind}",
            where=str(output),
            hint="Wait for it, or give another directory with -o.",
        ) from exc
    except OSError as exc:
        _remove_empty(made)
        raise InputError(
            f"cannot be written ({exc.strerror})",
            where=str(output),
            hint="Give a directory that can with -o.",
        ) from exc
    try:
        yield
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()
        _remove_empty(made)


def _make_folders(folder: Path, made: list[Path]) -> None:
    """Make ``folder`` and its parents, noting in ``made`` those that were not there."""
    if not folder.exists():
        _make_folders(folder.parent, made)
        folder.mkdir(exist_ok=True)
        made.append(folder)


def _remove_empty(made: list[Path]) -> None:
    for folder in reversed(made):
        with contextlib.suppress(OSError):  # not empty: the result, or somebody else's file
            folder.rmdir()


def _check_replaceable(output: Path, marker: str, kind: str) -> None:
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return
    if not (output / marker).is_file():
        raise InputError(
            f"exists and is not a {kind}, so it is not overwritten",
            where=str(output),
            hint="Give another directory with -o, or remove it.",
        )


def swap(work: Path, output: Path) -> None:
    """Put ``work`` in the place of ``output``; a reader sees the old one or the new one."""
    old = None
    if output.exists():
        old = Path(tempfile.mkdtemp(dir=output.parent, prefix=f".{output.name}.old-"))
        output.rename(old / output.name)
    try:
        work.rename(output)
    except OSError:
        if old is not None:
            (old / output.name).rename(output)
        raise
    finally:
        if old is not None:
            shutil.rmtree(old, ignore_errors=True)
