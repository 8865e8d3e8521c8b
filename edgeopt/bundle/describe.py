# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What a manifest says of a model and its target, whatever artifacts are made of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgeopt._version import __version__
from edgeopt.backends import Artifact
from edgeopt.bundle.manifest import ArtifactEntry, Manifest, TargetEntry
from edgeopt.fidelity import Fidelity
from edgeopt.model import Model, reference
from edgeopt.model.limits import limits
from edgeopt.model.tokenizer import has_token_types
from edgeopt.target import Target


def describe(model: Model, target: Target, artifacts: Sequence[ArtifactEntry]) -> Manifest:
    """Return the manifest of a bundle of ``artifacts``; what else is in it is left empty."""
    return Manifest(
        name=model.name,
        digest="",
        inputs="",
        task=model.task,
        labels=model.labels,
        activation=model.activation,
        pooling=model.pooling,
        prompt=model.prompt,
        max_seq_len=model.max_seq_len,
        pad_id=model.pad_id,
        token_types=has_token_types(model.tokenizer) if model.tokenizer else False,
        signature=model.signature,
        limits=limits(model),
        tokenizer=tuple(tokenizer_files(model)),
        target=TargetEntry(
            name=target.name,
            device=target.device.id,
            arch=target.device.arch,
            libc=target.device.os.libc,
            libc_version=target.device.os.libc_version,
            threads=target.threads,
            cpus=target.cpus,
            warmup=target.warmup,
            runs=target.runs,
        ),
        recipe={},
        reference=reference.name(model),
        origin=dict(model.origin),
        tools={"edgeopt": __version__},
        artifacts=tuple(artifacts),
        skipped=(),
        golden=(),
        image=model.image,
        files={},
    )


def tokenizer_files(model: Model) -> dict[str, Path]:
    """Return where the tokenizer's files lie, by their names in a bundle."""
    found = sorted(model.tokenizer.iterdir()) if model.tokenizer else []
    return {f"tokenizer/{path.name}": path for path in found}


def artifact_entry(
    artifact: Artifact, directory: Path, engine_version: str, fidelity: Fidelity, bound: float
) -> ArtifactEntry:
    """Return the entry of an artifact whose files are in ``directory``."""
    return ArtifactEntry(
        engine=artifact.engine,
        engine_version=engine_version,
        precision=artifact.precision,
        files=tuple(prefix(artifact) + name for name in artifact.files),
        bytes=sum((directory / name).stat().st_size for name in artifact.files),
        signature=artifact.signature,
        seq_lens=artifact.seq_lens,
        route=artifact.route,
        options=artifact.options,
        tools=artifact.tools,
        cosine_min=fidelity.cosine_min,
        cosine_mean=fidelity.cosine_mean,
        max_abs_error=fidelity.max_abs_error,
        same_top1=fidelity.same_top1,
        calls=fidelity.calls,
        bound=bound,
    )


def prefix(artifact: Artifact | ArtifactEntry) -> str:
    """Return the folder of an artifact in a bundle, with its slash."""
    return f"artifacts/{artifact.engine}-{artifact.precision}/"
