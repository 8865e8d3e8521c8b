# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Lower a model for one engine and check the artifact on samples, both cached by content."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from edgeopt import backends, cache, closure, progress, values
from edgeopt.backends import Artifact, Batch, Outputs, backend, run_on_host
from edgeopt.evaluate import fidelity
from edgeopt.evaluate.fidelity import Fidelity
from edgeopt.fields import Table
from edgeopt.model import Model, TorchSource, reference, samples
from edgeopt.model.network.first_token import narrowed
from edgeopt.model.samples import Samples
from edgeopt.model.signature import NO_LENGTH
from edgeopt.quantize import PLAIN, Quantize
from edgeopt.target import EngineSpec, Target

FIDELITY_SAMPLES = 32
"""Texts or images that every artifact is checked on, at each length; calibration uses others."""
RUNG_SAMPLES = 4
"""Texts that an artifact of many lengths is checked on at each of those between."""

_RECORD = "artifact.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """The calls of the check with the reference's answers, by length; ``NO_LENGTH`` for images.

    ``rungs`` are the lengths of a ladder beside those, each with fewer calls, in ``checks`` too.
    """

    checks: Mapping[int, Sequence[Batch]]
    answers: Mapping[int, Sequence[Outputs]]
    calibration: Sequence[Batch]
    digest: str
    rungs: tuple[int, ...] = ()

    @property
    def lengths(self) -> tuple[int, ...]:
        """The lengths that every engine is checked at."""
        return tuple(n for n in self.checks if n not in self.rungs)


def prepare(
    model: Model, seq_lens: Sequence[int], given: Samples, ladder: Sequence[int] = ()
) -> Prepared:
    """Make calls of the samples and run the reference on those of the check (cached by content).

    ``seq_lens`` is () for images. What is in ``ladder`` beside them is for engines of static
    lengths: RUNG_SAMPLES texts each, which are about as long.
    """
    count = min(FIDELITY_SAMPLES, len(given))
    lengths = tuple(seq_lens) or (NO_LENGTH,)
    rungs = tuple(n for n in ladder if n not in lengths)
    checks = {n: samples.calls(model, given[:count], n) for n in lengths}
    checks |= {
        n: samples.calls(model, samples.about(model, given[:count], n)[:RUNG_SAMPLES], n)
        for n in rungs
    }
    calibrating = samples.calibrating(model, given[count:] or given)
    calibration = samples.calls(model, calibrating, lengths[-1])
    digest = samples.digest(given)
    names = [spec.name for spec in model.main.signature.outputs]

    what = samples.name(model)

    def run_reference(directory: Path) -> None:
        with progress.step(f"Running the reference ({reference.name(model)}) on {count} {what}"):
            for n, batches in checks.items():
                for i, outputs in enumerate(reference.run(model, batches)):
                    np.savez(directory / f"{n}-{i}.npz", **outputs)  # type: ignore[arg-type]

    key = cache.key(
        model=model.digest,
        texts=digest,
        seq_lens=list(lengths),
        rungs=list(rungs),
        code=closure.code(__name__, *reference.CODE),
    )
    directory = cache.entry("reference", key, run_reference)
    answers: dict[int, list[Outputs]] = {}
    for n, calls in checks.items():
        answers[n] = []
        for i in range(len(calls)):
            with np.load(directory / f"{n}-{i}.npz") as arrays:
                answers[n].append({name: arrays[name] for name in names})
    return Prepared(
        checks=checks, answers=answers, calibration=calibration, digest=digest, rungs=rungs
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Record:
    """What the cache keeps of an artifact beside its files."""

    artifact: Artifact
    fidelity: Fidelity


@dataclass(frozen=True, kw_only=True, slots=True)
class Lowered:
    """An artifact, how near it is to the reference on this host, and where its files lie."""

    artifact: Artifact
    fidelity: Fidelity
    directory: Path


def lower(
    model: Model,
    target: Target,
    spec: EngineSpec,
    precision: str,
    prepared: Prepared,
    quantize: Quantize = PLAIN,
) -> Lowered:
    """Lower for one engine and precision and check on this host, or take both from the cache.

    Raises what the backend raises: CompileError, MissingDependencyError.
    """
    engine = backend(spec.engine)
    # A backend without options of quantisation does all that a plain recipe asks for.
    options = {} if quantize.is_plain else {"quantize": quantize}

    def build(directory: Path) -> None:
        files = directory / "files"
        files.mkdir()
        with progress.step(f"Lowering to {spec.engine} {precision}"):
            artifact = engine.lower(
                as_lowered(model),
                target,
                spec,
                precision,
                prepared.calibration,
                files,
                **options,
            )
        with progress.step(f"Checking {spec.engine} {precision} against the reference"):
            found = _check(artifact, files, prepared)
        record = values.write(_Record(artifact=artifact, fidelity=found))
        (directory / _RECORD).write_text(json.dumps(record))

    key = _key(model, target, spec, precision, prepared, quantize)
    directory = cache.entry("artifact", key, build)
    path = directory / _RECORD
    record = values.read(_Record, Table(json.loads(path.read_text()), file=str(path)))
    return Lowered(
        artifact=record.artifact, fidelity=record.fidelity, directory=directory / "files"
    )


@contextlib.contextmanager
def ahead(
    model: Model, target: Target, pairs: Sequence[tuple[EngineSpec, str]], prepared: Prepared
) -> Iterator[None]:
    """Have engines begin with ``pairs``, by a plain recipe, while others are lowered in the block.

    What the cache has is not begun, nor the last that is left to do: nothing would run beside it.
    """
    missing: dict[str, tuple[EngineSpec, list[str]]] = {}
    for spec, precision in pairs:
        if not cache.has("artifact", _key(model, target, spec, precision, prepared, PLAIN)):
            missing.setdefault(spec.engine, (spec, []))[1].append(precision)
    with contextlib.ExitStack() as stack:
        if len(missing) > 1:
            known = as_lowered(model)
            for spec, precisions in missing.values():
                stack.enter_context(backends.ahead(known, target, spec, precisions))
        yield


def _key(
    model: Model,
    target: Target,
    spec: EngineSpec,
    precision: str,
    prepared: Prepared,
    quantize: Quantize,
) -> str:
    """Return the key that an artifact has in the cache."""
    return cache.key(
        model=model.digest,
        texts=prepared.digest,
        calibration=len(prepared.calibration),
        seq_lens=list(prepared.lengths),
        ladder=list(target.ladder),
        engine=asdict(spec) | {"precisions": None, "why": None},
        precision=precision,
        quantize=quantize.options(),
        device=[target.device.arch, target.device.os.libc, list(target.device.isa)],
        code=closure.code(__name__, *reference.CODE),
        backend=backends.code(spec.engine),
    )


def as_lowered(model: Model) -> Model:
    """Return what is lowered of ``model``, known by what it was made of."""
    found = narrowed(model)
    source = found.main.source
    if not isinstance(source, TorchSource):
        return found
    identity = cache.key(model=model.digest, code=closure.code(narrowed.__module__))
    return found.with_source(replace(source, identity=identity))


def _check(artifact: Artifact, directory: Path, prepared: Prepared) -> Fidelity:
    lengths = [n for n in artifact.main.seq_lens if n in prepared.checks] or prepared.lengths
    batches = [batch for n in lengths for batch in prepared.checks[n]]
    return fidelity.summarise(
        run_on_host(artifact, directory, batches),
        [answer for n in lengths for answer in prepared.answers[n]],
        [batch.get("attention_mask") for batch in batches],
    )
