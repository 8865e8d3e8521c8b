# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The shipped artifacts against what a user would pick instead, in one shuffled run."""

from __future__ import annotations

import gzip
import json
import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from edgeopt import pipeline, progress
from edgeopt.backends import Batch, Outputs, backend
from edgeopt.backends.onnx import export_fp32
from edgeopt.errors import EdgeoptError, InputError
from edgeopt.evaluate import fidelity
from edgeopt.measure import timing
from edgeopt.model import Model, reference, texts
from edgeopt.model.importer import import_model
from edgeopt.model.tasks import SEQUENCE_CLASSIFICATION
from tools.benchmarks import optimum

BASE, INCUMBENT, TORCH = "onnxruntime FP32", "Optimum INT8", "PyTorch FP32"

Call = Callable[[Batch], Outputs]
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Labelled:
    """Texts with their label (None if the data has none)."""

    texts: tuple[str, ...]
    labels: tuple[str | None, ...]


def read(path: Path, limit: int) -> Labelled:
    """Read .jsonl or .jsonl.gz with ``text`` and maybe ``label``; InputError for other files."""
    opener: Any = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8") as file:
            rows = [json.loads(line) for line in file]
        rows = rows[: limit or len(rows)]
        return Labelled(
            texts=tuple(row["text"] for row in rows),
            labels=tuple(row.get("label") for row in rows),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
        raise InputError(
            f'expected an object with "text" on each line ({type(exc).__name__}: {exc})',
            where=str(path),
        ) from exc


def compare(
    source: str,
    data: str,
    text_count: int,
    rounds: int,
    seq_len: int,
    target: str,
    output: str,
) -> None:
    """Compile ``source`` for ``target``, time all variants and write and print the result."""
    os.environ["TVM_NUM_THREADS"] = "1"
    model = import_model(source)
    labelled = read(Path(data), text_count)
    batches = texts.tokenize(model, labelled.texts, seq_len)
    variants = {TORCH: _torch(model), BASE: onnxruntime_fp32(model)}
    try:
        variants[INCUMBENT] = onnx_file(model, optimum.int8_model(Path(source), model.task.name))
    except EdgeoptError as exc:
        progress.note(f"{INCUMBENT} is not compared: {exc}")
    variants |= _ours(model, target, seq_len)
    samples = time_all(variants, batches, rounds)
    results = []
    expected: list[Outputs] = []
    with progress.step(f"Running {len(variants)} variants on {len(batches)} texts") as step:
        for i, (name, call) in enumerate(variants.items()):  # PyTorch is the first
            outputs = [call(batch) for batch in batches]
            expected = expected or outputs
            found = quality(outputs, expected, batches, labelled, model)
            results.append({"variant": name} | speed_ups(name, samples) | found)
            step.update(i + 1, len(variants))
    document = {
        "model": model.name,
        "texts": len(batches),
        "seq_len": seq_len,
        "threads": 1,
        "clock": timing.CLOCK,
        "rounds": rounds,
        "results": results,
    }
    Path(output).parent.mkdir(parents=True, exist_ok=True)
    Path(output).write_text(json.dumps(document, indent=1) + "\n")
    _print(results, output)


def _torch(model: Model) -> Call:
    import torch

    torch.set_num_threads(1)
    return lambda batch: reference.run(model, [batch])[0]


def onnxruntime_fp32(model: Model) -> Call:
    """Return plain FP32 ONNX, as ``torch.onnx.export`` gives it, in onnxruntime."""
    from edgeopt import cache

    def build(directory: Path) -> None:
        path = directory / "model.onnx"
        export_fp32(model, path, opset=17, ir_version=8, batch=None, seq_len=None)

    directory = cache.entry("bench-onnx", cache.key(model=model.digest), build)
    return onnx_file(model, directory / "model.onnx")


def onnx_file(model: Model, path: Path) -> Call:
    """Return a call of an ONNX file in onnxruntime with one thread."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    wanted = [i.name for i in session.get_inputs()]
    names = [spec.name for spec in model.main.signature.outputs]
    own = [o.name for o in session.get_outputs()][: len(names)]

    def call(batch: Batch) -> Outputs:
        values = session.run(own, {name: batch[name] for name in wanted})
        return dict(zip(names, values, strict=True))

    return call


def _ours(model: Model, target: str, seq_len: int) -> dict[str, Call]:
    bundle = pipeline.compile(model, target, output=f"build/bench-{model.name}-{target}.edgeopt")
    calls: dict[str, Call] = {}
    for entry in bundle.manifest.artifacts:
        if (lengths := entry.artifact.main.seq_lens) and seq_len not in lengths:
            progress.note(f"{entry.engine} {entry.precision} does not take {seq_len} tokens")
            continue
        engine = backend(entry.engine)
        session = engine.open_on_host(bundle.artifact(entry), bundle.path, threads=1)
        calls[f"edgeopt {entry.engine} {entry.precision}"] = session.run
    return calls


def time_all(
    variants: Mapping[str, Callable[[T], Outputs]], calls: Sequence[T], rounds: int
) -> dict[str, list[float]]:
    """Return ``rounds`` CPU times (s) of each variant, all on the same one of ``calls`` in each
    round."""
    timed = {name: lambda i, run=run: run(calls[i % len(calls)]) for name, run in variants.items()}
    found = timing.interleaved(timed, rounds, f"Timing {len(timed)} variants, {rounds} rounds")
    return {name: [ns / 1e9 for ns in samples] for name, samples in found.samples.items()}


def quality(
    outputs: Sequence[Outputs],
    expected: Sequence[Outputs],
    batches: Sequence[Batch],
    labelled: Labelled,
    model: Model,
) -> dict[str, float]:
    """Return the accuracy (a classifier on labelled texts) and the agreement with PyTorch."""
    found = fidelity.summarise(outputs, expected, [b.get("attention_mask") for b in batches])
    result = {"cosine_min": found.cosine_min, "cosine_mean": found.cosine_mean}
    if model.task == SEQUENCE_CLASSIFICATION and None not in labelled.labels:
        known = {label: i for i, label in enumerate(model.labels)}
        if missing := sorted({str(x) for x in labelled.labels} - set(known)):
            raise InputError(f"the model has no label {missing[0]!r}")
        truth = np.array([known[str(label)] for label in labelled.labels])
        guesses = np.array([int(o["logits"].argmax()) for o in outputs])
        reference_guesses = np.array([int(o["logits"].argmax()) for o in expected])
        accuracy = float((guesses == truth).mean())
        result["accuracy"] = accuracy
        result["accuracy_kept"] = accuracy / float((reference_guesses == truth).mean())
    return result


def speed_ups(name: str, samples: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Return the times of one variant, and how many times faster it is than what users pick."""
    own = samples[name]
    ratios = {}
    for base in (TORCH, BASE, INCUMBENT):
        if base in samples:
            pairs = sorted(b / a for a, b in zip(own, samples[base], strict=True))
            tenth = len(pairs) // 10
            ratios[base] = {
                "median": statistics.median(pairs),
                "p10": pairs[tenth],
                "p90": pairs[-1 - tenth],
                "of_minima": min(samples[base]) / min(own),
            }
    return {
        "cpu_ms": {"median": 1e3 * statistics.median(own), "min": 1e3 * min(own)},
        "times_faster_than": ratios,
    }


def _print(results: Sequence[Mapping[str, Any]], output: str) -> None:
    from rich.console import Console
    from rich.table import Table

    bases = [b for b in (TORCH, BASE, INCUMBENT) if b in results[0]["times_faster_than"]]
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("variant", no_wrap=True)
    names = ["ms\nmedian", "ms\nmin", *("x " + base.replace(" ", "\n") for base in bases)]
    accurate = "accuracy" in results[0]
    names += ["cosine\nmin", *(["accuracy", "kept"] if accurate else [])]
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    for result in sorted(results, key=lambda r: -r["cpu_ms"]["median"]):
        ratios = [result["times_faster_than"][base] for base in bases]
        row = [
            result["variant"],
            f"{result['cpu_ms']['median']:.2f}",
            f"{result['cpu_ms']['min']:.2f}",
            *(ratio_text(r) for r in ratios),
            f"{result['cosine_min']:.4f}",
        ]
        if accurate:
            row += [f"{result['accuracy']:.4f}", f"{result['accuracy_kept']:.3f}"]
        table.add_row(*row)
    console = Console(highlight=False)
    console.width = max(console.width, 100)
    console.print(table)
    console.print(
        "one thread, process CPU time; x: how many times faster, median of the rounds; ~: 1 lies "
        f"between its 10th and 90th percentile, so the two cannot be told apart\nas JSON: {output}",
        style="dim",
    )


def ratio_text(ratio: Mapping[str, float]) -> str:
    """Return how many times faster, with ``~`` if the two cannot be told apart."""
    mark = "~" if ratio["p10"] <= 1 <= ratio["p90"] else " "
    return f"{ratio['median']:.2f}{mark}"
