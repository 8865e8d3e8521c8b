"""Run programs on a board and copy files to it, whatever the wire.

A program is always an argument vector, never a line for a shell to split. Files are copied
through ``cat`` rather than SFTP: boards without an SFTP server work too, and a full disk says so.
"""

from __future__ import annotations

import posixpath
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

from edgeopt import cache
from edgeopt.errors import BoardError

Progress = Callable[[int], None]

_CHUNK = 1 << 18
_SLOWEST_BYTES_PER_S = 50_000  # an upload slower than this is given up as hung
_TAIL_CHARS = 600

# Starts "$@" with this shell's own stdin and tells its process id, so that it can be ended from
# outside. A shell as parent turns death by signal n into exit status 128 + n.
LAUNCH = 'exec 3<&0; "$@" <&3 3<&- & echo "edgeopt-pid $!" >&2; exec 3<&-; wait $!'
PID_MARK = b"edgeopt-pid "

# $1 temporary name, $2 final name, $3 size in bytes, $4 SHA-256, $5 mode. The temporary file goes
# whenever this ends before the rename; a lost connection ends cat, and the sizes then differ.
# sync, or a power cut could leave an empty file under the final name.
_RECEIVE = """
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
    """A program that ended; ``exit_status`` is 128 + n where signal n ended it."""

    exit_status: int
    stdout: bytes
    stderr: bytes


class Transport(Protocol):
    """A connection to one board. A context manager: leaving it closes the connection."""

    name: str  # the board's, for messages

    def run(
        self, argv: Sequence[str], *, stdin: bytes | Iterable[bytes] = b"", timeout_s: float
    ) -> Completed:
        """Run a program to its end. Raises BoardError on time-out or a lost connection only."""

    def lines(self, argv: Sequence[str], *, timeout_s: float) -> Iterator[str]:
        """Yield the program's stdout line by line as it comes, without the line ends.

        Raises BoardError where it exits non-zero (with the end of its stderr), where it runs
        longer than ``timeout_s``, or the connection is lost. Closing the iterator early ends the
        program.
        """

    def put(
        self, local: Path, remote: str, *, mode: int = 0o644, progress: Progress | None = None
    ) -> None:
        """Copy a file; ``remote`` appears whole, with its hash checked on the board, or not at all.

        ``progress`` is called with the bytes sent so far, from another thread. Raises BoardError;
        where the disk is full, with the space needed and the space there is.
        """

    def close(self) -> None:
        """Close the connection; twice is fine."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *exc: object) -> None: ...


def failed(name: str, argv: Sequence[str], exit_status: int, stderr: bytes) -> BoardError:
    """Return the error for a program that exited with ``exit_status``."""
    text = stderr.decode(errors="replace").strip()[-_TAIL_CHARS:]
    how = f"was ended by signal {exit_status - 128}" if exit_status > 128 else "failed"
    if exit_status == 132:
        how = "was ended by an illegal instruction (SIGILL): built for a newer core"
    return BoardError(f"{argv[0]} {how} (exit status {exit_status}): {text}", where=name)


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
    """Return what is free for this user on the disk of ``folder``, None where df cannot tell."""
    done = transport.run(["df", "-P", "-k", folder], timeout_s=20)
    return parse_df(done.stdout.decode(errors="replace"))


def parse_df(text: str) -> int | None:
    """Return the free bytes that ``df -P -k FOLDER`` told, None where it told nothing."""
    words = [word for line in text.strip().splitlines()[1:] for word in line.split()]
    # name, size, used, free; an old BusyBox puts a long name on a line of its own
    return int(words[3]) * 1024 if len(words) >= 6 and words[3].isdigit() else None
