# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""CPython out of a Debian release, for a system that has no Python of that version.

Its C library comes along, so that it starts on an older system; nothing is installed there.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from edgeopt import cache
from edgeopt.boards.emulated import rootfs

TRIPLES = {"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}
"""By Debian's word for the architecture."""

# A virtual environment links to it: $0 is then the link, by which Python finds the environment.
_START = """\
#!/bin/sh
real=$(readlink -f "$0")
root=${real%/usr/bin/*}
libraries=$root/usr/lib/TRIPLE
exec "$libraries"/ld-linux-*.so.* --library-path "$libraries" --argv0 "$0" \\
  "$root/usr/bin/pythonVERSION" "$@"
"""


def root(version: str, suite: str, architecture: str) -> Path:
    """Return a directory, which may be copied, in which ``usr/bin/python`` starts that Python.

    Raises MissingDependencyError where apt or the archive's keys are absent, BoardError where the
    release has no such Python or cannot be reached.
    """
    packages = (f"python{version}-minimal", f"libpython{version}-stdlib", "libstdc++6")
    start = _START.replace("TRIPLE", TRIPLES[architecture]).replace("VERSION", version)

    def build(folder: Path) -> None:
        debs = rootfs.download(suite, packages, folder / "apt", architecture)
        rootfs.unpack(debs, folder / "root")
        shutil.rmtree(folder / "apt")
        program = folder / "root/usr/bin/python"
        program.write_text(start)
        program.chmod(0o755)

    key = cache.key(suite=suite, architecture=architecture, packages=packages, start=start)
    return cache.entry("python", key, build) / "root"
