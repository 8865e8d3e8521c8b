"""Add a board of the user's: learn its host key with the user's consent, then what it is."""

from __future__ import annotations

import getpass
import re
from collections.abc import Callable

from edgeopt.boards import facts, registry, ssh
from edgeopt.boards.address import Address
from edgeopt.boards.address import fingerprint as fingerprint_of
from edgeopt.boards.facts import BoardFacts
from edgeopt.boards.registry import BoardEntry
from edgeopt.boards.ssh import SshTransport
from edgeopt.errors import BoardError, InputError

_ADDRESS = re.compile(
    r"(?:(?P<user>[^@\s]+)@)?(?P<host>\[[^\]\s]+\]|[^@:\s\[\]]+)(?::(?P<port>\d+))?"
)


def parse_address(text: str, key: str | None = None) -> Address:
    """Read ``user@host[:port]`` (an IPv6 address in brackets); the user defaults to your name."""
    found = _ADDRESS.fullmatch(text)
    port = int(found["port"] or 22) if found else 0
    if found is None or not 0 < port < 65536 or found["host"].startswith("-"):
        raise InputError(f"{text!r} is not user@host or user@host:port", where="--ssh")
    user = found["user"] or getpass.getuser()
    return Address(user=user, host=found["host"].strip("[]"), port=port, key=key)


def add(
    name: str,
    address: Address,
    *,
    target: str | None = None,
    fingerprint: str | None = None,
    confirm: Callable[[str], bool] | None = None,
) -> tuple[BoardEntry, BoardFacts]:
    """Trust the host key of ``address``, connect, read the facts, and save the board.

    The key is trusted if ``~/.ssh/known_hosts`` holds it, if its fingerprint is ``fingerprint``
    (``SHA256:...``), or if ``confirm(fingerprint)`` says so; never otherwise. Nothing is saved
    where any of it fails. Raises InputError for the name, BoardError for the rest.
    """
    registry.check_name(name)
    if registry.get(name) is not None:
        raise InputError(
            f"a board called {name!r} exists",
            hint=f"Choose another name, or run: edgeopt board remove {name}",
        )
    host_key = _trusted_key(name, address, fingerprint, confirm)
    entry = BoardEntry(
        name=name,
        kind="ssh",
        user=address.user,
        host=address.host,
        port=address.port,
        key=address.key,
        host_key=host_key,
        target=target,
    )
    with SshTransport(name, address, host_key=host_key) as transport:
        found = facts.gather(transport)
    registry.save(entry)
    return entry, found


def _trusted_key(
    name: str,
    address: Address,
    expected: str | None,
    confirm: Callable[[str], bool] | None,
) -> str:
    if expected is None and (known := ssh.known_host_key(address)) is not None:
        return known
    shown = ssh.fetch_host_key(name, address)
    shown_fingerprint = fingerprint_of(shown)
    if expected is not None:
        if expected != shown_fingerprint:
            raise BoardError(
                f"{address.known_as} shows the host key {shown_fingerprint}, expected {expected}",
                where=name,
                hint="Is this the right machine? On it: ssh-keygen -lf "
                "/etc/ssh/ssh_host_ed25519_key.pub",
            )
        return shown
    if confirm is None:
        raise BoardError(
            f"the host key of {address.known_as} is not known: it shows {shown_fingerprint}",
            where=name,
            hint="Compare it with the board's own (ssh-keygen -lf "
            "/etc/ssh/ssh_host_ed25519_key.pub) and add --fingerprint "
            f"{shown_fingerprint}",
        )
    if not confirm(shown_fingerprint):
        raise BoardError("its host key was not trusted; nothing was saved", where=name)
    return shown
