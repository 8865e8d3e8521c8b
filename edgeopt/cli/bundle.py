# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""``edgeopt inspect`` and ``edgeopt verify``."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from edgeopt.cli.output import emit, json_option
from edgeopt.report.shown import one_line, plain
from edgeopt.values import write

if TYPE_CHECKING:
    from rich.console import Console

    from edgeopt.bundle import Bundle
    from edgeopt.bundle.verify import Verification

_SHOWN = 100  # files that are wrong


@click.command()
@click.argument("path")
@click.option("--target", "-t", help="For a model's file: the target whose engines are asked.")
@click.option("--engine", "-e", "engines", multiple=True, metavar="ENGINE", help="Only these.")
@json_option
def inspect(path: str, target: str | None, engines: tuple[str, ...], as_json: bool) -> None:
    """Show what is in a bundle, or which engines run a model's file.

    PATH is a bundle, of which only the manifest is read. With --target it is an .onnx file, or a
    folder with one, made by anybody: each engine of the target is asked for it here, on one call,
    and the answers are compared with onnxruntime's. Of an engine that does not run it, the
    operators in the way are named, with what to do. Exits with 1 unless every engine that was
    asked runs it. A file is code to an engine: inspect only whom you trust.
    """
    from edgeopt.errors import InputError

    if target is not None:
        from edgeopt.cli.support import inspect_file

        inspect_file(path, target, engines, as_json)
        return
    from edgeopt.bundle import open_bundle
    from edgeopt.support import FORMATS

    if engines:
        raise InputError("--engine belongs to --target", hint="Name the target whose engine it is.")
    if any(path.lower().endswith(suffix) for suffix in FORMATS):
        raise InputError(
            "is a model's file, not a bundle",
            where=path,
            hint="Name the target whose engines are asked for it: --target TARGET.",
        )

    opened = open_bundle(path)
    document = {"bundle": str(opened.path)} | write(opened.manifest)
    emit(document, as_json, lambda console: _render(opened, console))


def _render(bundle: Bundle, console: Console) -> None:
    from edgeopt.bundle.manifest import AudioEntry
    from edgeopt.model.image import ImageInput
    from edgeopt.report.tables import artifacts, size

    m = bundle.manifest
    total = sum(entry.bytes for entry in m.files.values())
    takes = f"at most {m.max_seq_len} tokens"
    if m.is_dual:
        takes = f"graphs {' and '.join(m.graphs)}"
    elif isinstance(m.input, ImageInput):
        takes = f"images of {m.input.height} x {m.input.width}"
    elif isinstance(m.input, AudioEntry):
        takes = f"sound of up to {m.input.mel.seconds:g} s, answers of {m.max_seq_len} tokens"
    console.print(f"{one_line(m.name)}  {m.task}, {takes}", style="bold")
    libc = f", {m.target.libc} {m.target.libc_version or ''}".rstrip(" ,")
    console.print(
        f"for     {one_line(f'{m.target.name} ({m.target.device}, {m.target.arch}{libc})')}"
    )
    console.print(f"digest  {m.digest}")
    console.print(f"files   {len(m.files)}, {size(total)}")
    console.print(f"golden  {len(m.golden)} calls of {one_line(m.reference)}")
    if m.labels:
        console.print(f"labels  {one_line(', '.join(m.labels))}")
    if isinstance(m.input, ImageInput):
        console.print(f"image   {', '.join(f'{k}={v}' for k, v in asdict(m.input).items())}")
    elif isinstance(m.input, AudioEntry):
        console.print(f"mel     {', '.join(f'{k}={v}' for k, v in asdict(m.input.mel).items())}")
    elif m.input.prompt:
        console.print(f"prompt  {m.input.prompt!r}, before every text", highlight=False)
    if m.similarity:
        console.print(f"logits  {', '.join(f'{k}={v}' for k, v in asdict(m.similarity).items())}")
    if m.pooling:
        console.print(f"pooling {', '.join(f'{k}={v}' for k, v in asdict(m.pooling).items())}")
    for key, value in m.origin.items():
        console.print(f"origin  {one_line(f'{key}: {value}')}", style="dim")
    console.print()
    artifacts(bundle, console)


@click.command()
@click.argument("bundle")
@click.option("--hashes-only", is_flag=True, help="Do not run the artifacts.")
@json_option
def verify(bundle: str, hashes_only: bool, as_json: bool) -> None:
    """Check every byte of BUNDLE, and run its artifacts here on the golden inputs.

    They also run in the runtime library, as on a device. Exits with 1 if a file was changed, or
    an artifact does not load, fails or disagrees. An artifact is code to its engine: check a bundle
    of somebody you do not trust with --hashes-only.
    """
    from edgeopt.bundle import open_bundle
    from edgeopt.bundle.verify import verify as check

    found = check(open_bundle(bundle), run_artifacts=not hashes_only)
    document = {"bundle": bundle, "ok": found.ok} | asdict(found)
    emit(document, as_json, lambda console: _render_verification(found, console))
    if not found.ok:
        click.get_current_context().exit(1)


def _render_verification(found: Verification, console: Console) -> None:
    from edgeopt.model import MAIN

    for name, what in list(found.changed.items())[:_SHOWN]:
        console.print(one_line(f"{name} {what}"), style="red")
    if len(found.changed) > _SHOWN:
        console.print(f"... and {len(found.changed) - _SHOWN} more", style="red")
    for a in found.artifacts:
        name = one_line(f"{'' if a.graph == MAIN else f'{a.graph} '}{a.engine} {a.precision}")
        reason = plain(a.reason or "")
        if a.agrees is None:
            console.print(f"{name}: not run here: {reason}", style="yellow")
        elif a.cosine_min is None:
            console.print(f"{name}: FAILS: {reason}", style="red")
        else:
            verdict = "agrees" if a.agrees else "DISAGREES"
            console.print(
                f"{name}: {verdict}, cosine {a.cosine_min:.5f}, max error {a.max_abs_error:.1e}",
                style=None if a.agrees else "red",
            )
            if reason:
                style = "yellow" if a.runtime is None else "red"
                console.print(f"{name}: {reason}", style=style)
    intact = found.files - len(found.changed)
    console.print(
        f"{found.files} files, all as the manifest says"
        if not found.changed
        else f"{len(found.changed)} wrong, {max(intact, 0)} of {found.files} as the manifest says"
    )


@click.command()
@click.argument("bundle")
@click.option("-o", "--output", type=click.Path(), help="The file to write.")
@json_option
def pack(bundle: str, output: str | None, as_json: bool) -> None:
    """Write BUNDLE as one file that the runtime maps (a zip without compression)."""
    from pathlib import Path

    from edgeopt.bundle import open_bundle
    from edgeopt.bundle.pack import SUFFIX
    from edgeopt.bundle.pack import pack as write

    opened = open_bundle(bundle)
    name = opened.path.name.removesuffix(".edgeopt") + SUFFIX
    path = write(opened, Path(output) if output else opened.path.parent / name)
    document: dict[str, Any] = {"file": str(path), "bytes": path.stat().st_size}

    def render(console: Console) -> None:
        from edgeopt.report.tables import size

        console.print(f"{path}  ({size(document['bytes'])})", highlight=False)

    emit(document, as_json, render)
