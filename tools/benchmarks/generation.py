# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Prompt in, tokens out: edgeopt's generators and what users pick, on the same weights.

Every variant is a process of its own, in an environment of its own. A round has a prompt of each
length, drawn anew; all variants go on with it, greedily and in an order that is drawn. One that
fails is left out, with the reason, and the others go on.
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from edgeopt import pipeline, progress
from edgeopt.backends.decoders import DECODERS
from edgeopt.errors import EdgeoptError, InputError
from edgeopt.runtime.build import build_for_host
from tools.benchmarks import decoders, generators
from tools.benchmarks.generated import Run, Sample, document, page
from tools.benchmarks.served import Process, Variant, made, peer, python_of

PACKAGE = "tools.benchmarks.generators"
INT4 = Path(__file__).parent / "int4.toml"
FEWEST_ROUNDS = 2


def compare(
    source: str | None,
    size: str,
    prompts: Sequence[int],
    count: int,
    rounds: int,
    seed: int,
    only: Sequence[str],
    output: str,
) -> None:
    """Time all variants on prompts of so many tokens, and write and print what is true.

    ``count`` tokens are made after each. ``source`` is a checkpoint; without, one of random weights
    is made of ``size``.
    """
    if rounds < FEWEST_ROUNDS:
        raise InputError(f"{rounds} rounds; {FEWEST_ROUNDS} are the fewest that say how sure it is")
    folder = decoders.made(size) if source is None else decoders.without_end(Path(source))
    context = max(prompts) + count
    vocabulary = json.loads((folder / "config.json").read_text())["vocab_size"]
    left_out: dict[str, str] = {}
    variants = [*_ours(folder, context, only, left_out), *_peers(folder, context, only, left_out)]
    runs = _run(variants, prompts_of(prompts, rounds, vocabulary, seed), count, seed, left_out)
    found = document(
        model=folder.name if source is not None else f"{size}, random weights",
        seed=seed,
        count=count,
        rounds=rounds,
        context=context,
        runs=runs,
        left_out=left_out,
    )
    path = Path(output)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1) + "\n")
    text = page(found)
    path.with_suffix(".md").write_text(text)
    print(text)
    print(f"as JSON: {path}, as Markdown: {path.with_suffix('.md')}")


def prompts_of(
    lengths: Sequence[int], rounds: int, vocabulary: int, seed: int
) -> list[dict[int, list[int]]]:
    """Return the prompts of each round by length: tokens of the whole vocabulary, drawn."""
    draw = random.Random(seed)
    return [
        {length: [draw.randrange(vocabulary) for _ in range(length)] for length in lengths}
        for _ in range(rounds)
    ]


def _asked(name: str, only: Sequence[str]) -> bool:
    return not only or any(word in name for word in only)


def _ours(
    folder: Path, context: int, only: Sequence[str], left_out: dict[str, str]
) -> list[Variant]:
    """Return the artifacts of the checkpoint: FP32 and INT8 by the default, INT4 by a recipe."""
    variants = []
    ways = ((("fp32", "int8"), None), (("int4",), str(INT4)))
    for engine, (precisions, recipe) in itertools.product(DECODERS, ways):
        asked = [p for p in precisions if _asked(f"edgeopt {engine} {p}", only)]
        if not asked:
            continue
        try:
            bundle = pipeline.compile(
                str(folder),
                "host",
                output=f"build/bench-{folder.name}-{engine}-{'-'.join(asked)}.edgeopt",
                recipe=recipe,
                engines=[engine],
                precisions=asked,
                seq_lens=[context],
            )
        except EdgeoptError as exc:
            left_out |= dict.fromkeys([f"edgeopt {engine} {p}" for p in asked], str(exc))
            continue
        for entry in bundle.manifest.artifacts:
            name = f"edgeopt {entry.engine} {entry.precision}"
            variants.append(
                Variant(
                    name=name,
                    module="ours",
                    word=f"{entry.engine}:{entry.precision}",
                    python=python_of(()),
                    model=folder,
                    folder=bundle.path.resolve(),
                    length=context,
                )
            )
    return variants


def _peers(
    folder: Path, context: int, only: Sequence[str], left_out: dict[str, str]
) -> list[Variant]:
    variants = []
    for name in generators.NAMES:
        module = peer(name, PACKAGE)
        titles = {title: word for title, word in module.VARIANTS.items() if _asked(title, only)}
        if not titles:
            continue
        try:
            python, own = made(name, folder, PACKAGE)
        except EdgeoptError as exc:
            left_out |= dict.fromkeys(titles, str(exc))
            progress.note(f"{' and '.join(titles)}: not compared: {exc}")
            continue
        variants += [
            Variant(
                name=title,
                module=name,
                word=word,
                python=python,
                model=folder,
                folder=own,
                length=context,
            )
            for title, word in titles.items()
        ]
    return variants


def _run(
    variants: Sequence[Variant],
    prompts: Sequence[dict[int, list[int]]],
    count: int,
    seed: int,
    left_out: dict[str, str],
) -> list[Run]:
    """Return what each variant that came to the end did; their processes have ended then."""
    environment = {"EDGEOPT_RT": str(build_for_host().library)}
    draw = random.Random(seed)
    runs: dict[str, Run] = {}
    with ExitStack() as stack:
        served: dict[str, Process] = {}

        def lost(name: str, exc: EdgeoptError) -> None:
            left_out[name] = exc.message
            progress.note(f"{name}: not compared: {exc.message}")
            served.pop(name, None)
            runs.pop(name, None)

        with progress.step(f"Opening {len(variants)} variants") as step:
            for i, variant in enumerate(variants):
                try:
                    process = Process(variant, environment, PACKAGE)
                except EdgeoptError as exc:
                    lost(variant.name, exc)
                    continue
                served[variant.name] = stack.enter_context(process)
                runs[variant.name] = Run(
                    name=variant.name,
                    ours=variant.module == "ours",
                    versions=process.versions,
                    open_cpu_ns=process.opened["open_cpu_ns"],
                    open_peak_mb=process.opened["open_peak_mb"],
                )
                step.update(i + 1, len(variants))
        with progress.step(f"Timing {len(served)} variants, {len(prompts)} rounds") as step:
            for i, by_length in enumerate(prompts):
                for length, prompt in by_length.items():
                    for name in draw.sample(list(served), len(served)):
                        try:
                            told = served[name].ask({"prompt": prompt, "count": count})
                        except EdgeoptError as exc:
                            lost(name, exc)
                            continue
                        runs[name].take(length, Sample.read(told))
                        runs[name].peak_mb = told["peak_mb"]
                        runs[name].pss_mb = told["pss_mb"]
                step.update(i + 1, len(prompts))
    return list(runs.values())
