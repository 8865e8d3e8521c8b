# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The bundle: a directory with artifacts, tokenizer, golden inputs and outputs, and a manifest."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from edgeopt.backends import Artifact
from edgeopt.bundle.manifest import ArtifactEntry, Manifest, load
from edgeopt.model import MAIN


@dataclass(frozen=True, kw_only=True, slots=True)
class Bundle:
    """A bundle on this machine."""

    path: Path
    manifest: Manifest

    def of_graph(self, name: str) -> Bundle:
        """Return a dual encoder's graph ``name`` as a bundle of that one, at the same place.

        Raises BundleError if there is no such graph.
        """
        return replace(self, manifest=self.manifest.of_graph(name))

    def parts(self) -> dict[str, Bundle]:
        """Return what is run by itself, by graph: this bundle, or a dual encoder's two."""
        if not self.manifest.is_dual:
            return {MAIN: self}
        return {name: self.of_graph(name) for name in self.manifest.graphs}

    def artifact(self, entry: ArtifactEntry) -> Artifact:
        """Return an artifact of the bundle with the limits of the model's inputs.

        It is what a backend needs to open it. Raises BundleError for a bundle that this version
        does not run.
        """
        limits = [spec.limit for spec in self.manifest.main.signature.inputs]
        graph = entry.artifact.main
        inputs = tuple(
            replace(t, limit=limit) for t, limit in zip(graph.signature.inputs, limits, strict=True)
        )
        graph = replace(graph, signature=replace(graph.signature, inputs=inputs))
        return replace(entry.artifact, graphs={MAIN: graph})


def open_bundle(path: Path | str) -> Bundle:
    """Open the bundle at ``path``, reading only its manifest; ``verify`` checks the rest.

    Raises BundleError if it is not a bundle or its manifest was changed.
    """
    path = Path(path)
    return Bundle(path=path, manifest=load(path))
