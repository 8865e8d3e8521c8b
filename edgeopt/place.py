# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""A directory that appears at its place whole, or not at all.

What stood there before is replaced only if it is ours and holds nothing else. The two change
places in one step (Linux: renameat2, macOS: renamex_np), so that a process or machine that ends at
any moment leaves the old one or the new one, whole. File systems without that step (some network
and FUSE ones) get two renames: between them nothing is at the place, and the next run puts the old
one back.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
import secrets
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from edgeopt import progress
from edgeopt.errors import BusyError, InputError

Foreign = Callable[[Path], str | None]
"""Says what in a directory is not ours ("holds notes.txt, which ..."), None if all is ours."""

_MARK = ".edgeopt-unfinished"  # in a directory that is being written or removed
_AT_FDCWD, _EXCHANGE = -100, 2  # <fcntl.h>; RENAME_EXCHANGE of <linux/fs.h>, RENAME_SWAP of macOS
_NO_EXCHANGE = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP)


@contextlib.contextmanager
def reserved(
    output: Path, kind: str, foreign: Foreign, inputs: Sequence[Path] = ()
) -> Iterator[None]:
    """Hold ``output`` for one run: check that it can be written, and lock out other runs.

    A directory with nothing ``foreign`` in it may be replaced; ``kind`` ("bundle") is what such a
    directory is called, ``inputs`` are what the run reads. What a killed run left beside
    ``output`` is removed, or put back if it is the only whole one. Raises InputError if
    ``output`` is something else or cannot be written, and BusyError if another process writes
    it. Checked before the hours of work, not after.
    """
    from filelock import FileLock, Timeout

    _check(output, kind, foreign, inputs)
    made: list[Path] = []
    try:
        _make_folders(output.parent, made)
        os.rmdir(tempfile.mkdtemp(dir=output.parent, prefix=f".{output.name}.new-"))
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
        _clear(output, kind, foreign)
        yield
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()
        _remove_empty(made)


def tidy(output: Path, kind: str, foreign: Foreign) -> None:
    """Do what ``reserved`` does with what a killed run left, if ``output`` can be written."""
    with contextlib.suppress(InputError, BusyError), reserved(output, kind, foreign):
        pass


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


def _check(output: Path, kind: str, foreign: Foreign, inputs: Sequence[Path] = ()) -> None:
    """Raise InputError if something at ``output`` would be lost, or cannot be replaced."""
    try:
        what = _in_the_way(output, kind, foreign, inputs)
    except OSError as exc:
        raise InputError(
            f"cannot be written ({exc.strerror})",
            where=str(output),
            hint="Give a directory that can with -o.",
        ) from exc
    if what is not None:
        raise InputError(
            f"{what}, so it is not overwritten",
            where=str(output),
            hint="Give another directory with -o, or remove it.",
        )


def _in_the_way(output: Path, kind: str, foreign: Foreign, inputs: Sequence[Path]) -> str | None:
    if output.name in ("", ".."):
        return "is not given by its name"
    if output.is_symlink():
        return f"is a link to {os.readlink(output)}"
    if not output.exists():
        return None
    if not output.is_dir():
        return f"exists and is not a {kind}"
    real = output.resolve()
    for path in inputs:
        if path.resolve().is_relative_to(real):
            return "is the model itself" if path.resolve() == real else f"holds {path}"
    if Path.cwd().is_relative_to(real):
        return "is the current directory, or holds it"
    if mount := _mount(real):
        return "is a mount point" if mount == str(real) else f"holds the mount point {mount}"
    if any(output.iterdir()) and (what := foreign(output)):
        return what
    return None if os.access(output, os.W_OK | os.X_OK) else "is read-only"


def check_file(output: Path, kind: str, is_ours: Callable[[Path], bool]) -> None:
    """Raise InputError if a file cannot be written at ``output``, or another than ours is there.

    ``is_ours`` is asked of a regular file only, and may raise OSError.
    """
    hint = "Give another file with -o, or remove it."
    if output.is_dir():
        raise InputError("is a directory; expected a file to write", where=str(output))
    try:
        if os.path.lexists(output) and not (is_made(output) and is_ours(output)):
            raise InputError(
                f"exists and is not a {kind}, so it is not overwritten",
                where=str(output),
                hint=hint,
            )
        tempfile.TemporaryFile(dir=output.parent).close()
    except OSError as exc:
        raise InputError(f"cannot be written ({exc.strerror})", where=str(output)) from exc


