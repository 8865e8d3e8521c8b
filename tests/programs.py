# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""C programs of the tests, compiled once for the same sources, compiler and arguments."""

from __future__ import annotations

import functools
import shutil
import subprocess
from pathlib import Path

import pytest

from edgeopt import cache
from edgeopt.runtime.build import FLAGS, INCLUDES, ROOT, sources_digest

SANITIZED = (
    *(*FLAGS, "-O1", "-g"),
    *("-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
)
"""The flags of a program under the address and undefined-behaviour sanitizers."""


@functools.cache
def _compiler() -> str:
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    return subprocess.run(["gcc", "-v"], check=True, capture_output=True, text=True).stderr


def compiled(name: str, *arguments: object) -> Path:
    """Return what gcc makes of ``arguments`` as a file ``name``, which nobody may change.

    ``arguments`` are flags, files and libraries; the runtime's headers are found. gcc has to say
    nothing, as it did when a kept file was made.
    """
    words = [str(argument) for argument in arguments]
    files = [word for word in words if not word.startswith("-")]
    parts = {
        "compiler": _compiler(),
        "arguments": [word.replace(str(ROOT), "") for word in words if word not in files],
        "files": [(Path(file).name, cache.file_sha256(Path(file))) for file in files],
        "headers": sources_digest(),
    }

    def build(folder: Path) -> None:
        command = ["gcc", *INCLUDES, *words, "-o", str(folder / name)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr

    return cache.entry("test-program", cache.key(name=name, **parts), build) / name
