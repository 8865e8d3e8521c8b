# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Add a board of the user's: learn its host key with the user's consent, then what it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from edgeopt.boards import facts, registry, ssh, ssh_config
from edgeopt.boards.address import Address
from edgeopt.boards.address import fingerprint as fingerprint_of
from edgeopt.boards.facts import BoardFacts
from edgeopt.boards.registry import BoardEntry
from edgeopt.boards.ssh import SshTransport
from edgeopt.errors import BoardError, InputError


def parse_address(text: str, key: str | None = None) -> Address:
    """Read ``user@host[:port]``, or a name of ``~/.ssh/config``, which fills in what is not said.

    An IPv6 address stands in brackets. ``key`` is a private key file. Raises InputError.
    """
    found = ssh_config.split(text)
    if found is None:
        raise InputError(
            f"{text!r} is not user@host or user@host:port",
            where="--ssh",
            hint="An IPv6 address stands in brackets: user@[::1]:22." if "::" in text else None,
        )
    user, host, port = found
    address = ssh_config.resolve(host, user=user, port=port, key=key)
    plain = Address(user=user or address.user, host=host, port=port or 22, key=key)
    return address if address == plain else replace(address, given=text)


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
    if any of it fails. Raises InputError for the name, BoardError for the rest.
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
        ssh=address.given,
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
    if expected is not None:
        shown = ssh.fetch_host_key(name, address)
        if expected != fingerprint_of(shown):
            raise BoardError(
                f"{address.known_as} shows the host key {fingerprint_of(shown)}, expected "
                f"{expected}",
                where=name,
                hint="Is this the right machine? On it: ssh-keygen -lf "
                "/etc/ssh/ssh_host_ed25519_key.pub",
            )
        return shown
    shown, known = ssh.known_key(name, address)
    if known:
        return shown
    shown_fingerprint = fingerprint_of(shown)
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
