# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Compression recipes against what a user would pick instead: size, accuracy, time and memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from edgeopt import pipeline, progress
from edgeopt.backends import Outputs, backend
from edgeopt.compression.run import compressed
from edgeopt.errors import EdgeoptError, InputError
from edgeopt.model import Model, checkpoint, reference, texts
from edgeopt.model.importer import import_model
from edgeopt.recipe import Recipe, load_recipe
from edgeopt.runtime.build import build_for_host
from edgeopt.target import load_target
from tools.benchmarks import optimum
from tools.benchmarks.in_process import (
    BASE,
    INCUMBENT,
    TORCH,
    onnx_file,
    onnxruntime_fp32,
    ratio_text,
    speed_ups,
    time_all,
)
from tools.benchmarks.labelled import read

SINGLE = sorted((Path(__file__).parent / "recipes").glob("*.toml"))
"""Recipes of one technique each, so that what each gives stands alone."""

_HERE = Path(__file__).parent
_DRAWS = 2000

Call = Callable[[int], Outputs]
"""One call on the text of that number."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Texts:
    """Files of texts with labels: to learn from, to check steps on, and to test all on."""

    learn: Path
    held_out: Path | None
    test: Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """A network in one engine: how it is called, and what it weighs."""

    recipe: str
    engine: str
    call: Call
    parameters: int
    bytes: int | None  # of the artifact's files
    peak_mb: float | None  # of a process that opens it and labels one text


def compare(
    source: str,
    given: Texts,
    recipes: Sequence[str],
    checkpoints: Sequence[str],
    rounds: int,
    seq_len: int,
    output: str,
) -> None:
    """Compress ``source`` by each recipe; time and score all, and ``checkpoints`` beside them.

    Without either the recipes are ``SINGLE``.
    """
    os.environ["TVM_NUM_THREADS"] = "1"
    model = import_model(source)
    labelled = read(given.test)
    known = {label: i for i, label in enumerate(model.labels)}
    if not known or not set(labelled.labels) <= set(known):
        raise InputError("expected a label of the model's with each text", where=str(given.test))
    truth = np.array([known[str(label)] for label in labelled.labels])
    variants = _baselines(model, Path(source), labelled.texts, seq_len)
    plain = load_recipe("default")
    chosen = [load_recipe(name) for name in recipes or ([] if checkpoints else SINGLE)]
    variants |= _ours("not compressed", model, plain, given, labelled.texts, seq_len)
    for recipe in chosen:
        name, made = recipe.name, model
        if recipe.compress:
            made, _ = compressed(source, recipe, given.learn, given.held_out)
        variants |= _ours(name, made, replace(recipe, compress=()), given, labelled.texts, seq_len)
    for folder in checkpoints:
        made = import_model(folder)
        variants |= _ours(Path(folder).name, made, plain, given, labelled.texts, seq_len)
    calls = {name: variant.call for name, variant in variants.items()}
    samples = time_all(calls, range(len(labelled.texts)), rounds)
    right: dict[str, np.ndarray] = {}
    with progress.step(f"Running {len(calls)} variants on {len(truth)} texts") as step:
        for i, (name, call) in enumerate(calls.items()):
            guesses = np.array([int(call(n)["logits"].argmax()) for n in range(len(truth))])
            right[name] = guesses == truth
            step.update(i + 1, len(calls))
    results = [
        {
            "recipe": variant.recipe,
            "engine": variant.engine,
            "parameters": variant.parameters,
            "bytes": variant.bytes,
            "peak_mb": variant.peak_mb,
            "accuracy": float(right[name].mean()),
            "kept": _kept(right[name], right[TORCH]),
            **speed_ups(name, samples),
        }
        for name, variant in variants.items()
    ]
    document = {
        "model": model.name,
        "texts": len(truth),
        "seq_len": seq_len,
        "threads": 1,
        "clock": "process CPU time",
        "rounds": rounds,
        "recipes": {r.name: [asdict(s) for s in r.compress] for r in chosen},
        "results": results,
    }
    Path(output).parent.mkdir(parents=True, exist_ok=True)
    Path(output).write_text(json.dumps(document, indent=1) + "\n")
    _print(results, len(truth), seq_len, output)


def _baselines(
    model: Model, source: Path, given: Sequence[str], seq_len: int
) -> dict[str, Variant]:
    import torch

    torch.set_num_threads(1)
    batches = texts.tokenize(model, given, seq_len)
    parameters = checkpoint.parameters(model)
    onnx = onnxruntime_fp32(model)

    def variant(engine: str, call: Any, peak_mb: float | None = None) -> Variant:
        return Variant(
            recipe="-",
            engine=engine,
            call=lambda n: call(batches[n]),
            parameters=parameters,
            bytes=None,
            peak_mb=peak_mb,
        )

    found = {
        TORCH: variant(
            TORCH,
            lambda batch: reference.run(model, [batch])[0],
            _peak_mb(sys.executable, "torch", source, given[0]),
        ),
        BASE: variant(BASE, onnx),
    }
    try:
        path = optimum.int8_model(source, model.task.name)
        found[INCUMBENT] = replace(
            variant(
                INCUMBENT,
                onnx_file(model, path),
                _peak_mb(str(optimum.python()), "optimum", path.parent, given[0]),
            ),
            bytes=path.stat().st_size,
        )
    except EdgeoptError as exc:
        progress.note(f"{INCUMBENT} is not compared: {exc}")
    return found


def _ours(
    name: str, model: Model, recipe: Recipe, given: Texts, test: Sequence[str], seq_len: int
) -> dict[str, Variant]:
    """Return the INT8 artifacts of ``model``, and its FP32 ONNX."""
    bundle = pipeline.compile(
        model,
        replace(load_target("host"), seq_lens=(seq_len,)),
        recipe=replace(recipe, compress=()),
        engines=("onnx", "tflite", "openvino"),
        data=given.learn,
        held_out=given.held_out if recipe.quantize.max_drop is not None else None,
        output=f"build/bench-{model.name}-{name.replace(' ', '-')}.edgeopt",
    )
    batches = texts.tokenize(model, test, seq_len)
    parameters = checkpoint.parameters(model)
    found = {}
    for entry in bundle.manifest.artifacts:
        if entry.precision == "fp32" and entry.engine != "onnx":
            continue
        session = backend(entry.engine).open_on_host(bundle.artifact(entry), bundle.path, threads=1)
        kind = f"runtime:{entry.engine}:{entry.precision}"
        engine = f"{entry.engine} {entry.precision}"
        found[f"{name}, {engine}"] = Variant(
            recipe=name,
            engine=engine,
            call=lambda n, run=session.run: run(batches[n]),  # type: ignore[misc]
            parameters=parameters,
            bytes=entry.bytes,
            peak_mb=_peak_mb(sys.executable, kind, bundle.path, test[0]),
        )
    return found


def _peak_mb(python: str, kind: str, model: Path, text: str) -> float:
    """Return the peak memory (MB) of a process that opens ``model`` and labels ``text``."""
    library = build_for_host().library
    environment = os.environ | {
        "EDGEOPT_RT": str(library), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    # -P: or the modules beside the script stand for installed ones.
    words = [python, "-P", str(_HERE / "cold_start.py"), kind, str(model), text]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout.splitlines()[-1])["peak_mb"])


def _kept(right: np.ndarray, base: np.ndarray) -> dict[str, float]:
    """Return the share of the accuracy that is kept, with a 95 % interval.

    Texts are drawn again with both networks' answers together (paired bootstrap, percentiles).
    """
    draw = np.random.default_rng(0).integers(len(right), size=(_DRAWS, len(right)))
    shares = right[draw].mean(1) / base[draw].mean(1)
    low, high = np.percentile(shares, [2.5, 97.5])
    return {"share": float(right.mean() / base.mean()), "low": float(low), "high": float(high)}


def _print(results: Sequence[dict[str, Any]], count: int, seq_len: int, output: str) -> None:
    bases = [b for b in (TORCH, BASE, INCUMBENT) if b in results[0]["times_faster_than"]]
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("recipe", "engine"):
        table.add_column(name, no_wrap=True)
    names = ["million\nweights", "MB", "accuracy", "kept, %\n[95 %]", "ms"]
    for name in [*names, *("x " + base.replace(" ", "\n") for base in bases), "peak\nMB"]:
        table.add_column(name, justify="right", no_wrap=True)
    for result in results:
        kept = result["kept"]
        table.add_row(
            result["recipe"],
            result["engine"],
            f"{result['parameters'] / 1e6:.1f}",
            "" if result["bytes"] is None else f"{result['bytes'] / 1e6:.1f}",
            f"{result['accuracy']:.4f}",
            f"{kept['share']:.1%} [{kept['low']:.1%}, {kept['high']:.1%}]".replace("%", ""),
            f"{result['cpu_ms']['median']:.2f}",
            *(ratio_text(result["times_faster_than"][base]) for base in bases),
            "" if result["peak_mb"] is None else f"{result['peak_mb']:.0f}",
        )
    console = Console(highlight=False)
    console.width = max(console.width, 150)
    console.print(table)
    console.print(
        f"{count} test texts, {seq_len} tokens; one thread, process CPU time, shuffled; x: how "
        "many times faster, median of the rounds; ~: not told apart; peak: of a process that "
        f"opens it and labels one text\nas JSON: {output}",
        style="dim",
    )
