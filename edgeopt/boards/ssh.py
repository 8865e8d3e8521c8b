"""A board over SSH, with a pinned host key."""

from __future__ import annotations

import contextlib
import shlex
import socket
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from edgeopt.boards import transport
from edgeopt.boards.address import Address, fingerprint
from edgeopt.boards.transport import Completed, Progress
from edgeopt.errors import BoardError

if TYPE_CHECKING:
    import paramiko

CONNECT_TIMEOUT_S = 15.0
# A peer that acknowledges nothing for this long is gone. Without it, an upload over a cut link
# hangs for over 80 s, and a channel time-out does not help.
_UNACKNOWLEDGED_MS = 10_000
# A board whose kernel still acknowledges while its sshd hangs (out of memory, a dying SD card) is
# given up when it has not answered for this long; it is asked this often.
_SILENCE_S = 45.0
_PING_S = 10.0
_READ = 1 << 16


def fetch_host_key(name: str, address: Address) -> str:
    """Return the key that the server shows now, unverified, as ``type base64``."""
    import paramiko

    with _mapped(address, name):
        connection = paramiko.Transport(_socket(address))
        try:
            connection.start_client(timeout=CONNECT_TIMEOUT_S)
            key = connection.get_remote_server_key()
        finally:
            connection.close()
    return f"{key.get_name()} {key.get_base64()}"


def known_host_key(address: Address) -> str | None:
    """Return the key that ``~/.ssh/known_hosts`` holds for this address, None where it has none."""
    import paramiko

    path = Path("~/.ssh/known_hosts").expanduser()
    known = paramiko.HostKeys()
    try:
        known.load(str(path))
    except (OSError, paramiko.SSHException, ValueError):
        return None  # absent or unreadable: the host is unknown, which asks the user
    keys = known.lookup(address.known_as) or {}
    for kind in sorted(keys, key=lambda k: k != "ssh-ed25519"):
        return f"{kind} {keys[kind].get_base64()}"
    return None


class SshTransport:
    """One SSH connection; every program runs in a channel of its own."""

    def __init__(self, name: str, address: Address, *, host_key: str) -> None:
        """Connect, accepting ``host_key`` (``type base64``) and no other.

        Raises BoardError: no such host, refused, silent, not trusted, or login refused.
        """
        import paramiko

        self.name, self.address = name, address
        kind, text = host_key.split()[:2]
        entry = paramiko.hostkeys.HostKeyEntry.from_line(f"{address.known_as} {kind} {text}")
        if entry is None or entry.key is None:
            raise BoardError(f"its pinned host key is not one: {kind}", where=name)
        client = paramiko.SSHClient()
        client.get_host_keys().add(address.known_as, kind, entry.key)
        client.set_missing_host_key_policy(paramiko.RejectPolicy())
        with _mapped(address, name):
            _check_key_file(address, name)
            try:
                client.connect(
                    address.host,
                    port=address.port,
                    username=address.user,
                    key_filename=address.key,
                    look_for_keys=address.key is None,
                    sock=_socket(address),
                    timeout=CONNECT_TIMEOUT_S,
                    banner_timeout=CONNECT_TIMEOUT_S,
                    auth_timeout=CONNECT_TIMEOUT_S,
                )
            except BaseException:
                client.close()
                raise
        self._client = client
        connection = client.get_transport()
        assert connection is not None  # connected above
        self._connection = connection
        self._answered_at = time.monotonic()
        self._closed = threading.Event()
        threading.Thread(target=self._ping, daemon=True).start()

    def run(
        self, argv: Sequence[str], *, stdin: bytes | Iterable[bytes] = b"", timeout_s: float
    ) -> Completed:
        """See ``Transport.run``."""
        running = _Running(self, argv, stdin, timeout_s)
        output = bytearray()
        try:
            while chunk := running.read():
                output += chunk
            status = running.exit_status()
        except BaseException:
            running.kill()
            raise
        return Completed(exit_status=status, stdout=bytes(output), stderr=running.stderr())

    def lines(self, argv: Sequence[str], *, timeout_s: float) -> Iterator[str]:
        """See ``Transport.lines``."""
        running = _Running(self, argv, b"", timeout_s)
        try:
            rest = b""
            while chunk := running.read():
                *whole, rest = (rest + chunk).split(b"\n")
                for line in whole:
                    yield line.decode(errors="replace")
            if rest:
                yield rest.decode(errors="replace")
            status = running.exit_status()
        except BaseException:
            running.kill()
            raise
        if status:
            raise transport.failed(self.name, argv, status, running.stderr())

    def put(
        self, local: Path, remote: str, *, mode: int = 0o644, progress: Progress | None = None
    ) -> None:
        """See ``Transport.put``."""
        transport.send(self, local, remote, mode=mode, progress=progress)

    def close(self) -> None:
        """Close the connection."""
        self._closed.set()
        self._client.close()

    def _ping(self) -> None:
        """Ask sshd for any answer, again and again; this also keeps NAT tables awake."""
        while not self._closed.wait(_PING_S) and self._connection.is_active():
            try:  # sshd does not know this request and says so, which is the answer
                self._connection.global_request("keepalive@openssh.com", wait=True)
            except (OSError, EOFError):
                return
            self._answered_at = time.monotonic()

    @property
    def silent(self) -> bool:
        """True where the board has not answered for ``_SILENCE_S``."""
        return time.monotonic() - self._answered_at > _SILENCE_S

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

    def open_channel(self, timeout_s: float) -> paramiko.Channel:
        """Open a channel for one program."""
        import paramiko

        try:
            return self._connection.open_session(timeout=timeout_s)
        except (paramiko.SSHException, EOFError, OSError) as exc:
            raise self.lost() from exc

    @property
    def alive(self) -> bool:
        """True while the connection stands."""
        return self._connection.is_active()


