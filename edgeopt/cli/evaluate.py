# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""``edgeopt evaluate``."""

from __future__ import annotations

from dataclasses import asdict

import click

from edgeopt.cli.output import emit, json_option


@click.command()
@click.argument("source", metavar="BUNDLE|MODEL")
@click.option("--data", "-d", required=True, metavar="DATA", help="Your labelled data.")
@click.option("--original", metavar="MODEL", help="What the bundle was made of, to compare with.")
@click.option("--board", "-b", help="Run the artifacts on this board [this machine].")
@click.option("--engine", "-e", metavar="ENGINE", help="Only this one.")
@click.option("--precision", "-p", metavar="P", help="Only this one.")
@click.option("--threads", type=click.IntRange(1, 1024), help="Threads [the target's].")
@click.option("--text", metavar="COLUMN", help="The column of texts, words or questions.")
@click.option("--pair", metavar="COLUMN", help="The column of second texts, or contexts.")
@click.option("--label", metavar="COLUMN", help="The column of labels, tags, scores or answers.")
@click.option("--labels", metavar="A,B,...", help="What DATA calls the labels, in their order.")
@click.option(
    "--prompt",
    "prompts",
    multiple=True,
    metavar="TEXT",
    help="What CLIP reads of a label, {} [This is a photo of {}.]; may be repeated.",
)
@click.option(
    "--reduce-labels/--keep-labels",
    default=None,
    help="Of masks 0 is no label, and 1 the first one [as the original has it].",
)
@click.option("--metric", metavar="FIGURE", help="Compare by this figure [the task's].")
@click.option(
    "--no-answer-below",
    type=float,
    metavar="SCORE",
    help="An answer below it is none [the best on DATA, if some questions have none].",
)
@click.option(
    "--max-tokens", type=click.IntRange(1), metavar="N", help="Of a generator's answer [128]."
)
@click.option("--limit", type=click.IntRange(1), help="At most so many, drawn with a fixed seed.")
@click.option("--worst", type=click.IntRange(0), default=3, help="Wrong answers to list [3].")
@json_option
def evaluate(
    source: str,
    data: str,
    original: str | None,
    board: str | None,
    engine: str | None,
    precision: str | None,
    threads: int | None,
    text: str | None,
    pair: str | None,
    label: str | None,
    labels: str | None,
    prompts: tuple[str, ...],
    metric: str | None,
    reduce_labels: bool | None,
    no_answer_below: float | None,
    max_tokens: int | None,
    limit: int | None,
    worst: int,
    as_json: bool,
) -> None:
    """Tell what the artifacts of BUNDLE are worth on your labelled data, beside the original.

    Each artifact runs in the runtime library, here or on a board, from text to answer; with
    --original your own tool answers too, and every difference has an interval of 95 %. A MODEL is
    evaluated alone.

    A dual encoder (CLIP, SigLIP) finds the images of captions (a table with files and captions), or
    the label of images by what it makes of --prompt. A detector's objects are held against COCO's
    annotations, and a segmentation's labels against masks.

    A generator goes on with prompts greedily, and is held against the texts that are expected, by
    BLEU, chrF and ROUGE; of texts alone its perplexity is told, and of LAMBADA's the last word.

    DATA is .jsonl, .json, .csv, .tsv (GLUE's as well), .parquet, a folder that datasets saved, a
    folder of images for each label, COCO's JSON, folders of images and masks, SQuAD's JSON, words
    with tags as in CoNLL-2003, a folder with corpus.jsonl, queries.jsonl and qrels, or for a
    generator plain text, WikiText's among it.
    """
    from edgeopt.evaluate_pipeline import evaluate_bundle
    from edgeopt.report.evaluation import render

    found = evaluate_bundle(
        source,
        data,
        original=original,
        board=board,
        engine=engine,
        precision=precision,
        threads=threads,
        text=text,
        pair=pair,
        label=label,
        labels=tuple(labels.split(",")) if labels else (),
        prompts=prompts,
        metric=metric,
        no_answer_below=no_answer_below,
        reduce_labels=reduce_labels,
        max_tokens=max_tokens,
        limit=limit,
        worst=worst,
    )
    emit(asdict(found), as_json, lambda console: render(found, console))
