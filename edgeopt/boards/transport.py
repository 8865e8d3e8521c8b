# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Run programs on a board and copy files to it, whatever the wire.

A program is always an argument vector, never a line for a shell to split. Files are copied
through ``cat`` rather than SFTP: boards without an SFTP server work too, and a full disk says so.
"""

from __future__ import annotations

import posixpath
import re
import secrets
import shlex
import string
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

from edgeopt import cache
from edgeopt.errors import BoardError

Progress = Callable[[int], None]

_CHUNK = 1 << 18
_SLOWEST_BYTES_PER_S = 50_000  # an upload slower than this is given up as hung
_TAIL_CHARS = 600

# What a board may send: a program's output, one line of it, and what stands before or after it.
OUTPUT_BYTES = 64 << 20
LINE_BYTES = 1 << 20
NOISE_BYTES = 1 << 20
_KEPT_BYTES = 1 << 16  # of each end of stderr

# Starts "$@" with this shell's own stdin and tells its process id, so that it can be ended from
# outside. A shell as parent turns death by signal n into exit status 128 + n. The marks tell what
# the program wrote from what a login shell's start-up and exit files write around it.
_LAUNCH = r"""
printf '\n@@edgeopt-begin\n'; printf '\n@@edgeopt-begin\n' >&2
exec 3<&0; "$@" <&3 3<&- & echo "edgeopt-pid $!" >&2
exec 3<&-; wait $!
status=$?; printf '@@edgeopt-end\n'; exit $status"""
BEGIN_MARK, END_MARK = b"\n@@edgeopt-begin\n", b"@@edgeopt-end\n"
_PID = re.compile(rb"edgeopt-pid (\d{1,10})\n")
_PLAIN = frozenset(string.ascii_letters + string.digits + " _./:=,+-")

# $1 temporary name, $2 final name, $3 size in bytes, $4 SHA-256, $5 mode. The temporary file goes
# whenever this ends before the rename; a lost connection ends cat, and the sizes then differ.
# sync, or a power cut could leave an empty file under the final name.
_RECEIVE = """
umask 022
trap 'rm -f "$1"' EXIT
trap 'exit 1' HUP INT TERM PIPE
cat > "$1" || exit 70
size=$(wc -c < "$1")
[ "$size" -eq "$3" ] || { echo "$size of $3 bytes arrived" >&2; exit 71; }
sum=$(sha256sum "$1") || exit 72
[ "${sum%% *}" = "$4" ] || { echo "SHA-256 is ${sum%% *}, expected $4" >&2; exit 71; }
chmod "$5" "$1" && { sync "$1" 2> /dev/null || sync; } && mv -f "$1" "$2"
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Completed:
    """A program that ended; ``exit_status`` is 128 + n if signal n ended it."""

    exit_status: int
    stdout: bytes
    stderr: bytes


class Transport(Protocol):
    """A connection to one board. A context manager: leaving it closes the connection."""

    name: str  # the board's, for messages

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes | Iterable[bytes] = b"",
        timeout_s: float,
        limit_bytes: int = OUTPUT_BYTES,
    ) -> Completed:
        """Run a program to its end.

        Raises BoardError on time-out, on a lost connection, if the board starts no program, and
        if it writes over ``limit_bytes``; not if the program fails.
        """

    def lines(
        self, argv: Sequence[str], *, stdin: bytes | Iterable[bytes] = b"", timeout_s: float
    ) -> Generator[str, None, None]:
        """Yield the program's stdout line by line as it comes, without the line ends.

        Raises BoardError as ``run`` does, for a line of over ``LINE_BYTES``, and if the program
        exits non-zero (with the end of its stderr). Closing the iterator early ends the program.
        """

    def put(
        self, local: Path, remote: str, *, mode: int = 0o644, progress: Progress | None = None
    ) -> None:
        """Copy a file; ``remote`` appears whole, with its hash checked on the board, or not at all.

        ``progress`` is called with the bytes sent so far, from another thread. Raises BoardError;
        if the disk is full, with the space needed and the space there is.
        """

    def close(self) -> None:
        """Close the connection; twice is fine."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *exc: object) -> None: ...


def command_line(argv: Sequence[str]) -> str:
    """Return a line that makes any login shell start ``argv`` under a POSIX sh.

    csh takes no line end and no ``!`` within quotes, fish reads a backslash there: so the program
    stands in it as octal numbers, but for letters that no shell looks at.
    """
    script = f"set -- {shlex.join(argv)}\n{_LAUNCH}"
    encoded = "".join(
        chr(byte) if chr(byte) in _PLAIN else f"\\0{byte:03o}"
        for byte in script.encode(errors="surrogateescape")
    )
    return f"""sh -c 'eval "$(printf %b "$1")"' sh '{encoded}'"""


class Errors:
    """The stderr of one program: both of its ends, so that a flood costs no memory."""

    def __init__(self) -> None:
        self._head, self._tail, self.count = bytearray(), bytearray(), 0

    def add(self, chunk: bytes) -> None:
        """Take what came."""
        self.count += len(chunk)
        room = _KEPT_BYTES - len(self._head)
        self._head += chunk[:room]
        self._tail += chunk[max(room, 0) :]
        del self._tail[:-_KEPT_BYTES]

    def __bytes__(self) -> bytes:
        return bytes(self._head + self._tail)

    @property
    def pid(self) -> str | None:
        """The program's process id on the board, None before it was told."""
        found = _PID.search(bytes(self._head))
        return found[1].decode() if found else None

    @property
    def text(self) -> bytes:
        """What the program wrote, without what its launcher and a login shell before it did."""
        before, mark, after = bytes(self).partition(BEGIN_MARK)
        return _PID.sub(b"", after, count=1) if mark else before


