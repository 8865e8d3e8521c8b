# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Against a real sshd: the emulated board's."""

import contextlib
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from edgeopt.boards import open_transport, ssh
from edgeopt.boards.address import Address, fingerprint
from edgeopt.boards.registry import BoardEntry
from edgeopt.boards.ssh import SshTransport
from edgeopt.boards.transport import Transport
from edgeopt.errors import BoardError

pytestmark = pytest.mark.board


def address_of(entry: BoardEntry) -> Address:
    return Address(user=entry.user, host=entry.host, port=entry.port, key=entry.key)


def make_key(path: Path, passphrase: str = "") -> str:
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-f", str(path)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return path.with_suffix(".pub").read_text()


def processes(wire: Transport) -> str:
    return wire.run(["ps", "-e", "-o", "args"], timeout_s=20).stdout.decode()


def test_arguments_arrive_as_they_are(wire: Transport) -> None:
    odd = ["a b", "", "$HOME", "'", '"', "\\", "*", ";ls", "-n", "ü\n"]
    done = wire.run(["printf", "%s\\0", *odd], timeout_s=10)
    assert done.stdout.decode().split("\0")[:-1] == odd


def test_input_output_and_status_come_through(wire: Transport) -> None:
    done = wire.run(["sh", "-c", "cat; echo bad >&2; exit 7"], stdin=b"\0in", timeout_s=10)
    assert (done.exit_status, done.stdout, done.stderr) == (7, b"\0in", b"bad\n")


def test_large_input_and_output_do_not_block_each_other(wire: Transport) -> None:
    block = os.urandom(1 << 20)
    done = wire.run(["cat"], stdin=(block for _ in range(6)), timeout_s=60)
    assert done.stdout == block * 6


def test_an_illegal_instruction_is_told_as_such(wire: Transport) -> None:
    done = wire.run(["sh", "-c", "kill -ILL $$"], timeout_s=20)
    assert done.exit_status == 132
    with pytest.raises(BoardError, match="illegal instruction"):
        list(wire.lines(["sh", "-c", "kill -ILL $$"], timeout_s=20))


def test_a_program_that_takes_too_long_is_ended_on_the_board(wire: Transport) -> None:
    with pytest.raises(BoardError, match="test-pi: sleep did not end within 1 s"):
        wire.run(["sleep", "321"], timeout_s=1)
    assert "sleep 321" not in processes(wire)


def test_closing_the_lines_early_ends_the_program(wire: Transport) -> None:
    lines = wire.lines(["sh", "-c", "echo one; exec sleep 322"], timeout_s=60)
    assert next(lines) == "one"
    assert "sleep 322" in processes(wire)
    lines.close()  # type: ignore[attr-defined]
    assert "sleep 322" not in processes(wire)


def test_lines_come_as_they_are_written_and_the_last_needs_no_end(wire: Transport) -> None:
    began = time.monotonic()
    lines = wire.lines(["sh", "-c", "echo one; sleep 2; printf two"], timeout_s=20)
    assert next(lines) == "one"
    assert time.monotonic() - began < 1.9
    assert list(lines) == ["two"]


def test_lines_of_a_failing_program_end_in_an_error(wire: Transport) -> None:
    lines = wire.lines(["sh", "-c", "echo one; echo why >&2; exit 3"], timeout_s=20)
    assert next(lines) == "one"
    with pytest.raises(BoardError, match=r"sh failed \(exit status 3\): why"):
        next(lines)


def test_put_copies_with_the_mode(wire: Transport, tmp_path: Path) -> None:
    source = tmp_path / "a"
    source.write_bytes(os.urandom(3_000_000))
    sent: list[int] = []
    wire.put(source, "/root/put me", mode=0o750, progress=sent.append)
    assert sent == sorted(sent)
    assert sent[-1] == 3_000_000
    done = wire.run(["sh", "-c", 'cat "$HOME/put me"; stat -c %a "$HOME/put me" >&2'], timeout_s=20)
    assert done.stdout == source.read_bytes()
    assert done.stderr == b"750\n"


def test_a_full_disk_is_told_with_both_sizes_and_leaves_nothing(
    wire: Transport, tmp_path: Path
) -> None:
    source = tmp_path / "a"
    source.write_bytes(bytes(3_000_000))
    make = "mkdir -p /tmp/small && mount -t tmpfs -o size=1m small /tmp/small"
    assert wire.run(["sh", "-c", make], timeout_s=20).exit_status == 0
    expected = r"the disk is full: /tmp/small/a needs 3000000 bytes, 1048576 are free"
    with pytest.raises(BoardError, match=expected):
        wire.put(source, "/tmp/small/a")
    assert wire.run(["ls", "/tmp/small"], timeout_s=20).stdout == b""


@pytest.fixture
def cable(emulated_board: BoardEntry) -> Iterator["Cable"]:
    with Cable(emulated_board.port) as cable:
        yield cable


