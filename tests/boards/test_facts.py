# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The parser against recorded device text; ``facts/*.json`` hold what each text says.

Texts that begin with "Composed" were put together from published /proc/cpuinfo files; the others
were recorded from emulated boards.
"""

import json
import os
import subprocess
from dataclasses import asdict
from pathlib import Path

import pytest

from edgeopt.boards import facts
from edgeopt.boards.local import LocalTransport
from edgeopt.boards.transport import Transport

FOLDER = Path(__file__).parent / "facts"
TEXTS = sorted(FOLDER.glob("*.txt"))


def text_of(name: str) -> str:
    return (FOLDER / f"{name}.txt").read_text()


@pytest.mark.parametrize("path", TEXTS, ids=lambda p: p.stem)
def test_a_recorded_text_gives_the_expected_facts(path: Path) -> None:
    found = facts.parse(path.read_text())
    document = asdict(found) | {"machine": found.machine}
    assert json.loads(json.dumps(document)) == json.loads(path.with_suffix(".json").read_text())


def test_features_that_only_some_cores_have_are_left_out() -> None:
    assert "ssbs" in text_of("alpine-rk3588")  # of its big cores only
    assert "ssbs" not in facts.parse(text_of("alpine-rk3588")).isa


def test_a_32_bit_userland_on_a_64_bit_kernel_is_armv7() -> None:
    text = text_of("raspberry-pi-4-32-bit")
    assert "\naarch64\n" in text
    assert facts.parse(text).arch == "armv7"


def test_without_meminfo_it_is_no_linux() -> None:
    text = text_of("raspberry-pi-4").replace("MemTotal", "Memory")
    with pytest.raises(ValueError, match="/proc/cpuinfo or /proc/meminfo is not Linux's"):
        facts.parse(text)


def test_without_df_it_says_so() -> None:
    text = text_of("raspberry-pi-4").replace("/dev/mmcblk0p2", "df: no such device\n")
    with pytest.raises(ValueError, match="df does not tell the free space"):
        facts.parse(text.replace("30447556 5120400  24040436      18% /", ""))


def test_unknown_cores_show_their_ids() -> None:
    text = text_of("raspberry-pi-4").replace("0xd08", "0xfff")
    assert facts.parse(text).cores[0] == "0x41:0xfff"


def test_this_machine_tells_what_the_operating_system_does() -> None:
    found = facts.gather(LocalTransport())
    assert found.arch == os.uname().machine
    assert len(found.cores) == os.cpu_count()
    assert found.ram_bytes == pytest.approx(
        os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), rel=0.01
    )
    assert found.libc == "glibc"
    # not os.confstr: a Python may bring a C library of its own
    told = subprocess.run(["getconf", "GNU_LIBC_VERSION"], capture_output=True, text=True)
    assert found.libc_version == told.stdout.split()[1]
    disk = os.statvfs(found.home)
    assert found.disk_free_bytes == pytest.approx(disk.f_bavail * disk.f_frsize, rel=0.1)


@pytest.mark.board
def test_the_emulated_board_is_the_device_it_stands_for(wire: Transport) -> None:
    found = facts.gather(wire)
    assert found.arch == "aarch64"
    assert found.cores == ("cortex-a72",) * 4
    assert "asimd" in found.isa
    assert "asimddp" not in found.isa
    assert (found.libc, found.libc_version, found.glibcxx) == ("glibc", "2.36", "3.4.30")
    assert found.home == "/root"
    assert found.emulated