def too_much(name: str, argv: Sequence[str], limit_bytes: int, what: str = "") -> BoardError:
    """Return the error for a program that writes more than it may."""
    return BoardError(
        f"{argv[0]} sent {what or 'an answer'} of over {limit_bytes / 1e6:.0f} MB", where=name
    )


def split_lines(chunks: Iterable[bytes], name: str, argv: Sequence[str]) -> Iterator[str]:
    """Yield the lines of ``chunks``, in time linear in them. Raises BoardError for too long one."""
    rest: list[bytes] = []
    length = 0
    for chunk in chunks:
        *whole, last = chunk.split(b"\n")
        for line in whole:
            if length + len(line) > LINE_BYTES:
                raise too_much(name, argv, LINE_BYTES, "a line")
            yield (b"".join(rest) + line if rest else line).decode(errors="replace")
            rest, length = [], 0
        if last:
            rest.append(last)
            length += len(last)
        if length > LINE_BYTES:
            raise too_much(name, argv, LINE_BYTES, "a line")
    if rest:
        yield b"".join(rest).decode(errors="replace")


def failed(name: str, argv: Sequence[str], exit_status: int, stderr: bytes) -> BoardError:
    """Return the error for a program that exited with ``exit_status``."""
    text = tail(stderr)
    how = f"was ended by signal {exit_status - 128}" if exit_status > 128 else "failed"
    if exit_status == 132:
        how = "was ended by an illegal instruction (SIGILL): built for a newer core"
    return BoardError(f"{argv[0]} {how} (exit status {exit_status}): {text}", where=name)


def tail(said: bytes) -> str:
    """Return the end of what a program or a shell said, to be shown."""
    return said.decode(errors="replace").strip()[-_TAIL_CHARS:]


def send(
    transport: Transport,
    local: Path,
    remote: str,
    *,
    mode: int,
    progress: Progress | None,
) -> None:
    """Implement ``Transport.put`` on top of ``Transport.run``."""
    try:
        size_bytes, sha256 = local.stat().st_size, cache.file_sha256(local)
    except OSError as exc:
        raise BoardError(f"cannot be read ({exc.strerror})", where=str(local)) from exc
    temporary = f"{remote}.part-{secrets.token_hex(4)}"

    def chunks() -> Iterator[bytes]:
        done = 0
        with local.open("rb") as file:
            while chunk := file.read(_CHUNK):
                yield chunk
                done += len(chunk)
                if progress is not None:
                    progress(done)

    argv = ["sh", "-c", _RECEIVE, "sh", temporary, remote, str(size_bytes), sha256, f"{mode:o}"]
    done = transport.run(argv, stdin=chunks(), timeout_s=copy_timeout_s(size_bytes))
    if done.exit_status == 0:
        return
    raise copy_failed(transport, local.name, remote, size_bytes, done.stderr)


def copy_failed(
    transport: Transport, what: str, remote: str, size_bytes: int, stderr: bytes
) -> BoardError:
    """Return the error for a copy of ``size_bytes`` to ``remote``; df tells of a full disk."""
    text = stderr.decode(errors="replace").strip()
    free_bytes = free_disk_bytes(transport, posixpath.dirname(remote) or ".")
    if "No space left" in text or (free_bytes is not None and free_bytes < size_bytes):
        return BoardError(
            f"the disk is full: {remote} needs {size_bytes} bytes, {free_bytes} are free",
            where=transport.name,
            hint="Free some space on the board and run the same command again.",
        )
    return BoardError(
        f"{what} could not be copied to {remote}: {text[-_TAIL_CHARS:]}", where=transport.name
    )


def copy_timeout_s(size_bytes: int) -> float:
    """Return how long a copy may take before it counts as hung."""
    return 30 + size_bytes / _SLOWEST_BYTES_PER_S


def free_disk_bytes(transport: Transport, folder: str) -> int | None:
    """Return what is free for this user on the disk of ``folder``, None if df cannot tell."""
    done = transport.run(["df", "-P", "-k", folder], timeout_s=20)
    return parse_df(done.stdout.decode(errors="replace"))


def parse_df(text: str) -> int | None:
    """Return the free bytes that ``df -P -k FOLDER`` told, None if it told nothing."""
    words = [word for line in text.strip().splitlines()[1:] for word in line.split()]
    # name, size, used, free; an old BusyBox puts a long name on a line of its own
    free_kib = kib(words[3]) if len(words) >= 6 else None
    return None if free_kib is None else free_kib * 1024


def kib(text: str) -> int | None:
    """Return the number that a board's df or du told, None if it is none."""
    return int(text) if re.fullmatch("[0-9]{1,16}", text) else None
