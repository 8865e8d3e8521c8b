# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Runs of one engine through the C driver: build it, describe bindings, read what it wrote."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from edgeopt.runtime.build import FLAGS, SMALL, SOURCES
from tests.programs import compiled as compiled_program
from tests.runtime.compiled import Compiled

_DRIVER = Path(__file__).with_name("engine_driver.c")
_SOURCES = [
    str(path)
    for path in (_DRIVER, *sorted(SOURCES.glob("base/*.c")), *sorted(SOURCES.glob("engines/*.c")))
]

Tensors = dict[str, np.ndarray]


def build_driver(sanitizers: str) -> Path:
    """Build the driver with every engine, under ``sanitizers`` (gcc's -fsanitize)."""
    flags = [*FLAGS, "-O1", "-g"]
    if sanitizers:
        flags += [f"-fsanitize={sanitizers}", "-fno-sanitize-recover=all"]
    return compiled_program("engine_driver", *flags, *_SOURCES, "-ldl", "-lm")


def build_driver_aarch64() -> Path:
    """Build the driver for aarch64 and an old glibc."""
    return compiled_program(
        *("engine_driver", *FLAGS, *SMALL, *_SOURCES, "-ldl", "-lm"),
        triple="aarch64-linux-gnu.2.17",
    )


@dataclass(frozen=True, kw_only=True)
class Call:
    """Inputs of one binding and the outputs expected."""

    inputs: Tensors
    outputs: Tensors


def call_of(compiled: Compiled, seq_len: int) -> Call:
    """The golden call of ``seq_len`` tokens in the artifact's dtypes."""
    sides: dict[str, Tensors] = {"in": {}, "out": {}}
    for path in sorted(compiled.golden[seq_len].glob("*.npy")):
        side, name, _ = path.name.split(".")
        sides[side][name] = np.load(path).astype(compiled.dtypes[name])
    return Call(inputs=sides["in"], outputs=sides["out"])


@dataclass
class Drive:
    """One run of the driver in the making; ``folder`` is for the tensors' files."""

    program: Path
    engine: str
    library: Path | str
    folder: Path
    threads: int = 1
    emulator: tuple[str, ...] = ()
    words: list[str] = field(default_factory=list)
    _calls: list[Call] = field(default_factory=list)

    def artifact(self, files: list[Path], mapped: bool, options: dict[str, str]) -> Drive:
        for file in files:
            self.words += ["map" if mapped else "file", str(file)]
        for key, value in options.items():
            self.words += ["option", key, value]
        return self

    def bind(self, call: Call) -> Drive:
        number = len(self._calls)
        self._calls.append(call)
        self.words.append("bind")
        for side, tensors in (("in", call.inputs), ("out", call.outputs)):
            for name, value in tensors.items():
                path = self.folder / f"{number}.{side}.{name}.bin"
                if side == "in":
                    value.tofile(path)
                dims = ",".join(str(n) for n in value.shape)
                self.words += [side, name, str(value.dtype), dims, str(path)]
        return self

    def run(self, binding: int, times: int = 1) -> Drive:
        self.words += ["run", str(binding), str(times), "write", str(binding)]
        return self

    def say(self, *words: str) -> Drive:
        self.words += words
        return self

    def done(self) -> list[str]:
        """Run it to its end and return the lines that it printed."""
        status, lines = self._execute()
        assert status == 0, lines
        return lines

    def failure(self) -> str:
        """Run it, which must fail, and return "where: message", after the lines of earlier runs."""
        status, lines = self._execute()
        assert status == 1, (status, lines)
        return "\n".join(line for line in lines if not line.startswith("version "))

    def errors(self, binding: int) -> Tensors:
        """The greatest absolute error of each output that was written last."""
        call = self._calls[binding]
        errors = {}
        for name, expected in call.outputs.items():
            found = np.fromfile(self.folder / f"{binding}.out.{name}.bin", expected.dtype)
            errors[name] = np.abs(found.reshape(expected.shape) - expected).max()
        return errors

    def _execute(self) -> tuple[int, list[str]]:
        command = [
            *self.emulator,
            str(self.program),
            self.engine,
            str(self.library),
            str(self.threads),
        ]
        # What this process set for its own TVM would hold for the driver too.
        environment = {k: v for k, v in os.environ.items() if k != "TVM_NUM_THREADS"}
        done = subprocess.run(
            [*command, *self.words],
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert "Sanitizer" not in done.stderr, done.stderr
        assert "runtime error" not in done.stderr, done.stderr
        return done.returncode, done.stdout.splitlines()
