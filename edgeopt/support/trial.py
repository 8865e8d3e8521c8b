# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Try an ONNX file in an engine, in a process of its own: an engine may crash, hang or print."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import re
import select
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Annotated, Any

from edgeopt.errors import EdgeoptError, MissingDependencyError
from edgeopt.model.onnx_call import FOLDERS
from edgeopt.target import EngineSpec
from edgeopt.values import OneOf

Stage = Annotated[str, OneOf("not tried", "refused", "fails", "differs", "agrees", "runs")]
"""How far it came: not installed, not opened, not run, other answers, those expected, or any."""

TIMEOUT_S = 120.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """A file for an engine, the inputs of one call by name, and what it should give, if known.

    Values are numpy arrays, or lists of them for sequences. Two floats are alike within ``rtol``
    of the expected one, or ``atol``; all else is alike if it is equal.
    """

    spec: EngineSpec
    file: Path
    inputs: Mapping[str, Any]
    expected: Sequence[Any] | None = None
    rtol: float = 1e-3
    atol: float = 1e-5


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What became of a trial, with the engine's reason in a line, and ours what to do."""

    stage: Stage
    reason: str = ""
    hint: str = ""


class Engines:
    """Runs trials one after the other in a process, and starts another if that one ends.

    Close it with ``contextlib.closing`` or ``close``.
    """

    def __init__(self, timeout_s: float = TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, trial: Trial) -> Outcome:
        """Return what became of ``trial``; one that takes too long, or crashes, fails.

        Raises MissingDependencyError if the engine is not installed.
        """
        process = self._process or self._start()
        sent, answer = True, b""
        try:
            _send(process.stdin, trial)
            answer = _line(process.stdout, self._timeout_s)
        except BrokenPipeError:
            sent = False
        except TimeoutError:
            self.close()
            return Outcome(stage="fails", reason=f"took more than {self._timeout_s:g} s")
        if sent and answer:
            return _outcome(json.loads(answer))
        process.wait()
        ended = process.returncode
        self.close()
        how = f"by signal {-ended}" if ended < 0 else f"with {ended}"
        return Outcome(stage="fails", reason=f"{trial.spec.engine} ended the process {how}")

    def _start(self) -> subprocess.Popen[bytes]:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "edgeopt.support.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        return self._process

    def close(self) -> None:
        """End the process, if there is one."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()  # type: ignore[union-attr]
            self._process = None


@contextlib.contextmanager
def engines(timeout_s: float = TIMEOUT_S) -> Iterator[Engines]:
    """Give engines that are closed at the end of the block."""
    opened = Engines(timeout_s)
    try:
        yield opened
    finally:
        opened.close()


def _send(pipe: IO[bytes] | None, trial: Trial) -> None:
    assert pipe is not None
    pickle.dump(replace(trial, inputs=dict(trial.inputs)), pipe)
    pipe.flush()


def _line(pipe: IO[bytes] | None, timeout_s: float) -> bytes:
    assert pipe is not None
    ready, _, _ = select.select([pipe], [], [], timeout_s)
    if not ready:
        raise TimeoutError
    return pipe.readline()


def _outcome(answer: Mapping[str, str]) -> Outcome:
    if answer["stage"] == "missing":
        raise MissingDependencyError(answer["reason"], hint=answer["hint"] or None)
    return Outcome(stage=answer["stage"], reason=answer["reason"], hint=answer["hint"])


_PLACES = (
    re.compile(r"\[ONNXRuntimeError\] : \d+ : \w+ : "),
    re.compile(r"Load model from \S+ failed: ?"),
    re.compile(r"Exception during initialization: "),
    re.compile(r"/\S+\.(cc|h|cpp):\d+ [^(]*\(.*?\)( const)? (\[.*?\] )?"),
    FOLDERS,
)
"""What engines put around a reason: their error's number, a place in their code, folders."""


_ELSEWHERE = re.compile(r"Exception from |Check .* failed at ")
"""Lines that OpenVINO begins with, and that name a place in its code alone."""


def first_line(exc: BaseException) -> str:
    """Return what an engine's exception says in a line, without places of its code and folders."""
    text = exc.message if isinstance(exc, EdgeoptError) else str(exc)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    line = next((line for line in lines if not _ELSEWHERE.match(line)), type(exc).__name__)
    for pattern in _PLACES:
        line = pattern.sub("", line)
    return line.strip()
