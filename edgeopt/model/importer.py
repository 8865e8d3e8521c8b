"""Choose the importer by what the source is."""

from __future__ import annotations

from pathlib import Path

from edgeopt import cache
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
    if path.suffix == ".onnx":
        return import_onnx(path)
    if path.is_file():
        raise InputError(
            "expected a checkpoint directory or an .onnx file",
            where=str(path),
            hint="A PyTorch module is imported with edgeopt.import_torch().",
        )
    if path.is_dir() and not any((path / n).is_file() for n in ("config.json", "modules.json")):
        graphs = sorted(path.glob("*.onnx"))
        hint = "Give the directory that model.save_pretrained() wrote, or an .onnx file."
        if graphs:
            hint = f"Give the file itself: {graphs[0]}"
        raise InputError("has no config.json", where=str(path), hint=hint)
    return import_huggingface(source, prompt)


def fingerprint(source: str | Path) -> str | None:
    """Return a hash of all the files of ``source``, without importing it; None for a hub name."""
    path = Path(source)
    if path.is_file():
        return cache.file_sha256(path)
    if not path.is_dir():
        return None
    files = sorted(p for p in path.rglob("*") if p.is_file())
    return cache.key(files={str(p.relative_to(path)): cache.file_sha256(p) for p in files})
