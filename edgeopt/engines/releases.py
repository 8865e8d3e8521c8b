# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The official builds of each engine that a device can use, as ``releases.toml`` lists them."""

from __future__ import annotations

import fnmatch
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from edgeopt.errors import BoardError
from edgeopt.fields import Table, read_toml
from edgeopt.target import ENGINES

SYSTEM = "system"
"""The registry of releases that a board installs itself."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Package:
    """A package of a registry, and patterns of its files that are needed."""

    name: str
    version: str
    members: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Release:
    """One version of one engine, and where its C library is.

    ``packages`` hold its files, the first one the file to open. ``registry`` is pypi, npm, or
    ``SYSTEM``: then edgeopt brings nothing, and the board has it from its own package manager.
    ``arch`` maps an architecture to the registry's name for it, ``glibc`` and ``glibcxx`` to the
    symbol versions that the board's libraries must have, and ``needs_isa`` to features (names of
    /proc/cpuinfo) without which this build dies. ``opset`` and ``ir_version`` bound the ONNX files
    that it reads, None for the other engines.
    """

    engine: str
    version: str
    registry: str
    packages: tuple[Package, ...]
    arch: Mapping[str, str]
    glibc: Mapping[str, str]
    glibcxx: Mapping[str, str]
    opset: int | None
    ir_version: int | None
    needs_isa: Mapping[str, tuple[str, ...]]

    @property
    def name(self) -> str:
        """The package and version, as its registry names them."""
        return f"{self.packages[0].name} {self.packages[0].version}"

    def library_among(self, paths: Sequence[str]) -> str | None:
        """Return the first of a board's ``paths`` that is the file to open, which it installed.

        None without one, and for a release that edgeopt brings.
        """
        if self.registry != SYSTEM:
            return None
        pattern = self.packages[0].members[0]
        return next((p for p in paths if fnmatch.fnmatchcase(p.rpartition("/")[2], pattern)), None)


@functools.cache
def releases() -> tuple[Release, ...]:
    """Return all known releases, newest first within an engine."""
    with resources.as_file(resources.files("edgeopt.engines") / "releases.toml") as path:
        table = read_toml(Path(path))
    found = tuple(_release(item) for item in table.tables("release"))
    table.close()
    return found


def find(engine: str, version: str, arch: str | None = None) -> Release:
    """Return the release of ``engine`` with ``version``, if there are several that for ``arch``.

    Raises BoardError if none is known.
    """
    known = [r for r in releases() if r.engine == engine]
    found = [r for r in known if r.version == version]
    if found:
        return next((r for r in found if arch in r.arch), found[0])
    raise BoardError(
        f"no C library of {engine} {version} is known",
        hint="Known: "
        + (", ".join(dict.fromkeys(r.version for r in known)) or "none of this engine"),
    )


def _package(table: Table) -> Package:
    return Package(
        name=table.get("package", str),
        version=table.get("version", str),
        members=table.array("members", str),
    )


def _release(table: Table) -> Release:
    isa = table.optional_table("needs_isa")
    release = Release(
        engine=table.choice("engine", ENGINES),
        version=table.get("version", str),
        registry=table.choice("registry", ("pypi", "npm", SYSTEM)),
        packages=(_package(table), *(_package(t) for t in table.tables("beside", ()))),
        arch=table.table("arch").strings(),
        glibc=table.table("glibc").strings(),
        glibcxx=table.table("glibcxx").strings(),
        opset=table.integer("opset", None),
        ir_version=table.integer("ir_version", None),
        needs_isa={name: isa.array(name, str) for name in isa.data} if isa else {},
    )
    table.close()
    return release
