# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Build the QEMU plugin that counts instructions on a user-mode board, with the host's compiler.

Its C sources lie in ``counting/``. QEMU loads it into the process of one program on the board,
which the environment variable QEMU_PLUGIN names it to (QEMU docs/devel/tcg-plugins.rst).
"""

from __future__ import annotations

import shutil
import subprocess
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
    plugin = build(compiler)
    check_loads(program, plugin)
    return plugin


def build(compiler: str) -> Path:
    """Return the plugin, built once for the same sources, compiler and flags."""
    files = sorted(SOURCES.iterdir())
    told = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=False)
    key = cache.key(
        files=[(file.name, cache.file_sha256(file)) for file in files],
        compiler=(compiler, told.stdout),
        flags=FLAGS,
    )
    return cache.entry("qemu-plugin", key, lambda work: _compile(compiler, work)) / _NAME


def _compile(compiler: str, work: Path) -> None:
    sources = [str(file) for file in sorted(SOURCES.glob("*.c"))]
    command = [compiler, *FLAGS, *sources, "-o", str(work / _NAME)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CompileError(
            f"the plugin that counts instructions does not compile:\n{done.stderr.strip()}",
            where=compiler,
        )


def check_loads(program: str, plugin: Path) -> None:
    """Raise MissingDependencyError if the QEMU ``program`` does not take ``plugin``.

    It is asked to run a file that is not there, which it says nothing of before it loads plugins.
    """
    options = subprocess.run([program, "-help"], capture_output=True, text=True, check=False)
    if "-plugin" not in options.stdout:
        raise MissingDependencyError(
            "this QEMU is built without plugins, and cannot count",
            where=program,
            hint="Install the dynamic one, which has them: sudo apt install qemu-user",
        )
    absent = str(plugin.parent / "no-program")
    command = [program, "-plugin", f"file={plugin},out=/dev/null", absent]
    told = subprocess.run(command, capture_output=True, text=True, check=False).stderr
    if "Could not load plugin" in told:
        raise MissingDependencyError(
            f"this QEMU does not take the plugin that counts: {told.strip()}",
            where=program,
            hint="It is written for QEMU 6.0 to 8.2 (plugin API 1).",
        )
