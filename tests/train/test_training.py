# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgeopt import options, progress
from edgeopt.errors import InputError
from edgeopt.evaluate.data import read
from edgeopt.fields import Table
from edgeopt.model import Model
from edgeopt.model.importer import import_model
from edgeopt.steps.gradual import Gradual
from edgeopt.steps.training import Training
from edgeopt.train.context import ALONE, Context
from edgeopt.train.memory import activation_bytes, out_of_memory
from edgeopt.train.resume import read_metrics
from edgeopt.train.training import TO_THE_END, Fitted, fit, split
from tests import checkpoints

torch = pytest.importorskip("torch", reason="needs edgeopt[torch]")
pytest.importorskip("transformers", reason="needs edgeopt[torch]")
pytestmark = pytest.mark.heavy

SHORT = Training(epochs=2, learning_rate=1e-2, batch_size=16, precision="fp32", seq_len=16)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sorter that has learnt nothing yet."""
    folder = tmp_path_factory.mktemp("training") / "model"
    return checkpoints.write(folder, initializer_range=0.1)


def learn(
    folder: Path, texts_file: Path, options: Training, work: Path | None = None, **also: Any
) -> tuple[Fitted, Model]:
    model = import_model(folder)

    def objective(batch: Any) -> Any:
        (logits,) = model.module(*batch.inputs)  # type: ignore[misc]
        return torch.nn.functional.cross_entropy(logits, batch.labels)

    data = read(texts_file, model)
    context = Context(work=work)
    also = {"objective": objective} | also
    return fit(model, data, options, text="Learning", context=context, **also), model


def weights(model: Model) -> dict[str, Any]:
    return model.module.state_dict()


def same(a: Model, b: Model) -> bool:
    left, right = weights(a), weights(b)
    return all(torch.equal(left[name], right[name]) for name in left)


def test_a_network_learns_and_comes_back_as_a_model_has_it(folder: Path, texts_file: Path) -> None:
    before = torch.get_rng_state()
    found, model = learn(folder, texts_file, SHORT)
    assert found.accuracy == 1.0  # each label has words of its own
    assert (found.steps, found.precision) == (24, "fp32")  # 2 x ceil(180 / 16)
    assert str(found).startswith("24 steps in fp32 on the cpu, best after ")
    assert not model.module.training
    assert not any(p.requires_grad for p in model.module.parameters())
    assert torch.equal(torch.get_rng_state(), before)


def test_the_seed_is_all_there_is_of_chance(folder: Path, texts_file: Path) -> None:
    short = replace(SHORT, steps=3)
    _, one = learn(folder, texts_file, short)
    torch.rand(7)
    _, two = learn(folder, texts_file, short)
    _, other = learn(folder, texts_file, replace(short, seed=1))
    assert same(one, two)
    assert not same(one, other)


def test_frozen_embeddings_stay(folder: Path, texts_file: Path) -> None:
    _, model = learn(folder, texts_file, replace(SHORT, steps=2, freeze_embeddings=True))
    old, new = weights(import_model(folder)), weights(model)
    changed = {name for name in old if not torch.equal(old[name], new[name])}
    assert not any("embeddings.weight" in name for name in changed)
    assert any("embeddings.LayerNorm" in name for name in changed)


def test_bfloat16_is_what_the_objective_sees(folder: Path, texts_file: Path) -> None:
    model = import_model(folder)
    seen = []

    def objective(batch: Any) -> Any:
        (logits,) = model.module(*batch.inputs)  # type: ignore[misc]
        seen.append(logits.dtype)
        return logits.square().mean()

    data = read(texts_file, model)
    options = replace(SHORT, steps=2, precision="bf16")
    found = fit(model, data, options, objective, context=ALONE, text="x")
    assert set(seen) == {torch.bfloat16}
    assert found.precision == "bf16"
    assert {p.dtype for p in model.module.parameters()} == {torch.float32}


def test_the_schedule_and_the_hooks(folder: Path, texts_file: Path, tmp_path: Path) -> None:
    calls: list[tuple[str, int, int]] = []
    rates = {}
    for schedule in ("linear", "cosine", "constant"):
        options = replace(SHORT, steps=10, warmup=0.2, schedule=schedule, learning_rate=0.01)
        learn(
            folder,
            texts_file,
            options,
            tmp_path / schedule,
            before_step=lambda done, total: calls.append(("before", done, total)),
            after_step=lambda done, total: calls.append(("after", done, total)),
        )
        lines = read_metrics(tmp_path / schedule)
        rates[schedule] = [line["learning_rate"] for line in lines if "learning_rate" in line]
    assert calls[:3] == [("before", 0, 10), ("after", 1, 10), ("before", 1, 10)]
    falling = [0.01 * (1 - i / 8) for i in range(8)]
    assert rates["linear"] == pytest.approx([0.005, 0.01, *falling])
    assert rates["constant"] == pytest.approx([0.005] + [0.01] * 9)
    assert rates["cosine"][6] == pytest.approx(0.005)  # half way from step 2 to step 10


def test_training_stops_where_it_gets_no_better(
    folder: Path, texts_file: Path, tmp_path: Path
) -> None:
    model = import_model(folder)

    def unlearn(batch: Any) -> Any:
        (logits,) = model.module(*batch.inputs)  # type: ignore[misc]
        loss = logits.square().mean()
        return -loss if model.module.training else loss  # type: ignore[union-attr]

    data = replace(read(texts_file, model), labels=None)
    options = replace(SHORT, epochs=9, learning_rate=1e-3, patience=2)
    found = fit(model, data, options, unlearn, context=Context(work=tmp_path), text="Unlearning")
    assert found.stopped_early
    assert (found.steps, found.best_step) == (24, 0)
    assert same(model, import_model(folder))  # the weights of before the first step are the best
    # If those of the first half do not count, the first that do are the best.
    late = fit(
        model, data, replace(options, epochs=4), unlearn, context=ALONE, text="x", best_from=0.5
    )
    assert (late.best_step, late.steps) == (24, 48)
    last = fit(
        model, data, replace(options, epochs=2), unlearn, context=ALONE, text="x",
        best_from=TO_THE_END,
    )  # fmt: skip
    assert (last.best_step, last.steps) == (24, 24)
    lines = [line for line in read_metrics(tmp_path) if "validation_loss" in line]
    assert [line["epoch"] for line in lines] == [0, 1, 2]


CHILD = """
import sys
from pathlib import Path
from tests.train.test_training import SHORT, learn
from dataclasses import replace
folder, texts, work = map(Path, sys.argv[1:])
options = replace(SHORT, checkpoint_s=0.0)
learn(folder, texts, options, work, after_step=lambda done, total: print(done, flush=True))
"""


def test_a_killed_training_goes_on_to_the_same_weights(
    folder: Path, texts_file: Path, tmp_path: Path
) -> None:
    places = [str(folder), str(texts_file), str(tmp_path)]
    command = [sys.executable, "-c", CHILD, *places]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    for line in child.stdout:
        if line == "15\n":  # in the second of two epochs of 12
            os.kill(child.pid, signal.SIGKILL)
            break
    child.stdout.close()
    assert child.wait() == -signal.SIGKILL
    told: list[str] = []
    done: list[int] = []
    with progress.listen(lambda event: told.append(event.text)):
        killed, resumed = learn(
            folder, texts_file, SHORT, tmp_path, after_step=lambda n, _: done.append(n)
        )
    assert done[0] >= 15
    assert f"Learning: going on after step {done[0] - 1} of 24" in told
    whole, undisturbed = learn(folder, texts_file, SHORT, tmp_path / "other")
    assert killed == whole
    assert same(resumed, undisturbed)
    lines = read_metrics(tmp_path)
    assert [row.get("step") for row in lines] == [0, *range(1, 13), 12, *range(13, 25), 24]
    assert lines == read_metrics(tmp_path / "other")
    # What has ended is not done again; with other options it is.
    done.clear()
    again, ended = learn(
        folder, texts_file, SHORT, tmp_path, after_step=lambda n, _: done.append(n)
    )
    assert not done
    assert again == whole
    assert same(ended, undisturbed)
    learn(
        folder,
        texts_file,
        replace(SHORT, steps=2),
        tmp_path,
        after_step=lambda n, _: done.append(n),
    )
    assert done == [1, 2]


def test_a_damaged_checkpoint_is_told_and_not_taken_up(
    folder: Path, texts_file: Path, tmp_path: Path
) -> None:
    short = replace(SHORT, steps=2)
    learn(folder, texts_file, short, tmp_path)
    (path,) = tmp_path.glob("*/checkpoint.pt")
    path.write_bytes(path.read_bytes()[:1000])
    told: list[str] = []
    with progress.listen(lambda event: told.append(event.text)):
        found, _ = learn(folder, texts_file, short, tmp_path)
    assert found.steps == 2
    assert any("checkpoint.pt is damaged" in text for text in told)


def test_what_is_no_longer_finite_is_told_and_the_last_good_weights_are_kept(
    folder: Path, texts_file: Path, tmp_path: Path
) -> None:
    model = import_model(folder)

    def objective(batch: Any) -> Any:
        (logits,) = model.module(*batch.inputs)  # type: ignore[misc]
        loss = torch.nn.functional.cross_entropy(logits, batch.labels)
        return loss / 0 if model.module.training and len(steps) == 14 else loss  # type: ignore[union-attr]

    steps: list[int] = []
    data = read(texts_file, model)
    with pytest.raises(InputError) as caught:
        fit(
            model,
            data,
            SHORT,
            objective,
            context=Context(work=tmp_path),
            text="Learning",
            after_step=lambda done, _: steps.append(done),
        )
    (kept,) = tmp_path.glob("*/last-good")
    assert str(caught.value).startswith(
        "Learning: the loss became inf in step 15 of 24, at a learning rate of 0.00476; the last "
        f"good checkpoint is kept at {kept}\nTry a lower learning_rate"
    )
    assert same(import_model(kept), model)
    assert not same(model, import_model(folder))  # they are those after the first epoch
    assert not model.module.training  # type: ignore[union-attr]


def test_before_the_first_checkpoint_the_weights_that_came_in_are_kept(
    folder: Path, texts_file: Path, tmp_path: Path
) -> None:
    model = import_model(folder)
    steps: list[int] = []

    def objective(batch: Any) -> Any:
        (logits,) = model.module(*batch.inputs)  # type: ignore[misc]
        return logits.square().mean() / (0 if len(steps) == 2 else 1)

    with pytest.raises(InputError, match="in step 3 of 24"):
        fit(
            model,
            read(texts_file, model),
            SHORT,
            objective,
            context=Context(work=tmp_path),
            text="Learning",
            after_step=lambda done, _: steps.append(done),
            best_from=TO_THE_END,
        )
    (kept,) = tmp_path.glob("*/last-good")
    assert same(import_model(kept), import_model(folder))


def test_too_little_memory_is_answered_with_what_would_fit(folder: Path, texts_file: Path) -> None:
    def greedy(batch: Any) -> Any:
        return torch.empty(10**14)

    hint = r"batch_size = 8 would probably fit \(training.batch_size in the recipe\)"
    with pytest.raises(InputError, match="does not fit into the memory of the cpu") as caught:
        learn(folder, texts_file, SHORT, objective=greedy)
    assert caught.match(hint)
    model = import_model(folder)
    error = out_of_memory(model, replace(SHORT, batch_size=1), torch.device("cpu"), "fp32")
    assert "seq_len = 8 would probably fit" in str(error)
    # BERT-base, 512 tokens, of the paper's eq. 1: 12 x 512 x 768 x (34 + 5 x 12 x 512 / 768).
    config = checkpoints.config(
        "bert", hidden_size=768, num_attention_heads=12, num_hidden_layers=12
    )
    assert activation_bytes(config, 512, 2) == 12 * 512 * 768 * 74


def test_texts_to_validate_on_are_not_learnt_from(folder: Path, texts_file: Path) -> None:
    learning, validation = split(200, SHORT)
    assert (len(learning), len(validation)) == (180, 20)
    assert sorted(learning + validation) == list(range(200))
    assert split(5, replace(SHORT, validation=0.0)) == ([0, 1, 2, 3, 4], [])
    with pytest.raises(InputError, match="has no texts to learn from"):
        learn(folder, texts_file, SHORT, rows=([], []))


def test_options_are_read_from_their_table() -> None:
    def read_from(**values: object) -> Training:
        table = Table({"training": values}, file="r.toml")
        return options.group(Training, table, "training", Training())

    assert options.group(Training, Table({}, file="r.toml"), "training", SHORT) is SHORT
    assert read_from(epochs=5, precision="bf16") == Training(epochs=5, precision="bf16")
    with pytest.raises(InputError, match=r"r.toml: training.epoch: unknown key; did you mean"):
        read_from(epoch=5)
    with pytest.raises(InputError, match=r"training.patience: needs texts to validate on"):
        read_from(patience=1, validation=0.0)
    with pytest.raises(InputError, match=r"training.patience: says nothing here"):
        Gradual.read(Table({"training": {"patience": 2}}, file="r.toml"))


def test_without_dropout_a_network_answers_alike_while_it_learns(
    folder: Path, texts_file: Path
) -> None:
    apart = {}
    for dropout in (True, False):
        model = import_model(folder)
        found: list[Any] = []
        kinds: set[str] = set()

        def objective(
            batch: Any, model: Model = model, found: Any = found, kinds: Any = kinds
        ) -> Any:
            (logits,) = model.module(*batch.inputs)  # type: ignore[misc]
            (again,) = model.module(*batch.inputs)  # type: ignore[misc]
            found.append(float((logits - again).detach().abs().max()))
            kinds.add(model.module.network.config._attn_implementation)  # type: ignore[union-attr]
            return torch.nn.functional.cross_entropy(logits, batch.labels)

        options = replace(SHORT, steps=2, validation=0.0, dropout=dropout)
        fit(model, read(texts_file, model), options, objective, context=ALONE, text="x")
        apart[dropout] = (max(found), kinds)
        assert model.module.network.config._attn_implementation == "eager"  # type: ignore[union-attr]
    assert apart[True][0] > 1e-4
    assert apart[True][1] == {"eager"}
    assert apart[False] == (0.0, {"sdpa"})
