# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Variants in processes of their own, each in its peer's environment; see ``peers/worker.py``."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Self

from edgeopt import cache, progress
from edgeopt.errors import CompileError, MeasurementError
from edgeopt.measure.timing import MAX_WALL_TO_CPU

ROOT = Path(__file__).parents[2]
PEERS = "tools.benchmarks.peers"
TRIES = 5
_ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TVM_NUM_THREADS")
_TRACEBACK, _COMMAND_FAILED = "Traceback (most recent call last):", "subprocess.CalledProcessError"
_SHOWN = 400  # characters of what a process said


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """One text's: CPU and wall time, ns, whether nothing disturbed it, label, tokens read, and the
    probability of each label."""

    cpu_ns: int
    wall_ns: int
    quiet: bool
    label: int
    tokens: int
    probabilities: tuple[float, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """What is run: ``word`` is the name of this variant in the peer's ``module``.

    ``folder`` has what the peer made of the checkpoint ``model``. ``length`` 0: each text at its
    own length.
    """

    name: str
    module: str
    word: str
    python: Path
    model: Path
    folder: Path
    length: int = 0


def peer(name: str, package: str = PEERS) -> ModuleType:
    """Return the module of a peer, which imports nothing heavy by itself."""
    return importlib.import_module(f"{package}.{name}")


def python_of(requirements: Sequence[str], removed: Sequence[str] = ()) -> Path:
    """Return the Python of an environment with ``requirements``, which is made first if need be.

    Packages that are ``removed`` came with them and stand in the way. Raises CompileError if they
    cannot be installed.
    """
    if not requirements:
        return Path(sys.executable)

    def install(directory: Path) -> None:
        with progress.step(f"Making an environment with {requirements[0]}"):
            _run([sys.executable, "-m", "venv", str(directory / "venv")])
            pip = [str(directory / "venv/bin/python"), "-m", "pip", "install", "-q", "--no-compile"]
            # PyTorch by itself first: else its larger builds for GPUs may be chosen.
            _run([*pip, *(r for r in requirements if r.startswith("torch=="))])
            _run([*pip, *requirements])
            if removed:
                _run([*pip[:3], "uninstall", "-q", "-y", *removed])

    key = cache.key(requirements=list(requirements), removed=list(removed))
    return cache.entry("bench-peer", key, install) / "venv/bin/python"


def made(name: str, model: Path, package: str = PEERS) -> tuple[Path, Path]:
    """Return the Python and the folder of what a peer makes of the checkpoint ``model``.

    Raises CompileError with what the peer said if it cannot.
    """
    module = peer(name, package)
    python = python_of(module.REQUIREMENTS, getattr(module, "REMOVED", ()))

    def build(directory: Path) -> None:
        with progress.step(f"{name}: making its form of {model.name}"):
            _run(words(package, python, "make", name, "", model, directory, 0))

    key = cache.key(
        weights=cache.file_sha256(model / "model.safetensors"),
        code=[cache.file_sha256(Path(str(one.__file__))) for one in (module, *_imported(module))],
        requirements=list(module.REQUIREMENTS),
    )
    return python, cache.entry("bench-made-by-peer", key, build)


def _imported(module: ModuleType) -> list[ModuleType]:
    """Return the other peers that ``module`` takes code of."""
    found = {value.__module__ for value in vars(module).values() if hasattr(value, "__module__")}
    names = sorted(n for n in found if n.startswith(f"{PEERS}.") and n != module.__name__)
    return [importlib.import_module(name) for name in names]


class Process:
    """A variant that runs, from its start to the end of the block.

    It is asked a document at a time; ``opened`` is what it said first.
    """

    def __init__(self, variant: Variant, environment: dict[str, str], package: str = PEERS) -> None:
        """Start it and wait until it has answered once. Raises MeasurementError."""
        self.variant = variant
        self._said = tempfile.TemporaryFile(mode="w+")  # noqa: SIM115
        one = variant
        self._process = subprocess.Popen(
            words(
                package,
                one.python,
                "serve",
                one.module,
                one.word,
                one.model,
                one.folder,
                one.length,
            ),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
            env=_environment() | environment,
            cwd=ROOT,
        )
        try:
            self.opened: dict[str, Any] = self._read()
        except BaseException:
            self.close()
            raise
        self.versions: dict[str, str] = self.opened["versions"]

    def ask(self, document: Mapping[str, Any]) -> Any:
        """Return what it answers to ``document``. Raises MeasurementError if it ends."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(document) + "\n")
            self._process.stdin.flush()
        except OSError as exc:
            raise self._ended() from exc
        return self._read()

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise self._ended()
        return json.loads(line)

    def _ended(self) -> MeasurementError:
        code = self._process.wait()
        self._said.seek(0)
        return MeasurementError(
            f"ended with {code}: {last_words(self._said.read())}", where=self.variant.name
        )

    def close(self) -> None:
        """End the process."""
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            try:
                stream.close()
            except OSError:  # what was not yet written to a process that has ended
                continue
        self._process.kill()
        self._process.wait()
        self._said.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Served(Process):
    """A variant that takes texts to labels."""

    def __init__(self, variant: Variant, environment: dict[str, str]) -> None:
        """Start it and wait until it has answered once. Raises MeasurementError."""
        super().__init__(variant, environment)
        self.peak_mb: float = self.opened["peak_mb"]

    def block(self, texts: Sequence[str]) -> list[Answer]:
        """Run ``texts`` one by one. Raises MeasurementError if the process ends."""
        found = self.ask({"texts": list(texts), "tries": TRIES, "quiet": MAX_WALL_TO_CPU})
        self.peak_mb = found["peak_mb"]
        return [
            Answer(
                cpu_ns=cpu,
                wall_ns=wall,
                quiet=quiet,
                label=label,
                tokens=tokens,
                probabilities=tuple(probabilities),
            )
            for cpu, wall, quiet, label, tokens, probabilities in found["answers"]
        ]


def last_words(text: str) -> str:
    """Return the last line of what a process said, cut: of a traceback the error itself.

    If that is of a command which failed, it is the last that this one said.
    """
    before, _, last = text.rpartition(_TRACEBACK)
    if before.strip() and last.strip().splitlines()[-1].startswith(_COMMAND_FAILED):
        return last_words(before)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:_SHOWN] if lines else "it said nothing"


def words(
    package: str, python: Path, what: str, module: str, word: str, model: Path, folder: Path,
    length: int,
) -> list[str]:  # fmt: skip
    """Return the command line of the worker of ``package``."""
    worker = [str(python), "-P", "-m", f"{package}.worker"]
    return [*worker, what, f"{package}.{module}", word, str(model), str(folder), str(length)]


def _environment() -> dict[str, str]:
    return os.environ | {
        "PYTHONPATH": str(ROOT),
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        **dict.fromkeys(_ONE_THREAD, "1"),
    }


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, env=_environment(), cwd=ROOT)
    if done.returncode:
        name = " ".join(Path(word).name for word in command[:5])
        raise CompileError(f"exit {done.returncode}: {last_words(done.stderr)}", where=name)
