# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Whether artifacts keep to a budget, by what measurements, evaluations and bundles say of them.

A figure with bounds keeps to a limit only if the bound on the limit's side does: what could as well
be beyond it is not let through, and is told apart from what is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgeopt.bundle import Bundle, open_bundle
from edgeopt.errors import InputError
from edgeopt.measure import budget, measurement, memory
from edgeopt.measure.budget import ACCURACY, ACCURACY_DROP, Budget, Limit
from edgeopt.measure.measurement import Measurement, Run, shown
from edgeopt.measure.report import RunReport, report
from edgeopt.measure.statistics import needed
from edgeopt.measure.system_counts import ELSEWHERE, SystemCounts

KEPT, BROKEN, UNSURE = "kept", "broken", "cannot tell"


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """A figure and the interval that it may lie in; an end is None if nothing bounds it there.

    ``doubt`` says why it tells nothing, "" if it does.
    """

    value: float
    low: float | None
    high: float | None
    source: str
    doubt: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One limit of one artifact. ``status`` is "kept", "broken" or "cannot tell"."""

    artifact: str
    limit: str
    most: float | None
    least: float | None
    figure: Figure
    status: str
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Gate:
    """What was found of a budget."""

    budget: str
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether every limit is kept."""
        return all(check.status == KEPT for check in self.checks)

    def document(self) -> dict[str, Any]:
        """Return what ``gate --json`` prints."""
        return {
            "budget": self.budget,
            "passed": self.passed,
            "checks": [asdict(check) for check in self.checks],
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class _Source:
    """A file that figures come from. ``figures`` are by artifact, then by the limit's name.

    ``lacks`` says why one of a table is not among them, and how to get it.
    """

    path: str
    digest: str
    figures: Mapping[tuple[str, str, str], Mapping[str, Figure]]
    lacks: Callable[[tuple[str, str, str], Limit], str | None]


def gate(budget_file: str | Path, sources: Sequence[str | Path]) -> Gate:
    """Hold what ``sources`` say against the budget: measurements, evaluations (JSON), bundles.

    Each artifact that the budget is of, in any of them, has to keep every limit by all that is
    known of it. Raises InputError if a figure is known of none: a limit that nobody checked is not
    kept. It says how to get it. The same if two sources are of different bundles.
    """
    found = budget.read(Path(budget_file))
    read = [_read(Path(source), found) for source in sources]
    digests = {one.digest: one.path for one in read if one.digest}
    if len(digests) > 1:
        first, second = list(digests.values())[:2]
        raise InputError(f"is of another bundle than {first}", where=second)
    names = dict.fromkeys(name for one in read for name in one.figures if _is_of(found, name))
    if not names:
        raise InputError(
            f"no artifact of {_of(found)} is in {', '.join(one.path for one in read)}",
            where=found.path,
        )
    checks = [
        check
        for name in names
        for limit in found.limits
        for check in _checked(name, limit, read, found)
    ]
    return Gate(budget=found.path, checks=tuple(checks))


def _is_of(found: Budget, name: tuple[str, str, str]) -> bool:
    return found.engine in (None, name[1]) and found.precision in (None, name[2])


def _of(found: Budget) -> str:
    return " ".join(word for word in (found.engine, found.precision) if word) or "any kind"


def _checked(
    name: tuple[str, str, str], limit: Limit, sources: Sequence[_Source], found: Budget
) -> list[Check]:
    figures = [
        one.figures[name][limit.name] for one in sources if limit.name in one.figures.get(name, {})
    ]
    if not figures:
        reasons = [one.lacks(name, limit) for one in sources]
        told = next((reason for reason in reasons if reason), None)
        raise InputError(
            f"{shown(*name)} is held to {limit.name}, and none of the files has it"
            + (f": {told}" if told else ""),
            where=found.path,
            hint=_HOW[limit.table],
        )
    return [_check(shown(*name), limit, figure) for figure in figures]


_HOW = {
    "latency": "Measure it on a board: edgeopt profile BUNDLE --board NAME -o FILE.json",
    "memory": "Measure it on a board: edgeopt profile BUNDLE --board NAME -o FILE.json",
    "size": "Give the bundle, or a measurement of it.",
    ACCURACY: "Evaluate it: edgeopt evaluate BUNDLE --data DATA --json > FILE.json",
    ACCURACY_DROP: "Evaluate it beside the original: edgeopt evaluate BUNDLE --data DATA "
    "--original MODEL --json > FILE.json",
    "energy": "It takes a board with a power sensor, or a meter, and a measurement that read it.",
    "counters": "It takes an emulated board: edgeopt profile BUNDLE --board NAME --counters "
    "(or --deterministic, for system_instructions) -o FILE.json",
}


def _check(artifact: str, limit: Limit, figure: Figure) -> Check:
    """Hold a figure against its limit by the bound that is on the limit's side."""
    sign = "at least" if limit.is_least else "at most"
    worst, best = (figure.low, figure.high) if limit.is_least else (figure.high, figure.low)

    def within(value: float) -> bool:
        return value >= limit.value if limit.is_least else value <= limit.value

    if figure.doubt:
        status, why = UNSURE, f"; {figure.doubt}"
    elif worst is not None and within(worst):
        status, why = KEPT, ""
    elif best is not None and not within(best):
        status, why = BROKEN, ""
    else:
        status = UNSURE
        why = (
            "; nothing bounds it on that side, more samples would"
            if worst is None
            else "; its interval holds the limit, more samples may tell"
        )
    ends = "" if figure.low == figure.high else f" ({_shown(figure.low)} to {_shown(figure.high)})"
    return Check(
        artifact=artifact,
        limit=limit.name,
        most=None if limit.is_least else limit.value,
        least=limit.value if limit.is_least else None,
        figure=figure,
        status=status,
        text=f"{limit.figure} is {_shown(figure.value)}{ends}, {sign} "
        f"{_shown(limit.value, 'g')} is allowed{why}",
    )


def _shown(value: float | None, form: str = ".4g") -> str:
    if value is None:
        return "?"
    is_count = value >= 1e5 and value == int(value)  # exact, and held to a thousandth
    return f"{value:,.0f}" if is_count else f"{value:{form}}"


def _read(path: Path, found: Budget) -> _Source:
    """Return what ``path`` says: a measurement or an evaluation if it is JSON, else a bundle."""
    document = _document(path)
    if document is None:
        return _of_bundle(open_bundle(path))
    if isinstance(document, dict) and "artifacts" in document and "main" in document:
        return _of_evaluation(document, path)
    return _of_measurement(measurement.read(path), path, found)


def _document(path: Path) -> Any:
    if path.is_dir():
        return None
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise InputError(f"cannot be read ({exc.strerror})", where=str(path)) from exc
    if not data.startswith(b"{"):
        return None
    try:
        return json.loads(data)
    except ValueError as exc:
        raise InputError(f"is not JSON: {exc}", where=str(path)) from exc


def _sized(count: int, source: str) -> Figure:
    return _exact(count / 1e6, source)


def _exact(value: float, source: str) -> Figure:
    return Figure(value=value, low=value, high=value, source=source)


def _of_bundle(bundle: Bundle) -> _Source:
    source = str(bundle.path)
    figures = {
        (graph, a.engine, a.precision): {"size.artifact_mb": _sized(a.bytes, source)}
        for graph, part in bundle.parts().items()
        for a in part.manifest.artifacts
    }
    return _Source(
        path=source,
        digest=bundle.manifest.digest,
        figures=figures,
        lacks=lambda name, limit: None,
    )


def _of_measurement(m: Measurement, path: Path, found: Budget) -> _Source:
    """Return the figures of a measurement's runs at the budget's length.

    Raises InputError if outputs disagreed: nothing of what is wrong keeps to a budget.
    """
    figures: dict[tuple[str, str, str], dict[str, Figure]] = {}
    items: dict[tuple[str, str, str], RunReport] = {}
    for item in report(m, path).runs:
        run = item.run
        name = (run.graph, run.engine, run.precision)
        if found.seq_len not in (None, run.seq_len) or not _is_of(found, name):
            continue
        if not run.outputs_agree:
            raise InputError(
                f"the outputs of {run.name} disagreed with the golden ones there", where=str(path)
            )
        if run.generation is not None and name in items and found.seq_len is None:
            raise InputError(
                f"has answers to prompts of {items[name].run.seq_len} and of {run.seq_len} tokens",
                where=str(path),
                hint="Say in the budget of which it is: seq_len = "
                f"{run.seq_len}. A latency is then that of an answer.",
            )
        items[name] = item
        figures[name] = {"size.artifact_mb": _sized(run.artifact_bytes, str(path))}
        if run.counters is not None:
            counted = _exact(run.counters.per_inference, str(path))
            figures[name]["counters.instructions"] = counted
            if run.counters.memory_bytes is not None:
                moved = _sized(sum(run.counters.memory_bytes), str(path))
                figures[name]["counters.memory_mb"] = moved
        if run.system is not None:
            figures[name]["counters.system_instructions"] = _of_system(run.system, str(path))
        if not m.emulated:
            figures[name] |= _memory(run, str(path))
            figures[name] |= _latencies(item, str(path)) | _energy(item, str(path))

    def lacks(name: tuple[str, str, str], limit: Limit) -> str | None:
        if m.emulated and limit.table in ("latency", "memory", "energy"):
            return f"{path} is of the emulated board {m.board_name}, whose {limit.table} is its own"
        if name not in items:
            return None
        if limit.table == "memory":
            older = limit.figure != "peak_mb" and items[name].run.memory is None
            return f"{path} " + (
                "is of an edgeopt that did not read it"
                if older
                else "lacks it: the board's kernel did not tell"
            )
        if limit.table == "latency":
            least, count = needed(int(limit.figure[1:3]) / 100), len(items[name].run.wall_ns)
            few = count < least
            return f"{limit.figure[:3]} takes {least} independent samples, and " + (
                f"{path} has {count}" if few else f"of the {count} in {path} neighbours are alike"
            )
        if limit.table == "energy" and items[name].energy is not None:
            return f"{path} has rails of which it is not known what they add up to"
        if limit.figure == "system_instructions":
            return f"{path} is of no deterministic board"
        if limit.table == "counters" and m.deterministic:
            return f"{path} was counted by the board's clock, without QEMU's plugin"
        if limit.figure == "memory_mb" and items[name].run.counters is not None:
            return f"{path} was counted without --cache-model"
        if limit.table in ("energy", "counters"):
            return items[name].no_energy or f"{path} has no {limit.table}"
        return None

    return _Source(path=str(path), digest=m.bundle_digest, figures=figures, lacks=lacks)


def _of_system(found: SystemCounts, source: str) -> Figure:
    low, high = found.within
    doubt = "" if found.elsewhere <= ELSEWHERE else "other programs ran meanwhile: count again"
    return Figure(value=found.per_inference, low=low, high=high, source=source, doubt=doubt)


def _memory(run: Run, source: str) -> dict[str, Figure]:
    """Return what the kernel told of the run's memory, by the names that a budget has."""
    told: dict[str, int | None] = {"peak_mb": run.peak_memory_bytes}
    if run.memory is not None:
        phases = run.memory.document()
        told |= {
            f"{phase}_{figure}_mb": phases[phase][f"{figure}_bytes"]
            for phase in memory.PHASES
            for figure in memory.FIGURES
        }
    return {f"memory.{k}": _sized(count, source) for k, count in told.items() if count is not None}


def _latencies(item: RunReport, source: str) -> dict[str, Figure]:
    found: dict[str, Figure] = {}
    if item.latency is None:
        return found
    for name in ("p50", "p90", "p99"):
        value = getattr(item.latency, name)
        if value is not None:
            bounds = getattr(item.latency, f"{name}_bounds")
            low, high = (None if end is None else end / 1e6 for end in bounds)
            found[f"latency.{name}_ms"] = Figure(
                value=value / 1e6, low=low, high=high, source=source, doubt=_doubt(item)
            )
    return found


def _energy(item: RunReport, source: str) -> dict[str, Figure]:
    """Return what an inference takes above idling, if it is known what the rails add up to."""
    if item.energy is None or item.energy.total is None:
        return {}
    net = item.energy.total.net
    value, half = 1e3 * net.joules, 1e3 * net.uncertainty
    return {
        "energy.per_inference_mj": Figure(
            value=value, low=value - half, high=value + half, source=source, doubt=_doubt(item)
        )
    }


def _doubt(item: RunReport) -> str:
    """Return why the board was not fit to be timed, or to have its power read."""
    if item.conditions is None or item.conditions.fit:
        return ""
    reasons = (*item.conditions.throttled, *item.conditions.disturbed)
    return f"measure it again: {', '.join(reasons)}"


def _of_evaluation(document: Mapping[str, Any], path: Path) -> _Source:
    """Return the figures of ``edgeopt evaluate --json``, and what they are below the original's."""
    figures: dict[tuple[str, str, str], dict[str, Figure]] = {}
    try:
        for system in document["artifacts"]:
            own = figures.setdefault((measurement.MAIN, system["engine"], system["precision"]), {})
            for name, figure in system["figures"].items():
                if figure["value"] is not None:
                    own[f"{ACCURACY}.{name}"] = Figure(
                        value=float(figure["value"]),
                        low=_end(figure["low"]),
                        high=_end(figure["high"]),
                        source=str(path),
                    )
                change = figure["difference"]
                if change is not None and change["value"] is not None:
                    own[f"{ACCURACY_DROP}.{name}"] = Figure(
                        value=0.0 - float(change["value"]),
                        low=_end(change["high"], -1),
                        high=_end(change["low"], -1),
                        source=str(path),
                    )
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise InputError(f"is no evaluation of edgeopt's: {exc!r}", where=str(path)) from exc

    def lacks(name: tuple[str, str, str], limit: Limit) -> str | None:
        if limit.table == ACCURACY_DROP and name in figures:
            return f"{path} was made without the original"
        if limit.table == ACCURACY and name in figures:
            known = [n.partition(".")[2] for n in figures[name] if n.startswith(f"{ACCURACY}.")]
            return f"{path} has {', '.join(known)}"
        return None

    return _Source(
        path=str(path), digest=str(document.get("digest", "")), figures=figures, lacks=lacks
    )


def _end(value: Any, sign: int = 1) -> float | None:
    return None if value is None else sign * float(value) + 0.0  # no negative zero
