# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""An SSH server on loopback that answers what a real board cannot be made to say.

A program is run as on ``tests.boards.native``'s board, unless ``answer`` has something else to say
in its place; ``raw`` takes the place of the login shell as well.
"""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Self

import paramiko

from edgeopt.boards import transport
from edgeopt.boards.address import Address
from tests.boards import native

Answer = Callable[[str], "bytes | Iterable[bytes] | None"]


class Liar:
    """The board. ``answer`` gets the script that is to run and returns its stdout, or None."""

    def __init__(self, home: Path, answer: Answer = lambda script: None, *, raw: bool = False):
        self.home, self.answer, self.raw = home, answer, raw
        self.shell = ("sh", "-c")
        self.status = 0
        self.auths, self.key_answer = "publickey", paramiko.AUTH_SUCCESSFUL
        self.offered: list[str] = []
        self.forwarded: list[tuple[str, int]] = []
        home.mkdir(exist_ok=True, parents=True)
        self._key = paramiko.ECDSAKey.generate()
        self.key = str(home / "login-key")
        self._key.write_private_key_file(self.key)
        self.host_key = f"{self._key.get_name()} {self._key.get_base64()}"
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self.connections: list[paramiko.Transport] = []

    @property
    def address(self) -> Address:
        return Address(user="pi", host="127.0.0.1", port=self.port, key=self.key)

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for connection in self.connections:
            connection.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._server.accept()
                connection = paramiko.Transport(near)
                connection.set_log_channel("edgeopt.ssh")
                connection.add_server_key(self._key)
                self.connections.append(connection)
                with contextlib.suppress(paramiko.SSHException, EOFError, OSError):
                    connection.start_server(server=_Session(self))


class _Session(native._Session):
    def __init__(self, liar: Liar) -> None:
        super().__init__(str(liar.home))
        self.liar, self.shell = liar, liar.shell

    def get_allowed_auths(self, username: str) -> str:
        return self.liar.auths

    def check_auth_none(self, username: str) -> int:
        return paramiko.AUTH_SUCCESSFUL if self.liar.auths == "none" else paramiko.AUTH_FAILED

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        self.liar.offered.append(f"{key.get_name()} {key.get_base64()}")
        return self.liar.key_answer

    def check_channel_direct_tcpip_request(
        self, chanid: int, origin: tuple[str, int], destination: tuple[str, int]
    ) -> int:
        self.liar.forwarded.append(destination)
        threading.Thread(target=self._forward, args=(chanid, destination), daemon=True).start()
        return paramiko.OPEN_SUCCEEDED

    def _forward(self, chanid: int, destination: tuple[str, int]) -> None:
        connection = next(c for c in self.liar.connections if c.server_object is self)
        channel = connection.accept(10)
        assert channel.get_id() == chanid
        far = socket.create_connection(destination)

        def copy(read: Callable[[int], bytes], write: Callable[[bytes], object]) -> None:
            with contextlib.suppress(OSError, EOFError):
                while data := read(1 << 16):
                    write(data)
            far.close()
            with contextlib.suppress(EOFError):  # the connection may be over already
                channel.close()

        threading.Thread(target=copy, args=(channel.recv, far.sendall), daemon=True).start()
        copy(far.recv, channel.sendall)

    def _run(self, channel: paramiko.Channel, command: bytes) -> None:
        script = decoded(command.decode())
        said = self.liar.answer(script)
        if said is None:
            super()._run(channel, command)
            return
        chunks = [said] if isinstance(said, bytes) else said
        with contextlib.suppress(OSError, EOFError):
            if not self.liar.raw:
                channel.sendall(transport.BEGIN_MARK)
                channel.sendall_stderr(transport.BEGIN_MARK)  # and no process to be ended
            for chunk in chunks:
                channel.sendall(chunk)
            if not self.liar.raw:
                channel.sendall(transport.END_MARK)
            channel.send_exit_status(self.liar.status)
            time.sleep(0.02)
            channel.close()


def decoded(command: str) -> str:
    """Return the script that edgeopt sent as octal numbers."""
    encoded = command.rpartition(" sh '")[2].rstrip("'")
    found = re.sub(r"\\0([0-7]{3})", lambda m: chr(int(m[1], 8)), encoded)
    return found.encode("latin-1", "replace").decode("utf-8", "replace")
