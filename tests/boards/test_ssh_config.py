# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What ``~/.ssh/config`` says, against what ssh itself makes of the same file (``ssh -G``)."""

import getpass
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeopt.boards import enrol, login, open_transport, registry
from edgeopt.boards.address import Address
from edgeopt.boards.ssh_config import resolve
from edgeopt.errors import BoardError, InputError
from tests.boards.liar import Liar

FILES = {
    "an alias": "Host kitchen\n HostName 10.0.0.7\n Port 2222\n User pi\n IdentityFile ~/.ssh/k\n",
    "the first value stays": "Host kitchen\n Port 1\nHost *\n Port 2\n User a\nHost k*\n User b\n",
    "equals signs, cases, tabs": "host=kitchen\n\thostname =\t10.0.0.7\n PORT = 99\nUSER=pi\n",
    "quotes": 'Host "kitchen" other\n User "pi"\n IdentityFile "~/.ssh/a key"\n IdentityFile ~/b\n',
    "a comment behind": "Host kitchen # mine\n Port 77 # not 22\n# Host *\n",
    "patterns": "Host !kitchen *\n Port 1\nHost kit?hen\n Port 2\nHost *.lan,kitchen\n Port 3\n",
    "nothing for it": "Host other\n Port 5\n",
    "a token in its name": "Host kitchen\n HostName %h.lan\n",
    "two per cent": "Host kitchen\n HostName a%%b\n",
    "tokens in its key": "Host kitchen\n User pi\n IdentityFile /k/%h-%n-%p-%r-%u-%d-%i\n",
    "match host": "Host kitchen\n HostName 10.0.0.7\nMatch host 10.0.0.*\n Port 4\n",
    "match the name given": "Host kitchen\n HostName x\nMatch originalhost kitchen\n Port 4\n",
    "match the user": "Host kitchen\n User pi\nMatch user pi,bob\n Port 4\n",
    "match not the user": "Host kitchen\n User pi\nMatch !user pi\n Port 4\n",
    "match two": "Match host k* localuser nobody\n Port 1\nMatch host k* user *\n Port 2\n",
    "match all": "Match all\n Port 4\n",
    "match final": "Match final host kitchen\n Port 4\nHost kitchen\n Port 5\n",
    "match final, after": "Match final all\n User late\nHost kitchen\n HostName x\n",
    "included": "Include more\nHost kitchen\n Port 5\n",
    "included in a block": "Host other\n Include more\nHost kitchen\n Include more\n User z\n",
    "included by a pattern": "Include conf.d/*.conf nowhere/*\n",
    "no jump, no jump": "Host kitchen\n ProxyJump none\n ProxyJump gate\n",
    "no command": "Host kitchen\n ProxyCommand none\n ProxyJump gate\n ProxyCommand y\n",
    "a jump first": "Host kitchen\n ProxyJump gate\n ProxyCommand y\n",
    "a command first": "Host kitchen\n ProxyCommand nc %h %p\n ProxyJump gate\n",
    "aliases of keys": "Host *\n HostKeyAlias k\n UserKnownHostsFile ~/a /b\n IdentitiesOnly yes\n",
    "times": "Host kitchen\n ConnectTimeout 7\n ServerAliveInterval 2m\n ServerAliveCountMax 2\n",
    "families": "Host kitchen\n AddressFamily inet6\n",
    "a user with a backslash": "Host kitchen\n User DOM\\bob\n",
    "Latin-1": "# caf\udce9\nHost kitchen\n Port 9\n",
    "CRLF": "Host kitchen\r\n Port 9\r\n",
    "unknown words": "Host kitchen\n IgnoreUnknown Fast*\n FastMode 3\n Port 9\n",
    "no end": "Host kitchen\n Port 9",
}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("EDGEOPT_CONFIG", str(tmp_path / "config"))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    (tmp_path / ".ssh/conf.d").mkdir(parents=True)
    more = "Host kitchen\n User included\n Port 6\nHost *\n ConnectTimeout 8\n"
    for name in ("more", "conf.d/b.conf"):
        (tmp_path / ".ssh" / name).write_text(more)
    (tmp_path / ".ssh/conf.d/a.conf").write_text("Host kitchen\n User first\n")
    return tmp_path


def write(home: Path, text: str) -> str:
    """Write the file, with its includes as absolute names: ssh reads its own home elsewhere."""
    path = home / ".ssh/config"
    for name in ("more", "conf.d/*.conf"):
        text = text.replace(f"Include {name}", f"Include {home}/.ssh/{name}")
    path.write_bytes(text.encode(errors="surrogateescape"))
    return str(path)


