# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Which Python ``tools/pythons`` takes, and what it says of one that is not there."""

import platform
import sys
from pathlib import Path

import pytest

from tools import other_pythons

OURS = "{}.{}".format(*sys.version_info)


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_a_program_is_asked_for_its_version(tmp_path: Path) -> None:
    assert other_pythons.asked(Path(sys.executable), OURS) == platform.python_version()
    assert other_pythons.asked(Path(sys.executable), "3.1") is None
    assert other_pythons.asked(tmp_path / "none", OURS) is None
    shim = script(tmp_path / "shim", "echo no such version >&2; exit 127")
    assert other_pythons.asked(shim, OURS) is None
    beta = script(tmp_path / "beta", "echo 3.99.0.beta")
    assert other_pythons.asked(beta, "3.99") is None
    assert other_pythons.asked(script(beta, "echo 3.99.0.final"), "3.99") == "3.99.0"


def test_the_first_on_the_path_that_answers_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, line in (("one", "exit 127"), ("two", "echo 3.99.1.final")):
        (tmp_path / name).mkdir()
        script(tmp_path / name / "python3.99", line)
    monkeypatch.setenv("PATH", f"{tmp_path}/one:{tmp_path}/two")
    assert other_pythons.find("3.99") == (tmp_path / "two/python3.99", "3.99.1")


def test_a_python_that_is_not_there_is_told_and_is_no_success(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert other_pythons.main(("3.99",)) == 1
    line = "Python 3.99: could not be had: not here: neither on PATH nor with pyenv or uv\n"
    assert capsys.readouterr().out == line
