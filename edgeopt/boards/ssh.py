# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""A board over SSH, with a pinned host key."""

from __future__ import annotations

import contextlib
import shlex
import socket
import subprocess
import threading
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from edgeopt import progress
from edgeopt.boards import known_hosts, login, transport
from edgeopt.boards.address import CONNECT_TIMEOUT_S, Address, fingerprint, key_of
from edgeopt.boards.transport import BEGIN_MARK, END_MARK, Completed, Progress
from edgeopt.errors import BoardError

if TYPE_CHECKING:
    import paramiko

_START_TIMEOUT_S = 30.0  # of a program: sshd, a login shell with its files, and sh on a slow board
# A peer that acknowledges nothing for this long is gone. Without it, an upload over a cut link
# hangs for over 80 s, and a channel time-out does not help.
_UNACKNOWLEDGED_MS = 10_000
# A board of which nothing at all came for this long is given up; after a while without anything
# it is asked, which every sshd answers. ServerAliveInterval and -CountMax of ~/.ssh/config change
# it. Linux gives sshd its turn within that even if a model runs on every core.
_SILENCE_S, _CHECKS = 12.0, 5
_PING_S = 3.0
# A program that is read by lines and ends none for this long hangs: the agent ends one a second,
# or after each call of a large model on a slow board.
_PAUSE_S = 1800.0
_FREE_S = 3.0  # sshd with MaxSessions 1 frees a session a moment after it was closed
_READ = 1 << 16


def fetch_host_key(name: str, address: Address, kinds: Sequence[str] = ()) -> str:
    """Return the key that the server shows now, unverified, as ``type base64``.

    Of several that it has, one of ``kinds`` if there is one.
    """
    with _mapped(address, name), _opened(name, address, kinds) as connection:
        key = connection.get_remote_server_key()
    return f"{key.get_name()} {key.get_base64()}"


