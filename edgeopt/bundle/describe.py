"""What a manifest says of a model and its target, whatever artifacts are made of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgeopt import __version__
from edgeopt.bundle.manifest import ArtifactEntry, Manifest, TargetEntry
from edgeopt.model import Model, reference
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
