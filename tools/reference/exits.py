# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The page on exit codes, from the errors themselves."""

from __future__ import annotations

import click

from edgeopt import errors
from edgeopt.cli.crash import EXIT_CODE
from tools.reference.markdown import literal, prose, table

_OTHERS = {
    0: "Done.",
    1: "A check failed: a file of a bundle was changed, outputs disagree on the board, no engine "
    "runs there, an engine of the target does not run a file that was inspected, no cascade could "
    "be shown, or a budget is not kept.",
    EXIT_CODE: "A fault of edgeopt's own; the message names a file to attach to a report.",
    130: "Interrupted.",
}


def pages() -> dict[str, str]:
    """Return the page ``exit-codes.md``."""
    found = {code: ("", means) for code, means in _OTHERS.items()}
    for kind in families():
        found[kind.exit_code] = (literal(kind.__name__), prose(kind.__doc__))
    assert click.UsageError.exit_code == errors.InputError.exit_code
    rows = [(str(code), name, means) for code, (name, means) in sorted(found.items())]
    return {
        "exit-codes.md": (
            "# Exit codes and JSON\n\n"
            "Every command ends with one of these, and from Python the exception of that name is "
            "raised (`edgeopt.errors`).\n\n"
            f"{table(('code', 'error', 'means'), rows)}\n"
            "With `--json` a command prints one JSON document on stdout and everything else on "
            "stderr. One that fails prints\n\n"
            '```text\n{"error": {"kind", "message", "where", "hint", "exit_code"}}\n```\n'
        )
    }


def families() -> list[type[errors.EdgeoptError]]:
    """Return the kinds of error that a command may end with."""
    return sorted(errors.EdgeoptError.__subclasses__(), key=lambda kind: kind.exit_code)
