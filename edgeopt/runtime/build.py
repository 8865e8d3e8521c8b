"""Cross-compile the board agent with zig's C compiler.

The result is one small executable that needs nothing but the C library, built against an old one
so that it starts on old boards. A build is kept by content: sources, compiler and flags.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from edgeopt import cache, progress
from edgeopt.errors import CompileError, InputError, MissingDependencyError

AGENT_ENGINES = ("onnx", "openvino", "tvm")
"""The engines that the agent runs: one ``engine_*.c`` each."""

SOURCES = Path(__file__).parent / "src"
FLAGS = ("-std=c11", "-D_GNU_SOURCE", "-O2", "-s", "-Wall", "-Wextra", "-Werror", "-pedantic")
# The oldest glibc that zig's headers describe for aarch64 is its first, 2.17.
GLIBC_DEFAULT = "2.17"
_TRIPLES = {
    ("aarch64", "glibc"): "aarch64-linux-gnu",
    ("aarch64", "musl"): "aarch64-linux-musl",
    ("x86_64", "glibc"): "x86_64-linux-gnu",
    ("x86_64", "musl"): "x86_64-linux-musl",
    ("armv7", "glibc"): "arm-linux-gnueabihf",
    ("armv7", "musl"): "arm-linux-musleabihf",
}


def build_agent(arch: str, libc: str = "glibc", libc_version: str | None = None) -> Path:
    """Return the path of ``edgeopt-agent`` for ``arch`` (aarch64, x86_64, armv7).

    ``libc_version`` is the glibc to build against (2.17 by default), not that of the board. A musl
    agent is static: it can tell about the board, but opens no engine. Raises InputError for an
    unknown combination, MissingDependencyError without ziglang, CompileError where zig fails.
    """
    triple = _TRIPLES.get((arch, libc))
    if triple is None:
        known = ", ".join(f"{a} with {c}" for a, c in _TRIPLES)
        raise InputError(f"the agent is not built for {arch} with {libc} (known: {known})")
    if libc == "musl" and libc_version is not None:
        raise InputError("a musl agent is static and takes no libc_version")
    if libc == "glibc":
        triple = f"{triple}.{libc_version or GLIBC_DEFAULT}"
    if importlib.util.find_spec("ziglang") is None:
        raise MissingDependencyError(
            "ziglang, which cross-compiles the board agent, is not installed",
            hint="Install it with: pip install 'edgeopt[cross]'",
        )
    sources = sorted(SOURCES.glob("*.[ch]"))
    key = cache.key(
        sources={path.name: cache.file_sha256(path) for path in sources},
        zig=metadata.version("ziglang"),
        triple=triple,
        flags=FLAGS,
    )
    return cache.entry("agent", key, lambda work: _compile(triple, work)) / "edgeopt-agent"


def _compile(triple: str, work: Path) -> None:
    names = sorted(path.name for path in SOURCES.glob("*.c"))
    libraries = [] if "musl" in triple else ["-ldl"]
    command = [sys.executable, "-m", "ziglang", "cc", "-target", triple, *FLAGS, *names]
    command += ["-o", str(work / "edgeopt-agent"), *libraries, "-lm"]
    zig_cache = cache.root() / "zig"
    environment = os.environ | {
        "ZIG_GLOBAL_CACHE_DIR": str(zig_cache),
        "ZIG_LOCAL_CACHE_DIR": str(zig_cache),
    }
    with progress.step(f"Compiling the board agent for {triple}"):
        done = subprocess.run(
            command, cwd=SOURCES, env=environment, capture_output=True, text=True, check=False
        )
    if done.returncode != 0:
        raise CompileError(
            f"zig cc ended with {done.returncode}:\n{done.stderr.strip()[-2000:]}",
            where=f"edgeopt-agent for {triple}",
        )
