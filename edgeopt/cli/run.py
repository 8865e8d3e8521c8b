# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""``edgeopt run``."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from edgeopt.cli.output import emit, json_option
from edgeopt.report.shown import one_line

if TYPE_CHECKING:
    from rich.console import Console

    from edgeopt.run.cascade import CascadeReading
    from edgeopt.run.compare import Comparison
    from edgeopt.run.reading import Reading, Result

_SHOWN = 3  # findings of one text


@click.command()
@click.argument("bundle")
@click.argument("texts", nargs=-1, metavar="[TEXT]...")
@click.option("--text", "more", multiple=True, metavar="TEXT", help="A TEXT, beside --image.")
@click.option("--image", "images", multiple=True, metavar="FILE", help="A photo; may be repeated.")
@click.option("--context", help="The second part of each text: what a question is asked about.")
@click.option("--board", "-b", help="A board's name [this machine].")
@click.option("--engine", "-e", metavar="ENGINE", help="[the first that opens]")
@click.option("--precision", "-p", metavar="P", help="[int8, int4, fp16, fp32]")
@click.option("--threads", type=click.IntRange(1, 1024), help="Threads [the target's].")
@click.option("--cascade", "cascade_file", metavar="FILE", help="What 'edgeopt cascade' wrote.")
@click.option("--large", metavar="BUNDLE", help="With --cascade: answers where BUNDLE is not sure.")
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    help="With --image: objects of scores above this [0.5].",
)
@click.option(
    "--maps",
    metavar="FOLDER",
    help="With --image: write the label of each pixel there, as NAME.png.",
)
@click.option(
    "--max-tokens",
    type=click.IntRange(1, 1 << 20),
    help="Of an answer that is generated [as many as there is room for].",
)
@click.option(
    "--max-context",
    "room",
    type=click.IntRange(1, 1 << 20),
    metavar="TOKENS",
    help="Of a prompt and its answer [as the bundle was made for].",
)
@click.option("--temperature", type=click.FloatRange(0, 100), help="[0: the likeliest token]")
@click.option("--top-k", type=click.IntRange(1), help="Choose of the best K tokens.")
@click.option("--top-p", type=click.FloatRange(0, 1), help="Of the best with this probability.")
@click.option("--min-p", type=click.FloatRange(0, 1), help="Of those with this share of the best.")
@click.option("--repetition-penalty", type=click.FloatRange(0, 100), help="[1: none]")
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), help="Of what is chosen [0].")
@click.option("--stop", "stops", multiple=True, metavar="TEXT", help="It ends an answer.")
@click.option("--num-beams", type=click.IntRange(1, 16), help="Search with so many. [the bundle's]")
@click.option("--length-penalty", type=click.FloatRange(-100, 100), help="Of beams' scores.")
@click.option(
    "--early-stopping", type=click.Choice(["no", "yes", "never"]), help="When a search ends."
)
@click.option(
    "--no-repeat-ngram-size",
    type=click.IntRange(0, 1 << 20),
    metavar="N",
    help="N tokens in a row come once. [the bundle's]",
)
@click.option("--min-tokens", type=click.IntRange(0, 1 << 20), help="Before a text may end.")
@click.option("--language", metavar="CODE", help="Of speech, such as de [the one that is found].")
@click.option(
    "--task",
    type=click.Choice(["transcribe", "translate"]),
    help="What is done with speech; translate: to English [as the checkpoint says].",
)
@json_option
def run(
    bundle: str,
    texts: tuple[str, ...],
    more: tuple[str, ...],
    images: tuple[str, ...],
    context: str | None,
    board: str | None,
    engine: str | None,
    precision: str | None,
    threads: int | None,
    cascade_file: str | None,
    large: str | None,
    threshold: float | None,
    maps: str | None,
    as_json: bool,
    **generating: Any,
) -> None:
    """Run TEXTs through BUNDLE with the runtime library, here or on a board.

    Without TEXT, each line of standard input is one. With --cascade the artifacts are those that
    it was found for. With --image it is images that are run; a dual encoder (CLIP, SigLIP) then
    says how well each TEXT fits each of them, a detector which objects are where (x and y of two
    corners, in pixels), and a segmentation how much of the image each label has.

    A bundle that writes down speech takes WAV files in the place of TEXTs: one channel, 16 bits,
    16 kHz.

    A bundle that generates text goes on with each TEXT, which is printed as it comes. It takes the
    likeliest token, or one by --temperature, --top-k, --top-p and --min-p.
    """
    asked = {name: value for name, value in generating.items() if value not in (None, ())}
    texts = (*texts, *more)
    if (cascade_file is None) != (large is None):
        raise click.UsageError("--cascade and --large go together.")
    if cascade_file is not None and any((context, engine, precision)):
        raise click.UsageError("--cascade takes no --context, --engine or --precision.")
    if images and asked:
        raise click.UsageError("--image takes no options of generated text.")
    if images:
        if any((context, cascade_file)):
            raise click.UsageError("--image takes no --context or --cascade.")
        if texts and (threshold is not None or maps is not None):
            raise click.UsageError("--threshold and --maps take no TEXT.")
        options = {"engine": engine, "precision": precision, "threads": threads}
        _run_images(bundle, images, texts, as_json, board, threshold, maps, options)
        return
    if threshold is not None or maps is not None:
        raise click.UsageError("--threshold and --maps go with --image.")
    given = texts or tuple(line.rstrip("\n") for line in sys.stdin)
    takes = _taken_to_generate(bundle)
    if takes is not None:
        hears = takes == "audio"
        if any((context, cascade_file)):
            raise click.UsageError("A bundle that generates text takes no --context or --cascade.")
        if board is not None and hears:
            raise click.UsageError("A bundle that writes down speech takes no --board.")
        options = {"engine": engine, "precision": precision, "threads": threads}
        _generate(bundle, given, asked, as_json, board, options, hears=hears)
        return
    if asked:
        raise click.UsageError(
            f"--{min(asked).replace('_', '-')} is for bundles that generate text."
        )
    if cascade_file is not None and large is not None:
        from edgeopt.run.cascade import read_cascade

        found = read_cascade(bundle, large, cascade_file, given, board=board, threads=threads)
        emit(_document(found), as_json, lambda console: _render_cascade(found, given, console))
        return
    from edgeopt.run.reading import read

    pairs = [text if context is None else (text, context) for text in given]
    reading = read(bundle, pairs, board=board, engine=engine, precision=precision, threads=threads)
    emit(asdict(reading), as_json, lambda console: _render(reading, given, console))


