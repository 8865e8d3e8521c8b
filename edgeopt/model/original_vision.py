# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""transformers called directly for what an image holds: its embedding, its objects, its labels.

From a file to the answer, by the folder's own image processor and the class that transformers
takes for the folder. Nothing of edgeopt's import takes part.
"""

from __future__ import annotations

import importlib.util
import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from edgeopt.extras import require
from edgeopt.model import Model, images
from edgeopt.model.answer import (
    MOST_SIDE,
    Answer,
    Detection,
    Original,
    answering,
    map_size,
    version,
)
from edgeopt.model.tasks import (
    IMAGE_FEATURE_EXTRACTION,
    OBJECT_DETECTION,
    SEMANTIC_SEGMENTATION,
    Task,
)

TASKS: dict[Task, tuple[str, str]] = {
    IMAGE_FEATURE_EXTRACTION: ("AutoModel", ""),
    OBJECT_DETECTION: ("AutoModelForObjectDetection", "post_process_object_detection"),
    SEMANTIC_SEGMENTATION: (
        "AutoModelForSemanticSegmentation",
        "post_process_semantic_segmentation",
    ),
}
"""Which class of transformers opens a folder for a task, and how its processor ends it."""


def reduces_labels(folder: Path) -> bool:
    """Tell whether 0 of a mask is no label for the image processor of ``folder``, and 1 the first.

    That is transformers' ``do_reduce_labels``, as ADE20K's masks are read.
    """
    try:
        found = json.loads((folder / "preprocessor_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    keys = ("do_reduce_labels", "reduce_labels")  # the second one before 4.26
    return isinstance(found, dict) and any(found.get(key) is True for key in keys)


def open_tool(model: Model, folder: Path, most_side: int = MOST_SIDE) -> Original | str:
    """Open transformers on ``folder`` for the task of ``model``, or return why it does not.

    Maps of labels have at most ``most_side`` pixels to a side.
    """
    import torch

    transformers = require("transformers", "torch")
    if importlib.util.find_spec("PIL") is None:
        return "Pillow, which transformers reads images with, is not installed"
    loader, ending = TASKS[model.task]
    processor = transformers.AutoImageProcessor.from_pretrained(
        str(folder), local_files_only=True, trust_remote_code=False
    )
    if ending and not hasattr(processor, ending):
        return f"{type(processor).__name__} has no {ending}"
    network, info = getattr(transformers, loader).from_pretrained(
        str(folder),
        dtype=torch.float32,
        local_files_only=True,
        trust_remote_code=False,
        output_loading_info=True,
    )
    network.eval()
    names = network.config.id2label
    read: dict[Task, Callable[[Any, tuple[int, int]], Answer]] = {
        OBJECT_DETECTION: lambda found, size: _objects(found, size, processor, names),
        SEMANTIC_SEGMENTATION: lambda found, size: _classes(
            found, map_size(*size, most_side), processor
        ),
    }
    pooled = not any("pooler" in key.split(".") for key in info["missing_keys"])

    def call(image: Any) -> Answer:
        from PIL import Image

        pixels = images.read_image(image) if isinstance(image, Path) else image
        given = processor(Image.fromarray(pixels), return_tensors="pt")
        taken = inspect.signature(network.forward).parameters
        with torch.inference_mode():
            found = network(**{key: value for key, value in given.items() if key in taken})
            if model.task == IMAGE_FEATURE_EXTRACTION:
                return Answer(vector=_embedding(found, network, pooled))
            return read[model.task](found, pixels.shape[:2])

    shown = f"{loader}.{ending}" if ending else "AutoModel, its pooler's output"
    return Original(
        name=f"{version('transformers')}, {shown}",
        answer=answering(call),
        labels=(),
        limit=None,
        tokenizer=None,
    )


def _embedding(found: Any, network: Any, pooled: bool) -> np.ndarray:
    """Return what the pooler made; without one of its own the class token, or the mean."""
    if pooled and found.get("pooler_output") is not None:
        vector = found.pooler_output[0].flatten()
    elif any(name.endswith("cls_token") for name, _ in network.named_parameters()):
        vector = found.last_hidden_state[0, 0]
    else:
        hidden = found.last_hidden_state[0]
        vector = hidden.mean(0) if hidden.ndim == 2 else hidden.flatten(1).mean(1)
    made: np.ndarray = vector.numpy()
    return made


def _objects(found: Any, size: tuple[int, int], processor: Any, names: Any) -> Answer:
    """Return all that the network looks for in an image of ``size``, (height, width)."""
    finish = processor.post_process_object_detection
    # Some cut to the best 100 unless they are told otherwise; the others have all queries.
    all_of_them = {"top_k": found.logits.shape[1]}
    options = {k: v for k, v in all_of_them.items() if k in inspect.signature(finish).parameters}
    (made,) = finish(found, threshold=0.0, target_sizes=[size], **options)
    objects = [
        Detection(label=str(names[int(label)]), score=float(score), box=_box(box))
        for label, score, box in zip(made["labels"], made["scores"], made["boxes"], strict=True)
    ]
    return Answer(objects=tuple(sorted(objects, key=lambda one: -one.score)))


def _box(box: Any) -> tuple[float, float, float, float]:
    x_min, y_min, x_max, y_max = map(float, box)
    return x_min, y_min, x_max, y_max


def _classes(found: Any, target: tuple[int, int], processor: Any) -> Answer:
    """Return the labels of pixels, ``target`` (height, width), and by how much they lead."""
    import torch

    (made,) = processor.post_process_semantic_segmentation(found, target_sizes=[target])
    resized = torch.nn.functional.interpolate(
        found.logits, size=target, mode="bilinear", align_corners=False
    )
    shares = resized[0].softmax(0)
    best = shares.topk(min(2, len(shares)), dim=0).values
    margins = best[0] - best[1] if len(best) > 1 else best[0]
    return Answer(
        classes=made.numpy().astype(np.uint16), margins=margins.numpy().astype(np.float16)
    )
