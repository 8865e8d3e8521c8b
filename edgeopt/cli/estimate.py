# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""``edgeopt estimate``."""

from __future__ import annotations

import click

from edgeopt.cli.output import emit, json_option


@click.command()
@click.argument("source", metavar="BUNDLE|FILE.onnx")
@click.option("--target", "-t", required=True, help="The target, by name or file.")
@click.option("--engine", "-e", "engines", multiple=True, metavar="ENGINE", help="Only these.")
@click.option(
    "--precision", "-p", "precisions", multiple=True, metavar="PRECISION", help="Only these."
)
@click.option(
    "--seq-len",
    type=click.IntRange(1, 8192),
    help="Tokens of a call [the target's longest length that the model takes].",
)
@click.option("--threads", type=click.IntRange(1, 1024), help="Threads [the target's].")
@click.option(
    "--measurement",
    "-m",
    "measurements",
    multiple=True,
    metavar="FILE|DIR",
    help="What edgeopt profile measured on such a board; it counts most.",
)
@click.option(
    "--bundle",
    "bundles",
    multiple=True,
    metavar="BUNDLE",
    help="What was measured there, if it does not lie beside the measurement.",
)
@json_option
def estimate(
    source: str,
    target: str,
    engines: tuple[str, ...],
    precisions: tuple[str, ...],
    seq_len: int | None,
    threads: int | None,
    measurements: tuple[str, ...],
    bundles: tuple[str, ...],
    as_json: bool,
) -> None:
    """Estimate latencies on a target, without a board, each with its known error.

    Operators are counted here, and held against the device profile's peak and bandwidth by what
    was fitted to published latencies. The error is that on figures which the fit did not see. An
    estimate is no measurement: which of two artifacts is faster is told only if their ranges do
    not overlap. Measurements of yours with the same engine, precision and threads (--measurement)
    narrow it; one of an emulated board with --counters bounds it from below. A file is code to
    onnxruntime, which runs it here once: estimate only whom you trust.
    """
    from edgeopt.estimate_pipeline import estimate_latency
    from edgeopt.report.estimates import render

    found = estimate_latency(
        source,
        target,
        engines=engines,
        precisions=precisions,
        seq_len=seq_len,
        threads=threads,
        measurements=measurements,
        bundles=bundles,
    )
    emit(found.document(), as_json, lambda console: render(found, console))
