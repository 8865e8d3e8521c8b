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
from edgeopt.model import Model, name_of
from edgeopt.model.dual_encoder import DualEncoder

_KERAS = (".keras", ".h5", ".hdf5")
_FILES = (".onnx", ".tflite", ".pt2", *_KERAS)


def import_model(source: str | Path, prompt: str | None = None, signature: str = "") -> Model:
    """Return the Model of a checkpoint directory, a file or a hub name.

    Files are ``.onnx``, ``.tflite``, ``.keras`` and ``.h5``, an ExportedProgram (``.pt2``), or a
    state_dict with its config.json beside it; a directory may be a SavedModel.
    ``prompt`` names one of a checkpoint's prompts, in the place of its default, and ``signature``
    one of a SavedModel's.
    Raises InputError if there is no such model, and what the importers raise.
    """
    with _reading(source):
        return _import(source, prompt, signature)


def import_whole(
    source: str | Path, prompt: str | None = None, signature: str = "", context: int = 0
) -> Model | DualEncoder:
    """Return what ``import_model`` does, or both networks of a checkpoint that has two.

    A decoder that goes on with a text, an encoder-decoder that answers one, or Whisper, comes as a
    Model that generates, for ``context`` tokens (``edgeopt.model.decoder``,
    ``edgeopt.model.seq2seq``, ``edgeopt.model.speech``).
    Raises InputError if one of those is asked for a prompt, and what ``import_model`` raises.
    """
    from edgeopt.model.decoder import import_decoder, is_decoder
    from edgeopt.model.dual_import import body, import_dual
    from edgeopt.model.huggingface import checkpoint
    from edgeopt.model.seq2seq import import_seq2seq, is_encoder_decoder
    from edgeopt.model.speech import import_speech, is_speech

    with _reading(source):
        path = Path(source)
        named = not path.exists() and path.suffix.lower() not in _FILES  # on the hub
        whole = checkpoint(source) if named else path
        folder = body(whole)
        answers, hears = is_encoder_decoder(whole), is_speech(whole)
        generates = (answers or hears or is_decoder(whole)) and onnx_of(whole) is None
        if (folder is None and not generates) or signature:
            return _import(source, prompt, signature)
        if prompt is not None:
            raise InputError(f"has no prompts, and was asked for {prompt!r}", where=str(source))
        if folder is None:
            answering = import_seq2seq if answers else import_decoder
            taken = import_speech if hears else answering
            return taken(whole, name_of(source), context)
        return import_dual(folder, name_of(source))


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


def _is_saved_model(path: Path) -> bool:
    """Tell whether ``path`` is a SavedModel, and no checkpoint that one was put into."""
    weights = ("model.safetensors*", "pytorch_model.bin*")
    return (path / "saved_model.pb").is_file() and not any(p for w in weights for p in path.glob(w))


def _import(source: str | Path, prompt: str | None, signature: str) -> Model:
    from edgeopt.model import state_dict
    from edgeopt.model.exported_program import import_program
    from edgeopt.model.file_import import import_tensorflow, import_tflite
    from edgeopt.model.huggingface import import_huggingface
    from edgeopt.model.onnx_file import import_onnx

    path = Path(source)
    suffix = path.suffix.lower()
    has_prompts = suffix in state_dict.SUFFIXES
    if prompt is not None and path.is_file() and not has_prompts:
        raise InputError("only checkpoints have prompts", where=str(path))
    if signature and not _is_saved_model(path):
        raise InputError(
            f"the signature {signature!r} can be chosen of a SavedModel alone", where=str(path)
        )
    if suffix == ".onnx" and not path.is_dir():
        return import_onnx(path)
    if suffix in (".tflite", ".pt2", *_KERAS) and not path.exists():
        raise InputError("no such file", where=str(path))
    if suffix == ".tflite" and not path.is_dir():
        return import_tflite(path, prompt)
    if suffix == ".pt2" and not path.is_dir():
        return import_program(path, prompt)
    if suffix in state_dict.SUFFIXES and path.is_file():
        return state_dict.import_state_dict(path, prompt)
    if _is_saved_model(path) or (suffix in _KERAS and not path.is_dir()):
        return import_tensorflow(path, prompt, signature)
    if path.is_file():
        raise InputError(
            "is no file of a kind that edgeopt reads",
            where=str(path),
            hint="It reads checkpoint directories and SavedModels, and files ending in "
            f"{', '.join(('.onnx', '.tflite', '.pt2', *_KERAS, *state_dict.SUFFIXES))}. A PyTorch "
            "module is imported with edgeopt.import_torch().",
        )
    if (path / "variables").is_dir() and not _has_config(path):
        raise InputError(
            "has variables but no saved_model.pb, so it is no whole SavedModel",
            where=str(path),
            hint="Copy or save it again.",
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
    from edgeopt.model import file_settings, onnx_file, state_dict
    from edgeopt.model.file_import import home_of

    suffix = path.suffix.lower()
    if path.is_file() and suffix == ".onnx":
        return _hash(path.parent, [path, *onnx_file.beside(path)])
    if path.is_file() and suffix in state_dict.SUFFIXES:
        return _hash(path.parent, [path, *state_dict.settings(path)])
    if path.is_file() and suffix in (".tflite", ".pt2", *_KERAS):
        return _hash(path.parent, [path, *_beside(path)])
    if _is_saved_model(path):
        inside = {p for p in path.rglob("*") if p.is_file()}
        return _hash(path, inside | _beside(home_of(path)))
    if path.is_file():
        return cache.file_sha256(path)
    if not path.is_dir():
        return None
    files = {p for p in path.rglob("*") if p.is_file()}
    with contextlib.suppress(InputError):  # which the import raises
        graph = onnx_of(path)
        files |= set(() if graph is None else file_settings.settings(graph))
    return _hash(path, files)


def _beside(path: Path) -> set[Path]:
    """Return the settings that are read with a file, those of images among them."""
    from edgeopt.model import file_settings, image

    found = set(file_settings.settings(path))
    images = {p.with_name(image.FILE) for p in (path, *found)}
    return found | {p for p in images if p.is_file()}


def _hash(folder: Path, files: Iterable[Path]) -> str:
    return cache.key(files={os.path.relpath(p, folder): cache.file_sha256(p) for p in files})