class SshTransport:
    """One SSH connection; every program runs in a channel of its own."""

    def __init__(self, name: str, address: Address, *, host_key: str, asks: bool = True) -> None:
        """Connect, accepting ``host_key`` (``type base64``) and no other.

        A board of which nothing came for a while is asked whether it is there, and given up if it
        does not answer. Without ``asks`` it is not: an emulator that ends closes the connection.

        Raises BoardError: no such host, refused, silent, not trusted, or login refused.
        """
        self.name, self.address = name, address
        pinned = key_of(host_key.split())  # without a comment
        if pinned is None:
            raise BoardError(
                "its pinned host key is not one",
                where=name,
                hint=f"Run: edgeopt board remove {name}, then add it again.",
            )
        kind, text = pinned.split()
        if pinned in known_hosts.read(address).revoked:
            raise _revoked(name, address, pinned)
        with contextlib.ExitStack() as stack:
            with _mapped(address, name), login.candidates(address, name) as keys:
                self._connection = stack.enter_context(_opened(name, address, [kind]))
                shown = self._connection.get_remote_server_key()
                if shown.get_base64() != text:
                    raise _another_key(name, address, shown.get_base64(), text)
                login.log_in(self._connection, address, name, keys)
            self._stack = stack.pop_all()
        silence_s = address.silence_s or _SILENCE_S
        self._ping_s = min(_PING_S, silence_s / 4)
        self.check_s = silence_s / _CHECKS
        self._heard_s, self._unheard = 0.0, 0
        self._closed = threading.Event()
        self._asks = asks
        if asks:
            threading.Thread(target=self._ping, daemon=True).start()

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes | Iterable[bytes] = b"",
        timeout_s: float,
        limit_bytes: int = transport.OUTPUT_BYTES,
    ) -> Completed:
        """See ``Transport.run``."""
        with _Running(self, argv, stdin, timeout_s) as running:
            output = bytearray()
            for chunk in running.output():
                output += chunk
                if len(output) > limit_bytes:
                    raise transport.too_much(self.name, argv, limit_bytes)
            status = running.exit_status()
        return Completed(exit_status=status, stdout=bytes(output), stderr=running.errors.text)

    def lines(
        self, argv: Sequence[str], *, stdin: bytes | Iterable[bytes] = b"", timeout_s: float
    ) -> Generator[str, None, None]:
        """See ``Transport.lines``."""
        with _Running(self, argv, stdin, timeout_s) as running:
            running.pause_s = _PAUSE_S
            yield from transport.split_lines(running.output(), self.name, argv)
            status = running.exit_status()
        if status:
            raise transport.failed(self.name, argv, status, running.errors.text)

    def put(
        self, local: Path, remote: str, *, mode: int = 0o644, progress: Progress | None = None
    ) -> None:
        """See ``Transport.put``."""
        transport.send(self, local, remote, mode=mode, progress=progress)

    def close(self) -> None:
        """Close the connection."""
        self._closed.set()
        self._stack.close()

    def _ping(self) -> None:
        """Ask sshd for any answer, again and again; this also keeps NAT tables awake."""
        while not self._closed.wait(self._ping_s) and self._connection.is_active():
            with contextlib.suppress(OSError, EOFError):
                # sshd does not know this request and says so, which is the answer
                self._connection.global_request("keepalive@openssh.com", wait=True)

    def check(self) -> None:
        """Raise BoardError if, over several waits of ``check_s``, nothing came from the board.

        Counted in waits, not on the clock: this machine may have slept.
        """
        if not self._asks:
            return
        heard_s = self._connection.sock.heard_s
        self._unheard = self._unheard + 1 if heard_s == self._heard_s else 0
        self._heard_s = heard_s
        if self._unheard >= _CHECKS:
            self._connection.close()  # so that nothing waits for it again
            raise self.lost()

    @property
    def silent(self) -> bool:
        """True if ``check`` gave the board up."""
        return self._unheard >= _CHECKS

    def forward(self, host: str, port: int) -> paramiko.Channel:
        """Open a connection from that machine to another one."""
        import paramiko

        try:
            return self._connection.open_channel(
                "direct-tcpip", (host, port), ("127.0.0.1", 0), timeout=CONNECT_TIMEOUT_S
            )
        except paramiko.ChannelException as exc:
            raise BoardError(
                f"the jump host {self.address} does not reach {host} port {port} ({exc.text})",
                where=self.name,
            ) from exc

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def lost(self) -> BoardError:
        """Return the error for a connection that ended, or fell silent, by itself."""
        return BoardError(
            "the connection was lost (power, network, or sshd on the board)",
            where=self.name,
            hint="Check the board and run the same command again; what was uploaded is kept.",
        )

    def signal(self, channel: paramiko.Channel, name: str) -> None:
        """Have sshd send a signal to the programs of ``channel`` (RFC 4254, 6.9)."""
        import paramiko

        message = paramiko.Message()  # paramiko has a method for each request but this one
        message.add_byte(bytes([paramiko.common.MSG_CHANNEL_REQUEST]))
        message.add_int(channel.remote_chanid)
        message.add_string("signal")
        message.add_boolean(False)
        message.add_string(name)
        self._connection._send_user_message(message)

    def open_channel(self, timeout_s: float, free_s: float = _FREE_S) -> paramiko.Channel:
        """Open a channel for one program; wait ``free_s`` for one if sshd has none free."""
        import paramiko

        until = time.monotonic() + free_s
        while True:
            try:
                return self._connection.open_session(timeout=timeout_s)
            except paramiko.ChannelException as exc:
                if time.monotonic() > until:
                    raise BoardError(
                        f"its sshd lets no program be started ({exc.text})", where=self.name
                    ) from exc
                time.sleep(0.05)
            except (paramiko.SSHException, EOFError, OSError) as exc:
                if not self.alive:
                    raise self.lost() from exc
                raise BoardError(
                    f"its sshd did not begin a program within {timeout_s:g} s ({exc})",
                    where=self.name,
                    hint="Other work may take all of the board's cores or its memory. Run the same "
                    "command again; what was uploaded is kept.",
                ) from exc

    @property
    def alive(self) -> bool:
        """True while the connection stands."""
        return self._connection.is_active()


