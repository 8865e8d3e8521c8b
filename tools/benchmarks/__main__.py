# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""``tools/bench``: one command for each comparison."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from edgeopt.cli.output import run


@click.group()
def bench() -> None:
    """Compare edgeopt with what a user would pick instead, in one run, and print what is true."""


_checkpoints = click.option(
    "--checkpoint",
    "-c",
    "checkpoints",
    multiple=True,
    type=click.Path(exists=True),
    help="A folder that 'edgeopt compress' made of MODEL.",
)


_target = click.option(
    "--target", default="host", show_default=True, help="A target that runs on this machine."
)
_only = click.option("--only", multiple=True, help="Variants whose name holds this alone.")


@bench.command()
@click.argument("model", type=click.Path(exists=True))
@click.argument("data", type=click.Path(exists=True))
@click.option("--texts", default=200, show_default=True, help="How many texts; 0: all.")
@click.option("--seed", default=0, show_default=True, help="Which texts, and in what order.")
@click.option("--seq-len", default=128, show_default=True, help="Tokens, padded or cut.")
@_target
@_checkpoints
@_only
@click.option("--output", "-o", default="build/bench-engines.json", show_default=True)
def engines(
    model: str,
    data: str,
    texts: int,
    seed: int,
    seq_len: int,
    target: str,
    checkpoints: tuple[str, ...],
    only: tuple[str, ...],
    output: str,
) -> None:
    """Time what 'texts' times with all texts at one length, as most published figures are.

    What can read a text at its own length alone is left out.
    """
    from tools.benchmarks.texts import compare

    compare(model, data, texts, seed, seq_len, target, checkpoints, only, output)


@bench.command()
@click.argument("model", type=click.Path(exists=True))
@click.argument("data", type=click.Path(exists=True))
@click.option("--texts", default=400, show_default=True, help="How many texts; 0: all.")
@click.option("--seed", default=0, show_default=True, help="Which texts, and in what order.")
@_target
@_checkpoints
@_only
@click.option("--output", "-o", default="build/bench-texts.json", show_default=True)
def texts(
    model: str,
    data: str,
    texts: int,
    seed: int,
    target: str,
    checkpoints: tuple[str, ...],
    only: tuple[str, ...],
    output: str,
) -> None:
    """Time each text of DATA at its own length, text in to label out, by the classifier MODEL.

    DATA is .jsonl(.gz) with "text" and "label", or a folder with test.jsonl(.gz). One thread,
    process CPU time; each variant is a process of its own, in an environment of its own, and all
    take each block of texts in an order that is drawn.
    """
    from tools.benchmarks.texts import compare

    compare(model, data, texts, seed, 0, target, checkpoints, only, output)


@bench.command()
@click.argument("model", required=False, type=click.Path(exists=True, file_okay=False))
@click.option(
    "--size",
    type=click.Choice(["gpt2", "gpt2-medium", "smollm", "tiny"]),
    default="gpt2",
    show_default=True,
    help="Without MODEL: random weights of this size.",
)
@click.option(
    "--prompt", "-p", "prompts", multiple=True, type=click.IntRange(1), default=[32, 128, 512],
    show_default=True, help="Tokens of a prompt.",
)  # fmt: skip
@click.option(
    "--tokens", default=128, show_default=True, type=click.IntRange(2), help="To make after each."
)
@click.option("--rounds", default=6, show_default=True, help="Of all prompts by all variants.")
@click.option("--seed", default=0, show_default=True, help="Which prompts, and in what order.")
@_only
@click.option("--output", "-o", default="build/bench-generation.json", show_default=True)
def generation(
    model: str | None,
    size: str,
    prompts: tuple[int, ...],
    tokens: int,
    rounds: int,
    seed: int,
    only: tuple[str, ...],
    output: str,
) -> None:
    """Time how the decoder MODEL goes on with prompts, greedily: the first token, and each other.

    One thread, process CPU time; each variant is a process of its own, in an environment of its
    own, and all take each prompt in an order that is drawn. Peak memory is told, and how many
    tokens are those of transformers.
    """
    from tools.benchmarks.generation import compare

    compare(model, size, prompts, tokens, rounds, seed, only, output)


@bench.command()
@click.argument("model", type=click.Path(exists=True))
@click.argument("test", type=click.Path(exists=True))
@_checkpoints
@click.option("--seq-len", default=128, show_default=True, help="Tokens; longer texts are cut.")
@click.option("--output", "-o", default="build/bench-kept.json", show_default=True)
def kept(model: str, test: str, checkpoints: tuple[str, ...], seq_len: int, output: str) -> None:
    """Score folders that one recipe made of MODEL with several seeds, each and all together.

    On the texts of TEST, in FP32; take texts that chose nothing in their making.
    """
    from tools.benchmarks.kept import compare

    if not checkpoints:
        raise click.UsageError("give a folder that 'edgeopt compress' made with --checkpoint")
    compare(model, test, checkpoints, seq_len, output)


