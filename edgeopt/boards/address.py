# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Where a board is, and how its host key is shown to people."""

from __future__ import annotations

import base64
import hashlib
import socket
from dataclasses import dataclass

CONNECT_TIMEOUT_S = 15.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Address:
    """The host, the port and the user, and what ``~/.ssh/config`` says of the way there.

    ``key`` is a private key file that the user named, ``keys`` are those of the configuration,
    neither for the agent's and default keys. ``agent`` is the agent's socket if it is not
    ``SSH_AUTH_SOCK``, "none" for none. ``jump`` is the host to go through, ``command`` a program
    whose stdin and stdout lead there. ``known_hosts`` are the files that may hold its host key,
    by the name ``alias`` if there is one. ``silence_s`` is how long nothing may come from it.
    ``given`` is what the user said, if the configuration added something to it.
    """

    user: str
    host: str
    port: int
    key: str | None = None
    keys: tuple[str, ...] = ()
    only_these_keys: bool = False
    agent: str | None = None
    jump: Address | None = None
    command: str | None = None
    known_hosts: tuple[str, ...] | None = None
    alias: str | None = None
    timeout_s: float = CONNECT_TIMEOUT_S
    silence_s: float | None = None
    family: int = socket.AF_UNSPEC
    given: str | None = None

    @property
    def known_as(self) -> str:
        """The name that known_hosts files use."""
        if self.alias is not None:
            return self.alias
        return self.host if self.port == 22 else f"[{self.host}]:{self.port}"

    def __str__(self) -> str:
        where = self.host if self.port == 22 else f"[{self.host}]:{self.port}"
        return f"{self.user}@{where}"


def fingerprint(host_key: str) -> str:
    """Return ``SHA256:...`` of a host key written as ``ssh-ed25519 AAAA...``."""
    digest = hashlib.sha256(base64.b64decode(host_key.split()[1])).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def key_of(words: list[str]) -> str | None:
    """Return ``type base64`` of the first two words, None if they are no public key.

    The text of a key begins with its type: so one that was cut or mixed up is seen.
    """
    try:
        blob = base64.b64decode(words[1], validate=True)
    except (ValueError, IndexError):
        return None
    length = int.from_bytes(blob[:4], "big")
    whole = len(blob) > 4 + length and _is_whole(blob)
    return f"{words[0]} {words[1]}" if whole and blob[4 : 4 + length] == words[0].encode() else None


def _is_whole(blob: bytes) -> bool:
    """True if ``blob`` is fields with their lengths before them, and nothing else."""
    place = 0
    while place + 4 <= len(blob):
        place += 4 + int.from_bytes(blob[place : place + 4], "big")
    return place == len(blob)
