# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The host keys that the user's ``known_hosts`` files hold; nothing is ever written there.

As in sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT". paramiko's own reader knows no markers and no
patterns, and ends at the first line whose key was cut.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgeopt.boards.address import Address, key_of

FILES = (
    "~/.ssh/known_hosts",
    "~/.ssh/known_hosts2",
    "/etc/ssh/ssh_known_hosts",
    "/etc/ssh/ssh_known_hosts2",
)
_LARGEST_BYTES = 64 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Known:
    """What is known of one host: ``keys`` and ``revoked`` as ``type base64``.

    ``elsewhere`` are the keys of the same host without the port: trusted if shown, but they do not
    say that another one is wrong.
    """

    keys: tuple[str, ...] = ()
    elsewhere: tuple[str, ...] = ()
    revoked: tuple[str, ...] = ()

    @property
    def kinds(self) -> list[str]:
        """The types of the keys, to ask the host for one of them; the strongest first."""
        kinds = dict.fromkeys(key.split()[0] for key in (*self.keys, *self.elsewhere))
        return sorted(kinds, key=lambda kind: kind != "ssh-ed25519")

    def trusts(self, shown: str) -> bool:
        """True if ``shown`` is one of the keys and not revoked."""
        return shown in (*self.keys, *self.elsewhere) and shown not in self.revoked


def read(address: Address, *, tell: Callable[[str], None] = lambda text: None) -> Known:
    """Return what the files say of ``address``; ``tell`` hears of each line that is skipped."""
    keys: list[str] = []
    elsewhere: list[str] = []
    revoked: list[str] = []
    for name in FILES if address.known_hosts is None else address.known_hosts:
        path = Path(name).expanduser()
        for number, line in enumerate(_lines(path), 1):
            words = line.split()
            if not words or words[0].startswith("#"):
                continue
            marker = words.pop(0) if words[0].startswith("@") else None
            key = key_of(words[1:])
            if key is None or marker not in (None, "@revoked", "@cert-authority"):
                tell(f"{path}:{number}: skipped, no line with a host key")
                continue
            if _matches(words[0], address.known_as):
                if marker == "@cert-authority":
                    tell(
                        f"{path}:{number}: skipped, a host is known by its key here, not by a "
                        "certificate"
                    )
                else:
                    (revoked if marker else keys).append(key)
            elif marker is None and address.alias is None and _matches(words[0], address.host):
                elsewhere.append(key)
    return Known(keys=tuple(keys), elsewhere=tuple(elsewhere), revoked=tuple(revoked))


def _lines(path: Path) -> list[str]:
    """Return the lines of ``path``; none if it is absent, or not the user's to read."""
    try:
        if not path.is_file() or path.stat().st_size > _LARGEST_BYTES:
            return []
        return path.read_bytes().decode("latin-1").split("\n")  # only comments are not ASCII
    except OSError:
        return []


def _matches(patterns: str, name: str) -> bool:
    """True if ``name`` is one of the comma-separated ``patterns`` (hashed: of one name)."""
    name = name.lower()
    if patterns.startswith("|1|"):
        try:
            salt, digest = (
                base64.b64decode(part, validate=True) for part in patterns[3:].split("|")
            )
        except ValueError:
            return False
        return hmac.compare_digest(hmac.digest(salt, name.encode(), hashlib.sha1), digest)
    return matches_any(patterns.lower().split(","), name)


def matches_any(patterns: list[str], name: str) -> bool:
    """True if ``name`` is like a pattern (``*`` and ``?``), and like none with a ``!``."""
    found = False
    for pattern in patterns:
        wanted = pattern.removeprefix("!")
        parts = (".*" if c == "*" else "." if c == "?" else re.escape(c) for c in wanted)
        if re.fullmatch("".join(parts), name, re.DOTALL):
            if pattern.startswith("!"):
                return False
            found = True
    return found
