# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What ``~/.ssh/config`` says of a host, as in ssh_config(5); no command in it is ever run to ask.

paramiko's reader knows no Include, takes a condition that it does not know for met, and runs what
``Match exec`` names. What is read and cannot be followed is refused by its name.
"""

from __future__ import annotations

import getpass
import glob
import os
import re
import socket
from dataclasses import dataclass, field
from pathlib import Path

from edgeopt.boards.address import CONNECT_TIMEOUT_S, Address
from edgeopt.boards.known_hosts import FILES, matches_any
from edgeopt.errors import InputError

USER_FILE, SYSTEM_FILE = "~/.ssh/config", "/etc/ssh/ssh_config"
_DEPTH = 16  # of files that include files, and of hosts that jump through hosts
_LARGEST_BYTES = 1 << 20
_MANY = ("identityfile",)
_WHOLE_LINE = ("proxycommand", "remotecommand", "localcommand", "knownhostscommand")
_LISTS = ("userknownhostsfile", "globalknownhostsfile")
_FAMILIES = {"any": socket.AF_UNSPEC, "inet": socket.AF_INET, "inet6": socket.AF_INET6}


@dataclass(slots=True)
class _Asked:
    """One look-up: what is asked for, and what was found so far."""

    host: str  # as the user gave it
    user: str | None
    found: dict[str, list[str]] = field(default_factory=dict)
    final: bool = False
    wants_final: bool = False

    def first(self, key: str) -> str | None:
        return self.found[key][0] if key in self.found else None


def resolve(
    host: str,
    *,
    user: str | None = None,
    port: int | None = None,
    key: str | None = None,
    files: tuple[str, ...] = (USER_FILE, SYSTEM_FILE),
    depth: int = 0,
) -> Address:
    """Return where ``host`` is by the user's configuration; what is given goes before it.

    Raises InputError for a line that cannot be read, and for one that cannot be followed.
    """
    asked = _Asked(host=host, user=user)
    for final in (False, True):
        asked.final = final
        for file in files:
            _read(Path(file).expanduser(), asked, user_file=file != SYSTEM_FILE)
        if not asked.wants_final:
            break
    if (asked.first("canonicalizehostname") or "no") != "no":
        raise _unsupported("CanonicalizeHostname", "give the whole name of the host", host)
    given_user = user or asked.first("user") or _own_name()
    given_port = port or _integer(asked, "port", 1, 65535) or 22
    hostname = asked.first("hostname")
    name = _expanded(hostname, {"h": host, "n": host}) if hostname else host
    words = {"h": name, "n": host, "p": str(given_port), "r": given_user, "u": _own_name()}
    words |= {
        "d": str(Path.home()),
        "i": str(os.getuid()),
        "k": asked.first("hostkeyalias") or host,
    }
    words |= {"l": socket.gethostname(), "L": socket.gethostname().partition(".")[0]}
    jump = asked.first("proxyjump")
    command = asked.first("proxycommand")
    interval_s = _integer(asked, "serveraliveinterval", 0, 3600) or 0
    count = _integer(asked, "serveralivecountmax", 0, 1000)
    known = [*asked.found.get("userknownhostsfile", FILES[:2])]
    known += asked.found.get("globalknownhostsfile", FILES[2:])
    family = (asked.first("addressfamily") or "any").lower()
    if family not in _FAMILIES:
        raise InputError(f"AddressFamily {family!r} is none", where=f"~/.ssh/config: {host}")
    agent = asked.first("identityagent")
    keys = [k for k in asked.found.get("identityfile", []) if k.lower() != "none"]
    return Address(
        user=given_user,
        host=name,
        port=given_port,
        key=key,
        keys=tuple(_path(k, words) for k in keys),
        only_these_keys=(asked.first("identitiesonly") or "no").lower() in ("yes", "true"),
        agent=_agent(agent, words) if agent else None,
        jump=_jump(jump, files, depth) if jump and jump.lower() != "none" else None,
        command=_command(command, words) if command and command.lower() != "none" else None,
        known_hosts=None
        if tuple(known) == FILES
        else tuple(_path(k, words) for k in known if k.lower() != "none"),
        alias=asked.first("hostkeyalias"),
        timeout_s=_integer(asked, "connecttimeout", 0, 3600) or CONNECT_TIMEOUT_S,
        silence_s=float(interval_s * (3 if count is None else max(count, 1))) or None,
        family=_FAMILIES[family],
    )


def _jump(text: str, files: tuple[str, ...], depth: int) -> Address:
    """Return the last of the hosts to go through, each reached through the one before."""
    if depth >= _DEPTH:
        raise InputError(f"ProxyJump {text!r} leads in a circle", where="~/.ssh/config")
    *before, last = text.split(",")
    found = split(last)
    if found is None:
        raise InputError(f"ProxyJump {last!r} is not user@host:port", where="~/.ssh/config")
    user, host, port = found
    address = resolve(host, user=user, port=port, files=files, depth=depth + 1)
    if not before:
        return address
    from dataclasses import replace

    return replace(address, jump=_jump(",".join(before), files, depth + 1), command=None)


def split(text: str) -> tuple[str | None, str, int | None] | None:
    """Return the parts of ``[user@]host[:port]`` or ``ssh://...``, None for what is neither."""
    text = text.removeprefix("ssh://").rstrip("/") if text.startswith("ssh://") else text
    found = re.fullmatch(
        r"(?:(?P<user>\S+)@)?(?P<host>\[[^\]\s\x00]+\]|[^@:\s\[\]\x00]+)(?::(?P<port>[0-9]{1,5}))?",
        text,
        re.ASCII,
    )
    if found is None or found["host"].startswith("-") or (found["user"] or "").startswith("-"):
        return None
    port = int(found["port"]) if found["port"] else None
    if port is not None and not 0 < port < 65536:
        return None
    return found["user"], found["host"].strip("[]"), port


