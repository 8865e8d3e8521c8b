# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Choose the importer by what the source is."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from edgeopt import cache, progress
from edgeopt.errors import InputError
from edgeopt.model import Model


def import_model(source: str | Path, prompt: str | None = None) -> Model:
    """Return the Model of a checkpoint directory, an ``.onnx`` file or a hub name.

    ``prompt`` names one of a checkpoint's prompts, in the place of its default.
    Raises InputError if there is no such model, and what the importers raise.
    """
    with _reading(source):
        return _import(source, prompt)


@contextlib.contextmanager
def _reading(source: str | Path) -> Iterator[None]:
    """Turn what the system says of a file that cannot be read into an InputError."""
    try:
        yield
    except OSError as exc:
        where = exc.filename if isinstance(exc.filename, str) else source
        raise InputError(
            f"cannot be read ({exc.strerror or exc})",
            where=str(where),
            hint="A file of the model is damaged, or no file that can be read: copy it again.",
        ) from exc


def _import(source: str | Path, prompt: str | None) -> Model:
    from edgeopt.model.huggingface import import_huggingface
    from edgeopt.model.onnx_file import import_onnx

    path = Path(source)
    if prompt is not None and path.is_file():
        raise InputError("only checkpoints have prompts", where=str(path))
    if path.suffix.lower() == ".onnx" and not path.is_dir():
        return import_onnx(path)
    if path.is_file():
        raise InputError(
            "expected a checkpoint directory or an .onnx file",
            where=str(path),
            hint="A PyTorch module is imported with edgeopt.import_torch().",
        )
    if path.is_dir() and (graph := onnx_of(path)) is not None:
        if _has_config(path):
            progress.note(f"{source} has no weights but {graph.relative_to(path)}")
        else:
            progress.note(f"{source} has no config.json: {graph} is imported")
        return import_onnx(graph, prompt=prompt)
    return import_huggingface(source, prompt)


def onnx_of(folder: Path) -> Path | None:
    """Return the .onnx file that is imported of a folder, None if that is a checkpoint.

    Raises InputError for a folder with neither, and if it is not plain which file is meant.
    """
    graphs = _graphs(folder)
    if not _has_config(folder):
        if len(graphs) == 1:
            return graphs[0]
        hint = "Give the directory that model.save_pretrained() wrote, or an .onnx file."
        if graphs:
            hint = f"Give the file itself: {graphs[0]}"
        raise InputError("has no config.json", where=str(folder), hint=hint)
    if not graphs or _has_weights(folder):
        return None
    if len(graphs) > 1:
        raise InputError(
            f"has {len(graphs)} .onnx files and no other weights",
            where=str(folder),
            hint="Give the one that is in FP32: " + ", ".join(map(str, graphs)),
        )
    return graphs[0]


def _has_config(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("config.json", "modules.json"))


def _graphs(folder: Path) -> list[Path]:
    """Return the .onnx files of a folder: model.onnx alone if there is one."""
    kind = "*.[oO][nN][nN][xX]"
    found = [*sorted(folder.glob(kind)), *sorted(folder.glob(f"onnx/{kind}"))]
    return [p for p in found if p.name == "model.onnx"][:1] or found


def _has_weights(folder: Path) -> bool:
    return any(p for kind in ("*.safetensors*", "*.bin*") for p in folder.rglob(kind))


def fingerprint(source: str | Path) -> str | None:
    """Return a hash of all the files of ``source``, without importing it; None for a hub name.

    Those of an ``.onnx`` file are what stands beside it, or a folder up, and is read with it. A
    folder's are all that lie in it, and what its ``.onnx`` file is read with.
    """
    with _reading(source):
        return _fingerprint(Path(source))


def _fingerprint(path: Path) -> str | None:
    from edgeopt.model import onnx_file

    if path.is_file() and path.suffix.lower() == ".onnx":
        return _hash(path.parent, [path, *onnx_file.beside(path)])
    if path.is_file():
        return cache.file_sha256(path)
    if not path.is_dir():
        return None
    files = {p for p in path.rglob("*") if p.is_file()}
    with contextlib.suppress(InputError):  # which the import raises
        graph = onnx_of(path)
        files |= set(() if graph is None else onnx_file.settings(graph))
    return _hash(path, files)


def _hash(folder: Path, files: Iterable[Path]) -> str:
    return cache.key(files={os.path.relpath(p, folder): cache.file_sha256(p) for p in files})
