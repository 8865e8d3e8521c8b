# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Tiny models whose texts can be told apart, as transformers saves them."""

import json
import random
from importlib.util import find_spec
from pathlib import Path

import pytest

from edgeopt.evaluate.data import Data
from edgeopt.model import Model
from tests import checkpoints

ARCHITECTURES = (
    "BertForSequenceClassification",
    "DistilBertForSequenceClassification",
    "RobertaForSequenceClassification",
)
TOPICS = {"games": "play game fun", "libs": "library data tool", "net": "web server host"}


def skip_without(*modules: str) -> None:
    """Skip the test if one is not installed. They are not imported: edgeopt keeps OpenVINO from
    reporting to its maker, and has to be the first to import it."""
    for name in modules:
        if find_spec(name) is None:
            pytest.skip(f"{name} is not installed")


def rows(count: int, seed: int = 0) -> list[dict[str, str]]:
    """Return ``count`` texts that each hold words of their label's own."""
    draw = random.Random(seed)
    found = []
    for i in range(count):
        label = checkpoints.LABELS[i % len(checkpoints.LABELS)]
        words = draw.choices([*TOPICS[label].split(), "the", "and", "of"], k=draw.randint(3, 12))
        found.append({"text": " ".join([*words, TOPICS[label].split()[0]]), "label": label})
    return found


def write_rows(path: Path, found: list[dict[str, str]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in found))
    return path


@pytest.fixture(scope="session")
def texts_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rows(tmp_path_factory.mktemp("texts") / "texts.jsonl", rows(200))


def train(folder: Path, steps: int = 60) -> Path:
    """Teach the checkpoint in ``folder`` to tell the texts apart, in place."""
    import torch

    from edgeopt.evaluate.data import batches
    from edgeopt.model.checkpoint import save
    from edgeopt.model.importer import import_model

    model: Model = import_model(folder)
    found = rows(96, seed=1)
    data = Data(
        inputs=tuple(row["text"] for row in found),
        labels=tuple(checkpoints.LABELS.index(row["label"]) for row in found),
    )
    calls = list(batches(model, data))
    torch.manual_seed(0)
    model.module.requires_grad_(True)
    optimiser = torch.optim.Adam(model.module.parameters(), lr=3e-3)
    for i in range(steps):
        batch = calls[i % len(calls)]
        optimiser.zero_grad()
        (logits,) = model.module(*batch.inputs)
        torch.nn.functional.cross_entropy(logits, batch.labels).backward()
        optimiser.step()
    save(model, folder, folder)
    return folder


@pytest.fixture(scope="session", params=ARCHITECTURES)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "sorter"
    return train(checkpoints.write(folder, request.param, initializer_range=0.1))


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bert") / "sorter"
    return train(checkpoints.write(folder, initializer_range=0.1))


@pytest.fixture
def model(bert: Path) -> Model:
    from edgeopt.model.importer import import_model

    return import_model(bert)


@pytest.fixture
def data(model: Model, texts_file: Path) -> Data:
    from edgeopt.evaluate.data import read

    return read(texts_file, model).first(64)