def _own_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError) as exc:  # a container's user without a name
        raise InputError(
            "your own user has no name here", where="--ssh", hint="Give one: user@host."
        ) from exc


def _read(
    path: Path, asked: _Asked, *, user_file: bool, active: bool = True, depth: int = 0
) -> None:
    """Take what ``path`` says of ``asked``; the first value of a key stays."""
    if depth > _DEPTH:
        raise InputError("includes itself", where=str(path))
    outer = active
    for number, line in enumerate(_lines(path), 1):
        where = f"{path}:{number}"
        found = re.fullmatch(r"\s*([A-Za-z0-9]+)(?:\s*=\s*|\s+)(\S.*?)\s*", line, re.DOTALL)
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if found is None:
            raise InputError(f"cannot be read: {line.strip()[:80]!r}", where=where)
        key, rest = found[1].lower(), found[2]
        words = [rest] if key in _WHOLE_LINE else _words(rest, where)
        if not words:
            raise InputError(f"{found[1]} has no value", where=where)
        if key == "host":
            active = outer and matches_any([w.lower() for w in words], asked.host.lower())
        elif key == "match":
            active = outer and _met(words, asked, where)
        elif key == "include":
            for word in words if active else ():
                for each in _included(word, user_file):
                    _read(each, asked, user_file=user_file, active=active, depth=depth + 1)
        elif active and key in _MANY:
            values = asked.found.setdefault(key, [])
            values += [word for word in words[:1] if word not in values]
        elif active and not _too_late(key, asked):
            asked.found.setdefault(key, words if key in _LISTS else words[:1])


def _too_late(key: str, asked: _Asked) -> bool:
    """True if the first of ProxyJump and ProxyCommand keeps the other one out."""
    if key == "proxycommand":
        return (asked.first("proxyjump") or "none").lower() != "none"
    return key == "proxyjump" and "proxycommand" in asked.found


def _lines(path: Path) -> list[str]:
    try:
        if not path.is_file() or path.stat().st_size > _LARGEST_BYTES:
            return []
        return path.read_bytes().decode("utf-8", "surrogateescape").split("\n")
    except OSError:  # as ssh does with one that is not the user's to read
        return []


def _included(word: str, user_file: bool) -> list[Path]:
    pattern = os.path.expanduser(word)
    if not os.path.isabs(pattern):
        folder = os.path.expanduser("~/.ssh") if user_file else "/etc/ssh"
        pattern = os.path.join(folder, pattern)
    return [Path(found) for found in sorted(glob.glob(pattern))]


def _words(text: str, where: str) -> list[str]:
    """Split as ssh does: quotes of both kinds, few backslashes, a comment at the end."""
    words: list[str] = []
    for found in re.finditer(
        r"""((?:"(?:\\["\\]|[^"])*"|'(?:\\['\\]|[^'])*'|\\[\\'" ]|[^\s"'])+)""", text
    ):
        word = found[1]
        if word.startswith("#"):
            break
        parts = re.findall(r"""("(?:\\["\\]|[^"])*"|'(?:\\['\\]|[^'])*'|\\[\\'" ]|[^"'])""", word)
        words.append("".join(_unquoted(part) for part in parts))
    if text.split("#")[0].count('"') % 2 and "\\" not in text:
        raise InputError(f"has a quote without its end: {text[:80]!r}", where=where)
    return words


