"""Where a board is, and how its host key is shown to people."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Address:
    """Where and who: ``key`` is a private key file, None for the agent's and default keys."""

    user: str
    host: str
    port: int
    key: str | None = None

    @property
    def known_as(self) -> str:
        """The name that known_hosts files use."""
        return self.host if self.port == 22 else f"[{self.host}]:{self.port}"

    def __str__(self) -> str:
        return f"{self.user}@{self.known_as}"


def fingerprint(host_key: str) -> str:
    """Return ``SHA256:...`` of a host key written as ``ssh-ed25519 AAAA...``."""
    digest = hashlib.sha256(base64.b64decode(host_key.split()[1])).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")
