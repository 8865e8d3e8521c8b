# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""A card: what one model does on one board, with all that a reader needs to trust or repeat it.

A card is derived: every figure is recomputed from measurements, and nothing is added to what they,
the bundle and the evaluation say. What is not known is absent, never 0.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgeopt import values
from edgeopt.bundle import Bundle
from edgeopt.errors import InputError
from edgeopt.measure import measurement
from edgeopt.measure.measurement import Measurement, Run, shown
from edgeopt.measure.report import report
from edgeopt.measure.session import intact
from edgeopt.measure.statistics import CONFIDENCE, Percentiles, needed

SCHEMA_VERSION = 1
KIND = "card"

UNDISTURBED, DISTURBED, UNKNOWN = "undisturbed", "disturbed", "not known"

_BUSY = 0.5
"""Load beyond a run's own threads that is put down to other programs."""

_BOARD = ("model", "arch", "cores", "isa", "ram_bytes", "kernel", "os", "libc", "libc_version")
_EMULATED_BOARD = ("arch", "cores", "isa")
"""Of an emulated board memory and system are the emulator's, or those of the machine it runs on."""

_ENDS = ("value", "low", "high")
_PERCENTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}


def card(
    bundle: str | Path | Bundle,
    measurements: Sequence[str | Path],
    evaluation: str | Path | None = None,
) -> dict[str, Any]:
    """Return the card of ``bundle`` on the board that the files ``measurements`` are of.

    ``evaluation`` is what ``edgeopt evaluate --json`` printed. Of an emulated board there are
    outputs and sizes, and no times, memory or energy: those are the emulator's.

    Raises BundleError if the bundle is damaged, and InputError if a file is of another bundle, or
    the measurements are of several boards.
    """
    bundle = intact(bundle)
    taken = [(Path(path), measurement.read(Path(path))) for path in measurements]
    for i, (path, m) in enumerate(taken):
        _check(path, m, bundle, taken[0])
        if path.name in (other.name for other, _ in taken[:i]):
            raise InputError(
                "has the name of another measurement of this card",
                where=str(path),
                hint="A card tells measurements apart by the names of their files: rename one.",
            )
    evaluated = None if evaluation is None else _evaluation(Path(evaluation), bundle)
    manifest, first = bundle.manifest, taken[0][1]
    origin = dict(manifest.origin)
    return {
        "kind": KIND,
        "schema_version": SCHEMA_VERSION,
        "model": {
            "name": manifest.name,
            "task": str(manifest.task),
            "input": manifest.input.kind,
            "max_seq_len": manifest.max_seq_len or None,
            "origin": origin,
            "reference": manifest.reference,
            "original": manifest.original or None,
        },
        "target": asdict(manifest.target),
        "recipe": dict(manifest.recipe),
        "board": {"name": first.board_name, "emulated": first.emulated}
        | {
            key: first.board[key]
            for key in (_EMULATED_BOARD if first.emulated else _BOARD)
            if first.board.get(key) is not None
        },
        "confidence": CONFIDENCE,
        "artifacts": _artifacts(bundle),
        "runs": [entry for path, m in taken for entry in _runs(path, m)],
        "not_run": [{"measurement": p.name} | values.write(n) for p, m in taken for n in m.not_run],
        "evaluation": evaluated,
        "versions": {
            "compiled_by": dict(manifest.tools),
            "original": dict(origin.get("tools") or {}),
            "measured_by": _distinct(m.edgeopt_version for _, m in taken),
            "agent": _distinct(m.agent_version for _, m in taken),
        },
        "hashes": {
            "bundle_digest": manifest.digest,
            "bundle_inputs": manifest.inputs,
            "measurements_sha256": {path.name: _sha256(path) for path, _ in taken},
            "evaluation_sha256": _sha256(Path(evaluation)) if evaluation is not None else None,
        },
        "repeat": _repeat(bundle, taken, evaluated, evaluation),
    }


def _check(path: Path, m: Measurement, bundle: Bundle, first: tuple[Path, Measurement]) -> None:
    """Raise InputError if ``m`` is of another bundle, or of another board than the first one."""
    digest = bundle.manifest.digest
    if m.bundle_digest != digest:
        raise InputError(
            f"is of another bundle: {m.bundle_name} with the digest {m.bundle_digest[:12]}, and "
            f"{bundle.path} has {digest[:12]}",
            where=str(path),
            hint=f"Measure this one: edgeopt profile {bundle.path} --board {m.board_name}",
        )
    if (m.board_name, m.emulated, m.board.get("model")) != (
        first[1].board_name,
        first[1].emulated,
        first[1].board.get("model"),
    ):
        raise InputError(
            f"is of the board {m.board_name}, and {first[0]} of {first[1].board_name}; "
            "a card is of one board",
            where=str(path),
            hint="Make a card of each.",
        )


def _distinct(words: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(words))


