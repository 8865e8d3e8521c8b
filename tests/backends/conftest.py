# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgeopt.backends import Artifact, backend
from edgeopt.evaluate import fidelity
from edgeopt.model import Model, TextInput, images, reference, samples, texts
from edgeopt.model.importer import import_model
from edgeopt.model.signature import NO_LENGTH
from edgeopt.quantize import PLAIN, Quantize
from edgeopt.target import Target, load_target
from tests import checkpoints

Lower = Callable[..., tuple[Artifact, Path]]


@functools.cache
def _given(as_text: bool) -> samples.Samples:
    return texts.read_texts(None, 24) if as_text else images.make_images(80)


def given(model: Model) -> samples.Samples:
    return _given(isinstance(model.input, TextInput))


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Model]:
    """Return the imported tiny model of an architecture, made once."""
    pytest.importorskip("transformers", reason="needs edgeopt[torch]")
    made: dict[str, Model] = {}

    def get(architecture: str) -> Model:
        if architecture not in made:
            folder = tmp_path_factory.mktemp(architecture) / "tiny"
            made[architecture] = import_model(checkpoints.write(folder, architecture))
        return made[architecture]

    return get


@pytest.fixture(scope="session")
def target() -> Target:
    return load_target("host")


@pytest.fixture
def lower(target: Target, tmp_path: Path) -> Lower:
    """Return a function that lowers a model for the host and returns artifact and directory."""

    def call(
        model: Model, engine: str, precision: str, quantize: Quantize = PLAIN
    ) -> tuple[Artifact, Path]:
        spec = next(s for s in target.engines if s.engine == engine)
        calibration = samples.calls(
            model, given(model)[16:], 32 if isinstance(model.input, TextInput) else NO_LENGTH
        )
        directory = tmp_path / f"{engine}-{precision}"
        directory.mkdir()
        made = backend(engine).lower(
            model, target, spec, precision, calibration, directory, quantize
        )
        return made, directory

    return call


@pytest.fixture
def agreement() -> Callable[..., fidelity.Fidelity]:
    """Return a function that compares an artifact with PyTorch on real texts, or on images."""

    def call(
        model: Model, artifact: Artifact, directory: Path, seq_len: int = NO_LENGTH
    ) -> fidelity.Fidelity:
        session = backend(artifact.engine).open_on_host(artifact, directory, 1)
        calls = samples.calls(model, given(model)[:16], seq_len)
        outputs = [session.run(batch) for batch in calls]
        for batch in outputs:
            assert all(value.dtype == np.float32 for value in batch.values())
        masks = [batch.get("attention_mask") for batch in calls]
        return fidelity.summarise(outputs, reference.run(model, calls), masks)

    return call
