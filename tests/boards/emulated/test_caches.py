# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The model of data caches: the plugin's C code against one of dictionaries, and its geometries."""

import ctypes
import random
import shutil
import subprocess
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

import pytest

from edgeopt.boards.emulated import caches, plugin, user_mode
from edgeopt.errors import InputError
from edgeopt.measure.counters import of_lines
from edgeopt.runtime.build import SMALL
from edgeopt.target import load_target
from tests.programs import compiled


class Cache(ctypes.Structure):
    _fields_ = [
        ("lines", ctypes.c_void_p),
        ("changed", ctypes.c_void_p),
        ("sets", ctypes.c_size_t),
        ("ways", ctypes.c_size_t),
        ("refills", ctypes.c_uint64),
        ("write_backs", ctypes.c_uint64),
    ]


class Caches(ctypes.Structure):
    _fields_ = [
        ("levels", Cache * 3),
        ("count", ctypes.c_size_t),
        ("line_shift", ctypes.c_uint),
    ]


class Model:
    """The same by dictionaries: level -> set -> line -> whether it was changed, oldest first."""

    def __init__(self, line: int, *levels: tuple[int, int]) -> None:
        self.line, self.ways = line, [ways for _, ways in levels]
        self.sets = [
            [OrderedDict[int, bool]() for _ in range(1024 * kib // line // ways)]
            for kib, ways in levels
        ]
        self.refills, self.write_backs = [0] * len(levels), [0] * len(levels)

    def access(self, address: int, size: int, store: bool) -> None:
        for line in range(address // self.line, (address + size - 1) // self.line + 1):
            self._into(0, line, store)

    def _into(self, level: int, line: int, changed: bool, *, fill: bool = True) -> None:
        if level == len(self.sets):
            return
        found = self.sets[level][line % len(self.sets[level])]
        if line in found:
            found[line] |= changed
            found.move_to_end(line)
            return
        if fill:
            self.refills[level] += 1
            self._into(level + 1, line, False)
        if len(found) == self.ways[level]:
            old, was_changed = found.popitem(last=False)
            if was_changed:
                self.write_backs[level] += 1
                self._into(level + 1, old, True, fill=False)
        found[line] = changed


@pytest.fixture(scope="module")
def library() -> ctypes.CDLL:
    source = plugin.SOURCES / "caches.c"
    found = ctypes.CDLL(
        str(compiled("caches.so", *plugin.FLAGS[:-1], source, f"-I{plugin.SOURCES}"))
    )
    found.eo_caches_open.restype = ctypes.c_bool
    found.eo_caches_access.argtypes = (
        *(ctypes.POINTER(Caches), ctypes.c_uint64),
        *(ctypes.c_size_t, ctypes.c_bool),
    )
    return found


@pytest.mark.parametrize(
    "levels", [((1, 2),), ((1, 1), (4, 4)), ((1, 2), (2, 8), (8, 16)), ((2, 4), (2, 4))]
)
def test_lines_move_as_in_a_model_of_dictionaries(
    library: ctypes.CDLL, levels: tuple[tuple[int, int], ...]
) -> None:
    found = Caches()
    text = ":".join(["64", *(f"{kib}/{ways}" for kib, ways in levels)])
    assert library.eo_caches_open(ctypes.byref(found), text.encode())
    model = Model(64, *levels)
    rng = random.Random(1)
    at = 0
    for n in range(20_000):
        # Walks, as kernels do over weights, and places all over.
        at = rng.randrange(1 << 15) if n % 7 == 0 else at + 16
        size, store = 1 << rng.randrange(5), rng.random() < 0.3
        library.eo_caches_access(ctypes.byref(found), at, size, store)
        model.access(at, size, store)
    counted = found.levels[: found.count]
    assert [level.refills for level in counted] == model.refills
    assert [level.write_backs for level in counted] == model.write_backs
    assert min(model.write_backs) > 100


@pytest.mark.parametrize(
    "text", ["", "64", "63:32/2", "64:32/2x", "64:32/0", "64:24/2", "64:1/1:1/1:1/1:1/1"]
)
def test_what_is_no_geometry_is_refused(library: ctypes.CDLL, text: str) -> None:
    assert not library.eo_caches_open(ctypes.byref(Caches()), text.encode())


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("raspberry-pi-4", "64:32/2:1024/16"),
        ("raspberry-pi-5", "64:64/4:512/8:2048/16"),
        ("jetson-orin-nano", "64:64/4:256/8:2048/16"),
        ("raspberry-pi-2", "64:32/4:512/8"),
    ],
)
def test_a_devices_caches(target: str, expected: str, library: ctypes.CDLL) -> None:
    found = caches.geometry(caches.levels(load_target(target).device))
    assert found == expected
    assert library.eo_caches_open(ctypes.byref(Caches()), found.encode())


@pytest.mark.parametrize(("target", "what"), [("rk3588", "sizes"), ("pixel-8", "ways")])
def test_caches_that_are_not_known_are_said_to_be(target: str, what: str) -> None:
    with pytest.raises(InputError, match=f"the {what} of the data caches of its cortex-"):
        caches.levels(load_target(target).device)


def test_a_size_that_no_cache_has_is_told_before_anything_runs() -> None:
    device = load_target("raspberry-pi-4").device
    odd = replace(device, cache_kib={"l1d": 32, "l2": 1000})
    with pytest.raises(InputError, match="l2 of 1000 KiB in 16 ways has no number of sets"):
        caches.levels(odd)


WALKS = """\
#define _POSIX_C_SOURCE 200809L
#include <time.h>
enum { WORDS = 1 << 20, FEW = 1 << 11 }; /* 8 MiB, 16 KiB */
static volatile unsigned long data[WORDS] __attribute__((aligned(64)));
static unsigned long sum;
static void mark(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
}
static void load(long count)
{
    mark();
    for (long i = 0; i < count; i++) {
        sum += data[i];
    }
    mark();
}
int main(void)
{
    for (long i = 0; i < WORDS; i++) {
        data[i] = i;
    }
    load(WORDS);
    load(FEW);
    load(FEW);
    mark();
    for (long i = 0; i < WORDS; i++) {
        data[i] = sum;
    }
    mark();
    return 0;
}
"""


@pytest.mark.heavy
def test_walks_over_memory_move_what_they_walk_over(tmp_path: Path) -> None:
    program, compiler = user_mode.qemu("aarch64"), shutil.which("cc")
    if program is None or compiler is None:
        pytest.skip("needs qemu-user and a C compiler")
    (tmp_path / "walks.c").write_text(WALKS)
    walks = compiled(
        "walks", *SMALL, "-std=c11", "-static", tmp_path / "walks.c", triple="aarch64-linux-musl"
    )
    levels = caches.levels(load_target("raspberry-pi-4").device)
    counts = plugin.loaded(program, compiler)
    where = f"file={counts},out={tmp_path / 'out'},caches={caches.geometry(levels)}"
    subprocess.run([program, "-plugin", where, str(walks)], check=True)
    found = of_lines(
        (tmp_path / "out").read_text(), warmup=0, runs=4, where="walks", levels=levels
    ).caches
    assert found is not None
    nearest, last = (level.refills for level in found.levels)
    lines, few = (8 << 20) // 64, (16 << 10) // 64
    for moved in (nearest, last):
        assert moved[0] == pytest.approx(lines, abs=20)  # a cache holds less than all
        assert moved[3] == pytest.approx(lines - few, abs=20)
    assert nearest[1] == pytest.approx(few, abs=20)
    assert (nearest[2], last[2]) == pytest.approx((0, 0), abs=20)  # it is there already
    in_last = (1024 << 10) // 64
    assert found.write_backs[3] == pytest.approx(lines - in_last, abs=600)  # an L1 more or less
    assert found.write_backs[2] == 0
