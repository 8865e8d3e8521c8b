# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The base tests on other Pythons than the one that the toolchains are installed for.

Each gets an environment of its own, kept in the cache, with the base dependencies and pytest.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from edgeopt import cache
from edgeopt.errors import EdgeoptError
from tools import debian_python

ROOT = Path(__file__).resolve().parent.parent
VERSIONS = ("3.12", "3.13", "3.14", "3.15")
SUITES = {"3.13": "trixie", "3.14": "forky", "3.15": "forky"}
"""The Debian release out of which a Python is taken that this system lacks."""

LEFT_OUT = (
    "tests/measure/test_timing.py",
    "tests/runtime/test_abi.py",
    "tests/runtime/test_agent.py",
    "tests/runtime/test_amalgamate.py",
    "tests/runtime/test_direction.py",
    "tests/runtime/test_image.py",
    "tests/runtime/test_sha256.py",
    "tests/test_direction.py",
)
"""Tests that no version of Python changes: they try compiled C, read our sources, or time."""

_ASK = "import sys; print(*sys.version_info[:3], sys.version_info.releaselevel, sep='.')"
_TIMEOUT_S = 1200
_SHOWN_LINES = 60


def candidates(version: str) -> Iterator[Path]:
    """Yield where such a Python may lie: on PATH, and as pyenv and uv keep theirs."""
    program = f"python{version}"
    yield from (Path(folder) / program for folder in os.get_exec_path())
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    yield from pyenv.glob(f"{version}.*/bin/{program}")
    if (uv := shutil.which("uv")) is not None:
        command = [uv, "python", "find", "--managed-python", "--no-python-downloads", version]
        found = subprocess.run(command, capture_output=True, text=True)
        if found.returncode == 0:
            yield Path(found.stdout.strip())


def asked(program: Path, version: str) -> str | None:
    """Return the whole version of ``program``, None if it is no released Python ``version``."""
    try:
        done = subprocess.run(
            [program, "-I", "-c", _ASK], capture_output=True, text=True, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.fullmatch(rf"({re.escape(version)}\.\d+)\.final", done.stdout.strip())
    return found[1] if found else None


def find(version: str) -> tuple[Path, str]:
    """Return a Python of ``version``, and its whole version. Raises EdgeoptError without one."""
    for program in candidates(version):
        if (whole := asked(program, version)) is not None:
            return program, whole
    if version not in SUITES or shutil.which("dpkg") is None:
        raise EdgeoptError("not here: neither on PATH nor with pyenv or uv")
    told = subprocess.run(["dpkg", "--print-architecture"], capture_output=True, text=True)
    architecture = told.stdout.strip()
    if architecture not in debian_python.TRIPLES:
        raise EdgeoptError(f"not here, and no Debian package is taken for {architecture}")
    program = debian_python.root(version, SUITES[version], architecture) / "usr/bin/python"
    whole = asked(program, version)
    if whole is None:
        raise EdgeoptError("the one of Debian's packages does not start")
    return program, whole


def environment(program: Path, whole: str) -> Path:
    """Return the environment of the Python ``program``, with the checkout and pytest in it."""

    def build(folder: Path) -> None:
        venv = folder / "venv"
        install = ["uv", "pip", "install", "-q", "-p", venv / "bin/python"]
        install += ["--only-binary", ":all:", "--no-binary", "edgeopt", "-e", f"{ROOT}[test]"]
        for command in (["uv", "venv", "-q", "--relocatable", "-p", str(program), venv], install):
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise EdgeoptError(f"its environment cannot be made: {done.stderr.strip()[-600:]}")

    key = cache.key(
        project=cache.file_sha256(ROOT / "pyproject.toml"),
        checkout=str(ROOT),
        program=str(program),
        version=whole,
    )
    return cache.entry("python-tests", key, build) / "venv"


def tried(version: str) -> tuple[bool | None, str]:
    """Run the tests on Python ``version``; return whether they pass, and what to tell.

    None stands for a Python that could not be had.
    """
    try:
        program, whole = find(version)
    except EdgeoptError as exc:
        return None, f"Python {version}: could not be had: {exc}"
    try:
        venv = environment(program, whole)
    except EdgeoptError as exc:
        return False, f"Python {whole}: FAILED: {exc}"
    begin = time.monotonic()
    command = [venv / "bin/python", "-m", "pytest", "-q", "-m", "not heavy and not board"]
    command += ["--maxfail=5", "--tb=short", "-p", "no:cacheprovider"]
    command += [f"--ignore={name}" for name in LEFT_OUT]
    variables = os.environ | {"PATH": f"{venv / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    for name in ("PYTHONPATH", "PYTHONHOME", "PYTHONDONTWRITEBYTECODE", "VIRTUAL_ENV"):
        variables.pop(name, None)
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        return False, f"Python {whole}: FAILED: its tests are not over after {_TIMEOUT_S} s"
    lines = [x for x in done.stdout.strip().splitlines() if not x.endswith("%]")]  # no dots
    took = f"{time.monotonic() - begin:.0f} s"
    if done.returncode == 0:
        return True, f"Python {whole}: {lines[-1]}"
    return False, "\n".join([f"Python {whole}: FAILED after {took}", *lines[-_SHOWN_LINES:]])


def main(versions: tuple[str, ...]) -> int:
    """Try each of ``versions``; return the exit status, 0 if one or more passed and none failed.

    All run at once, for some tests wait until a time is over.
    """
    with ThreadPoolExecutor(len(versions)) as pool:
        results = []
        for ok, line in pool.map(tried, versions):
            print(line, flush=True)
            results.append(ok)
    return 1 if False in results or not any(results) else 0


if __name__ == "__main__":
    sys.exit(main(tuple(sys.argv[1:]) or VERSIONS))