def _run_images(
    bundle: str,
    images: tuple[str, ...],
    texts: tuple[str, ...],
    as_json: bool,
    board: str | None,
    threshold: float | None,
    maps: str | None,
    options: dict[str, Any],
) -> None:
    from edgeopt.run.compare import THRESHOLD, compare, read_images, segment

    if texts:
        found = compare(bundle, images, texts, board=board, **options)
        emit(asdict(found), as_json, lambda console: _render_comparison(found, images, console))
        return
    if maps is not None:
        from edgeopt.run.class_maps import write_maps

        segmented = segment(bundle, images, board=board, **options)
        write_maps(segmented, images, maps)
        seen = segmented.reading
    else:
        least = THRESHOLD if threshold is None else threshold
        seen = read_images(bundle, images, board=board, threshold=least, **options)
    emit(asdict(seen), as_json, lambda console: _render(seen, images, console))


def _taken_to_generate(bundle: str) -> str | None:
    """Return what a bundle, a directory or a packed file, writes text of: text or audio.

    None for one that writes none.
    """
    from pathlib import Path

    from edgeopt.bundle import open_bundle
    from edgeopt.model.tasks import GENERATING
    from edgeopt.runtime.host import task_of

    is_packed = Path(bundle).is_file()
    name = task_of(bundle) if is_packed else open_bundle(bundle).manifest.task.name
    return next((task.input for task in GENERATING if task.name == name), None)


