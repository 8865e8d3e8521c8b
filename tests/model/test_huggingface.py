# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeopt import progress
from edgeopt.errors import InputError
from edgeopt.model import reference
from edgeopt.model.importer import import_model
from edgeopt.model.pooling import Pooling
from edgeopt.model.texts import tokenize
from edgeopt.quiet import quiet
from tests import checkpoints
from tests.runtime.poolings import write_pooling

pytest.importorskip("transformers", reason="needs edgeopt[torch]")
pytestmark = pytest.mark.heavy

TEXTS = ("a library for python", "the tool, and the data of a text")


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.write(tmp_path_factory.mktemp("models") / "sections")


@pytest.fixture
def damaged(classifier: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(classifier, tmp_path / "damaged"))


def edit(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


TASKS = [
    ("BertModel", "feature-extraction", {"last_hidden_state": (1, 16, 32)}),
    ("BertForMaskedLM", "feature-extraction", {"last_hidden_state": (1, 16, 32)}),
    ("BertForSequenceClassification", "sequence-classification", {"logits": (1, 3)}),
    ("BertForTokenClassification", "token-classification", {"logits": (1, 16, 3)}),
    ("RobertaForSequenceClassification", "sequence-classification", {"logits": (1, 3)}),
    (
        "DistilBertForQuestionAnswering",
        "question-answering",
        {"start_logits": (1, 16), "end_logits": (1, 16)},
    ),
]


@pytest.mark.parametrize(("architecture", "task", "shapes"), TASKS, ids=[t[0] for t in TASKS])
def test_outputs_are_those_of_transformers(
    architecture: str, task: str, shapes: dict[str, tuple[int, ...]], tmp_path: Path
) -> None:
    import torch
    import transformers

    folder = checkpoints.write(tmp_path / "model", architecture)
    model = import_model(folder)
    assert model.task.name == task
    assert model.labels == (checkpoints.LABELS if "classification" in task else ())
    assert not model.module.training
    with quiet():
        network = getattr(transformers, architecture).from_pretrained(folder).eval()
    base = getattr(network, network.base_model_prefix, network)
    for call in tokenize(model, TEXTS, 16):
        assert list(call) == [spec.name for spec in model.main.signature.inputs]
        given = {name: torch.from_numpy(value) for name, value in call.items()}
        with torch.inference_mode():
            expected = (base if architecture == "BertForMaskedLM" else network)(**given)
        for name, got in reference.run(model, [call])[0].items():
            assert got.shape == shapes[name]
            kept = call["attention_mask"].astype(bool) if got.shape[:2] == (1, 16) else slice(None)
            np.testing.assert_allclose(got[kept], expected[name].numpy()[kept], atol=1e-5)


def test_a_checkpoint_tells_where_it_came_from(classifier: Path) -> None:
    (classifier / "README.md").write_text("---\nlanguage: en\nlicense: apache-2.0\n---\n# Card\n")
    model = import_model(classifier)
    assert model.name == "sections"
    assert model.origin["license"] == "apache-2.0"
    assert model.origin["source"] == "sections"
    assert str(classifier) not in json.dumps(dict(model.origin))
    assert model.text.max_seq_len == 38  # the tokenizer's, below the 40 positions
    names = sorted(path.name for path in model.text.tokenizer.iterdir())
    assert names == ["tokenizer.json", "tokenizer_config.json"]
    assert import_model(classifier).digest == model.digest


def test_another_tokenizer_gives_another_digest(classifier: Path, damaged: Path) -> None:
    path = damaged / "tokenizer_config.json"
    path.write_text(path.read_text().replace("38", "30"))
    model = import_model(damaged)
    assert model.digest != import_model(classifier).digest
    assert model.text.max_seq_len == 30


def test_half_precision_weights_become_fp32(tmp_path: Path) -> None:
    folder = checkpoints.write(tmp_path / "model")
    import torch
    import transformers

    with quiet():
        half = transformers.AutoModelForSequenceClassification.from_pretrained(
            folder, dtype=torch.float16
        )
        half.save_pretrained(folder)
    model = import_model(folder)
    assert {p.dtype for p in model.module.parameters()} == {torch.float32}


def test_roberta_counts_positions_from_its_padding(tmp_path: Path) -> None:
    folder = checkpoints.write(tmp_path / "model", "RobertaModel")
    (folder / "tokenizer_config.json").write_text(
        (folder / "tokenizer_config.json").read_text().replace("38", "512")
    )
    model = import_model(folder)
    assert model.text.max_seq_len == 38  # 40 positions, of which 0 and 1 are never used
    assert [spec.name for spec in model.main.signature.inputs] == ["input_ids", "attention_mask"]


def test_sentence_transformers_files_give_pooling_and_length(tmp_path: Path) -> None:
    folder = checkpoints.write(tmp_path / "model", "BertModel")
    modules = [("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize")]
    listed = [{"type": f"sentence_transformers.models.{t}", "path": p} for t, p in modules]
    (folder / "modules.json").write_text(json.dumps(listed))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling/config.json").write_text('{"pooling_mode_mean_tokens": true}')
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 24}')
    model = import_model(folder)
    assert model.pooling == Pooling(mode="mean", normalize=True)
    assert model.text.max_seq_len == 24


