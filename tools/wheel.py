# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Build the wheel of ``tools/build-wheel`` into the folder given, and print its path and size.

The same sources and compiler give the same bytes. The checkout is left as it was.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from edgeopt.runtime.build import (  # noqa: E402
    AGENT,
    GENERATION_AGENT,
    NOTICES,
    PLATFORMS,
    build_runtime,
    sources_digest,
)

EPOCH = "315532800"  # 1980, where a zip's clock begins


def main(output: Path) -> None:
    """Build it in a temporary copy."""
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="edgeopt-wheel-") as scratch:
        source = Path(scratch) / "source"
        source.mkdir()
        for name in ("pyproject.toml", "README.md", *NOTICES):
            shutil.copy(ROOT / name, source)
        leave = shutil.ignore_patterns("__pycache__", "prebuilt")
        for name in ("edgeopt", "profiles", "targets"):
            shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=leave)
        for arch, libc in PLATFORMS:
            built = build_runtime(arch, libc)
            folder = source / "edgeopt" / "runtime" / "prebuilt" / f"{arch}-{libc}"
            folder.mkdir(parents=True)
            shutil.copy(built.library, folder)
            shutil.copy(built.agent, folder)
            shutil.copy(built.generation_agent, folder)
            (folder / "sources.sha256").write_text(sources_digest() + "\n")
        _set_modes(source)
        code = (
            "import sys; from setuptools import build_meta as b; print(b.build_wheel(sys.argv[1]))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, scratch],
            cwd=source,
            env=os.environ | {"SOURCE_DATE_EPOCH": EPOCH, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            sys.exit(done.stderr)
        name = done.stdout.split()[-1]
        new = output / f".{name}.new"
        shutil.copyfile(Path(scratch) / name, new)
        new.replace(output / name)
    print(f"{output / name} {(output / name).stat().st_size:,} bytes")


def _set_modes(source: Path) -> None:
    """Give all files the modes of a fresh checkout, whatever the umask: they are in the wheel."""
    for path in source.rglob("*"):
        if not path.is_symlink() and path.is_file():
            runs = path.name in (AGENT, GENERATION_AGENT) or path.suffix == ".so"
            path.chmod(0o755 if runs else 0o644)


if __name__ == "__main__":
    os.umask(0o022)
    main(Path(sys.argv[1]).resolve())
