# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""An SSH server on loopback that runs real programs on this machine: a board without emulation.

As a program (``python -m tests.boards.native HOME KEY PORT SESSIONS``) it has a plug to
pull: SIGKILL to its process group ends it with all that runs on it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Self

import paramiko

ROOT = Path(__file__).parents[2]
_READ = 1 << 16


class Native:
    """The board: its home directory outlives ``cut``, its address and host key stay the same."""

    def __init__(self, home: Path, key: Path, *, max_sessions: int = 10) -> None:
        self.home, self.key, self.port, self.max_sessions = home, key, 0, max_sessions
        home.mkdir(exist_ok=True, parents=True)
        if not key.exists():
            paramiko.ECDSAKey.generate().write_private_key_file(str(key))
        self._process: subprocess.Popen[str] | None = None

    @property
    def host_key(self) -> str:
        """The key that it shows, as ``type base64``."""
        key = paramiko.ECDSAKey(filename=str(self.key))
        return f"{key.get_name()} {key.get_base64()}"

    def up(self) -> Self:
        """Start it; it answers once this returns."""
        words = [sys.executable, "-m", "tests.boards.native"]
        self._process = subprocess.Popen(
            [*words, str(self.home), str(self.key), str(self.port), str(self.max_sessions)],
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            cwd=ROOT,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        return self

    def cut(self) -> None:
        """Cut its power: nothing of it runs on."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None

    def processes(self) -> list[str]:
        """Return the command lines of what runs there, but for the server itself."""
        return list(self.lines().values())

    def lines(self) -> dict[int, str]:
        """Return process id -> command line of what runs there, but for the server itself.

        Nothing else on this machine: an emulated board's agent is a process of it as well.
        """
        assert self._process is not None
        found = {}
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError, IndexError):
                session = int((entry / "stat").read_text().rpartition(")")[2].split()[3])
                if session == self._process.pid and int(entry.name) != self._process.pid:
                    words = (entry / "cmdline").read_bytes().split(b"\0")
                    found[int(entry.name)] = b" ".join(words).decode(errors="replace")
        return found

    def __enter__(self) -> Self:
        return self.up()

    def __exit__(self, *exc: object) -> None:
        self.cut()


class Link:
    """A TCP relay to a board whose link can be reset, stalled and slowed.

    ``after`` is called once so many bytes went to the board.
    """

    def __init__(self, to_port: int, *, bytes_per_s: float | None = None) -> None:
        self.to_port, self.bytes_per_s = to_port, bytes_per_s
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._stalled: list[threading.Event] = []
        self._flows = threading.Event()
        self._flows.set()
        self._ends: list[socket.socket] = []
        self.sent_bytes = 0
        self._marks: list[tuple[int, threading.Event]] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def reset(self) -> None:
        """Reset every connection (RST), as a NAT box or a rebooting peer does."""
        ends, self._ends = self._ends, []
        for end in ends:
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                end.shutdown(socket.SHUT_RD)  # wakes the thread that reads it
                end.close()

    def stall(self) -> None:
        """Forward nothing more of what is connected now, and close nothing: a pulled cable."""
        self._flows.clear()
        self._stalled.append(self._flows)
        self._flows = threading.Event()
        self._flows.set()

    def flow(self) -> None:
        """End what was stalled, so that both sides see it."""
        self.reset()
        for flows in self._stalled:
            flows.set()

    def after(self, count: int) -> threading.Event:
        """Return what is set once ``count`` bytes more went to the board."""
        reached = threading.Event()
        self._marks.append((self.sent_bytes + count, reached))
        return reached

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._server.accept()
                try:
                    far = socket.create_connection(("127.0.0.1", self.to_port))
                except OSError:
                    near.close()
                    continue
                threading.Thread(target=self._relay, args=(near, far), daemon=True).start()

    def _relay(self, near: socket.socket, far: socket.socket) -> None:
        flows = self._flows
        self._ends += [near, far]
        up = threading.Thread(target=self._copy, args=(near, far, True, flows), daemon=True)
        up.start()
        self._copy(far, near, False, flows)
        up.join()
        for end in (near, far):
            end.close()
            with contextlib.suppress(ValueError):  # it was reset
                self._ends.remove(end)

    def _copy(
        self, source: socket.socket, sink: socket.socket, up: bool, flows: threading.Event
    ) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 14):
                flows.wait()
                sink.sendall(data)
                if up:
                    self._count(len(data))
        # a server that is gone ends the client's connection as well
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR if up else socket.SHUT_RDWR)

    def _count(self, count: int) -> None:
        self.sent_bytes += count
        for mark, reached in self._marks:
            if self.sent_bytes >= mark:
                reached.set()
        if self.bytes_per_s is not None:
            time.sleep(count / self.bytes_per_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.close()
        self.flow()


class _Session(paramiko.ServerInterface):
    shell: tuple[str, ...] = ("sh", "-c")

    def __init__(self, home: str, max_sessions: int = 10) -> None:
        self.home = home
        self.free = threading.Semaphore(max_sessions)

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        return paramiko.AUTH_SUCCESSFUL

    def check_channel_request(self, kind: str, chanid: int) -> int:
        if not self.free.acquire(blocking=False):
            return paramiko.OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED
        return paramiko.OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        threading.Thread(target=self._run, args=(channel, command), daemon=True).start()
        return True

    def _run(self, channel: paramiko.Channel, command: bytes) -> None:
        process = subprocess.Popen(
            [*self.shell, command.decode()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=self.home,
            env={"HOME": self.home, "PATH": os.environ["PATH"]},
        )
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        threading.Thread(target=_feed, args=(channel, process.stdin), daemon=True).start()
        copies = [
            threading.Thread(target=_copy, args=(pipe, channel, send), daemon=True)
            for pipe, send in (
                (process.stdout, channel.sendall),
                (process.stderr, channel.sendall_stderr),
            )
        ]
        for copy in copies:
            copy.start()
        began = time.monotonic()
        status = process.wait()
        for copy in copies:
            copy.join()
        # paramiko accepts the request only after it was told of; sshd never ends a program before.
        time.sleep(max(0.0, 0.1 - (time.monotonic() - began)))
        with contextlib.suppress(OSError, EOFError):
            channel.send_exit_status(status if status >= 0 else 128 - status)
            channel.close()
        self.free.release()


def _feed(channel: paramiko.Channel, pipe: IO[bytes]) -> None:
    """As sshd does, give the program what comes, and its end when the link is gone."""
    with contextlib.suppress(OSError, ValueError), pipe:
        while data := channel.recv(_READ):
            pipe.write(data)
            pipe.flush()


def _copy(pipe: IO[bytes], channel: paramiko.Channel, send: Callable[[bytes], None]) -> None:
    """Send what the program writes; once the link is gone, its next write fails, as with sshd."""
    transport = channel.get_transport()
    with contextlib.suppress(OSError, EOFError), pipe:
        while transport.is_active() and not channel.closed:
            if select.select([pipe], [], [], 0.2)[0]:
                data = os.read(pipe.fileno(), _READ)
                if not data:
                    return
                send(data)


def _serve(home: str, key: str, port: int, max_sessions: int) -> None:
    host_key = paramiko.ECDSAKey(filename=key)
    with socket.create_server(("127.0.0.1", port)) as server:
        print(server.getsockname()[1], flush=True)
        while True:
            near, _ = server.accept()
            threading.Thread(
                target=_talk, args=(near, host_key, home, max_sessions), daemon=True
            ).start()


def _talk(near: socket.socket, host_key: paramiko.PKey, home: str, max_sessions: int) -> None:
    with contextlib.suppress(paramiko.SSHException, OSError, EOFError):
        transport = paramiko.Transport(near)
        transport.add_server_key(host_key)
        transport.start_server(server=_Session(home, max_sessions))


if __name__ == "__main__":
    logging.getLogger("paramiko").addHandler(logging.NullHandler())
    _serve(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
