# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Device profiles: the shipped facts are complete and cited, and a wrong file is refused."""

import os
import platform
from functools import partial
from pathlib import Path

import pytest

from edgeopt import device, host
from edgeopt.device import FOLDER, profile_names
from edgeopt.errors import InputError

load_profile = partial(device.load_profile, detect=host.detect)

REQUIRED = {
    "raspberry-pi-zero-2w",
    "raspberry-pi-3b-plus",
    "raspberry-pi-4",
    "raspberry-pi-5",
    "jetson-nano",
    "jetson-orin-nano",
    "pixel-7",
    "pixel-8",
    "galaxy-s23",
    "iphone-13",
    "intel-n100",
    "rk3588",
    "host",
}

PROFILE = """
name = "A board"
soc = "A chip"
arch = "aarch64"
reach = "ssh"
source = "sheet"

[[clusters]]
core = "cortex-a72"
count = 2
max_ghz = 1.8
source = ["sheet", "measured"]
unverified = ["max_ghz"]

[isa]
features = ["asimd", "asimddp"]
source = "sheet"

[cache_kib]
l1d = 32
l2_shared = 1024
unverified = ["l1d", "l2_shared"]

[memory]
ram_mib = [1024, 2048]
source = "sheet"

[os]
name = "Debian 12"
libc = "glibc"
libc_version = "2.36"
source = "sheet"

[sources]
sheet = "the data sheet"
measured = "measured on a board"
"""


def write(folder: Path, old: str = "", new: str = "") -> Path:
    assert old in PROFILE
    path = folder / "mine.toml"
    path.write_text(PROFILE.replace(old, new, 1) if old else PROFILE)
    return path


@pytest.mark.parametrize("name", sorted(REQUIRED))
def test_shipped_profiles_load_and_cite_every_fact(name: str) -> None:
    profile = load_profile(name)
    assert profile.id == name
    assert profile.ram_mib[-1] >= 512
    assert profile.os.libc_version or profile.os.libc != "glibc"
    for table, keys in profile.cited.items():
        doubted = [key for key in profile.unverified if key.startswith(f"{table}.")]
        assert keys or doubted, f"{table} has neither a source nor a doubt"
        assert set(keys) <= set(profile.sources)


def test_no_required_profile_is_absent() -> None:
    assert set(profile_names()) >= REQUIRED


def test_facts_that_engines_are_chosen_by() -> None:
    pi4, pi5 = load_profile("raspberry-pi-4"), load_profile("raspberry-pi-5")
    assert (pi4.has_fp16, pi4.has_int8_dot, pi4.core_count) == (False, False, 4)
    assert (pi5.has_fp16, pi5.has_int8_dot, pi5.clusters[0].core) == (True, True, "cortex-a76")
    nano = load_profile("jetson-nano")
    assert (nano.os.libc, nano.os.libc_version, nano.os.python) == ("glibc", "2.27", "3.6.9")
    n100 = load_profile("intel-n100")
    assert (n100.arch, n100.has_fp16, n100.has_int8_dot) == ("x86_64", False, True)
    assert load_profile("pixel-8").core_count == 9
    assert load_profile("iphone-13").reach == "app"


def test_the_host_is_read_from_the_running_machine() -> None:
    found = load_profile("host")
    assert found.reach == "local"
    assert found.arch == {"x86_64": "x86_64", "aarch64": "aarch64"}.get(
        platform.machine(), found.arch
    )
    assert found.core_count == os.cpu_count()
    assert found.os.python == platform.python_version()
    total = next(
        line for line in Path("/proc/meminfo").read_text().splitlines() if "MemTotal" in line
    )
    assert found.ram_mib[0] == pytest.approx(int(total.split()[1]) / 1024, rel=0.01)
    assert set(found.isa) >= {"sse2"} if found.arch == "x86_64" else {"asimd"}
    assert found.sources.keys() == {"detected"}


def test_a_profile_of_the_users_own(tmp_path: Path) -> None:
    mine = load_profile(write(tmp_path))
    assert (mine.id, mine.core_count, mine.cache_kib) == ("mine", 2, {"l1d": 32, "l2_shared": 1024})
    assert mine.unverified == ("clusters[0].max_ghz", "cache_kib.l1d", "cache_kib.l2_shared")
    assert mine.cited["clusters[0]"] == ("sheet", "measured")
    assert mine.cited["cache_kib"] == ()
    assert mine.peak_gflops_fp32 is None
    assert mine.power_w == {}
    assert load_profile("mine.toml", beside=tmp_path) == mine


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        (
            "max_ghz = 1.8",
            "max_ghz = -1.8",
            "clusters[0].max_ghz: expected 0.05 to 10.0, found -1.8",
        ),
        ("count = 2", "count = 2.5", "clusters[0].count: expected an integer, found 2.5 (float)"),
        (
            '"cortex-a72"',
            '"Cortex A72"',
            "clusters[0].core: expected a string that matches [a-z][a-z0-9]*(-[a-z0-9]+)*, "
            "found 'Cortex A72'",
        ),
        (
            'arch = "aarch64"',
            'arch = "arm64"',
            "arch: expected one of aarch64, armv7, x86_64, found 'arm64'; "
            "did you mean 'aarch64' or 'armv7'?",
        ),
        ("l1d = 32", "l4 = 32", "cache_kib.l4: unknown key (expected one that matches "),
        ("[1024, 2048]", "[2048, 1024]", "memory.ram_mib: expected ascending integers, none twice"),
        (
            'libc_version = "2.36"\n',
            "",
            "os.libc_version: is missing, and decides which engines a board can load",
        ),
        (
            'ram_mib = [1024, 2048]\nsource = "sheet"',
            "ram_mib = [1024, 2048]",
            "memory.source: is missing, expected a string",
        ),
        (
            'ram_mib = [1024, 2048]\nsource = "sheet"',
            'ram_mib = [1024, 2048]\nsource = "shet"',
            "memory.source: expected one of sheet, measured, found 'shet'; did you mean 'sheet'?",
        ),
        (
            'unverified = ["max_ghz"]',
            'unverified = ["ghz"]',
            "clusters[0].unverified[0]: expected one of core, count, max_ghz, found 'ghz'; "
            "did you mean 'max_ghz'?",
        ),
        (
            'measured = "measured on a board"',
            'measured = "measured on a board"\nextra = "a page"',
            "sources.extra: is named by no table of this file",
        ),
        ("[isa]", "[isa]\nfeature = 1", "isa.feature: unknown key; did you mean 'features'?"),
        ("[sources]", "[gpu]\n[sources]", "gpu: unknown key"),
    ],
)
def test_a_wrong_profile_is_refused(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    path = write(tmp_path, old, new)
    with pytest.raises(InputError) as caught:
        load_profile(path)
    assert str(caught.value).startswith(f"{path}: {complaint}")


def test_a_local_profile_holds_no_facts(tmp_path: Path) -> None:
    path = tmp_path / "here.toml"
    path.write_text((FOLDER / "host.toml").read_text() + 'arch = "aarch64"\n')
    with pytest.raises(InputError, match="arch: unknown key"):
        load_profile(path)


def test_a_wrong_name_gets_the_nearest_ones() -> None:
    with pytest.raises(InputError) as caught:
        load_profile("raspbery-pi-4")
    assert "did you mean 'raspberry-pi-4'" in caught.value.message
    assert "jetson-nano" in caught.value.message
