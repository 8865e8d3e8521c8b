# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Whether one is faster than the other: two artifacts in turns, or two measurements as they are."""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from edgeopt.errors import InputError
from edgeopt.measure import difference, measurement, trial
from edgeopt.measure.difference import Effect, is_enough, more_units, round_value
from edgeopt.measure.interleaved import Contender, take
from edgeopt.measure.measurement import Measurement, Run
from edgeopt.measure.statistics import CONFIDENCE, batches
from edgeopt.measure.trial import FIRST, Round, Side, Trial

_FEWEST_BATCHES = 6
_FACTS = ("arch", "model", "cores", "kernel")  # that a board keeps


@dataclass(frozen=True, kw_only=True, slots=True)
class Compared:
    """A pair and its effect. ``p50_ns`` are the medians of all runs of each.

    ``more_units`` is about how many more rounds (of a trial) or batches (of measurements) would
    tell the two apart, None if over 5,000 or if they are told apart already; ``runs_per_unit`` is
    how many runs of each side one has.
    """

    first: Side
    second: Side
    p50_ns: tuple[int, int]
    runs: tuple[int, int]
    effect: Effect
    more_units: int | None
    runs_per_unit: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """What was found. ``in_turns`` is false for two measurements, which had a session each.

    The interval of these holds no difference between sessions. ``emulated`` times are no device's.
    ``notes`` are what else differs between the two.
    """

    board_names: tuple[str, ...]
    emulated: bool
    in_turns: bool
    pairs: tuple[Compared, ...]
    notes: tuple[str, ...]
    files: tuple[str, ...]

    def verdict(self, pair: Compared) -> str:
        """Return what can be said of ``pair``; of single sessions no more than that they differ."""
        told = pair.effect.verdict
        return told if self.in_turns or told == difference.SAME else difference.SESSIONS

    def document(self) -> dict[str, Any]:
        """Return what ``compare --json`` prints."""
        return {
            "boards": list(self.board_names),
            "emulated": self.emulated,
            "in_turns": self.in_turns,
            "interval_covers_sessions": self.in_turns,
            "confidence": CONFIDENCE,
            "pairs": [
                {
                    "first": asdict(pair.first),
                    "second": asdict(pair.second),
                    "p50_ns": list(pair.p50_ns),
                    "runs": list(pair.runs),
                    "unit": "round" if self.in_turns else "batch",
                    **asdict(pair.effect),
                    "verdict": self.verdict(pair),
                    "within_resolution": pair.effect.within(difference.RESOLUTION),
                    "more_units": pair.more_units,
                    "runs_per_unit": pair.runs_per_unit,
                }
                for pair in self.pairs
            ],
            "notes": list(self.notes),
            "files": list(self.files),
        }


def in_turns(
    first: Contender,
    second: Contender,
    board: str,
    *,
    seq_len: int | None = None,
    graph: str | None = None,
    rounds: int | None = None,
    duration_s: float | None = None,
    output: str | Path | None = None,
) -> Comparison:
    """Time ``first`` and ``second`` in turns on ``board``, and say which is faster.

    As many rounds are taken as it needs, up to the last of ``difference.LOOKS``, or just
    ``rounds``. The raw samples are written to ``output`` (a new file under ``measurements/``).
    Raises as ``interleaved.take``.
    """
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
    path = Path(output or f"measurements/compare-{board}-{stamp}.json")
    looks = 1 if rounds else len(difference.LOOKS)

    def decided(taken: Sequence[Round], number: int) -> bool:
        return is_enough(_effect(taken, looks))

    found = take(
        first,
        second,
        board,
        output=path,
        seq_len=seq_len,
        graph=graph,
        rounds=rounds,
        duration_s=duration_s,
        decided=decided,
    )
    return of_trial(found, path)


def _effect(rounds: Sequence[Round], looks: int) -> Effect:
    values = [round_value(tuple(one.pairs())) for one in rounds]
    return difference.paired(values, (1 - CONFIDENCE) / looks)


def of_trial(found: Trial, path: Path) -> Comparison:
    """Return what ``found``, which lies in ``path``, says of its two sides."""
    if len(found.rounds) < 2:
        raise InputError(
            f"has {len(found.rounds)} round, and two are the fewest that say how sure it is",
            where=str(path),
            hint="Give it longer: --duration, or --rounds.",
        )
    effect = _effect(found.rounds, len(found.planned))
    times: tuple[list[int], list[int]] = ([], [])
    for one in found.rounds:
        for block in one.blocks:
            times[block.side != FIRST].extend(block.wall_ns[1:])
    pair = Compared(
        first=found.first,
        second=found.second,
        p50_ns=(round(median(times[0])), round(median(times[1]))),
        runs=(len(times[0]), len(times[1])),
        effect=effect,
        more_units=more_units(effect) if effect.verdict == difference.SAME else None,
        runs_per_unit=len(times[0]) // len(found.rounds),
    )
    return Comparison(
        board_names=(found.board_name,),
        emulated=found.emulated,
        in_turns=True,
        pairs=(pair,),
        notes=_differences([(found.first, found.second)]),
        files=(str(path),),
    )


