# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Log in to a board with a key: those that the user named, the agent's, or the default ones."""

from __future__ import annotations

import base64
import contextlib
import os
import shlex
import socket
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeopt.boards.address import Address
from edgeopt.errors import BoardError

if TYPE_CHECKING:
    import paramiko

_DEFAULTS = ("id_ed25519", "id_ecdsa", "id_rsa")
_OPENSSH = b"-----BEGIN OPENSSH PRIVATE KEY-----"
_LARGEST_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Keys:
    """The keys to log in with, in their order, each with its name.

    The other files cannot be used: ``locked`` have a passphrase, ``hardware`` are of a security
    key, and ``broken`` are no key.
    """

    usable: tuple[tuple[str, Any], ...]
    locked: tuple[str, ...] = ()
    hardware: tuple[str, ...] = ()
    broken: tuple[BoardError, ...] = ()


@contextlib.contextmanager
def candidates(address: Address, name: str) -> Iterator[Keys]:
    """Yield the keys for ``address``; the agent is asked until the block ends.

    Raises BoardError for a key file that the user named and that is none; of those that
    ``~/.ssh/config`` names, as ssh does, what is not there is left out.
    """
    with _agent_keys(address) as agents:
        yield _candidates(address, name, agents)


def _candidates(address: Address, name: str, agents: Sequence[tuple[str, Any]]) -> Keys:
    files = [address.key] if address.key is not None else list(address.keys)
    if not files:
        files = [f"~/.ssh/{name}" for name in _DEFAULTS]
        files = [f for f in files if Path(f).expanduser().is_file()]
    usable: list[tuple[str, Any]] = []
    locked: list[str] = []
    broken: list[BoardError] = []
    hardware = [f"~/.ssh/{n}" for n in ("id_ed25519_sk", "id_ecdsa_sk") if _there(f"~/.ssh/{n}")]
    for file in files:
        if address.key is None and not _there(file) and not _there(f"{file}.pub"):
            continue
        try:
            usable.append((file, _load(file, name)))
        except _OfAgentError as exc:
            held = [key for _, key in agents if key.asbytes() == exc.public]
            usable += [(file, key) for key in held]
            if not held:
                (hardware if exc.hardware else locked).append(file)
        except BoardError as exc:
            if address.key is not None:
                raise
            broken.append(exc)
    if not address.only_these_keys:
        mine = {key.asbytes() for _, key in usable}
        usable += [(label, key) for label, key in agents if key.asbytes() not in mine]
    if address.key is not None and not usable and hardware[-1:] == [address.key]:
        raise _hardware(address.key, name)
    return Keys(
        usable=tuple(usable),
        locked=tuple(locked),
        hardware=tuple(hardware),
        broken=tuple(broken),
    )


def log_in(connection: paramiko.Transport, address: Address, name: str, keys: Keys) -> None:
    """Log in. Raises BoardError if the board takes none of ``keys``."""
    import paramiko

    try:  # as ssh does: it is enough for some boards, and tells what else is
        if not connection.auth_none(address.user):
            return
        takes = ["publickey"]
    except paramiko.BadAuthenticationType as exc:
        takes = exc.allowed_types
    except paramiko.AuthenticationException:
        takes = ["publickey"]
    if "publickey" not in takes:
        raise BoardError(
            f"{address} takes no key, only: {', '.join(takes) or 'nothing'}",
            where=name,
            hint="edgeopt asks for no password. Allow PubkeyAuthentication in its sshd_config.",
        )
    offered = []
    for label, key in keys.usable:
        try:
            more = connection.auth_publickey(address.user, key)
        except paramiko.AuthenticationException:
            offered.append(label)
            continue
        except (paramiko.SSHException, EOFError) as exc:
            if connection.is_active():  # the agent would not sign with it, say
                offered.append(f"{label} ({exc})")
                continue
            raise BoardError(
                f"{address} hung up after {len(offered) + 1} keys that it does not accept",
                where=name,
                hint="Name the right one with --key, or with IdentityFile and IdentitiesOnly in "
                "~/.ssh/config.",
            ) from exc
        if not more:
            return
        raise BoardError(
            f"{address} accepts {label}, but asks for more ({', '.join(more)}): edgeopt logs in "
            "with a key alone",
            where=name,
        )
    raise _refused(address, name, keys, offered)


def _refused(address: Address, name: str, keys: Keys, offered: list[str]) -> BoardError:
    copy = f"ssh-copy-id -p {address.port} {shlex.quote(f'{address.user}@{address.host}')}"
    if keys.locked:
        file = keys.locked[0]
        return BoardError(
            f"the key {file} has a passphrase and no agent holds it",
            where=name,
            hint=f"Run: ssh-add {_word(file)}",
        )
    if keys.broken:
        return keys.broken[0]
    if not offered and keys.hardware:
        return _hardware(keys.hardware[0], name)
    if not offered:
        return BoardError(
            f"no key to log in to {address} with: no --key, no agent, none in ~/.ssh",
            where=name,
            hint=f"Make one with: ssh-keygen -t ed25519, then: {copy}",
        )
    if address.key is not None:
        offered = [address.key]
    elif not address.keys:
        offered = ["any key of your agent or ~/.ssh"]
    return BoardError(
        f"{address} does not accept {', '.join(offered)}", where=name, hint=f"Try: {copy}"
    )


