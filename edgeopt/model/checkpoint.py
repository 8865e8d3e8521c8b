# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""A compressed model as a Hugging Face folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from edgeopt.errors import InputError
from edgeopt.model import Model, image, vision
from edgeopt.model.image import ImageInput
from edgeopt.model.sentence import MODULES, SETTINGS, TRANSFORMER, body_of
from edgeopt.quiet import quiet

_BESIDE = (
    "README.md",  # the licence stands in its header
    "LICENSE",
    "LICENSE.txt",
    MODULES,
    SETTINGS,
    *TRANSFORMER,
)


def network(model: Model) -> Any:
    """Return transformers' network inside ``model``. Raises InputError if there is none."""
    found = getattr(model.module, "network", None) if model.main.is_torch else None
    if found is None:
        raise InputError(
            "is no checkpoint of transformers, and only those can be compressed", where=model.name
        )
    return found


def parameters(model: Model) -> int:
    """Return how many numbers the weights of ``model`` are, those of a packed table among them."""
    from edgeopt.model.network.tables import Packed

    packed = [m for m in model.module.modules() if isinstance(m, Packed)]
    return sum(p.numel() for p in model.module.parameters()) + sum(
        table.num_embeddings * table.embedding_dim for table in packed
    )


def size_bytes(model: Model) -> int:
    """Return how many bytes the weights of ``model`` are, as the checkpoint stores them."""
    return sum(v.numel() * v.element_size() for v in network(model).state_dict().values())


def save(model: Model, folder: Path, source: Path) -> None:
    """Write ``model`` into ``folder``: FP32 weights, config.json, and the tokenizer's files.

    Of a model of images these are the image processor's. The model card and how
    sentence-transformers pools come from the checkpoint ``source``.
    """
    body = body_of(source).relative_to(source)
    with quiet():
        found = network(model)
        if isinstance(model.input, ImageInput):
            found = vision.plain(found)
        found.save_pretrained(folder / body)
    if isinstance(model.input, ImageInput):
        for name in (image.FILE, image.WHOLE):
            if (source / body / name).is_file() and source != folder:
                shutil.copyfile(source / body / name, folder / body / name)
    elif model.text.tokenizer:
        for path in sorted(model.text.tokenizer.iterdir()):
            shutil.copyfile(path, folder / body / path.name)
    names = {name: None for name in _BESIDE} | {str(body / name): None for name in TRANSFORMER}
    beside = [name for name in names if (source / name).is_file()]
    if MODULES in beside:
        for module in json.loads((source / MODULES).read_text())[1:]:
            if (source / module["path"] / "config.json").is_file():
                beside.append(f"{module['path']}/config.json")
    for name in beside:
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(source / name, folder / name)
