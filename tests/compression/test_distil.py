# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeopt import progress
from edgeopt.compression import distil, student, vocabulary
from edgeopt.compression.run import compress
from edgeopt.errors import InputError
from edgeopt.evaluate.data import Data, batches, read
from edgeopt.evaluate.score import answers, score
from edgeopt.fields import Table
from edgeopt.model import Model
from edgeopt.model.checkpoint import network, save
from edgeopt.model.importer import import_model
from edgeopt.model.network.widths import layers
from edgeopt.recipe import FOLDER, load_recipe
from edgeopt.steps.distil import Distil, Losses
from edgeopt.steps.training import Training
from edgeopt.steps.vocabulary import Vocabulary
from edgeopt.train import augment
from edgeopt.train.context import Context
from edgeopt.train.resume import read_metrics
from edgeopt.train.teacher import alike
from tests import checkpoints

torch = pytest.importorskip("torch", reason="needs edgeopt[torch]")
pytest.importorskip("transformers", reason="needs edgeopt[torch]")
pytestmark = pytest.mark.heavy

SHORT = Training(epochs=3, learning_rate=5e-3, batch_size=16, precision="fp32", seq_len=16)


@pytest.fixture
def teacher(bert: Path) -> Model:
    return import_model(bert)


@pytest.fixture(scope="module")
def texts(bert: Path, texts_file: Path) -> Data:
    return read(texts_file, import_model(bert))


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.write(tmp_path_factory.mktemp("embedder") / "model", "BertModel")


def damaged(model: Model) -> Model:
    """Return ``model`` with layers that have forgotten everything."""
    damaged, _ = student.make(model, Distil())
    draw = torch.Generator().manual_seed(0)
    for layer in layers(network(damaged)):
        for linear in (layer.ffn_input, layer.ffn_output, layer.attention_output, *layer.qkv):
            linear.weight.data.normal_(0, 0.3, generator=draw)
    return damaged


def losses_of(work: Path) -> list[float]:
    """Return the loss on the validation texts before training and after each epoch."""
    return [line["validation_loss"] for line in read_metrics(work) if "validation_loss" in line]


@pytest.mark.parametrize(
    ("losses", "least"),
    [
        (None, 0.95),  # response
        (Losses(hidden=1.0, attention=1.0, relations=1.0, cosine=1.0), 0.9),
        (Losses(labels=1.0), 0.9),
        (Losses(distances=1.0, angles=2.0, embedding=1.0, embedding_cosine=1.0), 0.9),
    ],
)
def test_a_damaged_student_comes_nearer_to_its_teacher(
    losses: Losses | None, least: float, teacher: Model, texts: Data, tmp_path: Path
) -> None:
    hurt = damaged(teacher)
    context = Context(teacher=teacher, work=tmp_path)
    found, line, _ = distil.apply(hurt, Distil(losses=losses, training=SHORT), texts, context)
    unlabelled = replace(texts, labels=None)
    original = answers(teacher, texts, "teacher")
    agreement = [
        score(teacher, answers(model, texts, "student"), original, unlabelled).mean()
        for model in (hurt, found)
    ]
    assert agreement[0] < 0.8
    assert agreement[1] >= least
    loss = losses_of(tmp_path)
    assert min(loss) < 0.5 * loss[0]
    assert line.startswith(f"losses {losses or 'response 1'}; 36 steps in fp32 on the cpu")
    assert not any(p.requires_grad for p in found.module.parameters())
    assert not network(found).base_model.encoder.layer[0]._forward_hooks


def test_embeddings_are_learnt_of_embeddings(
    embedder: Path, texts_file: Path, tmp_path: Path
) -> None:
    teacher = import_model(embedder)
    data = read(texts_file, teacher)
    found, line, _ = distil.apply(teacher, Distil(layers=1, training=SHORT), data)
    assert line.startswith("1 of 2 layers taken (numbers 0); losses embedding_cosine 1; 36 steps")
    original = answers(teacher, data, "teacher")
    untaught, _ = student.make(teacher, Distil(layers=1))
    before, after = (
        score(teacher, answers(m, data, "student"), original, data).mean()
        for m in (untaught, found)
    )
    assert after > before + 0.1
    with pytest.raises(InputError, match=r"losses.response: is for classifiers; for embeddings"):
        distil.apply(teacher, Distil(losses=Losses(response=1.0)), data)
    with pytest.raises(InputError, match="hidden: embeddings of another size cannot be held"):
        distil.apply(teacher, Distil(hidden=16), data)