def _sha256(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as exc:
        raise InputError(f"cannot be read ({exc.strerror})", where=str(path)) from exc


def _artifacts(bundle: Bundle) -> list[dict[str, Any]]:
    """Return what the bundle says of its artifacts, in its order."""
    return [
        {
            "name": shown(graph, a.engine, a.precision),
            "graph": graph,
            "engine": a.engine,
            "engine_version": a.engine_version,
            "precision": a.precision,
            "bytes": a.bytes,
            "files_sha256": {name: part.manifest.files[name].sha256 for name in a.artifact.files},
            "fidelity": asdict(a.fidelity),
            "bound": a.bound,
            "accuracy": None if a.accuracy is None else dict(a.accuracy),
            "judged": None if a.judged is None else dict(a.judged),
        }
        for graph, part in bundle.parts().items()
        for a in part.manifest.artifacts
    ]


def _runs(path: Path, m: Measurement) -> list[dict[str, Any]]:
    """Return what one file measured, run by run, in the order it was done."""
    derived = report(m, path)
    told = []
    for item, row in zip(derived.runs, derived.document()["runs"], strict=True):
        run = item.run
        entry = {
            "measurement": path.name,
            "started_utc": m.started_utc,
            "name": run.name,
            "graph": run.graph,
            "engine": run.engine,
            "engine_version": run.engine_version,
            "precision": run.precision,
            "threads": run.threads,
            "seq_len": run.seq_len or None,
            "batch": 1,
            "emulated": m.emulated,
            "outputs_agree": run.outputs_agree,
            "cosine_min": item.cosine_min,
            "bound": run.bound,
            "artifact_bytes": run.artifact_bytes,
        }
        if not m.emulated:
            timed = item.latency is not None
            entry |= {
                "latency_ns": _latency(item.latency) if item.latency else None,
                "not_supported": _not_supported(item.latency) if item.latency else {},
                "steady_runs": item.steady,
                "left_out_runs": len(run.wall_ns) - item.steady,
                "warmup_runs": row["warmup_runs"],
                "is_steady": item.course.warmup is not None,
                "drift": row["drift"],
                "modes": row["modes"],
                "load_ns": run.load_ns if timed else None,
                "first_inference_ns": row["first_inference_ns"] if timed else None,
                "memory_bytes": {
                    "before": run.rss_before_bytes,
                    "loaded": run.rss_loaded_bytes,
                    "peak": run.peak_memory_bytes,
                },
                "memory": row["memory"],
                "over_memory": row["over_memory"],
                "energy": row.get("energy"),
                "no_energy": row.get("no_energy"),
                "generation": row["generation"],
                "rules": run.rules or None,
                "score": row["score"],
                "served": row["served"],
                "conditions": row.get("conditions"),
                "state_before": dict(run.state_before),
                "state_after": dict(run.state_after),
                "disturbance": disturbance(run, row.get("conditions")),
            }
        told.append(entry)
    return told


def _latency(found: Percentiles) -> dict[str, Any]:
    """Return the percentiles that the samples support, with their bounds, and the largest."""
    told: dict[str, Any] = {"n": found.n, "independent": found.independent, "max": found.max}
    for name in _PERCENTILES:
        value = getattr(found, name)
        if value is not None:
            low, high = getattr(found, f"{name}_bounds")
            told[name] = {"value": value, "low": low, "high": high}
    return told


def _not_supported(found: Percentiles) -> dict[str, int]:
    """Return how many independent samples a percentile takes that these are too few for."""
    return {
        name: needed(share) for name, share in _PERCENTILES.items() if getattr(found, name) is None
    }


def disturbance(run: Run, conditions: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return whether other programs or the board's heat disturbed ``run``, and how that is known.

    ``conditions`` is what was sampled while it ran, None if nothing was. Then the load of the
    board (the mean of the last minute) before and after it tells, if there is more of it than the
    run's own threads make: a load that is lower proves nothing.
    """
    if conditions is not None:
        reasons = [*conditions.get("throttled", ()), *conditions.get("disturbed", ())]
        return {"verdict": DISTURBED if reasons else UNDISTURBED, "reasons": reasons}
    loads = {
        when: state["load_1min"]
        for when, state in (("before", run.state_before), ("after", run.state_after))
        if state.get("load_1min", 0) > run.threads + _BUSY
    }
    if not loads:
        reasons = ["the board's state was not sampled while it ran"]
        return {"verdict": UNKNOWN, "reasons": reasons}
    told = " and ".join(f"{load:.2f} {when}" for when, load in loads.items())
    why = f"other programs ran: the load was {told}, and its own runs make {run.threads} at most"
    return {"verdict": DISTURBED, "reasons": [why]}


def _evaluation(path: Path, bundle: Bundle) -> dict[str, Any]:
    """Return the figures of an evaluation of ``bundle``; texts of it are left out."""
    try:
        document = json.loads(path.read_bytes())
    except OSError as exc:
        raise InputError(f"cannot be read ({exc.strerror})", where=str(path)) from exc
    except ValueError as exc:
        raise InputError(f"is not JSON: {exc}", where=str(path)) from exc
    if not isinstance(document, dict) or not document.get("artifacts"):
        raise InputError(
            "is no evaluation",
            where=str(path),
            hint=f"Make one: edgeopt evaluate {bundle.path} --data DATA --json > FILE",
        )
    digest = document.get("digest")
    if digest != bundle.manifest.digest:
        raise InputError(
            f"is of another bundle: its digest is {str(digest or 'none')[:12]}, and {bundle.path} "
            f"has {bundle.manifest.digest[:12]}",
            where=str(path),
            hint=f"Evaluate this one: edgeopt evaluate {bundle.path} --data DATA --json > FILE",
        )
    try:
        systems = [
            {key: system[key] for key in ("name", "engine", "precision")}
            | {"figures": {name: _figure(one) for name, one in system["figures"].items()}}
            for system in (document["original"], *document["artifacts"])
            if system is not None
        ]
        if any(system["figures"].keys() != systems[0]["figures"].keys() for system in systems):
            raise InputError("has other figures of one system than of another", where=str(path))
        asked = ("data", "noun", "units", "left_out", "main", "board", "emulated")
        return {key: document[key] for key in asked} | {"systems": systems}
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise InputError(f"is no evaluation of edgeopt's: {exc!r}", where=str(path)) from exc


def _figure(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return a figure of an evaluation, with its difference from the original's, if it has one."""
    ends = {key: None if found[key] is None else float(found[key]) for key in _ENDS}
    change = found.get("difference")
    if "verdict" in found:
        return ends | {"verdict": str(found["verdict"])}
    return ends | {"difference": None if change is None else _figure(change)}


def _repeat(
    bundle: Bundle,
    taken: Sequence[tuple[Path, Measurement]],
    evaluated: Mapping[str, Any] | None,
    evaluation: str | Path | None,
) -> list[str]:
    """Return the commands that make all of it again, from the model on."""
    manifest, first = bundle.manifest, taken[0][1]
    name = bundle.path.name
    made = [(a.engine, a.precision) for a in manifest.artifacts]
    made += [(s.engine, s.precision) for s in manifest.skipped]
    source = str(manifest.origin.get("source") or "MODEL")
    commands = [
        ["edgeopt", "compile", source, "--target", manifest.target.name]
        + (["--recipe", str(manifest.recipe["name"])] if manifest.recipe.get("name") else [])
        + _each("--engine", (engine for engine, _ in made))
        + _each("--precision", (precision for _, precision in made))
        + ["-o", name]
    ]
    if first.emulated:
        words = ["edgeopt", "board", "up", first.board_name, "--target", manifest.target.name]
        commands.append(words)
    commands += [_profile(name, path, m) for path, m in taken]
    files = [path.name for path, _ in taken]
    lines = [shlex.join(words) for words in commands]
    if evaluated is not None and evaluation is not None:
        words = ["edgeopt", "evaluate", name, "--data", evaluated["data"]]
        if not evaluated["systems"][0]["engine"]:
            words += ["--original", source]
        if evaluated["board"]:
            words += ["--board", evaluated["board"]]
        kept = Path(evaluation).name
        lines.append(f"{shlex.join([*words, '--json'])} > {shlex.quote(kept)}")
        files += ["--evaluation", kept]
    return [*lines, shlex.join(["edgeopt", "card", name, *files])]


def _profile(name: str, path: Path, m: Measurement) -> list[str]:
    words = ["edgeopt", "profile", name, "--board", m.board_name]
    asked = [(r.engine, r.precision) for r in m.runs]
    asked += [(n.engine, n.precision) for n in m.not_run]
    words += _each("--engine", (engine for engine, _ in asked))
    words += _each("--precision", (precision for _, precision in asked))
    generated = [run.generation for run in m.runs if run.generation is not None]
    lengths = sorted({r.seq_len for r in m.runs} - {0})
    for length in lengths:
        words += ["--prompt-tokens" if generated else "--seq-len", str(length)]
    if generated:
        words += ["--new-tokens", str(generated[0].new_tokens)]
        words += ["--seq-len", str(generated[0].context)]
    words += ["--threads", str(m.runs[0].threads)]
    if m.runs[0].rules:
        words += ["--rules", m.runs[0].rules]
    else:
        runs = [(len(r.warmup_ns), len(r.wall_ns)) for r in m.runs if r.wall_ns]
        if runs:
            words += ["--warmup", str(max(w for w, _ in runs))]
            words += ["--runs", str(max(n for _, n in runs))]
    if data := next((r.served.data for r in m.runs if r.served), None):
        words += ["--data", data]
    return [*words, "-o", path.name]


def _each(option: str, words: Iterable[str]) -> list[str]:
    return [word for one in _distinct(words) for word in (option, one)]
