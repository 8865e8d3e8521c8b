# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""A state_dict with its config.json, held against transformers with the weights loaded directly."""

import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edgeopt import progress
from edgeopt.errors import InputError
from edgeopt.model import reference
from edgeopt.model.importer import fingerprint, import_model

torch: Any = pytest.importorskip("torch", reason="needs edgeopt[torch]")
transformers: Any = pytest.importorskip("transformers", reason="needs edgeopt[torch]")
safetensors_torch: Any = pytest.importorskip("safetensors.torch", reason="needs edgeopt[torch]")

pytestmark = pytest.mark.heavy

IDS = torch.tensor([[7, 3, 9, 1, 0, 0]])
MASK = torch.tensor([[1, 1, 1, 1, 0, 0]])


@pytest.fixture
def network(tmp_path: Path) -> Any:
    """A small classifier, whose config.json lies in ``tmp_path``."""
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=50,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=16,
        num_labels=3,
    )
    made = transformers.BertForSequenceClassification(config).eval()
    config.architectures = ["BertForSequenceClassification"]
    config.save_pretrained(tmp_path)
    return made


@pytest.fixture
def notes() -> Iterator[list[str]]:
    told: list[str] = []
    with progress.listen(lambda event: told.append(event.text)):
        yield told


def check(path: Path, network: Any) -> None:
    model = import_model(path)
    inputs = {"input_ids": IDS, "attention_mask": MASK, "token_type_ids": torch.zeros_like(IDS)}
    (found,) = reference.run(model, [{name: value.numpy() for name, value in inputs.items()}])
    with torch.no_grad():
        expected = network(**inputs).logits
    torch.testing.assert_close(torch.from_numpy(found["logits"]), expected, rtol=1e-5, atol=1e-6)
    assert model.origin["kind"] == "state-dict"
    assert model.origin["source"] == path.name
    assert model.name == path.stem


WRAPPED: dict[str, tuple[Callable[[dict[str, Any]], Any], list[str]]] = {
    # how it is saved, and what is said of it
    "plain": (lambda weights: weights, []),
    "DataParallel": (
        lambda weights: {f"module.{name}": value for name, value in weights.items()},
        ["the names of its weights are taken without 'module.'"],
    ),
    "torch.compile in Lightning": (
        lambda weights: {
            "epoch": 3,
            "state_dict": {f"model._orig_mod.{n}": v for n, v in weights.items()},
        },
        [
            "its 'state_dict' is taken",
            "the names of its weights are taken without 'model._orig_mod.'",
        ],
    ),
    "a training script": (
        lambda weights: {"model_state_dict": weights, "optimizer": {"lr": 0.1}},
        ["its 'model_state_dict' is taken"],
    ),
}


@pytest.mark.parametrize("how", WRAPPED)
@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".ckpt"])
def test_weights_give_what_transformers_gives(
    tmp_path: Path, network: Any, notes: list[str], how: str, suffix: str
) -> None:
    wrap, said = WRAPPED[how]
    path = tmp_path / f"own{suffix}"
    torch.save(wrap(network.state_dict()), path)
    check(path, network)
    assert [note for note in notes if note.startswith(f"{path}: ")] == [
        f"{path}: {text}" for text in said
    ]


def test_safetensors_are_taken(tmp_path: Path, network: Any) -> None:
    path = tmp_path / "own.safetensors"
    weights = {f"module.{n}": v.contiguous() for n, v in network.state_dict().items()}
    safetensors_torch.save_file(weights, path)
    check(path, network)


def refused(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        import_model(path)
    return str(caught.value).removeprefix(f"{path}: ").split("\n")[0]


def test_weights_that_do_not_fit_are_listed(tmp_path: Path, network: Any) -> None:
    weights = dict(network.state_dict())
    del weights["classifier.bias"]
    weights["classifier.extra"] = torch.zeros(2)
    weights["classifier.weight"] = torch.zeros(4, 16)
    path = tmp_path / "own.pt"
    torch.save(weights, path)
    assert refused(path) == (
        "its weights do not fit config.json's network: missing: classifier.bias; without a place "
        "in config.json's network: classifier.extra; of another shape: classifier.weight (4x16 "
        "stored, 3x16 expected)"
    )


def test_long_lists_are_cut(tmp_path: Path, network: Any) -> None:
    path = tmp_path / "own.pt"
    torch.save({"classifier.bias": torch.zeros(3)}, path)
    left = len(network.state_dict()) - 1 - 5
    assert refused(path).endswith(f" and {left} more")


class Shell:
    """Runs a command if it is unpickled by one that trusts it."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("save", [torch.save, lambda o, p: p.write_bytes(pickle.dumps(o))])
def test_a_pickle_that_would_run_code_is_refused(
    tmp_path: Path, network: Any, save: Callable[[Any, Path], Any]
) -> None:
    path, mark = tmp_path / "own.pt", tmp_path / "ran"
    save({"weight": Shell(mark)}, path)
    assert refused(path).startswith("is a pickle of more than tensors, which could run code (")
    assert not mark.exists()


def test_a_whole_module_is_refused(tmp_path: Path, network: Any) -> None:
    path = tmp_path / "own.pt"
    torch.save(network, path)
    assert refused(path).startswith("is a pickle of more than tensors, which could run code (")


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_damaged_file_is_refused(tmp_path: Path, network: Any, suffix: str) -> None:
    path = tmp_path / f"own{suffix}"
    weights = {n: v.contiguous() for n, v in network.state_dict().items()}
    save: Any = torch.save if suffix == ".pt" else safetensors_torch.save_file
    save(weights, path)
    path.write_bytes(path.read_bytes()[:5000])
    assert refused(path).startswith("is damaged, cut short, or no file of weights (")


def test_something_else_than_weights_is_refused(tmp_path: Path, network: Any) -> None:
    path = tmp_path / "own.pt"
    torch.save({"epoch": 3, "loss": [1.0]}, path)
    assert refused(path) == (
        "is no state_dict: a dict with epoch, loss; expected tensors by name, or one of "
        "state_dict, model_state_dict, model with them"
    )


def test_a_config_has_to_stand_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "own.pt"
    torch.save({"weight": torch.zeros(1)}, path)
    assert refused(path) == (
        "has no config.json beside it, which says what network its weights are of"
    )


def test_its_config_counts(tmp_path: Path, network: Any) -> None:
    path = tmp_path / "own.pt"
    torch.save(network.state_dict(), path)
    before = fingerprint(path)
    config = tmp_path / "config.json"
    config.write_text(config.read_text().replace("LABEL_0", "first"))
    assert fingerprint(path) != before
    assert import_model(path).labels[0] == "first"
