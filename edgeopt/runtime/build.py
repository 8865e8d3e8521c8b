# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Cross-compile the runtime library and the board agents with zig's C compiler.

All need nothing but the C library, and are built against an old one so that they start on old
boards. A build is kept by content: sources, compiler and flags. A wheel may carry builds
(``tools/build-wheel``); then no compiler is needed.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from edgeopt import cache, closure, progress
from edgeopt.architectures import of_machine
from edgeopt.beside import beside
from edgeopt.engine_names import ENGINES
from edgeopt.errors import CompileError, InputError, MissingDependencyError

ROOT = Path(__file__).parent
SOURCES = ROOT / "src"
INCLUDES = tuple(f"-I{ROOT / name}" for name in ("include", "src"))
"""The flags with which a C file of ours finds the headers that it names."""
LIBRARY = "libedgeopt_rt.so"
AGENT = "edgeopt-agent"
GENERATION_AGENT = "edgeopt-generation-agent"
HEADER = "edgeopt_rt.h"
NOTICES = ("LICENSE", "NOTICE", "THIRD_PARTY_NOTICES.txt")
"""What goes wherever the library goes, below ROOT."""
PREBUILT = ROOT / "prebuilt"
"""Where a wheel carries builds: ``ARCH-LIBC/`` with library, agent and ``sources.sha256``."""

# With 32-bit offsets, folders and files of many file systems are errors to a 32-bit program.
DEFINITIONS = ("-D_GNU_SOURCE", "-D_FILE_OFFSET_BITS=64")
FLAGS = ("-std=c11", *DEFINITIONS, "-Wall", "-Wextra", "-Werror", "-pedantic")
_SMALL_CODE = (
    # zig takes -Oz for -Os; clang itself does not. 4 % smaller; 600 characters take 5 us more.
    *("-Xclang", "-Oz"),
    "-fno-unwind-tables",
    "-fno-asynchronous-unwind-tables",
    "-fno-math-errno",  # which nothing of ours reads
    "-fomit-frame-pointer",  # zig has them; 2.4 kB less for x86-64
    "-ffunction-sections",
    "-fdata-sections",
)
SMALL = ("-Os", *_SMALL_CODE, "-Wl,--gc-sections", "-Wl,--hash-style=gnu", "-s")
# Every ARMv7-A has Thumb-2, whose code has three quarters of the bytes; zig does not heed -mthumb.
THUMB = ("-Xclang", "-target-feature", "-Xclang", "+thumb-mode")
HIDDEN = ("-fPIC", "-fvisibility=hidden")
SHARED = ("-shared", f"-Wl,-soname,{LIBRARY}")

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
PLATFORMS = tuple(_TRIPLES)
"""(arch, libc) of all that can be built."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RuntimeBuild:
    """The files for one platform."""

    library: Path
    agent: Path
    generation_agent: Path
    header: Path


def library_sources() -> list[Path]:
    """Return the C files of the library, by folder and name."""
    return sorted(SOURCES.rglob("*.c"))


def agent_sources() -> list[Path]:
    """Return the C files that the agent has besides the library's."""
    return sorted((ROOT / "agent").glob("*.c"))


def generation_agent_sources() -> list[Path]:
    """Return the C files of the agent for generators: its own, and the agent's but for ``main``."""
    shared = [path for path in agent_sources() if path.name != "main.c"]
    return [*shared, *sorted((ROOT / "agent/generation").glob("*.c"))]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Order:
    """What to compile: ``prebuilt`` is where a wheel carries it, ``key`` its key in the cache."""

    triple: str
    without: tuple[str, ...]
    prebuilt: Path | None
    key: str

    @property
    def text(self) -> str:
        return f"Compiling the runtime for {self.triple}"

    def is_there(self) -> bool:
        return self.prebuilt is not None or cache.has("runtime", self.key)

    def compile(self, work: Path) -> None:
        _compile(self.triple, self.without, work)


def build_runtime(
    arch: str,
    libc: str = "glibc",
    libc_version: str | None = None,
    engines: Sequence[str] = ENGINES,
) -> RuntimeBuild:
    """Return the library and the agents for ``arch`` (aarch64, x86_64, armv7).

    ``libc_version`` is the glibc to build against (2.17 by default), not that of the board. With
    musl the library is for a musl system, and the agent is static: it can tell about any board,
    but opens no engine. The code of those that are not in ``engines`` is left out. Raises
    InputError for an unknown combination, MissingDependencyError without ziglang, CompileError
    if zig fails.
    """
    order = _order(arch, libc, libc_version, engines)
    folder = order.prebuilt
    if folder is None:
        told = contextlib.nullcontext() if order.is_there() else progress.step(order.text)
        with told:  # another process may be at it (``ahead_for_host``)
            folder = cache.entry("runtime", order.key, order.compile)
    return RuntimeBuild(
        library=folder / LIBRARY,
        agent=folder / AGENT,
        generation_agent=folder / GENERATION_AGENT,
        header=ROOT / "include" / HEADER,
    )


@contextlib.contextmanager
def ahead_for_host() -> Iterator[None]:
    """Have a process do what ``build_for_host`` will be asked for, while the block runs."""
    with contextlib.ExitStack() as stack:
        # ``build_for_host`` tells of it.
        with contextlib.suppress(InputError, MissingDependencyError):
            if platform.system() == "Linux":
                order = _order(of_machine(platform.machine()), "glibc", None, ENGINES)
                if not order.is_there():
                    stack.enter_context(beside("edgeopt.runtime.ahead", None))
        yield