def test_the_teacher_answers_once_for_each_text(
    bert: Path, texts: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher, pupil = import_model(bert), import_model(bert)
    monkeypatch.setenv("EDGEOPT_CACHE", str(tmp_path))
    calls: list[int] = []
    teacher.module.register_forward_hook(lambda _m, inputs, _o: calls.append(len(inputs[0])))
    context = Context(teacher=teacher)
    short = replace(SHORT, steps=2)
    options = Distil(losses=Losses(response=1.0, distances=1.0), training=short)
    distil.apply(pupil, options, texts, context)
    assert sum(calls) == 200
    distil.apply(pupil, replace(options, training=replace(short, seed=1)), texts, context)
    assert sum(calls) == 200
    distil.apply(pupil, replace(options, augment=1), texts, context)
    assert sum(calls) == 400  # one copy of each
    distil.apply(pupil, replace(options, augment=2), texts, context)
    assert sum(calls) == 600  # the first copy is the same


def test_an_interrupted_distillation_goes_on_to_the_same_weights(
    teacher: Model, texts: Data, tmp_path: Path
) -> None:
    losses = Losses(response=1.0, hidden=1.0, relations=1.0, embedding=1.0)
    training = replace(SHORT, epochs=1, checkpoint_s=0.0)
    # Half as wide, so that projections to the teacher's width are learnt besides.
    options = Distil(losses=losses, hidden=16, neurons=32, augment=1, training=training)
    seen: list[str] = []

    def interrupt(event: progress.Event) -> None:
        seen.append(event.text)
        if event.text.startswith("Distilling: loss") and event.done == 7:
            raise KeyboardInterrupt

    def run(work: Path) -> dict[str, Any]:
        context = Context(teacher=teacher, work=work)
        found, _, _ = distil.apply(teacher, options, texts.first(100), context)
        return network(found).state_dict()

    with pytest.raises(KeyboardInterrupt), progress.listen(interrupt):
        run(tmp_path / "one")
    with progress.listen(lambda event: seen.append(event.text)):
        resumed = run(tmp_path / "one")
    assert "Distilling: going on after step 6 of 12" in seen
    whole = run(tmp_path / "two")
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)


def test_layers_are_spread_evenly() -> None:
    assert student.spread(6, 12) == [0, 2, 4, 7, 9, 11]  # as in DistilBERT's script
    assert (student.spread(3, 6), student.spread(1, 6)) == ([0, 2, 5], [0])
    assert distil_pairs("uniform", 3, 6) == [(0, 1), (1, 3), (2, 5)]
    assert distil_pairs("last", 3, 6) == [(0, 3), (1, 4), (2, 5)]
    assert distil_pairs((0, 2, 3), 3, 6) == [(0, 0), (1, 2), (2, 3)]
    with pytest.raises(InputError, match=r"layer_map: expected 2 layers of the teacher's, 0 to 5"):
        distil_pairs((1, 6), 2, 6)
    with pytest.raises(InputError, match="layer_map: the teacher has 6 layers for 12"):
        distil_pairs("last", 12, 6)


def test_a_share_of_the_layers_is_one_at_least(teacher: Model) -> None:
    for share in (0.1, 0.5, 0.9):
        made, told = student.make(teacher, Distil(layers=share))
        count = 2 if share == 0.9 else 1
        assert len(layers(network(made))) == count
        assert told.startswith(f"{count} of 2 layers taken")


def distil_pairs(layer_map: Any, student: int, teacher: int) -> list[tuple[int, int]]:
    from edgeopt.train.distillation_loss import pairs

    return pairs(Distil(layer_map=layer_map), student, teacher)