@pytest.mark.parametrize(
    ("options", "mode"),
    [
        ({"pooling_mode": "cls"}, "cls"),
        ({"pooling_mode": ["max"]}, "max"),
        ({"pooling_mode": "mean", "pooling_mode_cls_token": True}, "mean"),
        ({"embedding_dimension": 32}, "mean"),
    ],
)
def test_the_pooling_may_be_one_word(tmp_path: Path, options: dict[str, Any], mode: str) -> None:
    folder = checkpoints.write(tmp_path / "model", "BertModel")
    write_pooling(folder, "max")
    (folder / "1_Pooling/config.json").write_text(json.dumps(options))
    assert import_model(folder).pooling == Pooling(mode=mode, normalize=True)


def test_nothing_of_transformers_reaches_the_terminal(
    classifier: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    import_model(classifier)
    assert capfd.readouterr() == ("", "")


def test_truncated_weights_are_refused(damaged: Path) -> None:
    path = damaged / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(InputError, match="is damaged or cut short") as caught:
        import_model(damaged)
    assert caught.value.where == str(path)
    assert caught.value.hint == "Copy or download the file again."


def test_a_git_lfs_pointer_is_named_as_such(damaged: Path) -> None:
    (damaged / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(InputError, match="is a Git LFS pointer, not the weights"):
        import_model(damaged)


def test_missing_weights_are_refused(damaged: Path) -> None:
    (damaged / "model.safetensors").unlink()
    with pytest.raises(InputError, match="has no weights") as caught:
        import_model(damaged)
    assert "pytorch_model.bin" in caught.value.hint


def test_missing_keys_are_an_error_and_not_random_weights(damaged: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = damaged / "model.safetensors"
    weights = load_file(path)
    del weights["classifier.weight"]
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(InputError) as caught:
        import_model(damaged)
    assert caught.value.message == (
        "weights and config.json disagree: missing from the weights: classifier.weight"
    )


def test_a_layer_without_a_place_is_an_error(damaged: Path) -> None:
    edit(damaged, num_hidden_layers=1)
    with pytest.raises(InputError, match=r"without a place in config.json's network: bert.encoder"):
        import_model(damaged)


def test_another_width_is_an_error(damaged: Path) -> None:
    edit(damaged, intermediate_size=48)
    with pytest.raises(InputError, match=r"of another shape: .*64x32 stored, 48x32 expected"):
        import_model(damaged)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architectures": ["GPT2LMHeadModel"], "is_decoder": True}, "generates text"),
        ({"architectures": ["LlamaForCausalLM"]}, "LlamaForCausalLM generates text"),
        ({"architectures": ["GPT2LMHeadModel"]}, "GPT2LMHeadModel generates text"),
        ({"architectures": ["XLMWithLMHeadModel"]}, "XLMWithLMHeadModel generates text"),
        ({"architectures": ["BertForMultipleChoice"]}, "'BertForMultipleChoice' is not one"),
        ({"is_encoder_decoder": True}, "generates text"),
        ({"model_type": "nosuch"}, "transformers cannot load it"),
    ],
)
def test_what_is_no_encoder_is_refused(
    changes: dict[str, object], message: str, damaged: Path
) -> None:
    edit(damaged, **changes)
    with pytest.raises(InputError, match=message):
        import_model(damaged)


def test_a_config_that_is_no_json_is_refused(damaged: Path) -> None:
    (damaged / "config.json").write_text("{")
    with pytest.raises(InputError, match="is not JSON"):
        import_model(damaged)


def test_a_damaged_tokenizer_is_refused(damaged: Path) -> None:
    (damaged / "tokenizer.json").write_text('{"version": "1.0"')
    with pytest.raises(InputError, match="the tokenizer cannot be read"):
        import_model(damaged)


def test_architectures_that_are_no_array_are_refused(damaged: Path) -> None:
    config = json.loads((damaged / "config.json").read_text())
    (damaged / "config.json").write_text(json.dumps(config | {"architectures": -1}))
    with pytest.raises(InputError, match="architectures: expected an array of names, found -1"):
        import_model(damaged)


def test_without_a_tokenizer_ids_are_made_up_and_that_is_said(damaged: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (damaged / name).unlink()
    events: list[progress.Event] = []
    with progress.listen(events.append):
        model = import_model(damaged)
        calls = tokenize(model, TEXTS, 16)
    assert model.text.tokenizer is None
    assert any("random token ids" in event.text for event in events if event.state == "note")
    assert calls[0]["input_ids"].max() < len(checkpoints.VOCABULARY)
    assert calls[0]["attention_mask"].sum() == len(TEXTS[0].split()) + 2
    again = tokenize(model, TEXTS, 16)
    np.testing.assert_array_equal(calls[1]["input_ids"], again[1]["input_ids"])


@pytest.mark.parametrize("source", ["no/such/place", "./nosuch", "/nosuch/model"])
def test_a_path_that_is_not_there_is_no_such_model(source: str) -> None:
    with pytest.raises(InputError, match=f"no such model: '{source}' is not a directory"):
        import_model(source)


def test_a_folder_without_config_is_refused_and_its_graphs_are_pointed_at(tmp_path: Path) -> None:
    for name in ("decoder.onnx", "encoder.onnx"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(InputError, match=r"has no config\.json") as caught:
        import_model(tmp_path)
    assert caught.value.hint == f"Give the file itself: {tmp_path}/decoder.onnx"
