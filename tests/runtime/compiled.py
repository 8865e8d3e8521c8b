# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""A tiny checkpoint, lowered for this host by a backend, and how to run the agent on it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from edgeopt.backends import backend
from edgeopt.bundle import golden
from edgeopt.model import reference, texts
from edgeopt.model.importer import import_model
from edgeopt.target import load_target
from tests import checkpoints

TARGET = replace(load_target("host"), seq_lens=(8, 16))
ARCHITECTURES = ("BertForSequenceClassification", "DistilBertForQuestionAnswering")


@dataclass(frozen=True)
class Compiled:
    """An artifact, its outputs, its golden directories by length, and the options that it needs."""

    engine: str
    model: Path
    outputs: tuple[str, ...]
    golden: dict[int, Path]
    options: dict[str, str]
    files: tuple[Path, ...]
    dtypes: dict[str, str]
    """Of the artifact's inputs and outputs; a golden call's are the model's."""


def lower(
    engine: str, architecture: str, folder: Path, precision: str = "fp32", version: str = ""
) -> Compiled:
    """Lower a checkpoint of ``architecture`` and write its golden calls.

    ``version`` is that of the engine that it is for, by default the target's.

    They are the reference's in FP32, and what the engine itself computes in Python in other
    precisions.
    """
    model = import_model(checkpoints.write(folder / "checkpoint", architecture))
    (spec,) = (spec for spec in TARGET.engines if spec.engine == engine)
    spec = replace(spec, version=version or spec.version)
    files = folder / "files"
    files.mkdir()
    artifact = backend(engine).lower(model, TARGET, spec, precision, (), files)
    calls = {}
    for seq_len in TARGET.seq_lens:
        (batch,) = texts.tokenize(model, ["a tool for text and data"], seq_len)
        calls[seq_len] = folder / f"golden{seq_len}"
        outputs = (
            reference.run(model, [batch])[0]
            if precision == "fp32"
            else backend(engine).open_on_host(artifact, files, 1).run(batch)
        )
        golden.write(calls[seq_len], batch, outputs)
    return Compiled(
        engine=engine,
        model=files / artifact.files[0],
        outputs=tuple(t.name for t in artifact.main.signature.outputs),
        golden=calls,
        options=dict(artifact.options),
        files=tuple(files / name for name in artifact.files),
        dtypes={
            t.name: t.dtype
            for t in (*artifact.main.signature.inputs, *artifact.main.signature.outputs)
        },
    )
