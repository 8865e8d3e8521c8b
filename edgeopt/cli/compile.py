# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""``edgeopt compile``."""

from __future__ import annotations

import inspect
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from edgeopt.cli.output import emit, json_option
from edgeopt.target import ENGINES, PRECISIONS

if TYPE_CHECKING:
    from rich.console import Console

    from edgeopt.bundle import Bundle


@click.command()
@click.argument("model")
@click.option("--target", "-t", required=True, help="A target's name, or a .toml file.")
@click.option("--output", "-o", help="The bundle's directory [NAME-TARGET.edgeopt].")
@click.option("--engine", "-e", "engines", multiple=True, metavar="ENGINE", help="Only these.")
@click.option("--precision", "-p", "precisions", multiple=True, metavar="P", help="Only these.")
@click.option("--recipe", help="A recipe's name, or a .toml file [the target's].")
@click.option(
    "--data", help="Your texts (.jsonl, lines), or folder of images, or one for each label."
)
@click.option("--held-out", help="Texts or images to check each step of compression on.")
@click.option("--prompt", metavar="NAME", help="The prompt before every text [the model's own].")
@click.option("--signature", metavar="NAME", help="A SavedModel's signature [serving_default].")
@click.option(
    "--seq-len",
    "seq_lens",
    type=click.IntRange(1, 8192),
    multiple=True,
    metavar="TOKENS",
    help="Only these lengths in TFLite and TVM [a ladder, for your texts].",
)
@json_option
def compile_(
    model: str,
    target: str,
    output: str | None,
    engines: tuple[str, ...],
    precisions: tuple[str, ...],
    recipe: str | None,
    data: str | None,
    held_out: str | None,
    prompt: str | None,
    signature: str | None,
    seq_lens: tuple[int, ...],
    as_json: bool,
) -> None:
    """Make a bundle of MODEL for a target.

    MODEL is a Hugging Face directory or hub name, an .onnx, .tflite, .keras, .h5 or .pt2 file, a
    SavedModel, or a state_dict with its config.json beside it. Every artifact is checked on real
    text, or on images: its tensors against the original network, and its answers, from the C
    runtime, against the tool that you would otherwise use. One beyond the recipe's bounds is not
    shipped.
    """
    from edgeopt.pipeline import compile

    bundle = compile(
        model,
        target,
        output=output,
        recipe=recipe,
        engines=engines,
        precisions=precisions,
        data=data,
        held_out=held_out,
        prompt=prompt,
        signature=signature,
        seq_lens=seq_lens,
    )
    emit(document(bundle), as_json, lambda console: render(bundle, console))


compile_.help = inspect.cleandoc(compile_.help or "") + (
    f"\n\nEngines: {', '.join(ENGINES)}. Precisions: {', '.join(PRECISIONS)}, "
    "and int4 by a recipe that asks for it."
)


def document(bundle: Bundle) -> dict[str, Any]:
    """Return what ``compile --json`` prints."""
    manifest = bundle.manifest
    return {
        "bundle": str(bundle.path),
        "digest": manifest.digest,
        "target": manifest.target.name,
        "reference": manifest.reference,
        "original": manifest.original,
        "artifacts": [
            {
                **_graph(a.graph),
                "engine": a.engine,
                "engine_version": a.engine_version,
                "precision": a.precision,
                "files": list(a.artifact.files),
                "bytes": a.bytes,
                "seq_lens": list(a.artifact.main.seq_lens),
                **asdict(a.fidelity),
                "bound": a.bound,
                "route": a.artifact.route,
                "kept": list(a.kept),
                "accuracy": a.accuracy,
                "judged": a.judged,
                **({} if a.generated is None else {"generated": dict(a.generated)}),
            }
            for a in manifest.artifacts
        ],
        "skipped": [
            {
                **_graph(s.graph),
                "engine": s.engine,
                "precision": s.precision,
                "reason": s.reason,
            }
            for s in manifest.skipped
        ],
    }


def _graph(name: str) -> dict[str, str]:
    """Return the key ``graph`` of a dual encoder's artifact; other models have but one."""
    from edgeopt.model import MAIN

    return {} if name == MAIN else {"graph": name}


def render(bundle: Bundle, console: Console) -> None:
    """Print the bundle's artifacts as a table."""
    from edgeopt.report.tables import artifacts

    artifacts(bundle, console)
    console.print(f"\n{bundle.path}  ({bundle.manifest.task}, for {bundle.manifest.target.name})")
