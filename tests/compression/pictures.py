# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Images that can be told apart, and small classifiers of each family that learn to."""

from pathlib import Path
from typing import Any

import numpy as np

from edgeopt.evaluate.data import batches, read
from edgeopt.model import Model
from edgeopt.model.checkpoint import save
from edgeopt.model.importer import import_model
from tests.model.test_image_families import FAMILIES, write

NAMES = ("a", "b", "c")
"""Bars that lie, bars that stand, and a disc, each in colours and places of its own."""

ROWS = {row[0]: row for row in FAMILIES}
ROWS["DeiT"] = ("DeiT", ROWS["ViT"][1], "DeiT", ROWS["Dinov2"][3])
DEEPER = {
    "Swin": {"depths": [2, 2]},
    "Swinv2": {"depths": [2, 2]},
    "Hiera": {"depths": [2, 2]},
    "ConvNext": {"depths": [2, 2]},
    "ConvNextV2": {"depths": [2, 2]},
    "Pvt": {"depths": [2, 2]},
    "Segformer": {"depths": [2, 2]},
}
"""So that a stage can lose a layer."""


def draw(label: int, draw: np.random.Generator) -> np.ndarray:
    """Return an image of a label, (height, width, 3) uint8."""
    height, width = (int(n) for n in draw.integers(28, 44, 2))
    y, x = np.mgrid[0:height, 0:width].astype(float)
    wave = 2 * np.pi / draw.uniform(7, 9)
    phase = draw.uniform(0, 6)
    if label == 2:
        cy, cx = (draw.uniform(0.4, 0.6) * n for n in (height, width))
        shape = ((x - cx) ** 2 + (y - cy) ** 2 < draw.uniform(60, 110)).astype(float)
    else:
        shape = 0.5 + 0.5 * np.sin(wave * (y if label == 0 else x) + phase)
    shade, ground = draw.uniform(150, 255, 3), draw.uniform(0, 60, 3)
    image = ground + shape[..., None] * (shade - ground) + draw.normal(0, 12, (height, width, 3))
    return image.clip(0, 255).astype(np.uint8)


def write_images(folder: Path, each: int, seed: int = 0) -> Path:
    """Write ``each`` images of every label as binary PPM, in a folder for each label."""
    generator = np.random.default_rng(seed)
    for label, name in enumerate(NAMES):
        (folder / name).mkdir(parents=True)
        for i in range(each):
            image = draw(label, generator)
            head = f"P6\n{image.shape[1]} {image.shape[0]}\n255\n".encode()
            (folder / name / f"{i:03}.ppm").write_bytes(head + image.tobytes())
    return folder


def checkpoint(folder: Path, family: str) -> Path:
    """Write a network of ``family`` that has learnt nothing."""
    _, settings, kind, size = ROWS[family]
    settings = dict(settings) | DEEPER.get(family, {})
    if family in ("ViT", "DeiT"):
        settings["num_hidden_layers"] = 3
    return write(folder, family, settings, kind, size)


def train(folder: Path, images: Path, steps: int = 60, rate: float = 2e-3) -> Path:
    """Teach the checkpoint in ``folder`` to tell ``images`` apart, in place."""
    import torch

    model: Model = import_model(folder)
    calls = list(batches(model, read(images, model), size=48))
    torch.manual_seed(0)
    model.module.requires_grad_(True)
    optimiser = torch.optim.Adam(model.module.parameters(), lr=rate)
    for i in range(steps):
        batch: Any = calls[i % len(calls)]
        optimiser.zero_grad()
        (logits,) = model.module(*batch.inputs)
        torch.nn.functional.cross_entropy(logits, batch.labels).backward()
        optimiser.step()
    save(model, folder, folder)
    return folder
