# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Import a state_dict whose config.json, of transformers, stands beside it."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgeopt import cache, closure, progress
from edgeopt.errors import InputError
from edgeopt.extras import require
from edgeopt.model import Model, huggingface, image, name_of, sentence, tokenizer
from edgeopt.quiet import quiet

SUFFIXES = (".pt", ".pth", ".bin", ".ckpt", ".safetensors")

_INSIDE = ("state_dict", "model_state_dict", "model")
"""Keys under which training scripts and Lightning keep the weights beside what else they keep."""

_ADDED = ("module", "model", "_orig_mod", "network", "net")
"""What DataParallel, Lightning, torch.compile and classes of one's own put before each name."""

_LFS = b"version https://git-lfs"
_SHOWN = 5


def import_state_dict(path: Path, prompt: str | None = None) -> Model:
    """Return the Model of a state_dict, loaded strictly into the network of config.json.

    ``.safetensors`` and what torch.save() wrote are read; the weights may be one entry of a
    checkpoint, and each name may have a prefix that wrappers add, which a note says. Tokenizer and
    preprocessor_config.json stand beside it too. Raises InputError, with the names, if a weight is
    missing, has no place or another shape, and for a pickle that is more than tensors.
    """
    require("torch", "torch")
    require("transformers", "torch")
    if not (path.parent / "config.json").is_file():
        raise InputError(
            "has no config.json beside it, which says what network its weights are of",
            where=str(path),
            hint="Put config.json of transformers there, and the tokenizer's files. Another "
            "network is exported by torch.export (.pt2), or imported with edgeopt.import_torch().",
        )

    def build(directory: Path) -> None:
        for file in settings(path):
            shutil.copyfile(file, directory / file.name)
        weights = _fitted(_weights(_read(path), path), directory, path)
        # Tensors that share memory are one in the network as well, and stored twice here.
        own = {name: value.detach().clone().contiguous() for name, value in weights.items()}
        save: Any = require("safetensors.torch", "torch")
        save.save_file(own, str(directory / "model.safetensors"), metadata={"format": "pt"})

    key = cache.key(
        weights=cache.file_sha256(path),
        settings={p.name: cache.file_sha256(p) for p in settings(path)},
        code=closure.code(__name__),
    )
    folder = cache.entry("state-dict", key, build)
    model = huggingface.import_huggingface(folder, prompt)
    origin = {**model.origin, "kind": "state-dict", "source": path.name}
    origin |= {"weights_sha256": {path.name: cache.file_sha256(path)}}
    return replace(model, name=name_of(path), origin=origin)


def settings(path: Path) -> tuple[Path, ...]:
    """Return the files beside ``path`` that its import reads."""
    names = ("config.json", image.FILE, *tokenizer.FILES)
    return tuple(p for p in (path.with_name(name) for name in names) if p.is_file())


def _read(path: Path) -> Any:
    import torch

    with path.open("rb") as file:
        if file.read(len(_LFS)) == _LFS:
            raise InputError(
                "is a Git LFS pointer, not the weights",
                where=str(path),
                hint="Run 'git lfs pull' in its directory.",
            )
    if path.suffix == ".safetensors":
        safetensors: Any = require("safetensors.torch", "torch")
        try:
            return safetensors.load_file(str(path))
        # safetensors' errors come from Rust without a common base.
        except Exception as exc:
            raise _damaged(path, exc) from exc
    try:
        with quiet():
            return torch.load(path, map_location="cpu", weights_only=True)
    # pickle's, zipfile's and torch's own errors.
    except Exception as exc:
        text = str(exc)
        if "TorchScript" in text:
            raise InputError(
                "is a TorchScript archive, a program and no state_dict",
                where=str(path),
                hint="Save model.state_dict(), or export the model by torch.export (.pt2).",
            ) from exc
        if "Weights only load failed" in text:
            raise InputError(
                f"is a pickle of more than tensors, which could run code ({_named(text)})",
                where=str(path),
                hint="Save the weights alone: torch.save(model.state_dict(), file).",
            ) from exc
        raise _damaged(path, exc) from exc


def _named(text: str) -> str:
    """Return the sentence in which torch names what it would have to import."""
    lines = [line.strip() for line in text.splitlines()]
    marks = ("GLOBAL", "WeightsUnpickler error")
    return next((line for mark in marks for line in lines if mark in line), lines[0])[:200]


def _damaged(path: Path, exc: Exception) -> InputError:
    lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
    reason = (lines or [type(exc).__name__])[0][:200]
    return InputError(
        f"is damaged, cut short, or no file of weights ({reason})",
        where=str(path),
        hint="Copy or save it again.",
    )


