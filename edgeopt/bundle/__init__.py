# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The bundle: a directory with artifacts, tokenizer, golden inputs and outputs, and a manifest."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgeopt.backends import Artifact
from edgeopt.bundle.manifest import ArtifactEntry, Manifest, load


@dataclass(frozen=True, kw_only=True, slots=True)
class Bundle:
    """A bundle on this machine."""

    path: Path
    manifest: Manifest

    def artifact(self, entry: ArtifactEntry) -> Artifact:
        """Return what a backend needs to open one of the bundle's artifacts."""
        return Artifact(
            engine=entry.engine,
            precision=entry.precision,
            files=entry.files,
            signature=entry.signature,
            seq_lens=entry.seq_lens,
            route=entry.route,
            options=entry.options,
            tools=entry.tools,
            limits=self.manifest.limits,
        )


def open_bundle(path: Path | str) -> Bundle:
    """Open the bundle at ``path``, reading only its manifest; ``verify`` checks the rest.

    Raises BundleError where it is not a bundle or its manifest was changed.
    """
    path = Path(path)
    return Bundle(path=path, manifest=load(path))
