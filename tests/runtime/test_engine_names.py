# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What the C library and its build files know by name is what Python's lists say."""

import re

from edgeopt.architectures import ARCHITECTURES
from edgeopt.engine_names import ENGINES
from edgeopt.runtime.build import PLATFORMS, ROOT, SOURCES

DISCOVER = (SOURCES / "engines/discover.c").read_text()


def test_the_library_looks_for_every_engine_in_our_order() -> None:
    found = re.findall(r"^#ifndef EO_WITHOUT_(\w+)\n    &eo_engine_(\w+),", DISCOVER, re.MULTILINE)
    assert found == [(engine.upper(), engine) for engine in ENGINES]


def test_every_engine_has_a_file_of_its_name() -> None:
    """CMakeLists.txt and the two-file export go by these names."""
    files = {path.stem.removeprefix("engine_"): path for path in SOURCES.glob("*/engine_*.c")}
    assert files.keys() == set(ENGINES)
    for engine, path in files.items():
        text = path.read_text()
        assert f"const struct eo_engine eo_engine_{engine} = {{" in text
        assert re.findall(r'^    \.name = "(\w+)",', text, re.MULTILINE) == [engine]


def test_the_two_file_export_can_leave_every_engine_out() -> None:
    (listed,) = re.findall(
        r"^set\(engines (.*)\)", (ROOT / "export/CMakeLists.txt").read_text(), re.MULTILINE
    )
    assert tuple(listed.split()) == ENGINES
    told = re.findall(r"-DEO_WITHOUT_(\w+)", (ROOT / "export/README.md").read_text())
    assert told == [engine.upper() for engine in ENGINES]


def test_the_architectures_are_those_that_the_runtime_is_built_for() -> None:
    text = (SOURCES / "base/arch.h").read_text()
    named = re.findall(r'^#define EO_ARCH "(\w+)"', text, re.MULTILINE)
    assert sorted(named) == list(ARCHITECTURES)
    assert set(PLATFORMS) == {(a, libc) for a in ARCHITECTURES for libc in ("glibc", "musl")}
