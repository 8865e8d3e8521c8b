# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Build the QEMU plugin that counts instructions on a user-mode board, with the host's compiler.

Its C sources lie in ``counting/``. QEMU loads it into the process of one program on the board,
which the environment variable QEMU_PLUGIN names it to (QEMU docs/devel/tcg-plugins.rst).
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from edgeopt import cache
from edgeopt.boards.emulated import user_mode
from edgeopt.boards.registry import BoardEntry
from edgeopt.errors import CompileError, InputError, MissingDependencyError

SOURCES = Path(__file__).parent / "counting"
FLAGS = (
    *("-std=c11", "-Wall", "-Wextra", "-Werror", "-pedantic", "-O2"),
    *("-shared", "-fPIC", "-fvisibility=hidden"),
)
_NAME = "count.so"
VERSIONS = (3, 1)
"""Of QEMU's plugin interface, those that it is built for: of QEMU 9.1 and later, and 6.0 to 8.2."""


def counting_plugin(entry: BoardEntry, arch: str) -> Path:
    """Return the plugin for the board of ``entry``, whose programs are ``arch``.

    Raises InputError if it is no board that can count, MissingDependencyError without a C compiler
    or a QEMU that takes the plugin, CompileError if the compiler fails.
    """
    if entry.kind != "emulated" or entry.mode != "user":
        what = f"a {entry.mode} board" if entry.kind == "emulated" else "no emulated board of ours"
        raise InputError(
            f"--counters is for user-mode emulated boards, and this is {what}",
            where=entry.name,
            hint="Start one with: edgeopt board up NAME --target TARGET --mode user",
        )
    program = user_mode.qemu(arch)
    if program is None:
        raise MissingDependencyError(
            f"QEMU for {arch} is not installed", hint="Install it with: sudo apt install qemu-user"
        )
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise MissingDependencyError(
            "a C compiler (cc), which builds what counts instructions, is not installed",
            hint="Install one with: sudo apt install gcc libc6-dev",
        )
    return loaded(program, compiler)


def loaded(program: str, compiler: str) -> Path:
    """Return the plugin for the first of ``VERSIONS`` that the QEMU ``program`` takes.

    Raises MissingDependencyError if it takes none, CompileError.
    """
    check_plugins(program)
    told = ""
    for version in VERSIONS:
        plugin = build(compiler, version)
        told = refusal(program, plugin)
        if not told:
            return plugin
    raise MissingDependencyError(
        f"this QEMU does not take the plugin that counts: {told}",
        where=program,
        hint="It is written for QEMU 6.0 to 8.2 (plugin API 1), and for 9.1 and later (3).",
    )


def build(compiler: str, version: int) -> Path:
    """Return the plugin for a ``version`` of QEMU's interface, built once for the same sources."""
    flags = (*FLAGS, f"-DEO_PLUGIN_VERSION={version}")
    files = sorted(SOURCES.iterdir())
    told = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=False)
    key = cache.key(
        files=[(file.name, cache.file_sha256(file)) for file in files],
        compiler=(compiler, told.stdout),
        flags=flags,
    )
    return cache.entry("qemu-plugin", key, lambda work: _compile(compiler, flags, work)) / _NAME


def _compile(compiler: str, flags: Sequence[str], work: Path) -> None:
    sources = [str(file) for file in sorted(SOURCES.glob("*.c"))]
    command = [compiler, *flags, *sources, "-o", str(work / _NAME)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CompileError(
            f"the plugin that counts instructions does not compile:\n{done.stderr.strip()}",
            where=compiler,
        )


def check_plugins(program: str) -> None:
    """Raise MissingDependencyError if the QEMU ``program`` is built without plugins."""
    options = subprocess.run([program, "-help"], capture_output=True, text=True, check=False)
    if "-plugin" not in options.stdout:
        raise MissingDependencyError(
            "this QEMU is built without plugins, and cannot count",
            where=program,
            hint="Debian 12's dynamic one has them (sudo apt install qemu-user), static ones and "
            "Debian 13's have not; one that you build with --enable-plugins has. A board of the "
            "mode deterministic counts without.",
        )


def refusal(program: str, plugin: Path) -> str:
    """Return what the QEMU ``program`` has against ``plugin``, "" if it takes it.

    It is asked to run a file that is not there, which it says nothing of before it loads plugins.
    """
    absent = str(plugin.parent / "no-program")
    command = [program, "-plugin", f"file={plugin},out=/dev/null", absent]
    told = subprocess.run(command, capture_output=True, text=True, check=False).stderr
    return told.strip() if "Could not load plugin" in told else ""
