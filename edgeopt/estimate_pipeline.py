# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""From a bundle or an ``.onnx`` file to estimated latencies on a target, without a board."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from edgeopt import progress
from edgeopt.bundle import Bundle
from edgeopt.bundle.operators import Networks, networks_of
from edgeopt.errors import BundleError, InputError
from edgeopt.estimate import prediction
from edgeopt.estimate.onnx_operators import count, has_free_size
from edgeopt.estimate.operators import Network
from edgeopt.estimate.prediction import Estimate, NoEstimate
from edgeopt.estimate.roofline import BYTES, machine
from edgeopt.measure.calibration import KnownRun, opened_bundle, read_runs
from edgeopt.measure.measurement import shown
from edgeopt.model import MAIN
from edgeopt.model.signature import NO_LENGTH
from edgeopt.target import Target, load_target


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimated:
    """One artifact: its estimate, or the ``reason`` why there is none.

    ``bytes`` is its exact size, None for one that was not built. ``seq_len`` is the length that
    runs: the next one of an engine with static lengths, 0 for an image. ``measured_ms`` is the p50
    of this very artifact at this length in the user's measurements, which is no estimate.
    ``instructions`` of it were counted on an emulated board, None if they were not, and take
    ``floor_ms`` at the very least.
    """

    engine: str
    precision: str
    seq_len: int
    graph: str = MAIN
    bytes: int | None = None
    macs: int | None = None
    estimate: Estimate | None = None
    measured_ms: float | None = None
    instructions: int | None = None
    floor_ms: float | None = None
    reason: str = ""

    @property
    def name(self) -> str:
        """What it is called in a table."""
        return shown(self.graph, self.engine, self.precision)


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimates:
    """What ``estimate_latency`` found. ``notes`` are what it left out of the measurements."""

    source: str
    target: str
    device: str
    threads: int
    rows: tuple[Estimated, ...]
    notes: tuple[str, ...] = ()

    @property
    def told_apart(self) -> tuple[tuple[str, str], ...]:
        """Pairs (faster, slower) whose ranges do not overlap; of all others that is not known."""
        rows = [(r.name, r.graph, r.estimate) for r in self.rows if r.estimate]
        return tuple(
            (a, b)
            for a, graph, first in rows
            for b, other, second in rows
            if graph == other and first.high_ms < second.low_ms
        )

    def document(self) -> dict[str, Any]:
        """Return what ``estimate --json`` prints."""
        return {
            "kind": "estimate",
            "source": self.source,
            "target": self.target,
            "device": self.device,
            "threads": self.threads,
            "artifacts": [_document(row) for row in self.rows],
            "faster_beyond_error": [list(pair) for pair in self.told_apart],
            "notes": list(self.notes),
        }


def _document(row: Estimated) -> dict[str, Any]:
    told = asdict(replace(row, estimate=None))
    if row.estimate is not None:
        told["estimate"] = {
            "latency_ms": row.estimate.ms,
            "low_ms": row.estimate.low_ms,
            "high_ms": row.estimate.high_ms,
            "kind": row.estimate.kind,
            "calibrated_on": row.estimate.calibrated_on,
            "own_error": row.estimate.own_error,
            "error": asdict(row.estimate.error) | {"text": str(row.estimate.error)},
        }
    return told


def estimate_latency(
    source: str | Path | Bundle,
    target: str | Path | Target,
    *,
    engines: Sequence[str] = (),
    precisions: Sequence[str] = (),
    seq_len: int | None = None,
    threads: int | None = None,
    measurements: Sequence[str | Path] = (),
    bundles: Sequence[str | Path] = (),
) -> Estimates:
    """Estimate how long artifacts take on ``target``, without a board; each with its known error.

    ``source`` is a bundle, or an ``.onnx`` file, which then stands for what would be built of it.
    ``seq_len`` is by default the target's longest length that the model takes. ``measurements``
    are files that ``profile`` wrote on such a board, or folders of them; the bundles that they are
    of lie beside them, or are among ``bundles``. What is known of a board's own speed by them
    counts most. Of an emulated board's no time is taken: what was counted there (``counters``)
    tells how long the same artifact takes at the very least.

    Raises InputError for a wrong option, file or measurement and for a device without a known
    peak, BundleError for a damaged bundle, MissingDependencyError without onnxruntime.
    """
    aim = target if isinstance(target, Target) else load_target(target)
    machine(aim.device, "fp32", 1)  # raises if nothing can be estimated there
    used = threads or aim.threads
    if used > aim.device.core_count:
        raise InputError(
            f"{used} threads, but {aim.device.name} has {aim.device.core_count} cores",
            where=aim.name,
        )
    given = None if _is_onnx(source) else opened_bundle(source)
    known, notes = read_runs(
        [Path(m) for m in measurements], aim, used, [*bundles, *([given] if given else [])]
    )
    made = (
        _of_file(Path(str(source)), aim, seq_len)
        if given is None
        else _of_bundle(given, aim, seq_len)
    )
    rows = []
    for row, networks in made:
        if (engines and row.engine not in engines) or (
            precisions and row.precision not in precisions
        ):
            continue
        rows.append(_estimated(row, networks, aim, used, known, given))
    if not rows:
        raise InputError(
            "has no such artifact",
            where=str(given.path if given else source),
            hint=f"There are: {', '.join(row.name for row, _ in made)}.",
        )
    return Estimates(
        source=str(given.path if given else source),
        target=aim.name,
        device=aim.device.name,
        threads=used,
        rows=tuple(rows),
        notes=tuple(notes),
    )


