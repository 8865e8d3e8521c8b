# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""C programs of the tests, compiled once for the same sources, compiler and arguments."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from edgeopt import cache
from edgeopt.runtime.build import FLAGS, INCLUDES, ROOT, sources_digest, zig_environment

SANITIZED = (
    *(*FLAGS, "-O1", "-g"),
    *("-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
)
"""The flags of a program under the address and undefined-behaviour sanitizers."""


@functools.cache
def _version(triple: str) -> str:
    """Return which compiler makes programs for ``triple``; without it the test is skipped."""
    if triple:
        pytest.importorskip("ziglang", reason="ziglang is not installed")
        return f"zig {metadata.version('ziglang')} for {triple}"
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    return subprocess.run(["gcc", "-v"], check=True, capture_output=True, text=True).stderr


def compiled(name: str, *arguments: object, triple: str = "") -> Path:
    """Return what a compiler makes of ``arguments`` as a file ``name``, which nobody may change.

    ``arguments`` are flags, files and libraries; the runtime's headers are found. The compiler is
    gcc, or zig for the machine ``triple``. It has to say nothing, as it did when a kept file was
    made. With zig, leave optimisation to the runtime's SMALL: for other flags zig compiles musl
    anew, which takes 20 to 40 s.
    """
    words = [str(argument) for argument in arguments]
    files = [word for word in words if not word.startswith("-")]
    parts = {
        "compiler": _version(triple),
        "arguments": [word.replace(str(ROOT), "") for word in words if word not in files],
        "files": [(Path(file).name, cache.file_sha256(Path(file))) for file in files],
        "headers": sources_digest(),
    }

    def build(folder: Path) -> None:
        compiler = [sys.executable, "-m", "ziglang", "cc", "-target", triple] if triple else ["gcc"]
        command = [*compiler, *INCLUDES, *words, "-o", str(folder / name)]
        # What zig makes of a C library takes longest, and the runtime's builds have it already.
        environment = os.environ | (zig_environment() if triple else {})
        # As the runtime is built: in a folder above its own files zig names them otherwise, and
        # finds none of what it made elsewhere.
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr

    return cache.entry("test-program", cache.key(name=name, **parts), build) / name