def _generate(
    bundle: str,
    prompts: tuple[str, ...],
    asked: dict[str, Any],
    as_json: bool,
    board: str | None,
    options: dict[str, Any],
    *,
    hears: bool,
) -> None:
    from edgeopt.bundle import open_bundle
    from edgeopt.report.shown import plain
    from edgeopt.run.generating import Answer, Answers, Sampling, generate, transcribe
    from edgeopt.run.generating_there import generate_there

    room = asked.pop("room", 0)
    spoken = {name: asked.pop(name) for name in ("language", "task") if name in asked}
    if spoken and not hears:
        raise click.UsageError(f"--{min(spoken)} is for bundles that write down speech.")
    early = asked.pop("early_stopping", None)
    if early is not None:
        asked["early_stopping"] = {"no": False, "yes": True}.get(early, early)
    sampling = Sampling(**asked)

    def told(text: str) -> None:
        sys.stdout.write(plain(text))
        sys.stdout.flush()

    def render(console: Console, found: Answers) -> None:
        shown = f"{found.engine} {found.engine_version} {found.precision}"
        console.print(one_line(shown), style="dim", highlight=False)

    def ended(_: Answer) -> None:
        sys.stdout.write("\n")
        sys.stdout.flush()

    options |= {
        "sampling": sampling,
        "context": room,
        "told": None if as_json else told,
        "ended": None if as_json else ended,
    }
    if hears:
        found = transcribe(bundle, prompts, **spoken, **options)
    elif board is None:
        found = generate(bundle, prompts, **options)
    else:
        found = generate_there(open_bundle(bundle), prompts, board, **options)
    emit(asdict(found), as_json, lambda console: render(console, found))


def _render_comparison(found: Comparison, images: tuple[str, ...], console: Console) -> None:
    for image, matches in zip(images, found.matches, strict=True):
        console.print(one_line(image), style="bold", highlight=False, markup=False)
        for match in matches:
            console.print(
                f"{match.score:.4f}  {one_line(match.text)}", highlight=False, markup=False
            )
    for name, reading in (("image", found.image), ("text", found.text)):
        console.print(f"{name}: {_engine(reading)}", style="dim", highlight=False)


def _render(reading: Reading, texts: tuple[str, ...], console: Console) -> None:
    for text, result in zip(texts, reading.results, strict=True):
        _print_result(result, text, "", console)
    console.print(_engine(reading), style="dim", highlight=False)


def _document(found: CascadeReading) -> dict[str, Any]:
    """Return ``found`` with each result once: that of the bundle that answered."""
    document = asdict(found)
    for reading in (document["first"], document["second"]):
        if reading is not None:
            del reading["results"]
    return document


def _render_cascade(found: CascadeReading, texts: tuple[str, ...], console: Console) -> None:
    for text, result, early in zip(texts, found.results, found.early, strict=True):
        _print_result(result, text, "small: " if early else "large: ", console)
    count = sum(found.early)
    console.print(f"small answered {count}: {_engine(found.first)}", style="dim", highlight=False)
    if found.second is not None:
        rest = len(texts) - count
        shown = f"large answered {rest}: {_engine(found.second)}"
        console.print(shown, style="dim", highlight=False)


def _print_result(result: Result, text: str, answered: str, console: Console) -> None:
    for line in _lines(result):
        console.print(f"{answered}{one_line(line)}", highlight=False, markup=False)
    console.print(f"    {one_line(text[:90])}", style="dim", highlight=False, markup=False)


def _engine(reading: Reading) -> str:
    place = f" on {reading.board}" if reading.board else ""
    emulated = " (emulated)" if reading.emulated else ""
    return one_line(
        f"{reading.engine} {reading.engine_version} {reading.precision}{place}{emulated}"
    )


def _lines(result: Result) -> list[str]:
    more = "  (cut: the model takes no more tokens)" if result.truncated else ""
    if result.vector is not None:
        head = " ".join(f"{value:+.4f}" for value in result.vector[:6])
        return [f"{head} ... ({len(result.vector)} values){more}"]
    if not result.items:
        return [f"nothing found{more}"]
    if result.items[0].box is not None:
        return [
            f"{i.label} {i.score:.3f}  " + " ".join(f"{value:.1f}" for value in i.box)
            for i in result.items
            if i.box is not None
        ]
    if result.items[0].begin is None:
        shown = ", ".join(f"{i.label} {i.score:.3f}" for i in result.items[:_SHOWN])
        return [shown + more]
    return [
        f"{item.label or ''} {item.text!r} {item.begin}-{item.end} {item.score:.3f}".strip() + more
        for item in result.items[: _SHOWN if result.items[0].label is None else None]
    ]
