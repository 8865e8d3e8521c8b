# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The ``edgeopt`` command. Thin: each command parses, calls the Python API, and renders.

Exit codes: 0 done; 1 a check failed (``verify``, ``inspect``, ``board check``, ``gate``); 2-8 as in
``edgeopt.errors``; 70 a fault of edgeopt's own; 130 interrupted. With ``--json`` exactly one JSON
document goes to stdout (``{"error": ...}`` if the command failed) and everything else to stderr.
"""

from __future__ import annotations

import importlib
import os
import sys

import click

from edgeopt._version import __version__

# name -> module, function, one line of help. Written down so that --help imports no command.
_COMMANDS = {
    "targets": ("edgeopt.cli.targets", "targets", "List targets; show what one builds, and why."),
    "compile": ("edgeopt.cli.compile", "compile_", "Make a bundle of a model for a target."),
    "compress": (
        "edgeopt.cli.compress",
        "compress",
        "Make a model smaller, checked on your texts.",
    ),
    "recipes": ("edgeopt.cli.recipes", "recipes", "List recipes; show one, or a step's options."),
    "inspect": (
        "edgeopt.cli.bundle",
        "inspect",
        "Show what is in a bundle, or which engines run a model's file.",
    ),
    "verify": ("edgeopt.cli.bundle", "verify", "Check a bundle's hashes, and its artifacts."),
    "run": ("edgeopt.cli.run", "run", "Run texts through a bundle, here or on a board."),
    "evaluate": (
        "edgeopt.cli.evaluate",
        "evaluate",
        "Tell what a bundle is worth on your labelled data.",
    ),
    "cascade": ("edgeopt.cli.cascade", "cascade", "Find which texts a smaller bundle may answer."),
    "pack": ("edgeopt.cli.bundle", "pack", "Write a bundle as one file."),
    "runtime": ("edgeopt.cli.runtime", "runtime", "Get the library that runs bundles for an app."),
    "board": ("edgeopt.cli.board", "board", "Add, start, list, check and stop boards."),
    "energy": ("edgeopt.cli.energy", "energy", "Compute energy again, from a meter's log."),
    "estimate": (
        "edgeopt.cli.estimate",
        "estimate",
        "Estimate latencies without a board, each with its error.",
    ),
    "profile": ("edgeopt.cli.profile", "profile", "Run a bundle on a board and measure it there."),
    "compare": (
        "edgeopt.cli.compare",
        "compare",
        "Tell which of two is faster, or that nothing tells them apart.",
    ),
    "explain": ("edgeopt.cli.explain", "explain", "Tell which layers make one of two slower."),
    "trace": ("edgeopt.cli.trace", "trace", "Write a measurement's operators for Perfetto."),
    "gate": ("edgeopt.cli.gate", "gate", "Tell whether a bundle keeps to a budget."),
    "card": ("edgeopt.cli.card", "card", "Write what a bundle does on a board as a page."),
    "cache": ("edgeopt.cli.cache", "cache", "Show what the cache holds, and clean it."),
}


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        module, function, _ = _COMMANDS[name]
        command: click.Command = getattr(importlib.import_module(module), function)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in _COMMANDS.items()])


@click.command(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="edgeopt")
def cli() -> None:
    """Make a trained transformer small and fast for a device, and measure it there."""


def main() -> None:
    """Run the command line and exit with its code; a user's mistake never shows a traceback."""
    from edgeopt.cli.output import run
    from edgeopt.quiet import SWITCHES

    for name, value in SWITCHES.items():  # for all of this process, which is ours
        os.environ.setdefault(name, value)
    sys.exit(run(cli, sys.argv[1:]))