class _Running:
    """A program in a channel: one thread feeds its stdin, one gathers its stderr.

    A context manager: left by an error, it ends the program on the board.
    """

    def __init__(
        self,
        owner: SshTransport,
        argv: Sequence[str],
        stdin: bytes | Iterable[bytes],
        timeout_s: float,
    ) -> None:
        self._owner, self._argv, self._timeout_s = owner, argv, timeout_s
        self._until = time.monotonic() + timeout_s
        self._channel = owner.open_channel(min(timeout_s, CONNECT_TIMEOUT_S))
        self._began, self._ended = threading.Event(), threading.Event()
        self.errors = transport.Errors()
        self.pause_s, self._moved = timeout_s, time.monotonic()
        with _lost_when_closed(owner):
            self._channel.exec_command(transport.command_line(argv))
        self._threads = [
            threading.Thread(target=self._gather, daemon=True),
            threading.Thread(target=self._feed, args=(stdin,), daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is not None:
            self._kill()
        self._ended.set()
        self._began.set()  # lets the feeder go
        self._channel.close()

    def output(self) -> Iterator[bytes]:
        """Yield what the program writes on stdout; a login shell's own lines are left out."""
        began_until = time.monotonic() + min(self._timeout_s, _START_TIMEOUT_S)
        before = bytearray()
        while (at := before.find(BEGIN_MARK)) < 0:
            chunk = self._read(began_until)
            if not chunk or len(before) > transport.NOISE_BYTES:
                raise self._not_started(bytes(before))
            before += chunk
        self._began.set()
        held = bytes(before[at + len(BEGIN_MARK) :])  # may hold a part of the end mark
        while (at := held.find(END_MARK)) < 0:
            kept = next(n for n in range(len(END_MARK), -1, -1) if held.endswith(END_MARK[:n]))
            if safe := held[: len(held) - kept]:
                yield safe
                held = held[len(safe) :]
            chunk = self._read(self._until)
            if not chunk:
                self.exit_status()  # raises if the connection was lost
                raise BoardError(f"the answer of {self._argv[0]} was cut", where=self._owner.name)
            held += chunk
        if at:
            yield held[:at]
        noise_bytes = 0
        while chunk := self._read(self._until):
            noise_bytes += len(chunk)
            if noise_bytes > transport.NOISE_BYTES:
                raise transport.too_much(self._owner.name, self._argv, transport.NOISE_BYTES)

    def _gather(self) -> None:
        with contextlib.suppress(OSError, EOFError):  # the main thread tells of a lost connection
            while chunk := self._channel.recv_stderr(_READ):
                self.errors.add(chunk)

    def _feed(self, stdin: bytes | Iterable[bytes]) -> None:
        # Not before the program is there: another one that a login shell starts would take it for
        # what it is told to do.
        self._began.wait()
        # Not errors here: a program that ends without reading all its input closes the channel,
        # and of a local file that cannot be read on, the program gets too little and says so.
        with contextlib.suppress(OSError, EOFError):
            for chunk in [stdin] if isinstance(stdin, bytes) else stdin:
                self._send(chunk)
                if self._ended.is_set():
                    return
        with contextlib.suppress(OSError, EOFError):
            self._channel.shutdown_write()

    def _send(self, chunk: bytes) -> None:
        """Send all of ``chunk``, however slowly the program reads, unless it has ended."""
        left = memoryview(chunk)
        while left and not self._ended.is_set():
            # The time-out is the reader's, of the same channel; that nothing comes is its to see.
            with contextlib.suppress(TimeoutError):
                left = left[self._channel.send(left) :]

    def _read(self, until: float) -> bytes:
        """Return some bytes of stdout, or b"" at its end."""
        while True:
            left_s = until - time.monotonic()
            if left_s <= 0:
                if until < self._until:
                    raise self._not_started(b"nothing")
                raise self._timed_out()
            if self.errors.count > transport.OUTPUT_BYTES:
                raise transport.too_much(
                    self._owner.name, self._argv, transport.OUTPUT_BYTES, "errors"
                )
            self._channel.settimeout(min(left_s, self._owner.check_s))
            if time.monotonic() - self._moved > self.pause_s:
                raise BoardError(
                    f"{self._argv[0]} ended no line for {self.pause_s:g} s", where=self._owner.name
                )
            try:
                chunk = self._channel.recv(_READ)
            except TimeoutError:
                self._owner.check()
                continue
            if b"\n" in chunk:
                self._moved = time.monotonic()
            return chunk

    def exit_status(self) -> int:
        """Return the exit status once the program ended."""
        while not self._channel.status_event.wait(self._owner.check_s):
            self._owner.check()
            if time.monotonic() > self._until:
                raise self._timed_out()
        status = self._channel.exit_status
        if status < 0 and not self._owner.alive:
            raise self._owner.lost()
        if status < 0:
            # sshd names the signal (RFC 4254, 6.10), which paramiko drops
            raise BoardError(
                f"a signal ended the shell that ran {self._argv[0]}",
                where=self._owner.name,
                hint="The board may have run out of memory; look at dmesg there.",
            )
        for thread in self._threads[:1]:
            thread.join(timeout=5)
        return status

    def _kill(self) -> None:
        """End the program on the board, if the connection still stands."""
        if not self._owner.alive or self._owner.silent or self._channel.exit_status_ready():
            return
        # TERM first: KILL alone would leave it no chance to put a governor or a sensor back. sshd
        # before 7.9 does not pass signals on, and with MaxSessions 1 there is no second channel.
        with contextlib.suppress(BoardError, OSError, EOFError):
            self._owner.signal(self._channel, "TERM")
            if self.errors.pid is None or self._channel.status_event.wait(0.3):
                return
            script = 'kill "$1" && sleep 1 && kill -9 "$1"'
            line = transport.command_line(["sh", "-c", script, "sh", self.errors.pid])
            ending = self._owner.open_channel(CONNECT_TIMEOUT_S, free_s=0)
            ending.exec_command(line)
            self._channel.status_event.wait(1.5)
            ending.close()

    def _not_started(self, said: bytes) -> BoardError:
        """Return the error for a login shell that did not start the program."""
        if not self._owner.alive:
            return self._owner.lost()
        if self._channel.status_event.wait(1):
            self._threads[0].join(timeout=1)
        said = said + bytes(self.errors)
        return BoardError(
            f"its login shell started no program (it said {transport.tail(said)[-200:]!r})",
            where=self._owner.name,
            hint="The user needs a login shell that runs what it is given, and the board a POSIX "
            "sh; look at what the shell's start-up files there (~/.bashrc, ~/.profile) run or ask.",
        )

    def _timed_out(self) -> BoardError:
        return BoardError(
            f"{self._argv[0]} did not end within {self._timeout_s:g} s", where=self._owner.name
        )


@contextlib.contextmanager
def _lost_when_closed(owner: SshTransport) -> Iterator[None]:
    import paramiko

    try:
        yield
    except (paramiko.SSHException, EOFError, OSError) as exc:
        if owner.alive:
            raise BoardError("its sshd refuses to start a program", where=owner.name) from exc
        raise owner.lost() from exc


class _Heard:
    """A socket that notes when something last came; the rest is the socket's own."""

    def __init__(self, wrapped: Any) -> None:
        self._wrapped = wrapped
        self.heard_s = time.monotonic()

    def recv(self, size: int) -> bytes:
        data: bytes = self._wrapped.recv(size)
        self.heard_s = time.monotonic()
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._wrapped, name)


@contextlib.contextmanager
def _opened(name: str, address: Address, kinds: Sequence[str]) -> Iterator[paramiko.Transport]:
    """Connect up to the host key, which the caller checks; left, all of it is closed."""
    import logging

    import paramiko

    log = logging.getLogger("edgeopt.ssh")  # paramiko writes tracebacks if nobody listens
    if not log.handlers:
        log.addHandler(logging.NullHandler())
        log.propagate = False
    with contextlib.ExitStack() as stack:
        wire = _Heard(_wire(address, name, stack))
        stack.callback(wire.close)
        connection = paramiko.Transport(wire)
        stack.callback(connection.close)
        connection.set_log_channel(log.name)
        for limit in ("banner_timeout", "handshake_timeout", "auth_timeout", "channel_timeout"):
            setattr(connection, limit, address.timeout_s)
        options = connection.get_security_options()
        options.key_types = _preferred(options.key_types, kinds)
        connection.start_client(timeout=address.timeout_s)
        yield connection


def _preferred(offered: Sequence[str], kinds: Sequence[str]) -> list[str]:
    """Return ``offered`` with those that sign with a key of ``kinds`` first."""
    first = [t for t in offered if t in kinds or (t.startswith("rsa-sha2") and "ssh-rsa" in kinds)]
    return [*first, *(t for t in offered if t not in first)]


def _wire(address: Address, name: str, stack: contextlib.ExitStack) -> Any:
    """Return a connected socket: to the host, through a jump host, or to a command's stdio."""
    if address.jump is not None:
        hop = SshTransport(name, address.jump, host_key=_jump_key(name, address.jump))
        stack.enter_context(hop)
        return hop.forward(address.host, address.port)
    if address.command is not None:
        return _command(address.command, stack)
    return _socket(address)


def known_key(name: str, address: Address) -> tuple[str, bool]:
    """Return the key that the host shows, and whether a known_hosts file of the user's has it.

    Raises BoardError if one of them has another key of it, or says that this one is revoked.
    """
    known = known_hosts.read(address, tell=progress.note)
    shown = fetch_host_key(name, address, known.kinds)
    if known.trusts(shown):
        return shown, True
    if shown in known.revoked:
        raise _revoked(name, address, shown)
    if known.keys:
        raise _another_key(name, address, shown.split()[1], known.keys[0].split()[1])
    return shown, False


def _jump_key(name: str, address: Address) -> str:
    shown, known = known_key(name, address)
    if not known:
        raise BoardError(
            f"the host key of the jump host {address.known_as} is not known: it shows "
            f"{fingerprint(shown)}",
            where=name,
            hint="Compare it, and have ~/.ssh/known_hosts hold it: ssh -p "
            f"{address.port} {shlex.quote(f'{address.user}@{address.host}')}",
        )
    return shown


def _revoked(name: str, address: Address, key: str) -> BoardError:
    return BoardError(
        f"a known_hosts file says that the host key {fingerprint(key)} of {address.known_as} is "
        "revoked: whoever shows it is not to be trusted",
        where=name,
    )


def _command(command: str, stack: contextlib.ExitStack) -> socket.socket:
    """Return a socket that is the stdin and stdout of a ProxyCommand."""
    ours, its = socket.socketpair()
    with its:
        process = subprocess.Popen(
            ["/bin/sh", "-c", f"exec {command}"],
            stdin=its.fileno(),
            stdout=its.fileno(),
            stderr=subprocess.DEVNULL,
        )

    def end() -> None:
        ours.close()
        process.terminate()
        try:
            process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    stack.callback(end)
    return ours


def _socket(address: Address) -> socket.socket:
    """Connect to the first of the host's addresses that answers, within the time for all."""
    until = time.monotonic() + address.timeout_s
    found = _looked_up(address)
    for left, (family, kind, protocol, _, where) in zip(
        range(len(found), 0, -1), found, strict=True
    ):
        made = socket.socket(family, kind, protocol)
        made.settimeout(max((until - time.monotonic()) / left, 0.1))
        try:
            made.connect(where)
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
                made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNACKNOWLEDGED_MS)
            return made
        except BaseException as exc:
            made.close()
            if left == 1 or not isinstance(exc, OSError):
                raise
    raise AssertionError("unreachable")  # a name without an address is an error of its own


