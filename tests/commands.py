# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The ``edgeopt`` command within the process of the tests: each start of Python costs 150 ms."""

import contextlib
import io
import subprocess

import pytest

from edgeopt.cli import cli
from edgeopt.cli.output import run


def edgeopt(*words: object, columns: int = 80) -> subprocess.CompletedProcess[str]:
    """Run the command; the terminal has ``columns`` columns."""
    arguments = list(map(str, words))
    out, err = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        patch.setenv("COLUMNS", str(columns))
        code = run(cli, arguments)
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())
