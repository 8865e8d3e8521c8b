# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What is derived from a measurement: all of it is computed from the raw samples, each time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgeopt import values
from edgeopt.errors import MeasurementError
from edgeopt.measure import operator_times
from edgeopt.measure.conditions import Conditions, judge
from edgeopt.measure.course import Course, course
from edgeopt.measure.energy import EnergyReport, derive
from edgeopt.measure.measurement import Measurement, NotRun, Run, Served
from edgeopt.measure.rules import Score, batch_score, score
from edgeopt.measure.statistics import Percentiles, percentiles
from edgeopt.model import MAIN


@dataclass(frozen=True, kw_only=True, slots=True)
class RunReport:
    """One artifact's figures.

    ``latency`` and ``throughput_per_s`` are of the steady runs, from where ``course`` has its
    warm-up end; they are None if its outputs disagreed: nothing was timed then. ``score`` is of
    all samples, by the rules that it was taken by, and ``batch_scores`` of its batches.
    ``conditions`` is None if the board's state was not sampled, ``energy`` if no power was, and
    ``no_energy`` says why there is none although power was sampled. ``over_memory`` says by how
    much its peak is over the target's budget, None if it is not, or there is none, or the memory is
    an emulator's.
    """

    run: Run
    course: Course
    steady: int
    latency: Percentiles | None
    throughput_per_s: float | None
    cosine_min: float | None
    score: Score | None
    conditions: Conditions | None = None
    energy: EnergyReport | None = None
    no_energy: str | None = None
    over_memory: str | None = None
    batch_scores: tuple[Score, ...] = ()

    @property
    def late(self) -> int:
        """How many samples came before the steady ones."""
        return len(self.run.wall_ns) - self.steady


@dataclass(frozen=True, kw_only=True, slots=True)
class Took:
    """How long a session took, ns: ``all``, and parts of it.

    ``timed`` are the runs that were timed, their warm-up with them, ``load`` is opening the
    engines, ``checks`` all else around those on the board (start, golden outputs, an idle time),
    ``deploy`` without ``upload``, and ``besides`` what was asked for besides timed runs. What is
    left was done here, or on the board before and after.
    """

    all: int
    timed: int
    load: int
    checks: int
    deploy: int
    upload: int
    besides: int

    @property
    def ratio(self) -> float:
        """How many times as long as its timed runs the session took, but for ``upload`` and
        ``besides``.
        """
        return (self.all - self.upload - self.besides) / self.timed


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """A measurement with what is derived from it, and the file it lies in.

    ``current`` is the link on the board that apps open, None if it was left as it was. ``took_ns``
    is how long the session took, 0 if it is not this one, and ``besides_ns`` of that what was asked
    for besides timed runs.
    """

    measurement: Measurement
    path: Path
    runs: tuple[RunReport, ...]
    current: str | None = None
    took_ns: int = 0
    besides_ns: int = 0

    @property
    def not_run(self) -> tuple[NotRun, ...]:
        """The artifacts that were not measured."""
        return self.measurement.not_run

    @property
    def took(self) -> Took | None:
        """What the session took; None if it is not this one, or nothing was timed."""
        runs = self.measurement.runs
        timed = sum(sum(run.warmup_ns) + sum(run.wall_ns) for run in runs)
        if not self.took_ns or not timed:
            return None
        load, upload = sum(run.load_ns for run in runs), sum(run.upload_ns for run in runs)
        return Took(
            all=self.took_ns,
            timed=timed,
            load=load,
            checks=sum(run.session_ns for run in runs) - timed - load,
            deploy=sum(run.deploy_ns for run in runs) - upload,
            upload=upload,
            besides=self.besides_ns,
        )

    def document(self) -> dict[str, Any]:
        """Return what ``profile --json`` prints."""
        m = self.measurement
        return {
            "board": {"name": m.board_name} | dict(m.board) | {"emulated": m.emulated},
            "deterministic": m.deterministic,
            "bundle": {"name": m.bundle_name, "digest": m.bundle_digest, "target": m.target},
            "runs": [_document(item, m.emulated) for item in self.runs],
            "not_run": [values.write(item) for item in m.not_run],
            "took_ns": asdict(self.took) | {"ratio": self.took.ratio} if self.took else None,
            "measurement": str(self.path),
            "current": self.current,
        }


def report(
    measurement: Measurement,
    path: Path,
    current: str | None = None,
    took_ns: int = 0,
    besides_ns: int = 0,
) -> Report:
    """Derive the report of ``measurement``, which lies in ``path``; see ``Report``."""
    return Report(
        measurement=measurement,
        path=path,
        current=current,
        took_ns=took_ns,
        besides_ns=besides_ns,
        runs=tuple(_derive(run, measurement) for run in measurement.runs),
    )