def test_what_is_not_needed_is_what_is_sliced_away(trained: Path, texts_file: Path) -> None:
    model = import_model(trained)
    data = read(texts_file, model).first(32)
    for layer in layers(network(model)):
        layer.ffn_input.weight[16:] = 0
        layer.ffn_output.weight[:, 16:] = 0
        layer.ffn_input.bias[16:] = 0
        for linear in layer.qkv:  # of each head of 8 all but the first 4
            linear.weight.view(4, 8, 32)[:, 4:] = 0
            linear.bias.view(4, 8)[:, 4:] = 0
        layer.attention_output.weight.view(32, 4, 8)[:, :, 4:] = 0
    narrow, told = student.make(model, Distil(neurons=16))
    assert told == "hidden size 32, 4 heads and 16 neurons (sliced by magnitude)"
    found, expected = (answers(m, data, "x") for m in (narrow, model))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_narrow_student_is_plain_and_loads(trained: Path, tmp_path: Path) -> None:
    import transformers

    model = import_model(trained)
    options = Distil(hidden=16, heads=2, neurons=24, layers=1)
    narrow, told = student.make(model, options)
    assert told == (
        "1 of 2 layers taken (numbers 0); hidden size 16, 2 heads and 24 neurons "
        "(sliced by magnitude)"
    )
    save(narrow, tmp_path / "narrow", trained)
    plain = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "narrow")
    assert (plain.config.hidden_size, plain.config.num_attention_heads) == (16, 2)
    again = import_model(tmp_path / "narrow")
    left, right = network(again).state_dict(), network(narrow).state_dict()
    assert all(torch.equal(left[name], right[name]) for name in left)
    table = network(narrow).get_input_embeddings().weight
    columns = network(model).get_input_embeddings().weight.T.tolist()
    assert all(column in columns for column in table.T.tolist())
    new, told = student.make(model, replace(options, start="new"))
    assert told.endswith("(new weights)")
    assert not torch.equal(network(new).get_input_embeddings().weight, table)


def test_with_another_vocabulary_the_teacher_reads_with_its_own(
    teacher: Model, texts: Data, tmp_path: Path
) -> None:
    options = Distil(losses=Losses(hidden=1.0, relations=1.0), training=replace(SHORT, steps=1))
    trimmed, _, _ = vocabulary.apply(teacher, Vocabulary(), texts)
    rows = [network(m).get_input_embeddings().num_embeddings for m in (teacher, trimmed)]
    assert rows[1] < rows[0]
    distil.apply(trimmed, options, texts, Context(teacher=teacher, work=tmp_path))
    assert losses_of(tmp_path)[0] < 1e-10  # all tokens are the same, by other numbers
    words = Data(inputs=tuple(f"library {text}" for text in texts.inputs), labels=texts.labels)
    small, _, _ = vocabulary.apply(teacher, Vocabulary(size=rows[1] - 3), texts)
    # If a few texts are cut otherwise, they are left out, though a batch has no others.
    few = Data(inputs=texts.inputs[:95] + words.inputs[:5])
    single = replace(SHORT, batch_size=1, epochs=1)
    _, same = alike(teacher, small, few, 16)
    assert 50 <= sum(same) < 100
    distil.apply(small, replace(options, training=single), few, Context(teacher=teacher))
    with pytest.raises(InputError, match=r"tokenises only [0-9]+ of 200 texts as the teacher does"):
        distil.apply(small, options, words, Context(teacher=teacher))


def test_what_does_not_fit_is_refused(teacher: Model, texts: Data) -> None:
    def refused(message: str, data: Data = texts, **options: Any) -> None:
        with pytest.raises(InputError, match=message):
            distil.apply(teacher, Distil(training=SHORT, **options), data)

    without = replace(texts, labels=None)
    refused("losses.labels: the texts have no labels", without, losses=Losses(labels=1.0))
    refused("layers: is 3, but there are 2", layers=3)
    refused("layers: there is no layer 2, only 0 to 1", layers=(0, 2))
    refused("hidden: is 64, but the model has only 32", hidden=64)
    refused("hidden: 30 is no multiple of 4 heads", hidden=30, heads=4)
    refused("heads: needs hidden besides", heads=2)
    refused("heads: 2 heads of 12 are larger than the model's, of 8", hidden=24, heads=2)
    refused(
        "losses.attention: layer 0 of the student has 2 heads, layer 0 of the teacher 4",
        losses=Losses(attention=1.0),
        hidden=16,
    )
    refused(
        "relation_heads: is 3, which does not divide both widths, 32 and 32",
        losses=Losses(relations=1.0),
        relation_heads=3,
    )