def _unquoted(part: str) -> str:
    if part[0] in "\"'" and len(part) > 1:
        return re.sub(r"\\([\\\"'])", r"\1", part[1:-1])
    return part[1] if len(part) == 2 and part[0] == "\\" else part


def _met(words: list[str], asked: _Asked, where: str) -> bool:
    """True if each condition of a Match line is met."""
    left = iter(words)
    for word in left:
        name, equals, value = word.partition("=")
        wanted = not name.startswith("!")
        name = name.lstrip("!").lower()
        if name in ("all", "canonical", "final"):
            asked.wants_final |= name == "final"
            met = name == "all" or asked.final
        else:
            value = value if equals else next(left, "")
            if not value:
                raise InputError(f"Match {name} has no value", where=where)
            met = _condition(name, value, asked, where)
        if met != wanted:
            # those behind are looked at for 'final' alone
            asked.wants_final |= "final" in (w.lower() for w in left)
            return False
    return True


def _condition(name: str, value: str, asked: _Asked, where: str) -> bool:
    if name == "host":
        found = asked.first("hostname")
        subject = _expanded(found, {"h": asked.host, "n": asked.host}) if found else asked.host
        return matches_any(value.lower().split(","), subject.lower())
    if name == "originalhost":
        return matches_any(value.lower().split(","), asked.host.lower())
    if name == "user":
        return matches_any(value.split(","), asked.user or asked.first("user") or _own_name())
    if name == "localuser":
        return matches_any(value.split(","), _own_name())
    raise _unsupported(
        f"Match {name}",
        "edgeopt runs no command to read a file" if name == "exec" else "it is not known here",
        where,
    )


def _unsupported(what: str, why: str, where: str) -> InputError:
    return InputError(
        f"{what} of ~/.ssh/config is not followed: {why}",
        where=where,
        hint="Give the board's own address, and its key with --key.",
    )


def _integer(asked: _Asked, key: str, low: int, high: int) -> int | None:
    text = asked.first(key)
    if text is None or text.lower() == "none":
        return None
    if key in ("connecttimeout", "serveraliveinterval"):
        found = re.fullmatch(r"([0-9]{1,6})([smh]?)", text.lower())
        value = int(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]] if found else -1
    else:
        value = int(text) if re.fullmatch(r"[0-9]{1,6}", text) else -1
    if not low <= value <= high:
        raise InputError(f"{key} {text!r} is none", where=f"~/.ssh/config: {asked.host}")
    return value


def _expanded(text: str, words: dict[str, str]) -> str:
    """Put the values of the tokens (``%h``) in. Raises InputError for one that is not known."""

    def value(found: re.Match[str]) -> str:
        if found[1] == "%":
            return "%"
        if found[1] not in words:
            raise _unsupported(f"%{found[1]} in {text!r}", "it is not known here", words["n"])
        return words[found[1]]

    return re.sub(r"%(.?)", value, text, flags=re.DOTALL)


def _command(text: str, words: dict[str, str]) -> str:
    for token in ("h", "n", "r", "k"):  # a shell reads it, as with ssh, which refuses these too
        if f"%{token}" in text and re.search(r"""['"`$\\;&<>|(){}\s]""", words[token]):
            raise _unsupported(
                f"ProxyCommand with {words[token]!r}", "a shell reads it", words["n"]
            )
    return _expanded(text, words)


def _path(text: str, words: dict[str, str]) -> str:
    return os.path.expanduser(_expanded(_environment(text, words), words))


def _agent(text: str, words: dict[str, str]) -> str | None:
    if text == "SSH_AUTH_SOCK":
        return None
    if text.startswith("$") and not text.startswith("${"):
        return os.environ.get(text[1:], "none")
    return "none" if text.lower() == "none" else _path(text, words)


def _environment(text: str, words: dict[str, str]) -> str:
    def value(found: re.Match[str]) -> str:
        if found[1] not in os.environ:
            raise _unsupported(f"${{{found[1]}}} in {text!r}", "it is not set", words["n"])
        return os.environ[found[1]]

    return re.sub(r"\$\{([^}]*)\}", value, text)
