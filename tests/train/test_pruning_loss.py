# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

from pathlib import Path

import pytest

from edgeopt.compression import movement
from edgeopt.evaluate.data import Data, batches, read
from edgeopt.model.checkpoint import network
from edgeopt.model.importer import import_model
from edgeopt.steps.movement import Movement
from edgeopt.steps.training import Training
from edgeopt.train.context import ALONE, Context
from edgeopt.train.pruning_loss import taught, wanted
from tests import checkpoints

torch = pytest.importorskip("torch", reason="needs edgeopt[torch]")
pytest.importorskip("transformers", reason="needs edgeopt[torch]")
pytestmark = pytest.mark.heavy


def test_a_classifier_learns_the_softened_answers_and_the_labels(
    bert: Path, texts_file: Path
) -> None:
    model = import_model(bert)
    data = read(texts_file, model).first(20)
    own = wanted(model, data, ALONE, Training(seq_len=38))
    (batch,) = batches(model, data)

    def loss(answered: torch.Tensor, share: float) -> float:
        return float(taught(model, answered, temperature=2.0, label_share=share)(batch))

    tokens: list[int] = []
    last = network(model).bert.encoder.layer[-1].intermediate
    hook = last.register_forward_pre_hook(lambda _, args: tokens.append(args[0].shape[1]))
    assert loss(own, 0.0) == pytest.approx(0.0, abs=1e-5)
    hook.remove()
    assert tokens == [1]  # which is all that a classifier reads of its last layer
    labels = torch.tensor(data.labels)
    cross_entropy = float(torch.nn.functional.cross_entropy(own, labels))
    assert loss(own, 1.0) == pytest.approx(cross_entropy, rel=1e-3)
    other = own.roll(1, dims=1)
    teacher, student = (other / 2).softmax(1), (own / 2).softmax(1)
    kl = 4 * float((teacher * (teacher / student).log()).sum(1).mean())
    assert loss(other, 0.0) == pytest.approx(kl, rel=1e-3)
    assert loss(other, 0.25) == pytest.approx(0.75 * kl + 0.25 * cross_entropy, rel=1e-3)
    (blind,) = batches(model, Data(inputs=data.inputs))
    found = taught(model, other, temperature=2.0, label_share=0.25)(blind)
    assert float(found) == pytest.approx(kl, rel=1e-3)


def test_an_embedder_is_pruned_towards_the_embeddings_of_its_teacher(
    texts_file: Path, tmp_path: Path
) -> None:
    model = import_model(checkpoints.write(tmp_path / "embedder", "BertModel"))
    data = read(texts_file, model).first(48)
    own = wanted(model, data, ALONE, Training(seq_len=38))
    (_, batch) = batches(model, data)
    loss = taught(model, own * torch.tensor(2.0), temperature=1.0, label_share=0.5)
    assert float(loss(batch)) == pytest.approx(0.25, abs=1e-3)  # |x - 2x|^2 / |2x|^2
    training = Training(epochs=2, learning_rate=1e-3, batch_size=16, precision="fp32", seq_len=16)
    options = Movement(remove=0.25, training=training)
    small, text, _ = movement.apply(model, options, data, Context(teacher=model))
    assert "of 64 neurons kept in each layer" in text
    distance = (wanted(small, data, ALONE, Training(seq_len=38)) - own).norm(dim=1) / own.norm(
        dim=1
    )
    assert distance.mean() < 0.5