@pytest.mark.parametrize("given", [(), ("bob",)], ids=["plain", "with a user"])
@pytest.mark.parametrize("name", FILES)
def test_as_ssh_understands_it(home: Path, name: str, given: tuple[str, ...]) -> None:
    path = write(home, FILES[name])
    command = ["ssh", "-G", "-F", path, *(f"-l{user}" for user in given), "kitchen"]
    said = subprocess.run(command, capture_output=True, check=True).stdout.decode(errors="replace")
    wanted: dict[str, list[str]] = {}
    for line in said.splitlines():
        key, _, value = line.partition(" ")
        wanted.setdefault(key, []).append(value)
    found = resolve("kitchen", user=given[0] if given else None, files=(path,))
    assert found.user == wanted["user"][0]
    assert found.host == wanted["hostname"][0]
    assert found.port == int(wanted["port"][0])
    assert (found.alias or "none") == wanted.get("hostkeyalias", ["none"])[0]
    assert found.only_these_keys == (wanted["identitiesonly"][0] == "yes")
    interval_s, count = (int(wanted[f"serveralive{n}"][0]) for n in ("interval", "countmax"))
    assert (found.silence_s or 0) == interval_s * count
    timeout = wanted.get("connecttimeout", ["none"])[0]
    assert found.timeout_s == (15 if timeout == "none" else int(timeout))
    assert {"any": 0, "inet6": 10}[wanted["addressfamily"][0]] == found.family
    named = wanted.get("identityfile", []) if "IdentityFile" in FILES[name] else []
    expanded = [str(Path(path).expanduser()) for path in named]
    # ssh -G leaves the tokens of a key's file as they are
    tokens = {"%h": found.host, "%n": "kitchen", "%p": str(found.port), "%r": found.user}
    tokens |= {
        "%u": getpass.getuser(),
        "%d": str(home),
        "%i": str(Path("/proc/self").stat().st_uid),
    }
    for token, value in tokens.items():
        expanded = [p.replace(token, value) for p in expanded]
    assert list(found.keys) == expanded
    if "UserKnownHostsFile" in FILES[name]:
        assert found.known_hosts is not None
        assert found.known_hosts[:2] == (f"{home}/a", "/b")
    proxy = wanted.get("proxycommand", [None])[0]
    if proxy is not None:
        proxy = proxy.replace("%h", found.host).replace("%p", str(found.port))
    assert found.command == proxy
    assert (found.jump is not None) == ("proxyjump" in wanted)


def test_a_command_counts_behind_no_jump(home: Path) -> None:
    """So it is in OpenSSH of Debian's 9.2p1-2+deb12u10; builds before it ignore the command."""
    path = write(home, "Host kitchen\n ProxyJump none\nHost *\n ProxyCommand x\n")
    found = resolve("kitchen", user=None, files=(path,))
    assert (found.command, found.jump) == ("x", None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Match exec 'touch MARK'\n Port 1\n", "Match exec of ~/.ssh/config is not followed"),
        ("Match host kitchen exec 'touch MARK'\n Port 1\n", "edgeopt runs no command"),
        ("Match tagged x\n Port 1\n", "Match tagged of ~/.ssh/config is not followed"),
        ("Host kitchen\n CanonicalizeHostname yes\n", "CanonicalizeHostname of"),
        ("Host kitchen\n IdentityFile ${NOWHERE_SET}/k\n", "it is not set"),
        ("Host kitchen\n IdentityFile ~/%Z\n", "%Z in"),
        ("Host kitchen\n Port x\n", "port 'x' is none"),
        ("Host kitchen\n Port 70000\n", "port '70000' is none"),
        ("Host kitchen\n Port\n", r"config:2: cannot be read: 'Port'"),
        ("\x00\x1b\n", "config:1: cannot be read"),
        ("Include more2\n", "includes itself"),
        ("Host kitchen\n ProxyJump kitchen\n", "leads in a circle"),
        ("Host kitchen\n ProxyJump b@:d\n", "is not user@host:port"),
        ("Host k*\n HostName `id`\n ProxyCommand nc %h\n", "a shell reads it"),
    ],
)
def test_what_is_not_followed_is_refused_by_name(home: Path, text: str, said: str) -> None:
    (home / ".ssh/more2").write_text(f"Include {home}/.ssh/more2\n")
    path = write(home, text.replace("MARK", f"{home}/mark").replace("more2", f"{home}/.ssh/more2"))
    with pytest.raises(InputError, match=said):
        resolve("kitchen", files=(path,))
    assert not (home / "mark").exists()


