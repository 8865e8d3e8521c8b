# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What small files of a board hold, many of them in one go, and what commands there answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from edgeopt.boards.transport import Transport
from edgeopt.errors import BoardError

DENIED = "\0denied"
"""Stands for the text of a file that is there and may not be read, or a command that failed."""

_MOST_BYTES = 4 << 20
_TIMEOUT_S = 60.0
_FILE, _COMMAND = "@@edgeopt-file ", "@@edgeopt-command "

# Built-ins of a POSIX sh: a board has hundreds of such files, and a process for each takes seconds.
_SCRIPT = rf"""
exec 2>/dev/null </dev/null
f() {{
  for p; do
    [ -f "$p" ] || continue
    printf '%s%s\n' '{_FILE}' "$p"
    if [ -r "$p" ]; then
      v=; while IFS= read -r v || [ -n "$v" ]; do printf '%s\n' "$v"; v=; done < "$p"
    else printf '\0denied\n'
    fi
  done
}}
c() {{ printf '%s%s\n' '{_COMMAND}' "$1"; sh -c "$1" || printf '\0denied\n'; }}
"""


def look(
    transport: Transport, patterns: Iterable[str], commands: Iterable[str] = ()
) -> dict[str, str]:
    """Return the text of each file that a shell's pattern matches, and of each command, by name.

    Commands whose program the board lacks are left out. Raises BoardError if the board does not
    answer.
    """
    lines = [f"f {pattern}" for pattern in dict.fromkeys(patterns)]
    lines += [f"command -v {c.split()[0]} >/dev/null && c '{c}'" for c in dict.fromkeys(commands)]
    done = transport.run(
        ["sh", "-c", "\n".join([_SCRIPT, *lines, "exit 0"])],
        timeout_s=_TIMEOUT_S,
        limit_bytes=_MOST_BYTES,
    )
    if done.exit_status != 0:
        raise BoardError("does not tell what its files hold", where=transport.name)
    return parse(done.stdout.decode(errors="replace"))


def parse(text: str) -> dict[str, str]:
    """Return what the script printed: the text of each file and command, without the line's end.

    A file that may not be read, or a command that failed, has ``DENIED``.
    """
    seen: dict[str, str] = {}
    name = None
    for line in text.splitlines():
        for mark in (_FILE, _COMMAND):
            if line.startswith(mark):
                name = line.removeprefix(mark)
                seen[name] = ""
                break
        else:
            if name is not None and seen[name] != DENIED:
                seen[name] = DENIED if line == DENIED else f"{seen[name]}\n{line}".lstrip("\n")
    return seen


def readable(seen: Mapping[str, str], path: str) -> str | None:
    """Return the text of a file that was seen and could be read, None for another."""
    text = seen.get(path)
    return None if text is None or text == DENIED else text


def folders(seen: Mapping[str, str], name: str) -> dict[str, str]:
    """Return the folders that hold a readable file ``name``, and its text."""
    found = {}
    for path in seen:
        folder, _, last = path.rpartition("/")
        if last == name and (text := readable(seen, path)) is not None:
            found[folder] = text.strip()
    return found
