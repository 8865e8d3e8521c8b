# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The measurement: raw samples and the state of the board while they were taken.

It is written once and never changed; every figure of a report is recomputed from it. The file is
JSON with ``schema_version``; times are nanoseconds of the board's own monotonic clock.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeopt import values
from edgeopt.errors import InputError, MeasurementError
from edgeopt.fields import Table
from edgeopt.measure.batched import Batched
from edgeopt.measure.counters import Counters
from edgeopt.measure.generation import Generation
from edgeopt.measure.instances import Instances
from edgeopt.measure.memory import Memory
from edgeopt.measure.operator_times import Operators
from edgeopt.measure.statistics import Percentiles, percentiles
from edgeopt.measure.system_counts import SystemCounts
from edgeopt.measure.trace import Trace
from edgeopt.model import MAIN

SCHEMA_VERSION = 1


def shown(graph: str, engine: str, precision: str, prompt_tokens: int = 0) -> str:
    """Return what an artifact is called: with its graph, if the model has others.

    A generator's is called by the tokens of its prompt too.
    """
    prompt = f", prompt of {prompt_tokens}" if prompt_tokens else ""
    return f"{'' if graph == MAIN else f'{graph} '}{engine} {precision}{prompt}"


@dataclass(frozen=True, kw_only=True, slots=True)
class GoldenResult:
    """One golden output as the board computed it. ``cosine`` is None if it was not finite."""

    directory: str
    output: str
    cosine: float | None
    max_abs_error: float | None
    agrees: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Served:
    """One artifact on the user's texts, in their order.

    ``wall_ns`` and ``tokens`` are of each text; ``cut`` is how many of them were too long for the
    model and lost their end.
    """

    data: str
    wall_ns: tuple[int, ...]
    tokens: tuple[int, ...]
    cut: int

    @property
    def mean_ns(self) -> float:
        """The mean time of a text, ns."""
        return sum(self.wall_ns) / len(self.wall_ns)

    @property
    def latency(self) -> Percentiles:
        """Percentiles over the texts."""
        return percentiles(self.wall_ns)


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One artifact on the board. ``wall_ns`` is empty if its outputs disagreed.

    ``cpu_ns`` is the process's CPU time of the same calls, all threads together; the memory
    figures are resident set sizes: before the engine was loaded, after, and the peak, None if the
    kernel does not tell; ``memory`` is all that was read of it, None in an older file. ``graph``
    is a dual encoder's. ``first_ns`` is the process's first run ever, which was checked, not
    sampled; 0 in a file of before it was taken. ``rules`` are those of ``measure.rules`` it was
    taken by. ``served`` is how long the user's own texts took, in a process of their own;
    ``system`` is what a deterministic board counted, whose run has no times at all;
    ``counters`` and ``operators`` are of others, ``instances`` of several at once, ``batches`` of
    calls with several inputs; ``no_operators``, ``no_instances`` and ``no_batches`` say why there
    are none if they were asked for. ``accuracy`` is what the
    bundle says of the artifact, and ``trace`` what was read on the board beside it, None if
    nothing was. ``deploy_ns`` is what putting it on the board took here, ``upload_ns`` of that
    what sending files took, and ``session_ns`` what its timed runs took with all around them:
    start, load and checks; 0 in an older file. ``generation`` is of a generator, whose run is an
    answer and whose ``seq_len`` is that of the prompt.
    """

    engine: str
    engine_version: str
    precision: str
    threads: int
    seq_len: int
    load_ns: int
    warmup_ns: tuple[int, ...]
    wall_ns: tuple[int, ...]
    cpu_ns: tuple[int, ...]
    rss_before_bytes: int | None
    rss_loaded_bytes: int | None
    peak_memory_bytes: int | None
    artifact_bytes: int
    golden: tuple[GoldenResult, ...]
    outputs_agree: bool
    bound: float
    state_before: Mapping[str, Any]
    state_after: Mapping[str, Any]
    graph: str = MAIN
    first_ns: int = 0
    rules: str = ""
    served: Served | None = None
    accuracy: Mapping[str, Any] | None = None
    trace: Trace | None = None
    counters: Counters | None = None
    memory: Memory | None = None
    instances: Instances | None = None
    no_instances: str = ""
    batches: tuple[Batched, ...] = ()
    no_batches: str = ""
    operators: Operators | None = None
    no_operators: str = ""
    deploy_ns: int = 0
    upload_ns: int = 0
    session_ns: int = 0
    system: SystemCounts | None = None
    generation: Generation | None = None

    @property
    def name(self) -> str:
        """What it is called in a table."""
        prompt = self.generation.prompt_tokens if self.generation else 0
        return shown(self.graph, self.engine, self.precision, prompt)


@dataclass(frozen=True, kw_only=True, slots=True)
class NotRun:
    """An artifact of the bundle that was not measured, and why.

    ``prompt_tokens`` are those of the prompt that a generator was to be given, 0 of all others.
    """

    engine: str
    precision: str
    reason: str
    graph: str = MAIN
    prompt_tokens: int = 0

    @property
    def name(self) -> str:
        """What it is called in a table."""
        return shown(self.graph, self.engine, self.precision, self.prompt_tokens)


@dataclass(frozen=True, kw_only=True, slots=True)
class Measurement:
    """All that was taken in one session on one board.

    ``board`` holds the facts the board told of itself; ``emulated`` is a property of every figure
    in here: an emulated wall time is not a device's latency. ``grid_g_per_kwh`` is
    what the user said of the carbon dioxide that a kilowatt-hour stands for, and
    ``memory_budget_mib`` what the bundle's target lets a process take, None for no limit. A
    ``deterministic`` board's clock counts instructions, and no run in here has times.
    """

    started_utc: str
    edgeopt_version: str
    agent_version: str
    bundle_name: str
    bundle_digest: str
    target: str
    board_name: str
    emulated: bool
    board: Mapping[str, Any]
    runs: tuple[Run, ...]
    not_run: tuple[NotRun, ...]
    grid_g_per_kwh: float | None = None
    memory_budget_mib: float | None = None
    deterministic: bool = False


def check_place(path: Path) -> None:
    """Raise InputError if ``write`` would fail, before the long work rather than after it."""
    try:
        exists = path.exists()
        _temporary(path).exists()  # raises if the name is too long
        folder = next(parent for parent in path.absolute().parents if parent.exists())
    except OSError as exc:
        raise InputError(f"cannot be written ({exc.strerror})", where=str(path)) from exc
    if exists:
        raise InputError("exists; a measurement is never overwritten", where=str(path))
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise InputError(
            "cannot be written", where=str(path), hint="Give a place that can with --output."
        )


def _temporary(path: Path) -> Path:
    """Return a name beside ``path`` as long as that which it is written under."""
    return path.with_name(f".{path.name}.12345678")


def write(measurement: Measurement, path: Path) -> None:
    """Write ``measurement`` as a new file; an existing one is never touched.

    Raises InputError if ``path`` exists or cannot be written.
    """
    document = {"schema_version": SCHEMA_VERSION} | values.write(measurement)
    write_document(document, path, indent=1)


def write_document(document: Mapping[str, Any], path: Path, *, indent: int | None) -> None:
    """Write ``document`` as the new JSON file ``path``. Raises InputError as ``write``."""
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(document, file, indent=indent, allow_nan=False)
            file.write("\n")
        os.chmod(temporary, 0o644)
        os.link(temporary, path)
    except FileExistsError as exc:
        raise InputError("exists; a measurement is never overwritten", where=str(path)) from exc
    except OSError as exc:
        raise InputError(f"cannot be written ({exc.strerror})", where=str(path)) from exc
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def read(path: Path) -> Measurement:
    """Read a measurement. Raises MeasurementError if it is damaged or of another version."""
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError) as exc:
        raise MeasurementError(f"cannot be read: {exc}", where=str(path)) from exc
    is_one = isinstance(document, dict) and "kind" not in document  # a trial has one
    if not is_one or document.get("schema_version") != SCHEMA_VERSION:
        raise MeasurementError(
            f"is not a measurement of schema version {SCHEMA_VERSION}", where=str(path)
        )
    try:
        return values.read(Measurement, Table(document, file=str(path)))
    except InputError as exc:
        raise MeasurementError(f"is damaged: {exc}", where=str(path)) from exc