def test_a_condition_that_is_not_reached_is_not_asked(home: Path) -> None:
    path = write(home, "Match host other exec false\n Port 1\nHost kitchen\n Port 2\n")
    assert resolve("kitchen", files=(path,)).port == 2


@pytest.fixture
def board(home: Path) -> Iterator[Liar]:
    with Liar(home / "board") as liar:
        yield liar


def config(home: Path, board: Liar, more: str = "") -> None:
    known = home / ".ssh/known_hosts"
    known.write_text(f"[127.0.0.1]:{board.port} {board.host_key}\n")
    (home / ".ssh/config").write_text(
        f"Host kitchen\n HostName 127.0.0.1\n Port {board.port}\n User pi\n"
        f" IdentityFile {board.key}\n{more}"
    )


def test_a_board_is_added_by_its_alias_and_follows_the_file(home: Path, board: Liar) -> None:
    config(home, board)
    entry, _ = enrol.add("k", enrol.parse_address("kitchen"))
    assert (entry.ssh, entry.user, entry.port) == ("kitchen", "pi", board.port)
    with open_transport(registry.find("k")) as wire:
        assert wire.run(["echo", "hi"], timeout_s=10).stdout == b"hi\n"
    config(home, board, " Port 1\n")  # the first one stays
    path = home / ".ssh/config"
    path.write_text(path.read_text().replace(f"Port {board.port}", "Port 1"))
    with pytest.raises(BoardError, match="refuses the connection"):
        open_transport(registry.find("k"))


def test_a_board_without_a_word_in_the_file_is_saved_as_before(home: Path, board: Liar) -> None:
    config(home, board)
    address = enrol.parse_address(f"pi@127.0.0.1:{board.port}", board.key)
    assert address == Address(user="pi", host="127.0.0.1", port=board.port, key=board.key)
    entry, _ = enrol.add("k", address)
    assert entry.ssh is None


def test_a_proxy_command_leads_there(home: Path, board: Liar) -> None:
    relay = home / "relay.py"
    relay.write_text(
        "import os, socket, sys, threading\n"
        "s = socket.create_connection((sys.argv[1], int(sys.argv[2])))\n"
        "def up():\n    while data := os.read(0, 65536): s.sendall(data)\n"
        "threading.Thread(target=up, daemon=True).start()\n"
        "while data := s.recv(65536): os.write(1, data)\n"
    )
    config(home, board, f" ProxyCommand '{sys.executable}' {relay} %h %p\n")
    enrol.add("k", enrol.parse_address("kitchen"))
    with open_transport(registry.find("k")) as wire:
        data = b"x" * 300_000
        assert wire.run(["cat"], stdin=data, timeout_s=10).stdout == data
    config(home, board, " ProxyCommand echo no; exit 1\n")
    with pytest.raises(
        BoardError, match="does not speak SSH as expected through 'echo no; exit 1'"
    ):
        open_transport(registry.find("k"))


def test_a_jump_host_leads_there_and_is_checked_itself(home: Path, board: Liar) -> None:
    with Liar(home / "gate") as gate:
        config(home, board, " ProxyJump gate\n")
        with (home / ".ssh/config").open("a") as file:
            file.write(
                f"Host gate\n HostName 127.0.0.1\n Port {gate.port}\n User g\n"
                f" IdentityFile {gate.key}\n"
            )
        with pytest.raises(BoardError, match=r"the host key of the jump host .* is not known"):
            enrol.add("k", enrol.parse_address("kitchen"))
        assert gate.forwarded == []
        with (home / ".ssh/known_hosts").open("a") as file:
            file.write(f"[127.0.0.1]:{gate.port} {gate.host_key}\n")
        enrol.add("k", enrol.parse_address("kitchen"))
        with open_transport(registry.find("k")) as wire:
            assert wire.run(["echo", "hi"], timeout_s=10).stdout == b"hi\n"
        assert set(gate.forwarded) == {("127.0.0.1", board.port)}


def test_keys_are_those_that_the_file_names(home: Path, board: Liar) -> None:
    config(home, board, " IdentityFile ~/.ssh/absent\n IdentitiesOnly yes\n")
    address = enrol.parse_address("kitchen")
    with login.candidates(address, "k") as keys:
        assert [name for name, _ in keys.usable] == [board.key]
