# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The runtime library: what it adds to a run, and cold starts, against what a user would pick."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import edgeopt
from edgeopt import progress
from edgeopt.runtime.build import FLAGS, INCLUDES, SMALL, build_for_host, library_sources
from tests import checkpoints
from tools.benchmarks import optimum

_HERE = Path(__file__).parent
_TEXT = "Qt is a cross-platform C++ application framework for games"


def measure(source: str, rounds: int, calls: int, output: str) -> None:
    """Print both tables for the checkpoint ``source`` (a sequence classifier)."""
    library = _onnxruntime_library()
    with tempfile.TemporaryDirectory(prefix="edgeopt-bench-") as scratch:
        folder = Path(scratch)
        added = _overhead(folder, library, calls)
        starts = _cold_starts(Path(source), folder, library, rounds)
    console = Console(width=110)
    _print_overhead(added, console)
    _print_starts(starts, console)
    place = Path(output)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(json.dumps({"overhead_ns": added, "cold_start": starts}, indent=1) + "\n")
    console.print(f"raw figures: {output}", style="dim")


def _onnxruntime_library() -> Path:
    spec = importlib.util.find_spec("onnxruntime")
    assert spec is not None
    assert spec.origin is not None
    return next((Path(spec.origin).parent / "capi").glob("libonnxruntime.so.*"))


def _overhead(folder: Path, library: Path, calls: int) -> dict[str, list[int]]:
    """Time a model so small that what is added can be seen."""
    tiny = checkpoints.write(folder / "tiny")
    bundle = edgeopt.compile(
        tiny, "host", output=folder / "tiny.edgeopt", engines=["onnx"], precisions=["fp32"]
    )
    program = folder / "overhead"
    command = ["gcc", *FLAGS, *SMALL, *INCLUDES, str(_HERE / "overhead.c")]
    command += [*map(str, library_sources()), "-o", str(program), "-ldl", "-lm", "-lpthread"]
    subprocess.run(command, check=True)
    with progress.step(f"{calls} calls of a tiny model, in turns"):
        done = subprocess.run(
            [str(program), str(bundle.path), str(library), str(calls)],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
    rows = [list(map(int, line.split(","))) for line in done.stdout.split()]
    kept = rows[len(rows) // 10 :]  # the first are warm-up
    names = ("onnxruntime's C interface", "eo_session_run", "eo_session_run_texts")
    return {name: [row[i] for row in kept] for i, name in enumerate(names)}


def _cold_starts(
    source: Path, folder: Path, library: Path, rounds: int
) -> dict[str, list[dict[str, Any]]]:
    """Start every variant ``rounds`` times, shuffled, each in a process of its own."""
    bundle = edgeopt.compile(
        source, "host", output=folder / "b.edgeopt", engines=["onnx"], precisions=["int8"]
    )
    (entry,) = bundle.manifest.artifacts
    beside = folder / "onnx"
    beside.mkdir()
    shutil.copy(bundle.path / entry.artifact.main.files[0], beside / "model.onnx")
    shutil.copy(bundle.path / "tokenizer/tokenizer.json", beside)
    quantized = optimum.int8_model(source, bundle.manifest.task.name).parent
    build = build_for_host()
    environment = os.environ | {
        "EDGEOPT_RT": str(build.library),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }
    script = str(_HERE / "cold_start.py")

    def python(program: str, kind: str, model: Path) -> Callable[[], dict[str, Any]]:
        # -P: or the modules beside the script stand for installed ones.
        words = [program, "-P", script, kind, str(model), _TEXT]
        return lambda: json.loads(_run(words, environment).splitlines()[-1])

    agent = [str(build.agent), "read", "--bundle", str(bundle.path), "--engine", "onnx"]
    agent += ["--libraries", str(library), "--threads", "1"]
    variants = {
        "edgeopt, C program": lambda: _agent(agent, environment),
        "edgeopt, Python binding": python(sys.executable, "runtime:onnx:int8", bundle.path),
        "onnxruntime + tokenizers": python(sys.executable, "onnxruntime", beside / "model.onnx"),
        "Optimum": python(str(optimum.python()), "optimum", quantized),
        "PyTorch + transformers": python(sys.executable, "torch", source),
    }
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in variants}
    order = [name for name in variants for _ in range(rounds)]
    random.Random(0).shuffle(order)
    for name in variants:  # the page cache holds everybody's files
        variants[name]()
    with progress.step(f"{len(order)} cold starts") as step:
        for i, name in enumerate(order):
            found[name].append(variants[name]())
            step.update(i + 1, len(order))
    return found


def _run(words: list[str], environment: dict[str, str], text: str = "") -> str:
    done = subprocess.run(
        words, env=environment, input=text, capture_output=True, text=True, check=True
    )
    return done.stdout


def _agent(words: list[str], environment: dict[str, str]) -> dict[str, Any]:
    began = time.perf_counter()
    with subprocess.Popen(
        words, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps({"text": _TEXT}) + "\n")
        process.stdin.flush()
        for line in process.stdout:
            event = json.loads(line)
            if event["event"] == "item":
                ended = time.perf_counter()
                status = Path(f"/proc/{process.pid}/status").read_text()
                process.stdin.close()
                break
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    took = (ended - began) * 1e3
    return {
        "label": event["label"],
        "open_ms": took,
        "process_ms": took,
        "peak_mb": int(peak.split()[1]) * 1024 / 1e6,
    }


def _print_overhead(added: dict[str, list[int]], console: Console) -> None:
    direct = next(iter(added.values()))
    table = Table(box=None, title="One run of a tiny model", title_justify="left")
    for column in ("", "p50 us", "p99 us", "added at p50, us"):
        table.add_column(column, justify="left" if not column else "right")
    for name, values in added.items():
        p50, p99 = statistics.median(values), statistics.quantiles(values, n=100)[98]
        table.add_row(
            name, f"{p50 / 1e3:.2f}", f"{p99 / 1e3:.2f}",
            f"{(p50 - statistics.median(direct)) / 1e3:+.2f}",
        )  # fmt: skip
    console.print(table)


def _print_starts(starts: dict[str, list[dict[str, Any]]], console: Console) -> None:
    reference = statistics.median(s["process_ms"] for s in next(iter(starts.values())))
    table = Table(box=None, title="Cold start to the first label, INT8", title_justify="left")
    for column in ("", "process ms", "x", "open to result ms", "peak MB"):
        table.add_column(column, justify="left" if not column else "right")
    for name, runs in starts.items():
        process = statistics.median(run["process_ms"] for run in runs)
        opened = statistics.median(run["open_ms"] for run in runs)
        peak = statistics.median(run["peak_mb"] for run in runs)
        table.add_row(
            name, f"{process:.0f}", f"{process / reference:.1f}", f"{opened:.0f}", f"{peak:.0f}"
        )
    console.print(table)