def build_for_host() -> RuntimeBuild:
    """``build_runtime`` for this machine. Raises InputError if it does not run Linux."""
    if platform.system() != "Linux":
        raise InputError(f"the runtime is not built for {platform.system()}, but for Linux")
    return build_runtime(of_machine(platform.machine()))


def build_agent(arch: str, libc: str = "glibc", libc_version: str | None = None) -> Path:
    """Return the path of ``edgeopt-agent`` for ``arch``: see ``build_runtime``."""
    return build_runtime(arch, libc, libc_version).agent


@functools.cache
def sources_digest() -> str:
    """Return a SHA-256 over all C files and the compiler's flags: a build is recognised by it.

    Once computed it holds for the process, as ``closure.code`` does.
    """
    digest = hashlib.sha256(
        " ".join((*FLAGS, *SMALL, *THUMB, *HIDDEN, *SHARED, GLIBC_DEFAULT)).encode()
    )
    for folder in ("include", "src", "agent"):
        for path in sorted((ROOT / folder).rglob("*.[ch]")):
            name = path.relative_to(ROOT).as_posix()
            digest.update(f"{name} {cache.file_sha256(path)}\n".encode())
    return digest.hexdigest()


def _order(arch: str, libc: str, libc_version: str | None, engines: Sequence[str]) -> _Order:
    """Return what to compile. Raises as ``build_runtime``."""
    triple = _triple(arch, libc, libc_version)
    if unknown := set(engines) - set(ENGINES):
        raise InputError(f"unknown engine {min(unknown)!r} (known: {', '.join(ENGINES)})")
    without = tuple(f"-DEO_WITHOUT_{e.upper()}" for e in ENGINES if e not in engines)
    is_usual = libc_version in (None, GLIBC_DEFAULT) and not without
    folder = _prebuilt(arch, libc) if is_usual else None
    key = ""
    if folder is None:
        if importlib.util.find_spec("ziglang") is None:
            raise MissingDependencyError(
                "ziglang, which cross-compiles the runtime for the board, is not installed",
                hint="Install it with: pip install 'edgeopt[cross]'",
            )
        key = cache.key(
            code=closure.code(__name__),
            sources=sources_digest(),
            zig=metadata.version("ziglang"),
            triple=triple,
            flags=(FLAGS, SMALL, THUMB, HIDDEN, SHARED, without),
        )
    return _Order(triple=triple, without=without, prebuilt=folder, key=key)


def _triple(arch: str, libc: str, libc_version: str | None) -> str:
    triple = _TRIPLES.get((arch, libc))
    if triple is None:
        known = ", ".join(f"{a} with {c}" for a, c in _TRIPLES)
        raise InputError(f"the runtime is not built for {arch} with {libc} (known: {known})")
    if libc == "musl":
        if libc_version is not None:
            raise InputError("musl has no versions to build against: leave libc_version out")
        return triple
    return f"{triple}.{libc_version or GLIBC_DEFAULT}"


def _prebuilt(arch: str, libc: str) -> Path | None:
    """Return the build that the wheel carries, if it is of these very sources."""
    folder = PREBUILT / f"{arch}-{libc}"
    stamp = folder / "sources.sha256"
    if not stamp.is_file() or stamp.read_text().strip() != sources_digest():
        return None
    return folder


def _compile(triple: str, without: Sequence[str], work: Path) -> None:
    """Compile each file once, for the library and the agents alike, and link all three."""
    libraries = ["-lm"] if "musl" in triple else ["-ldl", "-lm"]
    static = ["-static"] if "musl" in triple else []
    code = [*FLAGS, *without, "-pthread"]
    code += THUMB if triple.startswith("arm-") else ()
    sources = [str(path.relative_to(ROOT)) for path in library_sources()]
    agents = {AGENT: agent_sources(), GENERATION_AGENT: generation_agent_sources()}
    archive = str(work / "runtime.a")
    # as "cc -Os -s"; the agent itself is not -fPIC, for which zig would compile musl once more
    small = ["-O", "ReleaseSmall", "-fstrip", "-fPIC", "-lc"]
    link = ["cc", "-target", triple, *code, *SMALL, *INCLUDES]
    whole = ["-Wl,--whole-archive", archive, "-Wl,--no-whole-archive"]
    make = ["build-lib", "-static", "-target", triple, *small, f"-femit-bin={archive}"]
    make += [*INCLUDES, "-cflags", *code, *HIDDEN, *_SMALL_CODE, "--", *sources]
    _zig(make, triple)
    _zig([*link, *SHARED, *whole, "-o", str(work / LIBRARY), *libraries], triple)
    link.append(f"-I{ROOT / 'agent'}")
    for name, files in agents.items():
        own = [str(path.relative_to(ROOT)) for path in files]
        _zig([*link, *static, *own, archive, "-o", str(work / name), *libraries], triple)
    # zig leaves its debug file beside a stripped library.
    for path in work.iterdir():
        if path.name not in (LIBRARY, *agents):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def zig_environment() -> dict[str, str]:
    """Return the variables that have zig keep what it compiled in our cache."""
    place = cache.folder("zig", cache.key(zig=metadata.version("ziglang")))
    return dict.fromkeys(("ZIG_GLOBAL_CACHE_DIR", "ZIG_LOCAL_CACHE_DIR"), str(place))


def _zig(arguments: Sequence[str], triple: str) -> None:
    environment = os.environ | zig_environment()
    done = subprocess.run(
        [sys.executable, "-m", "ziglang", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise CompileError(
            f"zig {arguments[0]} ended with {done.returncode}:\n{done.stderr.strip()[-2000:]}",
            where=f"the runtime for {triple}",
        )