@bench.command()
@click.argument("model", type=click.Path(exists=True))
@click.option("--rounds", default=7, show_default=True, help="Cold starts of each variant.")
@click.option("--calls", default=20000, show_default=True, help="Calls of the tiny model.")
@click.option("--output", "-o", default="build/bench-runtime.json", show_default=True)
def runtime(model: str, rounds: int, calls: int, output: str) -> None:
    """Time what the runtime library adds to a run, and its cold start, with the classifier MODEL.

    Against onnxruntime's Python API, Optimum and PyTorch, each start in a process of its own.
    """
    from tools.benchmarks.runtime import measure

    measure(model, rounds, calls, output)


@bench.command()
@click.argument("bundle", type=click.Path(exists=True))
@click.option("--length", "-l", "lengths", multiple=True, default=[8, 16, 32, 64, 128], type=int)
@click.option("--batch", "-b", "batches", multiple=True, default=[4, 8], type=int)
@click.option("--rounds", default=10, show_default=True)
@click.option("--output", "-o", default="build/bench-batches.json", show_default=True)
def batches(
    bundle: str, lengths: tuple[int, ...], batches: tuple[int, ...], rounds: int, output: str
) -> None:
    """Time calls of several texts against calls of one, for each artifact of BUNDLE.

    By the runtime library, one thread, process CPU time, in turns; all texts have the same length.
    """
    from tools.benchmarks.batches import compare

    compare(bundle, lengths, batches, rounds, output)


@bench.command()
@click.argument("bundle", type=click.Path(exists=True))
@click.option("--engine", "-e", default="onnx", show_default=True)
@click.option("--precision", "-p", default="int8", show_default=True)
@click.option("--rounds", default=20, show_default=True, help="Processes.")
@click.option("--pairs", default=4, show_default=True, help="Pairs of blocks of each.")
@click.option("--block", default=2.0, show_default=True, metavar="S", help="Length of a block.")
@click.option("--output", "-o", default="build/bench-sampler.json", show_default=True)
def sampler(
    bundle: str, engine: str, precision: str, rounds: int, pairs: int, block: float, output: str
) -> None:
    """Time an artifact of BUNDLE on this machine with the sampler of profile and without, in turns.

    The board's state is read as profile reads it, and, without a sensor of power here, six files
    more as often as one is read.
    """
    from tools.benchmarks.sampler import measure

    measure(bundle, engine, precision, rounds, pairs, block, output)


@bench.command()
@click.argument("model", required=False, type=click.Path(exists=True))
@click.argument("learn", required=False, type=click.Path(exists=True))
@click.argument("test", required=False, type=click.Path(exists=True))
@click.option("--held-out", type=click.Path(exists=True), help="Texts to check steps on.")
@click.option("--recipe", "-r", "recipes", multiple=True, help="[one a technique, without -c]")
@_checkpoints
@click.option("--rounds", default=30, show_default=True, help="Timed calls of each variant.")
@click.option("--seq-len", default=128, show_default=True, help="Tokens, padded or cut.")
@click.option("--output", "-o", default="build/bench-compression.json", show_default=True)
def compression(
    model: str | None,
    learn: str | None,
    test: str | None,
    held_out: str | None,
    recipes: tuple[str, ...],
    checkpoints: tuple[str, ...],
    rounds: int,
    seq_len: int,
    output: str,
) -> None:
    """Compress the classifier MODEL by each recipe on the texts LEARN, and compare on TEST.

    LEARN and TEST are .jsonl(.gz) with "text" and "label". Without the three, a classifier and
    texts are made: their accuracy says little, sizes and times hold. What was compressed is kept in
    edgeopt's cache, so that a second run only times and scores.
    """
    from tools.benchmarks.compression import Texts, compare

    if model is None:
        from tools.benchmarks.made import made

        own = made()
        model, learn, test = str(own.model), str(own.learn), str(own.test)
        held_out = str(own.held_out)
    if learn is None or test is None:
        raise click.UsageError("give all of MODEL, LEARN and TEST, or none")
    texts = Texts(learn=Path(learn), held_out=held_out and Path(held_out), test=Path(test))
    compare(model, texts, recipes, checkpoints, rounds, seq_len, output)


sys.exit(run(bench, sys.argv[1:]))
