# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

import hashlib
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from edgeopt.boards.local import LocalTransport
from edgeopt.boards.transport import Completed
from edgeopt.errors import BoardError


@pytest.fixture
def here() -> LocalTransport:
    return LocalTransport()


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_input_output_and_status_come_through(here: LocalTransport) -> None:
    done = here.run(["sh", "-c", "cat; echo bad >&2; exit 7"], stdin=b"\0in", timeout_s=10)
    assert (done.exit_status, done.stdout, done.stderr) == (7, b"\0in", b"bad\n")


def test_large_input_and_output_do_not_block_each_other(here: LocalTransport) -> None:
    block = bytes(range(256)) * 4096
    done = here.run(["cat"], stdin=(block for _ in range(8)), timeout_s=20)
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(block * 8).digest()


def test_unread_input_is_no_error(here: LocalTransport) -> None:
    assert here.run(["true"], stdin=bytes(1 << 20), timeout_s=10).exit_status == 0


def test_death_by_signal_is_128_and_its_number(here: LocalTransport) -> None:
    assert here.run(["sh", "-c", "kill -4 $$"], timeout_s=10).exit_status == 132


def test_a_program_that_takes_too_long_is_ended(here: LocalTransport) -> None:
    began = time.monotonic()
    with pytest.raises(BoardError, match=r"host: sleep did not end within 0\.2 s"):
        here.run(["sleep", "30"], timeout_s=0.2)
    assert time.monotonic() - began < 5


def test_a_missing_program_is_told(here: LocalTransport) -> None:
    with pytest.raises(BoardError, match="no-such-program cannot be started"):
        here.run(["no-such-program"], timeout_s=1)


def test_lines_come_as_they_are_written(here: LocalTransport) -> None:
    lines = here.lines(["sh", "-c", "echo one; sleep 0.5; printf two"], timeout_s=10)
    began = time.monotonic()
    assert next(lines) == "one"
    assert time.monotonic() - began < 0.45
    assert list(lines) == ["two"]


def test_lines_of_a_failing_program_end_in_an_error(here: LocalTransport) -> None:
    lines = here.lines(["sh", "-c", "echo one; echo why >&2; exit 3"], timeout_s=10)
    assert next(lines) == "one"
    with pytest.raises(BoardError, match=r"sh failed \(exit status 3\): why"):
        next(lines)


def test_closing_the_lines_early_ends_the_program(here: LocalTransport) -> None:
    lines = here.lines(["sh", "-c", "echo $$; exec sleep 60"], timeout_s=90)
    pid = int(next(lines))
    assert alive(pid)
    lines.close()
    assert not alive(pid)


def test_put_copies_with_the_mode(here: LocalTransport, tmp_path: Path) -> None:
    source, target = tmp_path / "a b", tmp_path / "c'd"
    source.write_bytes(os.urandom(700_000))
    here.put(source, str(target), mode=0o750)
    assert target.read_bytes() == source.read_bytes()
    assert target.stat().st_mode & 0o777 == 0o750
    assert {p.name for p in tmp_path.iterdir()} == {"a b", "c'd"}


def test_put_into_a_missing_folder_leaves_nothing(here: LocalTransport, tmp_path: Path) -> None:
    source = tmp_path / "a"
    source.write_bytes(b"x")
    with pytest.raises(BoardError, match="a could not be copied to"):
        here.put(source, f"{tmp_path}/no/a")
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_an_upload_that_stops_half_way_leaves_nothing(tmp_path: Path) -> None:
    class Cut(LocalTransport):
        """Loses all but ten bytes of what is sent."""

        def run(
            self, argv: Sequence[str], *, stdin: bytes | Iterable[bytes] = b"", timeout_s: float
        ) -> Completed:
            return super().run(argv, stdin=bytes(10) if stdin else b"", timeout_s=timeout_s)

    source = tmp_path / "a"
    source.write_bytes(b"x" * 1000)
    with pytest.raises(BoardError, match="10 of 1000 bytes arrived"):
        Cut().put(source, f"{tmp_path}/b")
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
