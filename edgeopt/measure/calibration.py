# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What a user's own measurements say of a board, for estimates of other networks there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from edgeopt.bundle import Bundle, open_bundle
from edgeopt.bundle.operators import networks_of
from edgeopt.bundle.pack import SUFFIX
from edgeopt.errors import BundleError, EdgeoptError, InputError
from edgeopt.estimate import prediction
from edgeopt.estimate.prediction import Measured
from edgeopt.estimate.roofline import BYTES, machine
from edgeopt.measure import measurement
from edgeopt.measure.measurement import Measurement, Run
from edgeopt.target import Target


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownRun:
    """One run of the user's: of which bundle, with its network, None for an emulated one."""

    digest: str
    run: Run
    measured: Measured | None


def opened_bundle(source: str | Path | Bundle) -> Bundle:
    """Return the bundle that ``source`` is or names. Raises InputError for a packed one."""
    if isinstance(source, Bundle):
        return source
    if str(source).endswith(SUFFIX):
        raise InputError(
            "is a packed bundle, whose artifacts cannot be opened here",
            where=str(source),
            hint="Unpack it (any zip tool does), and give the folder.",
        )
    return open_bundle(source)


def read_runs(
    paths: Sequence[Path], target: Target, threads: int, bundles: Sequence[str | Path | Bundle]
) -> tuple[list[KnownRun], list[str]]:
    """Return the user's runs on ``target`` with so many threads, and what was left out.

    ``paths`` are measurements, or folders of them. The bundles that they are of are among
    ``bundles``, or lie beside them. Raises InputError if one does not, if a measurement is of
    another target, or of an emulated board that counted nothing; and MeasurementError, BundleError.
    """
    notes: list[str] = []
    files = [file for path in paths for file in _files(path)]
    if not files:
        return [], notes
    fits = prediction.load()
    opened = {b.manifest.digest: b for b in map(opened_bundle, bundles)}
    known, others = [], 0
    for file in files:
        taken = measurement.read(file)
        _check(taken, file, target)
        if taken.emulated:
            of = taken.bundle_digest
            known += [KnownRun(digest=of, run=r, measured=None) for r in taken.runs if r.counters]
            continue
        runs = [r for r in taken.runs if r.threads == threads and r.outputs_agree and r.wall_ns]
        others += len(taken.runs) - len(runs)
        if not runs:
            continue
        bundle = opened.get(taken.bundle_digest) or _beside(file, taken)
        opened[taken.bundle_digest] = bundle
        counted = {graph: networks_of(part) for graph, part in bundle.parts().items()}
        for run in runs:
            networks = counted[run.graph]
            if isinstance(networks, BundleError) or run.precision not in BYTES:
                others += 1
                continue
            on = machine(target.device, run.precision, threads)
            made = Measured(
                network=networks(run.seq_len), machine=on, seconds=median(run.wall_ns) / 1e9
            )
            known.append(KnownRun(digest=taken.bundle_digest, run=run, measured=made))
            if reason := prediction.beyond(made.network, fits[made.network.kind]):
                notes.append(f"{file}: {run.name} scales no estimate: {reason}")
    if others:
        notes.append(
            f"{others} of the measured runs are not used: other threads than {threads}, wrong "
            f"outputs, or no ONNX artifact in their bundle"
        )
    return known, notes


def _files(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    found = sorted(path.glob("*.json"))
    if not found:
        raise InputError("holds no measurement (*.json)", where=str(path))
    yield from found


def _check(taken: Measurement, file: Path, target: Target) -> None:
    if taken.emulated and not any(run.counters for run in taken.runs):
        raise InputError(
            "is of an emulated board, whose times are no device's, and counted no instructions",
            where=str(file),
            hint="Give one of the real board, or count with edgeopt profile --counters.",
        )
    if taken.target != target.name:
        raise InputError(
            f"is of a bundle for {taken.target}, and the estimate is for {target.name}",
            where=str(file),
        )


def _beside(file: Path, taken: Measurement) -> Bundle:
    """Return the bundle that a measurement is of, from its own folder, the one above, or here."""
    places = (file.parent, file.parent.parent, Path())
    for path in {
        p.resolve(): p for place in places for p in place.glob("*/manifest.json")
    }.values():
        try:
            found = open_bundle(path.parent)
        except EdgeoptError:
            continue
        if found.manifest.digest == taken.bundle_digest:
            return found
    raise InputError(
        f"is of a bundle that does not lie beside it ({taken.bundle_name}, digest "
        f"{taken.bundle_digest[:12]})",
        where=str(file),
        hint="Name it with --bundle: an estimate needs to know what was measured.",
    )