def _steady(run: Run) -> tuple[Course, Sequence[int]]:
    """Return how the times of ``run`` went, and its samples from where they are steady.

    They are all samples if they never are.
    """
    found = course((*run.warmup_ns, *run.wall_ns)) if run.wall_ns else course(())
    late = 0 if found.warmup is None else max(0, found.warmup - len(run.warmup_ns))
    return found, run.wall_ns[late:]


def _derive(run: Run, measurement: Measurement) -> RunReport:
    energy, no_energy = None, None
    try:
        energy = derive(run, measurement.grid_g_per_kwh)
    except MeasurementError as exc:
        no_energy = "; ".join(str(exc).splitlines())
    cores = len(measurement.board.get("cores", ())) or 1
    cosines = [g.cosine for g in run.golden]
    found, steady = _steady(run)
    return RunReport(
        run=run,
        course=found,
        steady=len(steady),
        latency=percentiles(steady) if steady else None,
        throughput_per_s=1e9 * len(steady) / sum(steady) if any(steady) else None,
        cosine_min=None
        if None in cosines
        else min((c for c in cosines if c is not None), default=None),
        score=score(run.rules, run.wall_ns),
        # An emulated board's clocks and load are this machine's, and its times no device's.
        conditions=judge(run, cores) if run.wall_ns and not measurement.emulated else None,
        energy=energy,
        no_energy=no_energy,
        over_memory=_over(run, measurement),
        batch_scores=tuple(
            of_batch
            for one in run.batches
            if (of_batch := batch_score(run.rules, one.wall_ns, one.batch))
        ),
    )


def _over(run: Run, measurement: Measurement) -> str | None:
    most, peak = measurement.memory_budget_mib, run.peak_memory_bytes
    if most is None or peak is None or measurement.emulated or peak <= most * 2**20:
        return None
    return (
        f"took {peak / 2**20:.1f} MiB of memory at its peak; the budget of the target "
        f"{measurement.target} is {most:g} MiB"
    )


def _served(served: Served | None) -> dict[str, Any] | None:
    if served is None:
        return None
    return {
        "data": served.data,
        "texts": len(served.wall_ns),
        "tokens": [min(served.tokens), max(served.tokens)],
        "cut": served.cut,
        "mean_ns": served.mean_ns,
        "latency_ns": asdict(served.latency),
    }


def _document(item: RunReport, emulated: bool) -> dict[str, Any]:
    run = item.run
    return {
        **({} if run.graph == MAIN else {"graph": run.graph}),
        "engine": run.engine,
        "engine_version": run.engine_version,
        "precision": run.precision,
        "threads": run.threads,
        "seq_len": run.seq_len,
        "emulated": emulated,
        "latency_ns": asdict(item.latency) if item.latency else None,
        "throughput_per_s": item.throughput_per_s,
        "load_ns": run.load_ns or None,
        "first_inference_ns": run.first_ns or None,
        "cold_start_ns": run.load_ns + run.first_ns if run.first_ns else None,
        "warmup_runs": item.course.warmup,
        "steady_runs": item.steady,
        "drift": item.course.drift,
        "modes": [asdict(mode) for mode in item.course.modes],
        "served": _served(run.served),
        "counters": run.counters.document() if run.counters else None,
        "system": run.system.document() if run.system else None,
        "operators": operator_times.document(
            run.operators, item.latency.p50 if item.latency else None
        )
        if run.operators
        else None,
        "no_operators": run.no_operators or None,
        "score": asdict(item.score) if item.score else None,
        "peak_memory_bytes": run.peak_memory_bytes,
        "memory": run.memory.document() if run.memory else None,
        "over_memory": item.over_memory,
        "instances": run.instances.document() if run.instances else None,
        "no_instances": run.no_instances or None,
        "batches": [one.document() for one in run.batches],
        "batch_scores": [asdict(one) for one in item.batch_scores],
        "no_batches": run.no_batches or None,
        "artifact_bytes": run.artifact_bytes,
        "outputs_agree": run.outputs_agree,
        "cosine_min": item.cosine_min,
        "bound": run.bound,
        "conditions": _conditions(item.conditions),
        "energy": asdict(item.energy) if item.energy else None,
        "no_energy": item.no_energy,
        "generation": _generation(item),
    }


def _generation(item: RunReport) -> dict[str, Any] | None:
    found = item.run.generation
    if found is None:
        return None
    total = item.energy.total if item.energy else None
    net = (total.net.joules, total.net.uncertainty) if total else None
    return found.document(item.late, net)


def _conditions(found: Conditions | None) -> dict[str, Any] | None:
    return None if found is None else asdict(found) | {"fit": found.fit}