class _Running:
    """A program in a channel: one thread feeds its stdin, one gathers its stderr."""

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
        self._errors = bytearray()
        command = shlex.join(["sh", "-c", transport.LAUNCH, "sh", *argv])
        with _lost_when_closed(owner):
            self._channel.exec_command(command)
        self._threads = [
            threading.Thread(target=self._gather, daemon=True),
            threading.Thread(target=self._feed, args=(stdin,), daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def _gather(self) -> None:
        with contextlib.suppress(OSError, EOFError):  # the main thread tells of a lost connection
            while chunk := self._channel.recv_stderr(_READ):
                self._errors += chunk

    def _feed(self, stdin: bytes | Iterable[bytes]) -> None:
        # Not errors here: a program that ends without reading all its input closes the channel,
        # and of a local file that cannot be read on, the program gets too little and says so.
        with contextlib.suppress(OSError, EOFError):
            for chunk in [stdin] if isinstance(stdin, bytes) else stdin:
                self._channel.sendall(chunk)
        with contextlib.suppress(OSError, EOFError):
            self._channel.shutdown_write()

    def read(self) -> bytes:
        """Return some bytes of stdout, or b"" at its end."""
        while True:
            left_s = self._until - time.monotonic()
            if left_s <= 0:
                raise self._timed_out()
            self._channel.settimeout(min(left_s, _PING_S))
            try:
                return self._channel.recv(_READ)
            except TimeoutError:
                if self._owner.silent:
                    raise self._owner.lost() from None

    def exit_status(self) -> int:
        """Return the exit status once the program ended."""
        left_s = max(0.0, self._until - time.monotonic())
        if not self._channel.status_event.wait(left_s):
            raise self._timed_out()
        status = self._channel.exit_status
        if status < 0:
            raise self._owner.lost()
        for thread in self._threads:
            thread.join(timeout=5)
        return status

    def stderr(self) -> bytes:
        """Return what came on stderr, without the launcher's own line."""
        return b"".join(
            line
            for line in bytes(self._errors).splitlines(keepends=True)
            if not line.startswith(transport.PID_MARK)
        )

    def kill(self) -> None:
        """End the program on the board, where the connection still stands, and the channel."""
        pids = [
            line[len(transport.PID_MARK) :].strip().decode()
            for line in bytes(self._errors).splitlines()
            if line.startswith(transport.PID_MARK)
        ]
        if (
            pids
            and self._owner.alive
            and not self._owner.silent
            and not self._channel.exit_status_ready()
        ):
            # KILL alone would leave it no chance to put a governor or a sensor back.
            script = 'kill "$1" && sleep 1 && kill -9 "$1"'
            with contextlib.suppress(BoardError, OSError, EOFError):
                ending = self._owner.open_channel(CONNECT_TIMEOUT_S)
                ending.exec_command(shlex.join(["sh", "-c", script, "sh", pids[0]]))
                self._channel.status_event.wait(1.5)
                ending.close()
        self._channel.close()

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
        raise owner.lost() from exc


def _socket(address: Address) -> socket.socket:
    made = socket.create_connection((address.host, address.port), timeout=CONNECT_TIMEOUT_S)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNACKNOWLEDGED_MS)
    return made


def _check_key_file(address: Address, name: str) -> None:
    if address.key is None:
        return
    try:
        Path(address.key).read_bytes()
    except OSError as exc:
        raise BoardError(
            f"the key {address.key} cannot be read ({exc.strerror})", where=name
        ) from exc


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
    except paramiko.BadHostKeyException as exc:
        shown, pinned = (fingerprint(f"x {k.get_base64()}") for k in (exc.key, exc.expected_key))
        raise BoardError(
            f"{address.known_as} shows the host key {shown}, but {pinned} is pinned: this is "
            "another machine, a reinstalled board, or somebody in between",
            where=name,
            hint=f"If the board was reinstalled: edgeopt board remove {name}, then add it again.",
        ) from exc
    except paramiko.PasswordRequiredException as exc:
        raise BoardError(
            f"the key {address.key or 'in ~/.ssh'} has a passphrase and no agent holds it",
            where=name,
            hint=f"Run: ssh-add {address.key or ''}".rstrip(),
        ) from exc
    except paramiko.AuthenticationException as exc:
        raise BoardError(
            f"{address} does not accept {address.key or 'any key of your agent or ~/.ssh'}",
            where=name,
            hint=f"Try: ssh-copy-id -p {address.port} {address.user}@{address.host}",
        ) from exc
    except TimeoutError as exc:
        raise BoardError(
            f"{address.known_as} does not answer within {CONNECT_TIMEOUT_S:g} s",
            where=name,
            hint="Is the board up and on this network?",
        ) from exc
    except (paramiko.SSHException, EOFError) as exc:
        if "No authentication methods" in str(exc):  # paramiko has no class of its own for it
            raise BoardError(
                f"no key to log in to {address} with: no --key, no agent, none in ~/.ssh",
                where=name,
                hint="Make one with: ssh-keygen -t ed25519, then: ssh-copy-id "
                f"-p {address.port} {address.user}@{address.host}",
            ) from exc
        raise BoardError(
            f"{address.known_as} does not speak SSH as expected ({exc})", where=name
        ) from exc
    except OSError as exc:
        raise BoardError(
            f"{address.known_as} cannot be reached ({exc.strerror or exc})", where=name
        ) from exc
