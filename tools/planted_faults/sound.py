# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Artifacts without a fault, of many networks, to count what the checks refuse for nothing."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

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
SEEDS = 9
ROUTES: tuple[tuple[str, tuple[str, ...], int, int], ...] = (
    # engine, precisions, how many seeds, of how many classes: the last two take long to lower for
    ("onnx", ("fp32", "int8"), SEEDS, len(ARCHITECTURES)),
    ("openvino", ("fp32", "fp16"), 4, len(ARCHITECTURES)),
    ("tflite", ("fp32",), 1, 2),
    ("tvm", ("fp32",), 1, 2),
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


def sound(workshop: Workshop, known: Collection[Sound] = ()) -> Iterator[Sound]:
    """Yield each artifact without a fault, but those that are ``known``."""
    done = {(k.architecture, k.seed, k.engine, k.precision) for k in known}
    for engine, precisions, seeds, classes in ROUTES:
        for seed, architecture in itertools.product(range(seeds), ARCHITECTURES[:classes]):
            if all((architecture, seed, engine, p) in done for p in precisions):
                continue
            folder = workshop.folder / f"{architecture}-{seed}"
            if not folder.exists():
                checkpoints.write(folder, architecture)
                _draw(folder, architecture, seed)
            alarms = _alarms(workshop, folder, engine, precisions, LENGTHS[seed % 2])
            for precision in precisions:
                yield Sound(
                    architecture=architecture,
                    seed=seed,
                    engine=engine,
                    precision=precision,
                    alarm=alarms[precision],
                )


def _draw(folder: Path, architecture: str, seed: int) -> None:
    """Give a checkpoint other weights, biases and normalisations."""
    with quiet():
        import torch
        import transformers

        config = transformers.AutoConfig.from_pretrained(folder)
        torch.manual_seed(seed)
        getattr(transformers, architecture)(config).save_pretrained(folder)
    vary(folder, architecture, seed)


def _alarms(
    workshop: Workshop,
    folder: Path,
    engine: str,
    precisions: tuple[str, ...],
    lengths: tuple[int, ...],
) -> dict[str, str]:
    """Return what was said against each precision, "" for nothing."""
    place = workshop.folder / "scratch" / "sound.edgeopt"
    shutil.rmtree(place.parent, ignore_errors=True)
    try:
        bundle = compile(
            folder,
            replace(host((engine,)), seq_lens=lengths),
            output=place,
            engines=[engine],
            precisions=precisions,
        )
    except EdgeoptError as exc:
        return dict.fromkeys(precisions, str(exc))
    found = {s.precision: s.reason for s in bundle.manifest.skipped}
    said = verified(bundle)
    return {precision: found.get(precision, said) for precision in precisions}
