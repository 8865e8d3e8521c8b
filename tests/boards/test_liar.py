# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Boards that lie, flood, drip and fall silent: each ends in an error that names it, in time."""

import itertools
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from edgeopt.boards import facts, ssh, transport
from edgeopt.boards.local import LocalTransport
from edgeopt.boards.ssh import SshTransport
from edgeopt.errors import BoardError
from tests.boards.liar import Answer, Liar
from tests.boards.native import Link

pytestmark = pytest.mark.heavy  # waits until what a board says is over

TRUE = (Path(__file__).parent / "facts/raspberry-pi-4.txt").read_text()


def gathered(
    tmp_path: Path, said: bytes | Iterable[bytes], timeout_s: float = 10, **options: bool
) -> facts.BoardFacts:
    def answer(script: str) -> bytes | Iterable[bytes] | None:
        return said if "s kernel;" in script else None

    with (
        Liar(tmp_path / "home", answer, **options) as liar,
        SshTransport("pi", liar.address, host_key=liar.host_key) as wire,
    ):
        return facts.gather(wire, timeout_s=timeout_s)


def test_what_a_board_says_of_itself_is_taken(tmp_path: Path) -> None:
    assert gathered(tmp_path, TRUE.encode()) == facts.parse(TRUE)


HOSTILE = {
    "nothing": ("", "did not answer what it is"),
    "the end alone": ("@@edgeopt end\n", "nothing on kernel, machine"),
    "cut": (TRUE[: len(TRUE) // 2], "did not answer what it is"),
    "no memory": (TRUE.replace("MemTotal", "Mem"), "is not Linux's"),
    "memory of 0": (TRUE.replace("MemTotal:        ", "MemTotal: 0 kB\nX: "), "is not Linux's"),
    "200,000 cores": (TRUE.replace("processor\t: 0\n", "processor\t: 0\n" * 50_000), "processors"),
    "a part that is no number": (TRUE.replace("0xd08", "0xzz"), "something unexpected"),
    "a long part": (TRUE.replace("0xd08", "9" * 6000), "something unexpected"),
    "no home": (TRUE.replace("/home/pi", "pi"), "as its home directory"),
    "an ESC in its home": (TRUE.replace("/home/pi", "/home/\x1b[2J"), "as its home directory"),
    "two homes": (TRUE.replace("/home/pi", "/home/pi\n/root"), "as its home directory"),
    "a machine with a space": (TRUE.replace("\naarch64\n", "\na b\n"), "as its machine"),
    "a long model": (TRUE.replace("Raspberry Pi 4 Model B", "x" * 9000), "a name of 9"),
    "free space of letters": (TRUE.replace("24040436", "\u00b2\u00b2"), "df does not tell"),
    "free space below 0": (TRUE.replace("24040436", "-5"), "df does not tell"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_facts_that_cannot_be(tmp_path: Path, name: str) -> None:
    text, said = HOSTILE[name]
    assert text != TRUE
    with pytest.raises(BoardError, match=rf"(?s)^pi: .*{said}"):
        gathered(tmp_path, text.encode())


def drip(data: bytes, pause_s: float) -> Iterator[bytes]:
    for byte in data:
        yield bytes([byte])
        time.sleep(pause_s)


FLOODS = {
    "no end": lambda: itertools.repeat(b"x" * (1 << 16)),
    "lines without an end": lambda: itertools.repeat(b"@@edgeopt kernel\n" * 4000),
    "a drip": lambda: drip(TRUE.encode(), 0.2),
    "silence": lambda: drip(b" ", 30),
}


@pytest.mark.parametrize("raw", [False, True], ids=["in its place", "before the program"])
@pytest.mark.parametrize("name", FLOODS)
def test_floods_drips_and_silence_end(tmp_path: Path, name: str, raw: bool) -> None:
    began = time.monotonic()
    with pytest.raises(BoardError, match=r"^pi: "):
        gathered(tmp_path, FLOODS[name](), timeout_s=1, raw=raw)
    assert time.monotonic() - began < 10


def asked(tmp_path: Path, answer: Answer, **options: bool) -> list[str]:
    with (
        Liar(tmp_path / "home", answer, **options) as liar,
        SshTransport("pi", liar.address, host_key=liar.host_key) as wire,
    ):
        return list(wire.lines(["agent"], timeout_s=5))


def test_a_line_has_a_bound(tmp_path: Path) -> None:
    line = b"x" * transport.LINE_BYTES
    assert asked(tmp_path, lambda script: line + b"\n" + line) == [line.decode()] * 2
    with pytest.raises(BoardError, match="pi: agent sent a line of over 1 MB"):
        asked(tmp_path, lambda script: line + b"x\n")
    with pytest.raises(BoardError, match="pi: agent sent a line of over 1 MB"):
        asked(tmp_path, lambda script: itertools.repeat(b"x" * (1 << 16)))


@pytest.mark.parametrize("dripping", [True, False])
def test_a_line_has_to_end_some_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dripping: bool
) -> None:
    monkeypatch.setattr(ssh, "_PAUSE_S", 0.5)
    said = drip(b"a\n" + b"x" * 900, 0.05) if dripping else drip(b"a", 30)
    with pytest.raises(BoardError, match=r"pi: agent ended no line for 0\.5 s"):
        asked(tmp_path, lambda script: said if " agent\n" in script else b"")


def test_output_and_errors_have_a_bound_on_this_machine_too() -> None:
    here = LocalTransport()
    with pytest.raises(BoardError, match="host: yes sent an answer of over 1 MB"):
        here.run(["yes"], timeout_s=20, limit_bytes=1 << 20)
    with pytest.raises(BoardError, match="host: sh sent a line of over 1 MB"):
        list(here.lines(["sh", "-c", "yes | tr -d '\\n'"], timeout_s=20))
    done = here.run(["sh", "-c", "yes | head -c 9000000 >&2; echo end >&2"], timeout_s=20)
    assert len(done.stderr) < 200_000
    assert done.stderr.endswith(b"\nend\n")


def test_an_answer_that_is_cut_is_no_answer(tmp_path: Path) -> None:
    def cut(script: str) -> bytes:
        return transport.BEGIN_MARK + b"half\n"

    with pytest.raises(BoardError, match="pi: the answer of agent was cut"):
        asked(tmp_path, cut, raw=True)


@pytest.mark.parametrize("status", [1, 126, 137, 255, 2**31 - 1])
def test_any_exit_status_is_told(tmp_path: Path, status: int) -> None:
    with Liar(tmp_path / "home", lambda script: b"a\n") as liar:
        liar.status = status
        with SshTransport("pi", liar.address, host_key=liar.host_key) as wire:
            lines = wire.lines(["agent"], timeout_s=5)
            assert next(lines) == "a"
            with pytest.raises(BoardError, match=rf"exit status {status}"):
                next(lines)


def test_nothing_of_paramiko_is_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for said in (b"", b"\x00\xff" * 500, b"SSH-1.5-old\r\n", b"x" * 70_000, b"line\r\n" * 2000):
        with socket.create_server(("127.0.0.1", 0)) as server, Liar(tmp_path / "home") as liar:

            def talk(server: socket.socket = server, said: bytes = said) -> None:
                near, _ = server.accept()
                with near:
                    near.sendall(said)
                    time.sleep(0.7)

            thread = threading.Thread(target=talk)
            thread.start()
            address = replace(liar.address, port=server.getsockname()[1], timeout_s=0.5)
            with pytest.raises(BoardError, match=r"^pi: "):
                ssh.fetch_host_key("pi", address)
            thread.join()
    time.sleep(0.2)
    assert capfd.readouterr() == ("", "")


@pytest.fixture
def link(tmp_path: Path) -> Iterator[tuple[Liar, Link]]:
    with Liar(tmp_path / "home") as liar, Link(liar.port) as link:
        yield liar, link


def test_a_link_that_stalls_is_noticed_within_15_s() -> None:
    assert ssh._SILENCE_S * (1 + 1 / ssh._CHECKS) < 15  # and in less, to be quick:


@pytest.mark.parametrize("by", ["edgeopt", "ServerAliveInterval"])
def test_a_link_that_stalls_is_noticed_while_a_program_runs(
    link: tuple[Liar, Link], monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    liar, wire = link
    address = replace(liar.address, port=wire.port)
    if by == "edgeopt":
        monkeypatch.setattr(ssh, "_SILENCE_S", 1.5)
    else:
        address = replace(address, silence_s=1.5)
    with SshTransport("pi", address, host_key=liar.host_key) as board:
        # Longer than the silence that is allowed: what is quiet and there stays.
        assert board.run(["sleep", "4"], timeout_s=60).exit_status == 0
        lines = board.lines(["sh", "-c", "echo one; exec sleep 60"], timeout_s=60)
        assert next(lines) == "one"
        began = time.monotonic()
        wire.stall()
        with pytest.raises(BoardError, match="pi: the connection was lost"):
            next(lines)
        assert time.monotonic() - began < 8


def test_a_slow_link_is_no_stalled_one(
    link: tuple[Liar, Link], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh, "_SILENCE_S", 1.5)
    liar, wire = link
    source = tmp_path / "a"
    source.write_bytes(b"x" * 1_200_000)
    address = replace(liar.address, port=wire.port)
    with SshTransport("pi", address, host_key=liar.host_key) as board:
        wire.bytes_per_s = 300_000
        board.put(source, str(tmp_path / "b"))
    assert (tmp_path / "b").read_bytes() == source.read_bytes()
