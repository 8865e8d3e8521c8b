# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Artifacts without a fault, of many networks, to count what the checks refuse for nothing."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace

from edgeopt.bundle import open_bundle
from edgeopt.errors import EdgeoptError
from edgeopt.pipeline import compile
from edgeopt.quiet import quiet
from tests import checkpoints
from tools.planted_faults.harness import Workshop, host, vary, verified

ARCHITECTURES = (
    "BertForSequenceClassification",
    "BertModel",
    "BertForTokenClassification",
    "BertForQuestionAnswering",
    "DistilBertForSequenceClassification",
    "RobertaForSequenceClassification",
    "RobertaModel",
    "ViTForImageClassification",
)
SEEDS = 5
ROUTES: tuple[tuple[str, tuple[str, ...], int], ...] = (
    # engine, precisions, how many of the seeds: the last two take long to lower for
    ("onnx", ("fp32", "int8"), SEEDS),
    ("openvino", ("fp32", "fp16"), SEEDS),
    ("tflite", ("fp32", "fp16", "int8"), 2),
    ("tvm", ("fp32",), 1),
)
LENGTHS = ((16, 32), (8, 24))


@dataclass(frozen=True, kw_only=True, slots=True)
class Sound:
    """What the checks said of one artifact, "" for nothing."""

    architecture: str
    seed: int
    engine: str
    precision: str
    alarm: str


def sound(workshop: Workshop) -> Iterator[Sound]:
    """Yield each artifact without a fault."""
    for seed in range(SEEDS):
        for architecture in ARCHITECTURES:
            folder = workshop.folder / f"{architecture}-{seed}"
            checkpoints.write(folder, architecture)
            _draw(folder, architecture, seed)
            for engine, precisions, seeds in ROUTES:
                if seed < seeds:
                    for precision in precisions:
                        yield Sound(
                            architecture=architecture,
                            seed=seed,
                            engine=engine,
                            precision=precision,
                            alarm=_alarm(workshop, folder, engine, precision, LENGTHS[seed % 2]),
                        )


def _draw(folder: object, architecture: str, seed: int) -> None:
    """Give a checkpoint other weights, biases and normalisations."""
    with quiet():
        import torch
        import transformers

        config = transformers.AutoConfig.from_pretrained(folder)
        torch.manual_seed(seed)
        getattr(transformers, architecture)(config).save_pretrained(folder)
    vary(folder, architecture, seed)  # type: ignore[arg-type]


def _alarm(
    workshop: Workshop, folder: object, engine: str, precision: str, lengths: tuple[int, ...]
) -> str:
    place = workshop.folder / "scratch" / "sound.edgeopt"
    shutil.rmtree(place.parent, ignore_errors=True)
    try:
        bundle = compile(
            folder,  # type: ignore[arg-type]
            replace(host((engine,)), seq_lens=lengths),
            output=place,
            engines=[engine],
            precisions=[precision],
        )
        return verified(open_bundle(bundle.path))
    except EdgeoptError as exc:
        return str(exc)