def _is_onnx(source: str | Path | Bundle) -> bool:
    return not isinstance(source, Bundle) and str(source).lower().endswith(".onnx")


def _estimated(
    row: Estimated,
    networks: Networks | BundleError,
    target: Target,
    threads: int,
    known: Sequence[KnownRun],
    bundle: Bundle | None,
) -> Estimated:
    """Return ``row`` with its estimate, or with the reason why there is none."""
    if row.reason:
        return row
    alike = []
    for k in known:
        if (k.run.engine, k.run.precision) != (row.engine, row.precision):
            continue
        this = bundle is not None and k.digest == bundle.manifest.digest
        same = this and (k.run.seq_len, k.run.graph) == (row.seq_len, row.graph)
        if same and k.measured:
            row = replace(row, measured_ms=median(k.run.wall_ns) / 1e6)
        elif same and k.run.counters:
            row = replace(row, instructions=k.run.counters.per_inference)
        elif k.measured:
            alike.append(k.measured)
    if row.measured_ms is not None:
        return row
    if isinstance(networks, BundleError):
        return replace(row, reason=networks.message)
    if row.precision not in BYTES:
        return replace(row, reason=f"{row.precision} was never measured, so its error is not known")
    network = networks(row.seq_len)
    on = machine(target.device, row.precision, threads)
    found = prediction.estimate(network, on, row.engine, alike)
    if isinstance(found, NoEstimate):
        return replace(row, macs=network.macs, reason=found.reason)
    if row.instructions is not None and on.instructions_per_s is not None:
        floor_ms = 1e3 * row.instructions / on.instructions_per_s
        row = replace(row, floor_ms=floor_ms)
        found = found.above(floor_ms)
    return replace(row, macs=network.macs, estimate=found)


def _of_file(path: Path, target: Target, seq_len: int | None) -> list[tuple[Estimated, Networks]]:
    """Return what ``target`` would build of an ``.onnx`` file."""
    if not path.is_file():
        raise InputError("is no file", where=str(path))
    free = has_free_size(path)
    if seq_len is not None and not free:
        raise InputError(
            f"has no length that is free, and was asked for {seq_len} tokens",
            where=str(path),
            hint="Leave --seq-len out.",
        )
    length = (seq_len or target.seq_lens[-1]) if free else NO_LENGTH
    found: dict[int, Network] = {}

    def networks(seq_len: int) -> Network:
        if seq_len not in found:
            with progress.step(f"Counting {path.name}"):
                found[seq_len] = count(path, None, seq_len, path.stem)
        return found[seq_len]

    networks(length)  # that a file is none is told at once
    return [
        (Estimated(engine=spec.engine, precision=precision, seq_len=length), networks)
        for spec in target.engines
        for precision in spec.precisions
    ]


def _of_bundle(
    bundle: Bundle, target: Target, seq_len: int | None
) -> list[tuple[Estimated, Networks | BundleError]]:
    """Return the artifacts of a bundle, with what counts their network."""
    found: list[tuple[Estimated, Networks | BundleError]] = []
    for graph, part in bundle.parts().items():
        most = part.manifest.max_seq_len
        length = NO_LENGTH
        if most == NO_LENGTH and seq_len is not None and not bundle.manifest.is_dual:
            raise InputError(
                f"takes images, and was asked for {seq_len} tokens",
                where=str(bundle.path),
                hint="Leave --seq-len out.",
            )
        if most != NO_LENGTH:
            length = min(target.seq_lens[-1], most) if seq_len is None else seq_len
            if length > most:
                raise InputError(
                    f"takes at most {most} tokens, asked for {length}", where=str(bundle.path)
                )
        networks = networks_of(part)
        for entry in part.manifest.artifacts:
            lengths = entry.artifact.main.seq_lens
            runs = next((n for n in lengths if n >= length), None) if lengths else length
            found.append(
                (
                    Estimated(
                        engine=entry.engine,
                        precision=entry.precision,
                        graph=graph,
                        bytes=entry.bytes,
                        seq_len=length if runs is None else runs,
                        reason="" if runs is not None else f"takes at most {lengths[-1]} tokens",
                    ),
                    networks,
                )
            )
    return found
