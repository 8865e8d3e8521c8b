"""``tools/bench``: one command for each comparison."""

from __future__ import annotations

import sys

import click

from edgeopt.cli.output import run


@click.group()
def bench() -> None:
    """Compare edgeopt with what a user would pick instead, in one run, and print what is true."""


@bench.command()
@click.argument("model", type=click.Path(exists=True))
@click.argument("data", type=click.Path(exists=True))
@click.option("--texts", default=200, show_default=True, help="Texts for the accuracy; 0: all.")
@click.option("--rounds", default=30, show_default=True, help="Timed calls of each variant.")
@click.option("--seq-len", default=128, show_default=True, help="Tokens, padded or cut.")
@click.option("--target", default="host", show_default=True, help="A target of this machine.")
@click.option("--output", "-o", default="build/bench-engines.json", show_default=True)
def engines(
    model: str, data: str, texts: int, rounds: int, seq_len: int, target: str, output: str
) -> None:
    """Time the shipped artifacts of MODEL against PyTorch, onnxruntime and Optimum's INT8.

    DATA is .jsonl(.gz) with "text" and, for a classifier, "label". One thread, process CPU time,
    all variants shuffled in one process.
    """
    from tools.benchmarks.engines import compare

    compare(model, data, texts, rounds, seq_len, target, output)


sys.exit(run(bench, sys.argv[1:]))
