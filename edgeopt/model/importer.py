"""Choose the importer by what the source is."""

from __future__ import annotations

import os
from pathlib import Path

from edgeopt import cache, progress
from edgeopt.errors import InputError
from edgeopt.model import Model


def import_model(source: str | Path, prompt: str | None = None) -> Model:
    """Return the Model of a checkpoint directory, an ``.onnx`` file or a hub name.

    ``prompt`` names one of a checkpoint's prompts, in the place of its default.
    Raises InputError where there is no such model, and what the importers raise.
    """
    from edgeopt.model.huggingface import import_huggingface
    from edgeopt.model.onnx_file import import_onnx

    path = Path(source)
    if prompt is not None and path.is_file():
        raise InputError("only checkpoints have prompts", where=str(path))
    if path.suffix == ".onnx" and not path.is_dir():
        return import_onnx(path)
    if path.is_file():
        raise InputError(
            "expected a checkpoint directory or an .onnx file",
            where=str(path),
            hint="A PyTorch module is imported with edgeopt.import_torch().",
        )
    if path.is_dir() and not any((path / n).is_file() for n in ("config.json", "modules.json")):
        graphs = _graphs(path)
        if len(graphs) == 1:
            progress.note(f"{source} has no config.json: {graphs[0]} is imported")
            return import_onnx(graphs[0], prompt=prompt)
        hint = "Give the directory that model.save_pretrained() wrote, or an .onnx file."
        if graphs:
            hint = f"Give the file itself: {graphs[0]}"
        raise InputError("has no config.json", where=str(path), hint=hint)
    if path.is_dir() and (graphs := _graphs(path)) and not _has_weights(path):
        if len(graphs) > 1:
            raise InputError(
                f"has {len(graphs)} .onnx files and no other weights",
                where=str(path),
                hint="Give the one that is in FP32: " + ", ".join(map(str, graphs)),
            )
        progress.note(f"{source} has no weights but {graphs[0].relative_to(path)}")
        return import_onnx(graphs[0], prompt=prompt)
    return import_huggingface(source, prompt)


def _graphs(folder: Path) -> list[Path]:
    """Return the .onnx files of a folder: model.onnx alone where there is one."""
    found = [*sorted(folder.glob("*.onnx")), *sorted(folder.glob("onnx/*.onnx"))]
    return [p for p in found if p.name == "model.onnx"][:1] or found


def _has_weights(folder: Path) -> bool:
    return any(p for kind in ("*.safetensors*", "*.bin*") for p in folder.rglob(kind))


def fingerprint(source: str | Path) -> str | None:
    """Return a hash of all the files of ``source``, without importing it; None for a hub name.

    Those of an ``.onnx`` file are what stands beside it, or a folder up, and is read with it.
    """
    path = Path(source)
    if path.is_file() and path.suffix == ".onnx":
        from edgeopt.model.onnx_file import beside

        files = [path, *beside(path)]
        return cache.key(
            files={os.path.relpath(p, path.parent): cache.file_sha256(p) for p in files}
        )
    if path.is_file():
        return cache.file_sha256(path)
    if not path.is_dir():
        return None
    files = sorted(p for p in path.rglob("*") if p.is_file())
    return cache.key(files={str(p.relative_to(path)): cache.file_sha256(p) for p in files})