def _mount(folder: Path) -> str | None:
    """Return a mount point that is ``folder`` or lies in it, None if there is none."""
    if os.path.ismount(folder):
        return str(folder)
    with contextlib.suppress(OSError):  # no Linux, or no /proc
        for line in Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines():
            place = re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), line.split()[4])
            if Path(place).is_relative_to(folder):
                return place
    return None


def is_made(path: Path) -> bool:
    """Tell whether ``path`` is a regular file, and no link to one."""
    return path.is_file() and not path.is_symlink()


def files(folder: Path) -> list[str]:
    """Return the names of all files below ``folder`` except the mark of an unfinished one."""
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in names if name != _MARK)


def other_than(folder: Path, names: set[str]) -> str | None:
    """Return what lies in ``folder`` besides the files ``names``, None if there is nothing.

    Links count, and so do directories that none of ``names`` is in. Nothing is followed.
    """
    parents = {str(parent) for name in names for parent in Path(name).parents}
    for place, folders, files in os.walk(folder, onerror=_raise):
        for known, found in ((names, files), (parents, folders)):
            for path in (Path(place, name) for name in sorted(found)):
                name = path.relative_to(folder).as_posix()
                if name not in known or path.is_symlink() or not (path.is_file() or path.is_dir()):
                    return name
    return None


def _raise(error: OSError) -> None:
    raise error


@contextlib.contextmanager
def replacing(output: Path, kind: str, foreign: Foreign) -> Iterator[Path]:
    """Give an empty directory to fill, which takes the place of ``output`` when the block ends.

    If the block raises, ``output`` is left as it is. The caller holds ``reserved``. Raises
    InputError if something came to ``output`` meanwhile that is not to be replaced, and OSError.
    """
    work = Path(tempfile.mkdtemp(dir=output.parent, prefix=f".{output.name}.new-"))
    try:
        (work / _MARK).touch()
        yield work
        work.chmod(0o755)
        _sync(work)
        _check(output, kind, foreign)
        (work / _MARK).unlink()
        _swap(work, output)
    finally:
        _discard(work)  # half-written, or after an exchange the old one


def _sync(folder: Path) -> None:
    """Write all of ``folder`` to the disk, so that a power cut does not find empty files there."""
    for place, _, files in os.walk(folder):
        for path in (*(os.path.join(place, name) for name in files), place):
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def _swap(work: Path, output: Path) -> None:
    """Put ``work`` in the place of ``output``; what was there is then at ``work``, or removed."""
    if not output.exists() or not any(output.iterdir()):
        work.rename(output)
    elif not _exchange(work, output):
        old = output.with_name(f".{output.name}.old-{secrets.token_hex(4)}")
        output.rename(old)
        try:
            work.rename(output)
        except BaseException:
            if not output.exists():
                old.rename(output)
            raise
        _discard(old)


def _exchange(one: Path, two: Path) -> bool:
    """Let two directories change places in one step; False if the system has no such step."""
    libc = ctypes.CDLL(None, use_errno=True)
    paths = os.fsencode(one), os.fsencode(two)
    try:
        if sys.platform == "darwin":
            failed = libc.renamex_np(*paths, _EXCHANGE)
        else:  # glibc has it from 2.28 on
            failed = libc.renameat2(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], _EXCHANGE)
    except AttributeError:
        return False
    if failed and ctypes.get_errno() not in _NO_EXCHANGE:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(two))
    return not failed


def _discard(folder: Path) -> None:
    """Remove ``folder``, its mark last, so that the next run goes on if this one is killed."""
    with contextlib.suppress(OSError):
        (folder / _MARK).touch()
        for path in folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name != _MARK:
                path.unlink()
        (folder / _MARK).unlink()
        folder.rmdir()


def _clear(output: Path, kind: str, foreign: Foreign) -> None:
    """Remove, or put back, what a killed run left beside ``output``, whose lock is held."""
    name = re.compile(re.escape(f".{output.name}.") + "(new|old)-[a-z0-9_]{8}")
    for path in sorted(output.parent.iterdir()):
        found = name.fullmatch(path.name)
        if found is None or path.is_symlink() or not path.is_dir():
            continue
        marked = is_made(path / _MARK) or not any(path.iterdir())
        if not marked and foreign(path) is not None:
            continue  # somebody else's, whatever its name
        if found[1] == "old" and not marked and not output.exists():
            path.rename(output)
            progress.note(f"{output} is the {kind} of before again; a run was killed")
        else:
            _discard(path)
