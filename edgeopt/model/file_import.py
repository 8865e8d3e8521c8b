# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Import a ``.tflite`` file, a SavedModel or a Keras file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from edgeopt import cache
from edgeopt.errors import InputError
from edgeopt.model import Model, image, tensorflow_file, tflite_file, tokenizer
from edgeopt.model.network_call import (
    KERAS,
    SAVED_MODEL,
    TFLITE,
    FileSource,
    NetworkFile,
)
from edgeopt.model.network_file import Opened, import_network
from edgeopt.model.onnx_call import Feed
from edgeopt.model.onnx_outputs import Chosen


def import_tflite(path: Path, prompt: str | None = None) -> Model:
    """Return the Model of a ``.tflite`` file, which ships as it is for the engine TFLite.

    Its inputs and outputs are those of a text or image task, in float32, int32 or int64, or in int8
    or uint8 with one scale. Raises InputError if the file is damaged, has operators or dtypes that
    the engine on a device does not have, or is not such a network.
    """
    content = tflite_file.read(path)
    functions = tflite_file.functions(content, str(path))
    opened = Opened(
        path=path,
        home=path,
        kind=TFLITE,
        network=tflite_file.TfliteNetwork(path, functions),
        files={path.name: cache.file_sha256(path)},
        source=_source(TFLITE, path, precision=content.precision),
        exact=True,
    )
    return import_network(opened, prompt)


def import_tensorflow(path: Path, prompt: str | None = None, signature: str = "") -> Model:
    """Return the Model of a SavedModel's folder, or of a ``.keras`` or ``.h5`` file.

    ``signature`` names the one of a SavedModel that is taken, "" its default. Raises InputError
    for what TensorFlow does not load, for code in the file, and for other networks than those of
    texts and images; MissingDependencyError without TensorFlow.
    """
    kind = SAVED_MODEL if path.is_dir() else KERAS
    if signature and kind == KERAS:
        raise InputError(
            f"has no signature {signature!r}: a Keras file has one function", where=str(path)
        )
    network = tensorflow_file.open_file(path, kind, signature)
    opened = Opened(
        path=path,
        home=home_of(path),
        kind=kind,
        network=network,
        files=files(path),
        source=_source(kind, path, signature=network.signature),
        tools={"tensorflow": tensorflow_file.tensorflow().__version__},
    )
    return import_network(opened, prompt)


_SETTINGS = ("config.json", "modules.json", image.FILE, "tokenizer_config.json",
             *tokenizer.VOCABULARIES)  # fmt: skip


def home_of(path: Path) -> Path:
    """Return the file beside which the settings of ``path`` are looked for.

    Those of a SavedModel stand in its folder, or if none does, beside the folder.
    """
    if not path.is_dir():
        return path
    places = (path, path.parent)
    folder = next((p for p in places if any((p / n).is_file() for n in _SETTINGS)), path)
    return folder / tensorflow_file.GRAPH


def files(path: Path) -> dict[str, str]:
    """Return the SHA-256 of a file, or of the files of a SavedModel, by name."""
    if path.is_file():
        return {path.name: cache.file_sha256(path)}
    parts = [path / tensorflow_file.GRAPH]
    for name in ("variables", "assets"):
        parts += sorted(p for p in (path / name).rglob("*") if p.is_file())
    return {os.path.relpath(p, path): cache.file_sha256(p) for p in parts}


def _source(
    kind: str, path: Path, *, signature: str = "", precision: str = "fp32"
) -> Callable[[tuple[Feed, ...], Chosen], FileSource]:
    """Return what makes the graph's source, once inputs and outputs are chosen."""

    def source(feeds: tuple[Feed, ...], chosen: Chosen) -> FileSource:
        return FileSource(
            given=NetworkFile(
                kind=kind,
                path=path,
                feeds=feeds,
                outputs=chosen.given,
                signature=signature,
                precision=precision,
                column=chosen.column,
            )
        )

    return source