def _weights(found: Any, path: Path) -> Mapping[str, Any]:
    """Return the tensors by name, out of a checkpoint that keeps more than them."""
    import torch

    inside = ""
    while isinstance(found, Mapping) and not any(torch.is_tensor(v) for v in found.values()):
        name = next((n for n in _INSIDE if isinstance(found.get(n), Mapping)), None)
        if name is None:
            break
        inside, found = name, found[name]
    tensors = isinstance(found, Mapping) and all(
        isinstance(k, str) and torch.is_tensor(v) for k, v in found.items()
    )
    if not tensors or not found:
        kind = type(found).__name__
        keys = f" with {', '.join(map(str, list(found)[:_SHOWN]))}" if kind == "dict" else ""
        raise InputError(
            f"is no state_dict: a {kind}{keys}; expected tensors by name, or one of "
            f"{', '.join(_INSIDE)} with them",
            where=str(path),
            hint="Save the weights alone: torch.save(model.state_dict(), file).",
        )
    if inside:
        progress.note(f"{path}: its {inside!r} is taken")
    weights: Mapping[str, Any] = found
    return weights


def _fitted(weights: Mapping[str, Any], folder: Path, path: Path) -> Mapping[str, Any]:
    """Return the weights by the network's names. Raises InputError if one does not fit."""
    expected, same = _expected(folder)
    prefix = _prefix(weights, expected)
    if prefix:
        progress.note(f"{path}: the names of its weights are taken without {prefix!r}")
        weights = {
            name[len(prefix) :] if name.startswith(prefix) else name: value
            for name, value in weights.items()
        }
    missing = [n for n in expected if n not in weights and not same.get(n, set()) & set(weights)]
    unexpected = [n for n in weights if n not in expected and not huggingface.is_buffer(n)]
    misshapen = [
        f"{n} ({_shape(weights[n].shape)} stored, {_shape(expected[n])} expected)"
        for n in expected
        if n in weights and tuple(weights[n].shape) != expected[n]
    ]
    parts = (
        _list("missing", missing),
        _list("without a place in config.json's network", unexpected),
        _list("of another shape", misshapen),
    )
    if wrong := "; ".join(part for part in parts if part):
        raise InputError(
            f"its weights do not fit config.json's network: {wrong}",
            where=str(path),
            hint="Put the config.json beside it that it was trained with; its architectures names "
            "the class, such as BertForSequenceClassification.",
        )
    return {name: value for name, value in weights.items() if name in expected}


def _expected(folder: Path) -> tuple[dict[str, tuple[int, ...]], dict[str, set[str]]]:
    """Return the shapes of config.json's network by name, and the names of one tied weight."""
    import torch
    import transformers

    config = huggingface.read_config(folder)
    _, _, loader = huggingface.task_of(config, folder, sentence.read(folder))
    try:
        with quiet(), torch.device("meta"):
            made = transformers.AutoConfig.from_pretrained(
                str(folder), local_files_only=True, trust_remote_code=False
            )
            network = getattr(transformers, loader).from_config(made)
    # transformers raises ValueError, KeyError, OSError and its own for a wrong configuration.
    except Exception as exc:
        lines = str(exc).strip().splitlines() or [type(exc).__name__]
        raise InputError(
            f"transformers makes no network of it ({lines[0][:240]})",
            where=str(folder / "config.json"),
            hint="Check model_type and architectures.",
        ) from exc
    state = network.state_dict()
    tied: dict[int, set[str]] = {}
    for name, parameter in network.named_parameters(remove_duplicate=False):
        tied.setdefault(id(parameter), set()).add(name)
    same = {name: names for names in tied.values() for name in names if len(names) > 1}
    return {name: tuple(value.shape) for name, value in state.items()}, same


def _prefix(weights: Mapping[str, Any], expected: Mapping[str, Any]) -> str:
    """Return what stands before the names of the network, "" if nothing or nothing known does."""
    prefix = ""
    found = sum(name in expected for name in weights)
    best, names = prefix, list(weights)
    while True:
        firsts = {n[len(prefix) :].partition(".")[0] for n in names if n.startswith(prefix)}
        added = next((word for word in _ADDED if word in firsts), None)
        if added is None:
            return best
        prefix += f"{added}."
        fits = sum(n[len(prefix) :] in expected for n in names if n.startswith(prefix))
        if fits > found:
            best, found = prefix, fits


def _shape(dims: Iterable[int]) -> str:
    return "x".join(str(n) for n in dims) or "1"


def _list(what: str, names: Iterable[str]) -> str:
    listed = sorted(names)
    more = f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
    return f"{what}: {', '.join(listed[:_SHOWN])}{more}" if listed else ""
