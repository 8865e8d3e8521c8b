# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The C library goes one way: a file needs only its own room and those below.

No two need each other. ``tests/test_direction.py`` holds the same for Python.
"""

import functools
import graphlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from edgeopt.runtime.amalgamate import _read, _Token
from edgeopt.runtime.build import HEADER, ROOT, SOURCES

# From the ground up. Rooms of one floor do not know each other.
FLOORS = [
    {"base"},
    {"tokenizer", "image", "audio", "engines"},
    {"bundle"},
    {"session"},
    {"tasks", "generate"},
]
LEVEL = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}


def names(tokens: list[_Token]) -> Iterator[str]:
    for token in tokens:
        if token.kind == "name":
            yield token.text
        yield from names(token.inner)


def included(path: Path) -> set[str]:
    """Return the headers of ours that ``path`` includes, as it names them."""
    found = re.findall(r'^\s*#\s*include\s+"([^"]+)"', path.read_text(), re.MULTILINE)
    return set(found) - {HEADER}


def name_of(path: Path) -> str:
    return path.relative_to(SOURCES).as_posix()


def module_of(name: str) -> str:
    """The header and the source of one name are one module."""
    return name.rsplit(".", 1)[0]


FILES = {name_of(path): path for path in sorted(SOURCES.rglob("*.[ch]"))}
INCLUDES = {name: included(path) for name, path in FILES.items()}


@functools.cache
def owners_and_uses() -> tuple[dict[str, str], dict[str, set[str]]]:
    """Return the C file of each function or table, and the others whose such a C file uses.

    Uses through the public header count too.
    """
    read = {name: _read(path) for name, path in FILES.items() if name.endswith(".c")}
    owners = {
        name: file
        for file, source in read.items()
        for item in source.items
        if item.linkage == "external" and item.is_definition
        for name in item.names
    }
    uses = {
        file: {owners[name] for name in names(source.tokens) if name in owners} - {file}
        for file, source in read.items()
    }
    return owners, uses


def above(file: str, others: set[str]) -> set[str]:
    """Return those of ``others`` that do not stand in the room of ``file`` or below it."""
    own = file.split("/")[0]
    rooms = {other: other.split("/")[0] for other in others}
    return {o for o, room in rooms.items() if room != own and LEVEL[room] >= LEVEL[own]}


def assert_no_circle(graph: Mapping[str, set[str]]) -> None:
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_every_file_stands_in_a_room() -> None:
    assert {name.split("/")[0] for name in FILES} == LEVEL.keys()
    assert {name.count("/") for name in FILES} == {1}


@pytest.mark.parametrize("folder", ["src", "agent", "fuzz"])
def test_a_file_of_the_library_is_included_by_its_room(folder: str) -> None:
    for path in (ROOT / folder).rglob("*.[ch]"):
        # The agent's own, by their places in its folder.
        own = {o.relative_to(ROOT / folder).as_posix() for o in (ROOT / folder).rglob("*.h")}
        assert included(path) <= FILES.keys() | own, path


@pytest.mark.parametrize("file", FILES)
def test_a_file_includes_only_what_stands_below_it(file: str) -> None:
    assert not above(file, INCLUDES[file])


@pytest.mark.parametrize("file", [name for name in FILES if name.endswith(".c")])
def test_a_file_uses_only_what_stands_below_it(file: str) -> None:
    assert not above(file, owners_and_uses()[1][file])


def test_no_modules_include_each_other_in_a_circle() -> None:
    graph: dict[str, set[str]] = {}
    for file, headers in INCLUDES.items():
        own = module_of(file)
        graph.setdefault(own, set()).update({module_of(header) for header in headers} - {own})
    assert_no_circle(graph)


def test_no_files_use_each_other_in_a_circle() -> None:
    assert_no_circle(owners_and_uses()[1])


def test_the_uses_are_seen() -> None:
    """What the tests above stand on."""
    owners, uses = owners_and_uses()
    assert uses["tasks/cascade.c"] >= {"tasks/cascade_read.c", "tasks/open.c", "base/arena.c"}
    assert uses["engines/discover.c"] >= {"engines/engine_tvm.c"}  # a table, not a function
    assert owners["eo_session_open"] == "tasks/open.c"
