# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""C programs of the tests, compiled once for the same sources, compiler and arguments."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import pytest

from edgeopt import cache
from edgeopt.runtime.build import FLAGS, INCLUDES, ROOT, zig_environment

SANITIZED = (
    *(*FLAGS, "-O1", "-g"),
    *("-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
)
"""The flags of a program under the address and undefined-behaviour sanitizers."""


_LINKING = ("-l", "-Wl,", "-shared", "-static")


@functools.cache
def _version(triple: str) -> str:
    """Return which compiler makes programs for ``triple``; without it the test is skipped."""
    if triple:
        pytest.importorskip("ziglang", reason="ziglang is not installed")
        return f"zig {metadata.version('ziglang')} for {triple}"
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    return subprocess.run(["gcc", "-v"], check=True, capture_output=True, text=True).stderr


@functools.cache
def _header_files() -> list[Path]:
    return sorted(
        path for room in ("include", "src", "agent") for path in (ROOT / room).rglob("*.h")
    )


@functools.cache
def _headers() -> str:
    """A hash of the runtime's headers, which any of its files may read."""
    return cache.key(headers=[(path.name, cache.file_sha256(path)) for path in _header_files()])


def compiled(name: str, *arguments: object, triple: str = "") -> Path:
    """Return what a compiler makes of ``arguments`` as a file ``name``, which nobody may change.

    ``arguments`` are flags, files and libraries; the runtime's headers are found. The compiler is
    gcc, or zig for the machine ``triple``. It has to say nothing, as it did when a kept file was
    made. With zig, leave optimisation to the runtime's SMALL: for other flags zig compiles musl
    anew, which takes 20 to 40 s. gcc compiles each of several files once for all programs with the
    same flags, as zig does by itself.
    """
    words = [str(argument) for argument in arguments]
    sources = [word for word in words if word.endswith(".c")]
    if not triple and len(sources) > 1:
        flags = [word for word in words if word.startswith("-") and not word.startswith(_LINKING)]
        objects = {
            source: _object(source, [flag for flag in flags if _matters(flag, source)])
            for source in sources
        }
        words = [objects.get(word, word) for word in words]
    return _kept("test-program", name, words, triple)


def _matters(flag: str, source: str) -> bool:
    """Whether ``flag`` is no macro of the runtime's own, or one that the file or a header names."""
    if not flag.startswith(("-DEO_", "-DFUZZING_")):
        return True
    name = flag[2:].partition("=")[0]
    return any(name in path.read_text() for path in (Path(source), *_header_files()))


def _object(source: str, flags: Sequence[str]) -> str:
    return str(_kept("test-object", f"{Path(source).stem}.o", ["-c", *flags, source], ""))


def _kept(kind: str, name: str, words: Sequence[str], triple: str) -> Path:
    files = [word for word in words if not word.startswith("-")]
    parts = {
        "compiler": _version(triple),
        "arguments": [word.replace(str(ROOT), "") for word in words if word not in files],
        "files": [(Path(file).name, cache.file_sha256(Path(file))) for file in files],
        "headers": _headers(),
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

    return cache.entry(kind, cache.key(name=name, **parts), build) / name
