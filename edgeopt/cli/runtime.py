# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""``edgeopt runtime``: the library that runs bundles, built for a device or as sources."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from edgeopt.architectures import ARCHITECTURES
from edgeopt.cli.output import emit, json_option
from edgeopt.engine_names import ENGINES

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console


@click.group()
def runtime() -> None:
    """Get the library that runs bundles into your app."""


@runtime.command()
@click.option("--target", help="A name out of `edgeopt targets`, or the path to a file of yours.")
@click.option("--arch", type=click.Choice(ARCHITECTURES), help="In place of a target.")
@click.option("--libc", type=click.Choice(("glibc", "musl")), help="Other than the target's.")
@click.option(
    "--engine",
    "engines",
    multiple=True,
    type=click.Choice(ENGINES),
    help="Have the code of these only.",
)
@click.option("-o", "--output", required=True, type=click.Path(), help="The folder to fill.")
@json_option
def build(
    target: str | None,
    arch: str | None,
    libc: str | None,
    engines: tuple[str, ...],
    output: str,
    as_json: bool,
) -> None:
    """Build library and agent for a device, and put them into a folder with header and binding."""
    from pathlib import Path

    from edgeopt.errors import InputError

    if (target is None) == (arch is None):
        raise InputError("expected one of --target and --arch")
    from edgeopt.runtime.install import install, install_for

    folder = Path(output)
    if target is not None:
        from edgeopt.target import load_target

        done = install_for(load_target(target), folder, libc, engines or ENGINES)
    else:
        assert arch is not None
        done = install(folder, arch, libc or "glibc", engines or ENGINES)
    document: dict[str, Any] = {
        "folder": str(folder),
        "arch": done.arch,
        "libc": done.libc,
        "glibc_needed": done.glibc,
        "libraries_needed": list(done.needs),
        "files": _sizes(folder, done.files),
    }

    def render(console: Console) -> None:
        _render(document, console)
        needs = f"glibc {done.glibc} or newer" if done.glibc else done.libc
        console.print(f"for {done.arch}, needs {needs}")

    emit(document, as_json, render)


@runtime.command()
@click.argument("directory", type=click.Path())
@json_option
def export(directory: str, as_json: bool) -> None:
    """Write the library's sources as two files, edgeopt_rt.c and edgeopt_rt.h, into DIRECTORY.

    For Android, iOS and every other build of your own; with a CMakeLists.txt.
    """
    from pathlib import Path

    from edgeopt.runtime.amalgamate import export as write

    folder = Path(directory)
    document = {"folder": directory, "files": _sizes(folder, write(folder))}
    emit(document, as_json, lambda console: _render(document, console))


def _sizes(folder: Path, files: Any) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_size for path in files}


def _render(document: dict[str, Any], console: Console) -> None:
    from edgeopt.report.tables import size

    for name, count in document["files"].items():
        console.print(f"{document['folder']}/{name}  ({size(count)})")