def _looked_up(address: Address) -> list[Any]:
    """Ask the resolver, which knows no time-out of its own."""
    told: list[Any] = []

    def ask() -> None:
        try:
            told.append(
                socket.getaddrinfo(
                    address.host, address.port, address.family, type=socket.SOCK_STREAM
                )
            )
        except (OSError, UnicodeError) as exc:  # UnicodeError: an empty or too long part
            told.append(exc)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(address.timeout_s)
    if not told:
        raise TimeoutError
    if isinstance(told[0], UnicodeError):
        raise socket.gaierror(socket.EAI_NONAME, str(told[0])) from told[0]
    if isinstance(told[0], OSError):
        raise told[0]
    found: list[Any] = told[0]
    return found


def _another_key(name: str, address: Address, shown: str, expected: str) -> BoardError:
    shown, pinned = (fingerprint(f"x {key}") for key in (shown, expected))
    return BoardError(
        f"{address.known_as} shows the host key {shown}, but {pinned} is pinned: this is "
        "another machine, a reinstalled board, or somebody in between",
        where=name,
        hint=f"If the board was reinstalled: edgeopt board remove {name}, then add it again.",
    )


@contextlib.contextmanager
def _mapped(address: Address, name: str) -> Iterator[Any]:
    """Turn what sockets and paramiko raise while connecting into BoardError."""
    import paramiko

    try:
        yield
    except socket.gaierror as exc:
        raise BoardError(
            f"no host is called {address.host}",
            where=name,
            hint="Check the spelling, or use the board's IP address.",
        ) from exc
    except ConnectionRefusedError as exc:
        raise BoardError(
            f"{address.known_as} refuses the connection: no sshd listens there",
            where=name,
            hint="Is the board up, and is the port right?",
        ) from exc
    except TimeoutError as exc:
        raise BoardError(
            f"{address.known_as} does not answer within {address.timeout_s:g} s",
            where=name,
            hint="Is the board up and on this network?",
        ) from exc
    except (paramiko.SSHException, EOFError) as exc:
        via = f" through {address.command!r}" if address.command else ""
        raise BoardError(
            f"{address.known_as} does not speak SSH as expected{via} ({exc or 'it hung up'})",
            where=name,
        ) from exc
    except OSError as exc:
        raise BoardError(
            f"{address.known_as} cannot be reached ({exc.strerror or exc})", where=name
        ) from exc
