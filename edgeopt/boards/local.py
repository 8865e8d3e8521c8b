# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The machine that edgeopt itself runs on, as a board named ``host``: no SSH."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Self

from edgeopt.boards import transport
from edgeopt.boards.transport import Completed, Progress
from edgeopt.errors import BoardError

NAME = "host"
_READ = 1 << 16


class LocalTransport:
    """Runs programs as children of this process."""

    name = NAME

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes | Iterable[bytes] = b"",
        timeout_s: float,
        limit_bytes: int = transport.OUTPUT_BYTES,
    ) -> Completed:
        """See ``Transport.run``."""
        with _started(argv) as (process, errors):
            assert process.stdin is not None  # pipes, see _started
            assert process.stdout is not None
            feeder = threading.Thread(target=_feed, args=(process.stdin, stdin), daemon=True)
            feeder.start()
            with _deadline(process, timeout_s) as late:
                output = process.stdout.read(limit_bytes + 1)
                if len(output) > limit_bytes:
                    raise transport.too_much(self.name, argv, limit_bytes)
                status = process.wait()
            if late.is_set():
                raise self._timed_out(argv, timeout_s)
        return Completed(exit_status=_shell_status(status), stdout=output, stderr=bytes(errors))

    def lines(
        self, argv: Sequence[str], *, stdin: bytes | Iterable[bytes] = b"", timeout_s: float
    ) -> Generator[str, None, None]:
        """See ``Transport.lines``."""
        with _started(argv) as (process, errors):
            assert process.stdin is not None  # pipes, see _started
            assert process.stdout is not None
            feeder = threading.Thread(target=_feed, args=(process.stdin, stdin), daemon=True)
            feeder.start()
            with _deadline(process, timeout_s) as late:
                yield from transport.split_lines(_chunks(process.stdout), self.name, argv)
                status = process.wait()
            if late.is_set():
                raise self._timed_out(argv, timeout_s)
        if status:
            raise transport.failed(self.name, argv, _shell_status(status), bytes(errors))

    def put(
        self, local: Path, remote: str, *, mode: int = 0o644, progress: Progress | None = None
    ) -> None:
        """See ``Transport.put``."""
        transport.send(self, local, remote, mode=mode, progress=progress)

    def close(self) -> None:
        """Do nothing: there is no connection."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _timed_out(self, argv: Sequence[str], timeout_s: float) -> BoardError:
        return BoardError(f"{argv[0]} did not end within {timeout_s:g} s", where=self.name)


@contextlib.contextmanager
def _started(argv: Sequence[str]) -> Iterator[tuple[subprocess.Popen[bytes], transport.Errors]]:
    """Start ``argv``; it is ended when the block is left early, and its stderr is gathered."""
    try:
        process = subprocess.Popen(
            list(argv), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
    except OSError as exc:
        raise BoardError(f"{argv[0]} cannot be started ({exc.strerror})", where=NAME) from exc
    errors = transport.Errors()
    assert process.stderr is not None  # a pipe, above
    gatherer = threading.Thread(target=_gather, args=(process.stderr, errors), daemon=True)
    gatherer.start()
    try:
        yield process, errors
        gatherer.join(timeout=5)
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(timeout=1)
            except subprocess.TimeoutExpired:
                process.kill()
        process.wait()
        gatherer.join(timeout=5)
        for pipe in (process.stdin, process.stdout, process.stderr):
            with contextlib.suppress(OSError):  # stdin may be broken already
                if pipe is not None:
                    pipe.close()


@contextlib.contextmanager
def _deadline(process: subprocess.Popen[bytes], timeout_s: float) -> Iterator[threading.Event]:
    late, began = threading.Event(), time.monotonic()

    def end() -> None:
        if process.poll() is None and time.monotonic() - began >= timeout_s:
            late.set()
            process.kill()

    timer = threading.Timer(timeout_s, end)
    timer.daemon = True
    timer.start()
    try:
        yield late
    finally:
        timer.cancel()


def _feed(pipe: IO[bytes], stdin: bytes | Iterable[bytes]) -> None:
    # Not errors here: the program may end without reading all its input (the pipe is then broken,
    # or closed by the main thread), and of a file that cannot be read on it gets too little.
    with contextlib.suppress(OSError, ValueError), pipe:
        for chunk in [stdin] if isinstance(stdin, bytes) else stdin:
            pipe.write(chunk)
            pipe.flush()  # a line that the program waits for


def _gather(pipe: IO[bytes], errors: transport.Errors) -> None:
    with contextlib.suppress(OSError, ValueError):  # closed under us when the block was left early
        for chunk in _chunks(pipe):
            errors.add(chunk)


def _chunks(pipe: IO[bytes]) -> Iterator[bytes]:
    while chunk := os.read(pipe.fileno(), _READ):
        yield chunk


def _shell_status(status: int) -> int:
    return status if status >= 0 else 128 - status
