# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""SHA-256 in C: published answers and hashlib's, by each way that there is."""

from __future__ import annotations

import hashlib
import random
import shutil
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from edgeopt.runtime.build import FLAGS, SMALL, SOURCES
from tests.programs import SANITIZED, compiled

FILES = (Path(__file__).parent / "sha256_main.c", *sorted(SOURCES.glob("base/sha256*.c")))

# FIPS 180-4's examples (NIST, "SHA256.pdf" and "SHA2_Additional.pdf"), and the empty message of the
# CAVP's byte-oriented short messages.
KNOWN = {
    b"": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    b"abc": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq": (  # 448 bits
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
    ),
    b"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmn"  # 896 bits
    b"hijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu": (
        "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1"
    ),
    b"a" * 1_000_000: "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0",
}


def built(machine: str) -> list[str]:
    """Build the program for ``machine``; return the command that runs it here."""
    if machine == "host":
        return [str(compiled("sha256_main", *SANITIZED, *FILES))]
    triple, emulator = {
        "aarch64": ("aarch64-linux-musl", "qemu-aarch64"),
        "armv7": ("arm-linux-musleabihf", "qemu-arm"),
    }[machine]
    if (found := shutil.which(emulator)) is None:
        pytest.skip(f"{emulator} (qemu-user) is not installed")
    runner = [found]
    if machine == "aarch64":
        runner += ["-cpu", "cortex-a72"]  # with the cryptography extension
    program = compiled("sha256_main", "-static", *FLAGS, *SMALL, *FILES, triple=triple)
    return [*runner, str(program)]


@pytest.fixture(
    scope="module",
    params=[
        ("host", "portable"),
        ("host", "native"),
        ("host", "chosen"),
        ("aarch64", "portable"),
        ("aarch64", "native"),
        ("armv7", "chosen"),
    ],
    ids="-".join,
)
def way(request: pytest.FixtureRequest) -> list[str]:
    machine, name = request.param
    command = [*built(machine), name]
    if subprocess.run(command, stdin=subprocess.DEVNULL).returncode == 3:
        assert machine == "host", "the emulated core has the instructions"
        pytest.skip("this CPU has no instructions for SHA-256")
    return command


def digests(way: Sequence[str], messages: Sequence[bytes], pieces: Sequence[int]) -> list[str]:
    data = b"".join(
        struct.pack("<II", len(message), piece) + message
        for message, piece in zip(messages, pieces, strict=True)
    )
    done = subprocess.run(way, input=data, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout.decode().split()


@pytest.mark.parametrize("piece", [1, 63, 64, 1 << 20])
def test_published_answers(way: list[str], piece: int) -> None:
    assert digests(way, list(KNOWN), [piece] * len(KNOWN)) == list(KNOWN.values())


def test_the_same_as_hashlib_across_the_borders_of_blocks(way: list[str]) -> None:
    chance = random.Random(0)
    lengths = [*range(260), *(chance.randrange(260, 9000) for _ in range(60))]
    messages = [chance.randbytes(length) for length in lengths]
    pieces = [chance.choice((1, 7, 55, 56, 64, 65, 128, 1000, 10_000)) for _ in lengths]
    expected = [hashlib.sha256(message).hexdigest() for message in messages]
    assert digests(way, messages, pieces) == expected