def test_options_are_read_and_checked() -> None:
    def read_step(text: str) -> Distil:
        import tomllib

        table = Table(tomllib.loads(text), file="r.toml")
        table.get("technique", str, "")
        step = Distil.read(table)
        table.close()
        return step

    assert read_step("") == Distil()
    found = read_step(
        "layers = [0, 2]\nlayer_map = [1, 3]\n[losses]\nresponse = 1\n[training]\nepochs = 1"
    )
    assert found == Distil(
        layers=(0, 2),
        layer_map=(1, 3),
        losses=Losses(response=1.0),
        training=Training(epochs=1),
    )
    for text, complaint in (
        ("[losses]", r"losses.response: no loss has a weight \(there are response, labels"),
        ("[losses]\nrespons = 1", "losses.respons: unknown key; did you mean 'response'"),
        ("augment = 1\n[losses]\nlabels = 1", "augment: changed texts have no label"),
        ('augmentations = ["crop"]', "augmentations: is given, but augment is 0"),
        ("layers = 1.0", "layers: expected 0.01 to 0.99, found 1.0"),
        ('start = "new"', "start: is given, but neither hidden nor heads nor neurons"),
        ("[training]\nepochs = 0", "training.epochs: expected 1 to 10000, found 0"),
    ):
        with pytest.raises(InputError, match=complaint):
            read_step(text)


def test_changed_copies_are_of_the_same_words() -> None:
    text = " ".join(str(i) for i in range(100))
    data = Data(inputs=(text, "one", "a b c"), labels=(0, 1, 1))
    draw = np.random.default_rng(0)
    words = text.split()
    for _ in range(20):
        cropped = augment.crop(words, draw)
        assert " ".join(cropped) in text
        assert 40 <= len(cropped) <= 100
        moved = augment.shuffle(words, draw)
        assert sorted(moved) == sorted(words)
        assert max(abs(int(word) - i) for i, word in enumerate(moved)) < augment.WINDOW
        left = augment.drop(words, draw)
        assert left == [word for word in words if word in left]
        assert 70 <= len(left) < 100
    two = augment.copies(data, 2, ("crop", "drop"), seed=0)
    assert two[:1] == augment.copies(data, 1, ("crop", "drop"), seed=0)
    assert two[0] != two[1]
    assert two[0].labels is None
    assert [part.inputs[1] for part in two] == ["one", "one"]
    swapped = augment.copies(data, 50, ("swap",), seed=0)
    seen = {word for part in swapped for word in part.inputs[1].split()}
    assert seen == {"one", "a", "b", "c"}  # words of the same label only


def test_the_shipped_recipes(
    bert: Path, texts_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = load_recipe("distilbert").compress
    assert isinstance(steps[0], Distil)
    assert steps[0].losses == Losses(response=0.5, labels=0.5, cosine=1.0)
    recipe = tmp_path / "own.toml"
    shipped = (FOLDER / "distil.toml").read_text()
    for old, new in (("epochs = 3", "epochs = 1"), ("0.03", "1.0")):
        assert old in shipped
        shipped = shipped.replace(old, new)
    recipe.write_text(shipped)
    monkeypatch.setenv("EDGEOPT_CACHE", str(tmp_path / "cache"))
    compress(bert, data=texts_file, recipe=recipe, output=tmp_path / "small")
    report = json.loads((tmp_path / "small/compress.json").read_text())
    step = report["steps"][1]
    assert step["kept"]
    assert step["change"].startswith("1 of 2 layers taken (numbers 0); losses response 1 + rel")
    epochs = [line for line in step["training"] if "validation_loss" in line]
    assert [line["epoch"] for line in epochs] == [0, 1]
    assert epochs[-1]["validation_loss"] < epochs[0]["validation_loss"]
    model = import_model(tmp_path / "small")
    assert len(layers(network(model))) == 1
    assert next(batches(model, read(texts_file, model))).labels is not None
    assert not list((tmp_path / "cache/training").iterdir())  # nothing is left to go on from
