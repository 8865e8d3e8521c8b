# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What a manifest says of a model and its target, whatever artifacts are made of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from edgeopt._version import __version__
from edgeopt.backends import Artifact
from edgeopt.backends.decoders import DECODERS
from edgeopt.bundle.manifest import (
    ArtifactEntry,
    AudioEntry,
    Generation,
    GraphEntry,
    Manifest,
    TargetEntry,
    TextEntry,
)
from edgeopt.evaluate.fidelity import Fidelity
from edgeopt.model import MAIN, AudioInput, Model, reference
from edgeopt.model.dual_encoder import IMAGE, DualEncoder
from edgeopt.model.image import ImageInput
from edgeopt.model.limits import limits
from edgeopt.model.signature import Signature
from edgeopt.model.tokenizer import has_token_types
from edgeopt.target import Target


def describe(model: Model, target: Target, artifacts: Sequence[ArtifactEntry]) -> Manifest:
    """Return the manifest of a bundle of ``artifacts``; what else is in it is left empty."""
    return Manifest(
        name=model.name,
        digest="",
        inputs="",
        task=model.task,
        input=_input(model),
        graphs={MAIN: GraphEntry(signature=_limited(model), states=model.main.states)},
        labels=model.labels,
        activation=model.activation,
        pooling=model.pooling,
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
            memory_mib=target.budget.get("memory_mib"),
        ),
        recipe={},
        reference=reference.name(model),
        origin=dict(model.origin),
        tools={"edgeopt": __version__},
        artifacts=tuple(artifacts),
        skipped=(),
        golden=(),
        files={},
    )


def describe_generator(
    model: Model, target: Target, artifacts: Sequence[ArtifactEntry]
) -> Manifest:
    """Return the manifest of a bundle that generates text, as ``describe`` does of others'."""
    states = model.main.states
    engines = dict.fromkeys(entry.engine for entry in artifacts)
    made = {engine: DECODERS[engine] for engine in engines}
    apart = replace(model, graphs={MAIN: replace(model.main, states=())})
    return replace(
        describe(apart, target, artifacts),
        generation=Generation(
            states=states,
            stops=model.stops,
            since={engine: decoder.since(model) for engine, decoder in made.items()},
            held=tuple(engine for engine, decoder in made.items() if decoder.HELD),
            start=model.forced.start,
            first=model.forced.first,
            last=model.forced.last,
            never=model.forced.never,
            never_first=model.forced.never_first,
            speech=model.forced.speech,
            search=model.search,
        ),
    )


def describe_dual(
    model: DualEncoder, target: Target, artifacts: Sequence[ArtifactEntry]
) -> Manifest:
    """Return the manifest of a dual encoder's bundle, as ``describe`` does of a model's.

    ``artifacts`` are of its graphs already (``of_graph``).
    """
    towers = {name: describe(tower, target, ()) for name, tower in model.towers.items()}
    image = towers[IMAGE]
    return replace(
        image,
        name=model.name,
        task=model.task,
        graphs={
            name: replace(found.main, task=found.task, input=None if name == IMAGE else found.input)
            for name, found in towers.items()
        },
        activation=model.activation,
        origin=dict(model.origin),
        artifacts=tuple(artifacts),
        similarity=model.similarity,
    )


def of_graph(entry: ArtifactEntry, name: str) -> ArtifactEntry:
    """Return the entry of a model of one graph as that of a dual encoder's graph ``name``.

    Its files lie in a folder of the graph's name.
    """
    before = prefix(entry.artifact)
    graph = entry.artifact.main
    files = tuple(prefix(entry.artifact, name) + n.removeprefix(before) for n in graph.files)
    graphs = {name: replace(graph, files=files)}
    return replace(entry, artifact=replace(entry.artifact, graphs=graphs))


def _input(model: Model) -> TextEntry | ImageInput | AudioEntry:
    given = model.input
    if isinstance(given, AudioInput):
        return AudioEntry(mel=given.mel, text=_text(model))
    return given if isinstance(given, ImageInput) else _text(model)


def _text(model: Model) -> TextEntry:
    text = model.text
    return TextEntry(
        max_seq_len=text.max_seq_len,
        pad_id=text.pad_id,
        token_types=has_token_types(text.tokenizer) if text.tokenizer else False,
        tokenizer=tuple(tokenizer_files(model)),
        prompt=text.prompt,
    )


def _limited(model: Model) -> Signature:
    known = limits(model)
    signature = model.main.signature
    inputs = (replace(spec, limit=known.get(spec.name)) for spec in signature.inputs)
    return replace(signature, inputs=tuple(inputs))


def tokenizer_files(model: Model) -> dict[str, Path]:
    """Return where the tokenizer's files lie, by their names in a bundle."""
    folder = None if isinstance(model.input, ImageInput) else model.text.tokenizer
    found = sorted(folder.iterdir()) if folder else []
    return {f"tokenizer/{path.name}": path for path in found}


def artifact_entry(
    artifact: Artifact, directory: Path, engine_version: str, fidelity: Fidelity, bound: float
) -> ArtifactEntry:
    """Return the entry of an artifact whose files are in ``directory``."""
    graphs = {
        name: replace(graph, files=tuple(prefix(artifact) + file for file in graph.files))
        for name, graph in artifact.graphs.items()
    }
    return ArtifactEntry(
        artifact=replace(artifact, graphs=graphs),
        engine_version=engine_version,
        bytes=sum((directory / name).stat().st_size for name in artifact.files),
        fidelity=fidelity,
        bound=bound,
    )


def prefix(artifact: Artifact, graph: str = MAIN) -> str:
    """Return the folder of an artifact in a bundle, with its slash."""
    within = "" if graph == MAIN else f"{graph}/"
    return f"artifacts/{within}{artifact.engine}-{artifact.precision}/"
