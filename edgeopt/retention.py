# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What stays in the cache and for how long: uses, the limit on its size, removal.

Each process notes the entries that it has been given in a file of its own (``.using``), which it
keeps locked: the lock ends with the process, however that ends, and no entry is removed that a
living process noted. An entry's last use is its directory's modification time. Notes are made, and
entries renamed away to be removed, under one lock of the cache (``.lock``), shared by those who
use and held alone by the one who removes: an entry is noted before it can go, or is gone already.

What a killed process left (``.NAME.build-*`` half built, ``.NAME.gone-*`` half removed) is removed
with the next entry that is built, and by ``clean``.

A system without such locks (Windows) keeps everything until it is asked to ``clean``, and cannot
tell what is in use.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from edgeopt import progress
from edgeopt.errors import InputError
from edgeopt.fields import nearest

fcntl: Any
try:
    import fcntl
except ImportError:
    fcntl = None

LIMIT = "20GB"
"""Some hundred compiled models; an emulated board's userland and engines take under 1 GB."""

VARIABLE = "EDGEOPT_CACHE_LIMIT"

_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_UNITS |= {"": 1, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
_AGES_S = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_USING, _LOCK = ".using", ".lock"
_LEFT = re.compile(r"\.(?P<name>.+)\.(?P<what>build|gone)-[a-z0-9_]+")
_LENT = re.compile(r"(\d+)-(\d+)")  # a process id and when it began
_MOST_NOTES = 64  # with more of them, those of processes that ended are removed
_SLACK = 100  # the whole is measured again after a hundredth of the limit was added


def root() -> Path:
    """Return the cache directory: ``$EDGEOPT_CACHE``, else ``$XDG_CACHE_HOME/edgeopt``."""
    if own := os.environ.get("EDGEOPT_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgeopt"


def limit() -> int:
    """Return how many bytes the cache may hold, by ``$EDGEOPT_CACHE_LIMIT``; 0 for any number.

    Raises InputError if that is no size.
    """
    return parse_size(os.environ.get(VARIABLE) or LIMIT, VARIABLE)


def parse_size(text: str, where: str) -> int:
    """Return the bytes of ``500MB``, ``20GB`` or ``1.5TiB``. Raises InputError naming ``where``."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?) *([a-zA-Z]*)", text.strip())
    if found is None or found[2].upper() not in _UNITS:
        raise InputError(
            f"expected a size such as 500MB or 20GB, found {text!r}",
            where=where,
            hint="0 stands for no limit." if where == VARIABLE else None,
        )
    return int(float(found[1]) * _UNITS[found[2].upper()])


def parse_age(text: str, where: str) -> float:
    """Return the seconds of ``90m``, ``12h``, ``30d`` or ``4w``. Raises InputError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?) *([mhdw])", text.strip())
    if found is None:
        raise InputError(
            f"expected an age such as 12h (hours), 30d (days) or 4w (weeks), found {text!r}",
            where=where,
        )
    return float(found[1]) * _AGES_S[found[2]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """A directory of the cache: bytes on the disk, and when it was last used (s since 1970)."""

    kind: str
    name: str
    bytes: int
    used: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Cleaned:
    """What ``clean`` removed, and what it left: ``in_use`` of those it was to remove."""

    removed: tuple[Entry, ...]
    in_use: tuple[Entry, ...]
    left_bytes: int


@dataclass(slots=True)
class _Notes:
    """What this process has noted of one cache: the locked file, and the entries in it."""

    file: int
    names: set[str] = field(default_factory=set)


_notes: dict[Path, _Notes] = {}
_thread = threading.Lock()


def take(path: Path) -> bool:
    """Note that this process uses the entry ``path`` until it ends; False if there is none."""
    if not path.is_dir():
        return False
    note(path)
    try:
        os.utime(path)
    except FileNotFoundError:  # removed before it was noted
        return False
    except OSError:  # of a cache that can only be read, from which nobody removes either
        return path.is_dir()
    return True


def note(path: Path) -> None:
    """Note that this process uses the entry ``path``, or is about to make it, until it ends."""
    if fcntl is None:
        return
    home, name = _names(path)
    with _thread, contextlib.suppress(OSError):  # see ``take``
        notes = _notes.get(home)
        if notes is not None and not os.fstat(notes.file).st_nlink:  # the cache was removed by hand
            os.close(_notes.pop(home).file)
            notes = None
        if notes is None:
            home.mkdir(parents=True, exist_ok=True)
            notes = _notes[home] = _Notes(_own_file(home))
        if name not in notes.names:
            with _locked(home):
                os.write(notes.file, f"{name}\n".encode())
            notes.names.add(name)


def lend(path: Path, pid: int, started: int) -> None:
    """Note that another process uses the entry ``path`` as long as it lives.

    ``started`` is what ``start_ticks(pid)`` says.
    """
    home, name = _names(path)
    with contextlib.suppress(OSError), _locked(home):  # see ``take``
        (home / _USING).mkdir(exist_ok=True)
        with (home / _USING / f"{pid}-{started}").open("a") as file:
            file.write(f"{name}\n")


def start_ticks(pid: int) -> int | None:
    """Return the start time of a living process, in clock ticks since boot; None without one."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # the name in parentheses may hold anything
    return None if fields[0] in "ZX" else int(fields[19])


def entries(home: Path | None = None) -> list[Entry]:
    """Return all entries, the least recently used first."""
    found = []
    for kind in _folders(root() if home is None else home):
        for place in _folders(Path(kind.path)):
            with contextlib.suppress(FileNotFoundError):
                used = place.stat().st_mtime
                size = size_bytes(Path(place.path))
                found.append(Entry(kind=kind.name, name=place.name, bytes=size, used=used))
    return sorted(found, key=lambda entry: entry.used)


def size_bytes(folder: Path) -> int:
    """Return how many bytes on the disk the files and folders in ``folder`` take, itself too."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in (place, *(os.path.join(place, name) for name in names)):
            with contextlib.suppress(OSError):
                found = os.lstat(name)
                total += getattr(found, "st_blocks", -(-found.st_size // 512)) * 512
    return total


def clean(wanted: Callable[[Entry], bool] = lambda entry: True, *, most_bytes: int = 0) -> Cleaned:
    """Remove entries that are ``wanted`` and not in use, and what killed processes left.

    The least recently used go first, until those that are ``wanted`` take ``most_bytes`` together;
    with 0 all of them go. Raises InputError if the cache cannot be written.
    """
    home = root().resolve()
    if not home.is_dir():
        return Cleaned(removed=(), in_use=(), left_bytes=0)
    try:
        return _clean(home, wanted, most_bytes)
    except OSError as exc:
        raise InputError(
            f"the cache cannot be cleaned ({exc.strerror})",
            where=str(home),
            hint="Set EDGEOPT_CACHE to a directory that can be written.",
        ) from exc


def _clean(home: Path, wanted: Callable[[Entry], bool], most_bytes: int) -> Cleaned:
    everything = entries(home)
    asked = [entry for entry in everything if wanted(entry)]
    over = sum(entry.bytes for entry in asked) - most_bytes
    gone: list[Path] = []
    removed, in_use = [], []
    with _locked(home, alone=True):
        used = _used(home)
        for entry in asked:
            if over <= 0 < most_bytes:
                break
            if f"{entry.kind}/{entry.name}" in used:
                in_use.append(entry)
            elif away := _rename_away(home / entry.kind / entry.name):
                gone.append(away)
                removed.append(entry)
                over -= entry.bytes
    for path in chain(gone, _leftovers(home)):
        remove(path)
    left = sum(entry.bytes for entry in everything) - sum(entry.bytes for entry in removed)
    return Cleaned(removed=tuple(removed), in_use=tuple(in_use), left_bytes=left)


def kinds(names: Sequence[str]) -> set[str]:
    """Return ``names`` as a set. Raises InputError for a kind of which the cache has nothing."""
    there = sorted(place.name for place in _folders(root()))
    for name in names:
        if name not in there:
            raise InputError(
                f"the cache has no entries of kind {name!r}{nearest(name, there)}",
                where=str(root()),
                hint=f"It has: {', '.join(there)}" if there else None,
            )
    return set(names)


_added: dict[Path, int] = {}


def keep_within_limit(built: Path) -> None:
    """Remove the least recently used entries beyond the limit, after ``built`` was added.

    The whole is measured with the first entry that a process adds, and after each hundredth of the
    limit. No OSError is raised: a cache that is too large is no reason for work to fail.
    """
    if fcntl is None:
        return
    most, home = limit(), _names(built)[0]
    first = home not in _added
    _added[home] = _added.get(home, 0) + size_bytes(built)
    if not first and (not most or _added[home] < most / _SLACK):
        return
    _added[home] = 0
    with contextlib.suppress(OSError):
        done = _clean(home, lambda entry: most > 0, most)
        if done.removed:
            size = sum(entry.bytes for entry in done.removed)
            progress.note(
                f"removed from the cache what was used least recently ({len(done.removed)} of its "
                f"entries, {size / 1e6:.1f} MB): it holds {most / 1e9:g} GB at most ({VARIABLE})"
            )


def _names(path: Path) -> tuple[Path, str]:
    """Return the cache that the entry ``path`` lies in, and its kind and name there.

    A kind may be a link into another cache.
    """
    kind = path.parent.resolve()
    return kind.parent, f"{kind.name}/{path.name}"


def _folders(place: Path) -> Iterator[os.DirEntry[str]]:
    """Yield the directories in ``place`` that are kinds or entries: no links, nothing hidden."""
    try:
        with os.scandir(place) as found:
            yield from (e for e in found if e.name[0] != "." and e.is_dir(follow_symlinks=False))
    except OSError:
        return


@contextlib.contextmanager
def _locked(home: Path, *, alone: bool = False, wait: bool = True) -> Iterator[None]:
    """Hold the lock of the cache. Raises BlockingIOError if it is not to ``wait`` for others."""
    if fcntl is None:
        yield
        return
    how = (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | (0 if wait else fcntl.LOCK_NB)
    file = os.open(home / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(file, how)
        yield
        fcntl.flock(file, fcntl.LOCK_UN)  # a process forked meanwhile has the file, too
    finally:
        os.close(file)


def _own_file(home: Path) -> int:
    """Make the file of this process's notes, and return it locked."""
    folder = home / _USING
    folder.mkdir(exist_ok=True)
    if len(os.listdir(folder)) > _MOST_NOTES:
        with contextlib.suppress(BlockingIOError), _locked(home, alone=True, wait=False):
            _used(home)
    with _locked(home):  # else it could be taken for a dead process's
        path = folder / f"{os.getpid()}.{secrets.token_hex(8)}"
        how = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        file = os.open(path, how, 0o644)
        fcntl.flock(file, fcntl.LOCK_EX)
    return file


def _used(home: Path) -> set[str]:
    """Return the entries that living processes use; notes of others are removed."""
    found: set[str] = set()
    for path in (home / _USING).glob("*"):
        lent = _LENT.fullmatch(path.name)
        with contextlib.suppress(FileNotFoundError):
            alive = start_ticks(int(lent[1])) == int(lent[2]) if lent else _is_locked(path)
            if alive:
                found |= set(path.read_text().splitlines())
            else:
                path.unlink()
    return found


def _is_locked(path: Path) -> bool:
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False


def _rename_away(path: Path) -> Path | None:
    away = path.with_name(f".{path.name}.gone-{secrets.token_hex(4)}")
    try:
        path.rename(away)
    except FileNotFoundError:  # by another process that cleans
        return None
    return away


def _leftovers(home: Path) -> Iterator[Path]:
    """Yield what killed processes left: nobody holds the lock of what they built."""
    from filelock import FileLock, Timeout

    for kind in _folders(home):
        for path in Path(kind.path).glob(".*-*"):
            found = _LEFT.fullmatch(path.name)
            if found is None or path.is_symlink() or not path.is_dir():
                continue
            if found["what"] == "gone":
                yield path
                continue
            try:
                with FileLock(path.with_name(f".{found['name']}.lock"), timeout=0):
                    yield path
            except Timeout:  # it is being built
                continue


def remove(path: Path) -> None:
    """Remove a directory, that of an emulated board with folders that cannot be written too.

    What cannot be removed stays, for the next time.
    """

    def again(function: Callable[..., Any], name: str, error: object) -> None:
        with contextlib.suppress(OSError):
            os.chmod(os.path.dirname(name), stat.S_IRWXU)
            if function in (os.scandir, os.open, os.lstat, os.listdir):
                os.chmod(name, stat.S_IRWXU)
                shutil.rmtree(name, ignore_errors=True)
            else:
                function(name)

    shutil.rmtree(path, onerror=again)
