# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Link compiled objects into a shared library for another Linux machine."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from edgeopt.architectures import of_machine
from edgeopt.errors import CompileError, MissingDependencyError
from edgeopt.runtime.build import SMALL, zig_environment

GLIBC = "2.17"
"""The oldest glibc that aarch64 Linux has; a library linked against it loads with any later."""


def linker(arch: str) -> tuple[str, ...]:
    """Return the command that links for ``arch`` (aarch64, x86_64) Linux with glibc.

    Prefers zig, which carries the glibc of every version; a gcc links against its own, which the
    board's must then not be older than. Raises MissingDependencyError if there is neither.
    """
    triple = f"{arch}-linux-gnu"
    if importlib.util.find_spec("ziglang"):
        # Optimised as the runtime is, or zig compiles its compiler-rt, and a run time for undefined
        # behaviour, once more for unoptimised code.
        return (sys.executable, "-m", "ziglang", "cc", "-target", f"{triple}.{GLIBC}", *SMALL)
    if gcc := shutil.which(f"{triple}-gcc"):
        return (gcc,)
    raise MissingDependencyError(
        f"there is no linker for {triple}: neither ziglang nor {triple}-gcc is installed",
        hint="Install one with: pip install 'edgeopt[cross]'",
    )


def link(command: Sequence[str], objects: Sequence[str | Path], output: Path) -> None:
    """Link ``objects`` into the shared library ``output`` with the ``command`` of ``linker``.

    Raises CompileError with what the linker said.
    """
    full = [*command, "-shared", "-s", "-o", str(output), *map(str, objects), "-lm"]
    own = zig_environment() if "ziglang" in command else {}
    done = subprocess.run(full, env=os.environ | own, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CompileError(
            f"the linker failed with exit status {done.returncode}:\n{done.stderr.strip()}",
            where=str(output),
            hint=f"The command was: {' '.join(full)}",
        )


def host_linker() -> tuple[str, ...]:
    """Return the command that links for this machine: its own C compiler, else as ``linker``."""
    own = shutil.which("cc")
    return (own,) if own else linker(of_machine(platform.machine()))