def _hardware(file: str, name: str) -> BoardError:
    return BoardError(
        f"the key {file} is held by a security key, which only an agent can sign with",
        where=name,
        hint=f"Run: ssh-add {_word(file)}, or use a key without one.",
    )


def _word(file: str) -> str:
    return file if file.startswith("~") and " " not in file else shlex.quote(file)


class _OfAgentError(Exception):
    """A key file that only an agent can use: locked by a passphrase, or of a security key."""

    def __init__(self, public: bytes | None, *, hardware: bool = False) -> None:
        super().__init__()
        self.public, self.hardware = public, hardware


def _load(file: str, name: str) -> Any:
    """Return the key in ``file``. Raises ``_OfAgentError``, and BoardError if it is none."""
    import paramiko
    from cryptography.exceptions import UnsupportedAlgorithm

    path = Path(file).expanduser()
    try:
        data = path.read_bytes() if path.stat().st_size <= _LARGEST_BYTES else b""
    except OSError as exc:
        if (public := _public(path)) is not None:  # the agent's, or a security key's, handle
            raise _OfAgentError(public) from exc
        raise BoardError(f"the key {file} cannot be read ({exc.strerror})", where=name) from exc
    public = _public_in(data) or _public(path)
    if public is not None and public[4:7] == b"sk-":
        raise _OfAgentError(public, hardware=True)
    try:
        return paramiko.PKey.from_path(path)
    except (TypeError, paramiko.PasswordRequiredException) as exc:  # TypeError: of cryptography
        raise _OfAgentError(public) from exc
    except (
        ValueError,
        UnsupportedAlgorithm,
        paramiko.SSHException,
        paramiko.UnknownKeyType,
    ) as exc:
        raise BoardError(
            f"the key {file} {_what(data)}",
            where=name,
            hint="Name a private key of ed25519, ECDSA or RSA, as ssh-keygen writes it.",
        ) from exc


def _what(data: bytes) -> str:
    """Return what a file that is no usable key is."""
    if data.startswith((b"ssh-", b"ecdsa-", b"sk-", b"---- BEGIN SSH2 PUBLIC")):
        return "is a public key; the private one is beside it, without .pub"
    if data.startswith(b"PuTTY-User-Key"):
        return "is one of PuTTY; convert it with: puttygen KEY -O private-openssh"
    if b"BEGIN DSA" in data or b"ssh-dss" in (_public_in(data) or b""):
        return "is of DSA, which is too weak and which sshd no longer takes"
    return "is no private key, or one that is damaged" if data else "is empty, or no key"


def _public_in(data: bytes) -> bytes | None:
    """Return the public half that an OpenSSH key file holds in the clear (PROTOCOL.key)."""
    if not data.startswith(_OPENSSH):
        return None
    try:
        blob = base64.b64decode(b"".join(data.split(b"\n")[1:]).partition(b"-")[0])
        if not blob.startswith(b"openssh-key-v1\0"):
            return None
        place, fields = 15, []
        for number in range(5):  # cipher, kdf, its options, how many keys, the first public one
            if number == 3:
                place += 4
                continue
            length = int.from_bytes(blob[place : place + 4], "big")
            fields.append(blob[place + 4 : place + 4 + length])
            place += 4 + length
        return fields[3]
    except ValueError:
        return None


def _public(path: Path) -> bytes | None:
    """Return the public key beside the file ``path``."""
    try:
        return base64.b64decode(Path(f"{path}.pub").read_bytes().split()[1])
    except (OSError, ValueError, IndexError):
        return None


def _there(file: str) -> bool:
    return Path(file).expanduser().is_file()


@contextlib.contextmanager
def _agent_keys(address: Address) -> Iterator[list[tuple[str, Any]]]:
    """Yield the keys of the user's agent; none if it does not run."""
    import paramiko
    from paramiko.agent import AgentSSH

    class Agent(AgentSSH):
        """An agent at a place of the user's choice; paramiko's own knows the environment's only."""

        def __init__(self, wire: socket.socket) -> None:
            super().__init__()
            self._connect(wire)

    place = address.agent or os.environ.get("SSH_AUTH_SOCK") or "none"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as wire:
        keys: Iterable[Any] = ()
        with contextlib.suppress(OSError, paramiko.SSHException):  # absent, or broken
            if place != "none":
                wire.connect(str(Path(place).expanduser()))
                keys = Agent(wire).get_keys()
        yield [(f"{key.comment or key.get_name()} of the agent", key) for key in keys]
