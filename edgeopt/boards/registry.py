# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The user's own list of boards: ``boards.toml`` in edgeopt's configuration directory.

Addresses and key paths belong to the user and never go into a repository or a bundle. Each board's
host key is pinned here, in the line that ``known_hosts`` would have.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from edgeopt.errors import BusyError, InputError
from edgeopt.fields import Table, nearest, read_toml

HOST = "host"
DETERMINISTIC = "deterministic"
"""The mode of an emulated board whose clock counts instructions."""
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_LOCK_S = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class BoardEntry:
    """One board of the user's.

    ``kind`` is ssh, emulated, or local (the board ``host``). ``key`` is a private key file, None
    for the agent's and default keys. ``host_key`` is the pinned ``type base64``. ``target`` names
    the target that it stands for, if any. An emulated board has a ``mode`` (user, full-system,
    deterministic) and a ``note`` on what differs from the real one, whose C library has
    ``libc_version``. ``ssh`` is what the user gave if ``~/.ssh/config`` adds to it: it is read at
    each connection.
    """

    name: str
    kind: str
    user: str = ""
    host: str = ""
    port: int = 22
    key: str | None = None
    host_key: str = ""
    target: str | None = None
    mode: str | None = None
    note: str | None = None
    libc_version: str | None = None
    ssh: str | None = None


LOCAL = BoardEntry(name=HOST, kind="local", note="this machine itself")


def config_dir() -> Path:
    """Return ``$EDGEOPT_CONFIG``, else ``$XDG_CONFIG_HOME/edgeopt``."""
    if own := os.environ.get("EDGEOPT_CONFIG"):
        return Path(own)
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "edgeopt"


def check_name(name: str) -> None:
    """Raise InputError if ``name`` cannot be a new board's."""
    if name == HOST:
        raise InputError(f"{HOST!r} is this machine and always there", where="board name")
    if not _NAME.fullmatch(name):
        raise InputError(
            f"{name!r} cannot be a board's name: expected up to 32 lower-case letters, digits "
            "and '-'",
            where="board name",
        )


def list_all() -> tuple[BoardEntry, ...]:
    """Return the board ``host`` and the user's boards, by name."""
    return (LOCAL, *(entry for _, entry in sorted(_read().items())))


def find(name: str) -> BoardEntry:
    """Return the board of that name. Raises InputError naming the nearest if there is none."""
    if name == HOST:
        return LOCAL
    boards = _read()
    if name not in boards:
        raise InputError(
            f"no board is called {name!r}{nearest(name, [HOST, *boards])}",
            hint="edgeopt board list shows them; edgeopt board add and up make one.",
        )
    return boards[name]


def get(name: str) -> BoardEntry | None:
    """Return the board of that name, or None."""
    return _read().get(name)


def save(entry: BoardEntry, *, replace: bool = False) -> None:
    """Add ``entry``; InputError if the name is taken and ``replace`` is false."""
    check_name(entry.name)
    with _changing() as boards:
        if entry.name in boards and not replace:
            raise InputError(
                f"a board called {entry.name!r} exists",
                hint=f"Choose another name, or run: edgeopt board remove {entry.name}",
            )
        boards[entry.name] = entry


def remove(name: str) -> None:
    """Forget the board. Raises InputError if there is none of that name."""
    find(name)
    with _changing() as boards:
        boards.pop(name, None)


def _path() -> Path:
    return config_dir() / "boards.toml"


def _read() -> dict[str, BoardEntry]:
    path = _path()
    if not path.exists():
        return {}
    return {name: _entry(name, table) for name, table in read_toml(path).items()}


def _entry(name: str, table: Table) -> BoardEntry:
    entry = BoardEntry(
        name=name,
        kind=table.choice("kind", ("ssh", "emulated")),
        user=table.get("user", str),
        host=table.get("host", str),
        port=table.integer("port", high=65535),
        key=table.get("key", str, None),
        host_key=table.get("host_key", str),
        target=table.get("target", str, None),
        mode=table.get("mode", str, None),
        note=table.get("note", str, None),
        libc_version=table.get("libc_version", str, None),
        ssh=table.get("ssh", str, None),
    )
    table.close()
    return entry


@contextlib.contextmanager
def _changing() -> Iterator[dict[str, BoardEntry]]:
    """Yield the boards, and write them back whole when the block ends well."""
    from filelock import FileLock, Timeout

    path = _path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock"), timeout=_LOCK_S):
            boards = _read()
            yield boards
            _write(path, boards)
    except Timeout as exc:
        raise BusyError("another edgeopt process is changing the boards", where=str(path)) from exc
    except OSError as exc:
        raise InputError(f"cannot be written ({exc.strerror})", where=str(path)) from exc


def _write(path: Path, boards: dict[str, BoardEntry]) -> None:
    lines = ["# Written by edgeopt board; the boards of this user.\n"]
    for name, entry in sorted(boards.items()):
        lines.append(f"\n[{name}]\n")
        for field in fields(entry):
            value = asdict(entry)[field.name]
            if field.name != "name" and value is not None:
                lines.append(f"{field.name} = {json.dumps(value)}\n")  # as TOML writes them
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".boards-")  # mode 0600
    try:
        with os.fdopen(descriptor, "w") as file:
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