class Cable:
    """A TCP relay to the board that can be unplugged: it then neither forwards nor closes."""

    def __init__(self, to_port: int) -> None:
        self._to_port = to_port
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self.plugged = threading.Event()
        self.plugged.set()
        self._ends: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        try:
            while True:
                near, _ = self._server.accept()
                far = socket.create_connection(("127.0.0.1", self._to_port))
                self._ends += [near, far]
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=self._copy, args=pair, daemon=True).start()
        except OSError:
            return

    def _copy(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(1 << 14):
                self.plugged.wait()
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            return

    def cut(self) -> None:
        for end in self._ends:
            with contextlib.suppress(OSError):  # the other end may be gone already
                end.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> "Cable":
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.close()
        for end in self._ends:
            end.close()
        self.plugged.set()


def test_an_upload_that_is_cut_leaves_nothing_on_the_board(
    emulated_board: BoardEntry, wire: Transport, cable: Cable, tmp_path: Path
) -> None:
    source = tmp_path / "a"
    source.write_bytes(os.urandom(40_000_000))
    with open_transport(replace(emulated_board, port=cable.port)) as weak:
        threading.Timer(0.5, cable.cut).start()
        with pytest.raises(BoardError, match="test-pi: the connection was lost"):
            weak.put(source, "/root/cut")
    for _ in range(50):
        left = wire.run(["sh", "-c", "ls /root | grep ^cut"], timeout_s=20).stdout
        if not left:
            break
        time.sleep(0.1)
    assert left == b""


def test_a_lost_connection_is_told_as_such(emulated_board: BoardEntry, cable: Cable) -> None:
    with open_transport(replace(emulated_board, port=cable.port)) as weak:
        threading.Timer(0.3, cable.cut).start()
        with pytest.raises(BoardError, match="the connection was lost"):
            weak.run(["sleep", "20"], timeout_s=60)
        with pytest.raises(BoardError, match="the connection was lost"):
            weak.run(["true"], timeout_s=5)


def test_a_shell_that_a_signal_ended_is_no_lost_connection(wire: Transport) -> None:
    with pytest.raises(BoardError, match="test-pi: a signal ended the shell that ran sh") as told:
        wire.run(["sh", "-c", "kill -KILL $PPID"], timeout_s=20)
    assert "memory" in str(told.value.hint)
    assert wire.run(["true"], timeout_s=20).exit_status == 0


def test_a_board_that_hangs_is_given_up(
    emulated_board: BoardEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh, "_PING_S", 0.2)
    monkeypatch.setattr(ssh, "_SILENCE_S", 1.5)
    # Stops the sshd of this very connection; the kernel goes on acknowledging what arrives.
    stop = 'read -r _ _ _ sshd _ < /proc/$PPID/stat; kill -STOP "$sshd"; sleep 60'
    began = time.monotonic()
    with (
        open_transport(emulated_board) as hanging,
        pytest.raises(BoardError, match="the connection was lost"),
    ):
        hanging.run(["sh", "-c", stop], timeout_s=50)
    assert time.monotonic() - began < 15


def test_another_host_key_than_the_pinned_one_is_refused(
    emulated_board: BoardEntry, tmp_path: Path
) -> None:
    other = make_key(tmp_path / "other")
    with pytest.raises(BoardError) as caught:
        SshTransport("kitchen", address_of(emulated_board), host_key=other)
    text = str(caught.value)
    assert f"shows the host key {fingerprint(emulated_board.host_key)}" in text
    assert f"but {fingerprint(other)} is pinned" in text
    assert "edgeopt board remove kitchen" in text


def test_a_key_that_the_board_does_not_know_is_refused(
    emulated_board: BoardEntry, tmp_path: Path
) -> None:
    make_key(tmp_path / "mine")
    address = replace(address_of(emulated_board), key=str(tmp_path / "mine"))
    with pytest.raises(BoardError, match=r"does not accept .*/mine\nTry: ssh-copy-id -p"):
        SshTransport("kitchen", address, host_key=emulated_board.host_key)


def test_a_key_with_a_passphrase_needs_the_agent(
    emulated_board: BoardEntry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    make_key(tmp_path / "locked", "secret")
    address = replace(address_of(emulated_board), key=str(tmp_path / "locked"))
    with pytest.raises(BoardError, match=r"has a passphrase and no agent holds it\nRun: ssh-add "):
        SshTransport("kitchen", address, host_key=emulated_board.host_key)


def test_a_key_file_that_is_not_there_is_told(emulated_board: BoardEntry) -> None:
    address = replace(address_of(emulated_board), key="/no/such/key")
    with pytest.raises(BoardError, match="the key /no/such/key cannot be read"):
        SshTransport("kitchen", address, host_key=emulated_board.host_key)


def test_a_fingerprint_is_the_one_that_ssh_keygen_prints(tmp_path: Path) -> None:
    public = make_key(tmp_path / "k")
    command = ["ssh-keygen", "-lf", str(tmp_path / "k.pub")]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert fingerprint(public) == printed.split()[1]