def of_measurements(
    first: Path,
    second: Path,
    *,
    engines: Sequence[str] = (),
    precisions: Sequence[str] = (),
) -> Comparison:
    """Return what two files of ``edgeopt profile`` say of each other.

    Artifacts that both hold are compared by pairs; if each file holds one alone, these are. All
    pairs share the 5 % of being wrong (Bonferroni). Raises MeasurementError for a damaged file, and
    InputError if there is nothing to compare: lengths differ, one is emulated, too few runs.
    """
    one, other = measurement.read(first), measurement.read(second)
    if one.emulated != other.emulated:
        raise InputError(
            f"{first if one.emulated else second} is of an emulated board and the other is not: "
            "an emulated time is no device's",
            where="compare",
        )
    runs = [_timed(m, engines, precisions) for m in (one, other)]
    matched = _matched(runs[0], runs[1], first, second)
    error = (1 - CONFIDENCE) / len(matched)
    pairs = tuple(_compared(a, b, one, other, error, (first, second)) for a, b in matched)
    notes = _differences([(p.first, p.second) for p in pairs])
    if any(_board(one, key) != _board(other, key) for key in ("name", *_FACTS)):
        notes = (f"the boards differ: {one.board_name} and {other.board_name}", *notes)
    return Comparison(
        board_names=(one.board_name, other.board_name),
        emulated=one.emulated,
        in_turns=False,
        pairs=pairs,
        notes=notes,
        files=(str(first), str(second)),
    )


def _board(m: Measurement, key: str) -> object:
    return m.board_name if key == "name" else m.board.get(key)


def _timed(m: Measurement, engines: Sequence[str], precisions: Sequence[str]) -> list[Run]:
    return [
        run
        for run in m.runs
        if run.wall_ns
        and (not engines or run.engine in engines)
        and (not precisions or run.precision in precisions)
    ]


def _matched(
    ours: Sequence[Run], theirs: Sequence[Run], first: Path, second: Path
) -> list[tuple[Run, Run]]:
    for runs, path in ((ours, first), (theirs, second)):
        if not runs:
            raise InputError("holds no timed artifact of those asked for", where=str(path))
    if len(ours) == len(theirs) == 1:
        pairs = [(ours[0], theirs[0])]
    else:
        by_name = {run.name: run for run in theirs}
        pairs = [(run, by_name[run.name]) for run in ours if run.name in by_name]
    if not pairs:
        raise InputError(
            f"holds {', '.join(r.name for r in ours)}, and {second} "
            f"{', '.join(r.name for r in theirs)}: no artifact is in both",
            where=str(first),
            hint="Name one of each with --engine and --precision, or compare bundles.",
        )
    for a, b in pairs:
        if a.seq_len != b.seq_len:
            raise InputError(
                f"{a.name} ran on {a.seq_len} tokens there, and on {b.seq_len} in {second}: "
                "other work takes another time",
                where=str(first),
                hint="Profile both with the same --seq-len.",
            )
    return pairs


def _compared(
    a: Run, b: Run, one: Measurement, other: Measurement, error: float, paths: tuple[Path, Path]
) -> Compared:
    logs = []
    for run, path in zip((a, b), paths, strict=True):
        parts = batches(run.wall_ns)
        if len(parts) < _FEWEST_BATCHES:
            raise InputError(
                f"{run.name} has {len(run.wall_ns)} runs, too few to say how they scatter",
                where=str(path),
                hint="Profile it with --runs 60 or more.",
            )
        logs.append([math.log(median(part)) for part in parts])
    effect = difference.unpaired(logs[0], logs[1], error)
    return Compared(
        first=_side(a, one),
        second=_side(b, other),
        p50_ns=(round(median(a.wall_ns)), round(median(b.wall_ns))),
        runs=(len(a.wall_ns), len(b.wall_ns)),
        effect=effect,
        more_units=more_units(effect) if effect.verdict == difference.SAME else None,
        runs_per_unit=len(batches(a.wall_ns)[0]),
    )


def _side(run: Run, m: Measurement) -> Side:
    return Side(
        bundle_name=m.bundle_name,
        bundle_digest=m.bundle_digest,
        graph=run.graph,
        engine=run.engine,
        engine_version=run.engine_version,
        precision=run.precision,
        threads=run.threads,
        seq_len=run.seq_len,
        artifact_bytes=run.artifact_bytes,
    )


def _differences(pairs: Sequence[tuple[Side, Side]]) -> tuple[str, ...]:
    """Say what differs between the two besides their times."""
    notes: list[str] = []
    for a, b in pairs:
        if a.bundle_digest != b.bundle_digest:
            notes.append(
                f"the bundles differ: {a.bundle_name} {a.bundle_digest[:8]} and "
                f"{b.bundle_name} {b.bundle_digest[:8]}"
            )
        if a.threads != b.threads:
            notes.append(f"the threads differ: {a.threads} and {b.threads}")
        if a.engine == b.engine and a.engine_version != b.engine_version:
            notes.append(
                f"the versions of {a.engine} differ: {a.engine_version}, {b.engine_version}"
            )
    return tuple(dict.fromkeys(notes))


def kind_of(path: Path) -> str:
    """Return "trial", "measurement" or "bundle": what ``path`` is. Raises InputError for neither.

    A file of JSON is one of the former two; all else is left to who opens bundles.
    """
    if path.is_dir():
        return "bundle"
    try:
        with path.open("rb") as file:
            start = file.read(1)
            document = json.loads(start + file.read()) if start == b"{" else None
    except OSError as exc:
        raise InputError(f"cannot be read ({exc.strerror})", where=str(path)) from exc
    except ValueError as exc:
        raise InputError(f"is not JSON: {exc}", where=str(path)) from exc
    if document is None:
        return "bundle"
    return "trial" if trial.is_one(document) else "measurement"
