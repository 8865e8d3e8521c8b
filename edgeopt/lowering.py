# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Lower a model for one engine and check the artifact on samples, both cached by content."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeopt import backends, cache, closure, fidelity, progress
from edgeopt.backends import Artifact, Batch, Outputs, backend, run_on_host
from edgeopt.fidelity import Fidelity
from edgeopt.model import Model, reference, samples
from edgeopt.model.first_token import narrowed
from edgeopt.model.samples import Samples
from edgeopt.model.signature import NO_LENGTH, Signature, TensorSpec
from edgeopt.quantize import PLAIN, Quantize
from edgeopt.target import EngineSpec, Target

FIDELITY_SAMPLES = 32
"""Texts or images that every artifact is checked on, at each length; calibration uses others."""

REFERENCE = (__name__, "edgeopt.model.importer", "edgeopt.model.torch_module")
"""The modules that the reference's answers depend on: those that make the network count too."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """The calls of the check with the reference's answers, by length; ``NO_LENGTH`` for images."""

    checks: Mapping[int, Sequence[Batch]]
    answers: Mapping[int, Sequence[Outputs]]
    calibration: Sequence[Batch]
    digest: str


def prepare(model: Model, seq_lens: Sequence[int], given: Samples) -> Prepared:
    """Make calls of the samples and run the reference on those of the check (cached by content).

    ``seq_lens`` is () for images.
    """
    count = min(FIDELITY_SAMPLES, len(given))
    lengths = tuple(seq_lens) or (NO_LENGTH,)
    checks = {n: samples.calls(model, given[:count], n) for n in lengths}
    calibrating = samples.calibrating(model, given[count:] or given)
    calibration = samples.calls(model, calibrating, lengths[-1])
    digest = samples.digest(given)
    names = [spec.name for spec in model.signature.outputs]

    what = samples.name(model)

    def run_reference(directory: Path) -> None:
        with progress.step(f"Running the reference ({reference.name(model)}) on {count} {what}"):
            for n, batches in checks.items():
                for i, outputs in enumerate(reference.run(model, batches)):
                    np.savez(directory / f"{n}-{i}.npz", **outputs)  # type: ignore[arg-type]

    key = cache.key(
        model=model.digest, texts=digest, seq_lens=list(lengths), code=closure.code(*REFERENCE)
    )
    directory = cache.entry("reference", key, run_reference)
    answers: dict[int, list[Outputs]] = {}
    for n in lengths:
        answers[n] = []
        for i in range(count):
            with np.load(directory / f"{n}-{i}.npz") as arrays:
                answers[n].append({name: arrays[name] for name in names})
    return Prepared(checks=checks, answers=answers, calibration=calibration, digest=digest)


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
                narrowed(model),
                target,
                spec,
                precision,
                prepared.calibration,
                files,
                **options,
            )
        with progress.step(f"Checking {spec.engine} {precision} against the reference"):
            found = _check(artifact, files, prepared)
        record = {"artifact": asdict(artifact), "fidelity": asdict(found)}
        (directory / "artifact.json").write_text(json.dumps(record))

    key = cache.key(
        model=model.digest,
        texts=prepared.digest,
        calibration=len(prepared.calibration),
        seq_lens=list(prepared.checks),
        engine=asdict(spec) | {"precisions": None, "why": None},
        precision=precision,
        quantize=quantize.options(),
        device=[target.device.arch, target.device.os.libc, list(target.device.isa)],
        code=closure.code(*REFERENCE),
        backend=backends.code(spec.engine),
    )
    directory = cache.entry("artifact", key, build)
    record = json.loads((directory / "artifact.json").read_text())
    return Lowered(
        artifact=_artifact(record["artifact"]),
        fidelity=Fidelity(**record["fidelity"]),
        directory=directory / "files",
    )


def _artifact(record: dict[str, Any]) -> Artifact:
    def specs(side: str) -> tuple[TensorSpec, ...]:
        items = record["signature"][side]
        return tuple(TensorSpec(**item | {"dims": tuple(item["dims"])}) for item in items)

    lists = {name: tuple(record[name]) for name in ("files", "seq_lens")}
    signature = Signature(inputs=specs("inputs"), outputs=specs("outputs"))
    return Artifact(**record | lists | {"signature": signature})


def _check(artifact: Artifact, directory: Path, prepared: Prepared) -> Fidelity:
    lengths = [n for n in prepared.checks if not artifact.seq_lens or n in artifact.seq_lens]
    batches = [batch for n in lengths for batch in prepared.checks[n]]
    return fidelity.summarise(
        run_on_host(artifact, directory, batches),
        [answer for n in lengths for answer in prepared.answers[n]],
        [batch.get("attention_mask") for batch in batches],
    )
