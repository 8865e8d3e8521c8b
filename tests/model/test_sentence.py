# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What stands beside the weights, against sentence-transformers and scikit-learn themselves.

The imported module runs in torch here; tests/runtime/test_sentence.py goes through the runtime.
"""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeopt import progress
from edgeopt.errors import InputError
from edgeopt.evaluate.score import pool
from edgeopt.model import Model, texts
from edgeopt.model.importer import import_model
from edgeopt.model.setfit import HEAD, read_head
from edgeopt.quiet import quiet
from tests import checkpoints, sentences
from tests.lazily import lazily

pytest.importorskip("transformers", reason="needs edgeopt[torch]")
kinds = lazily("sentence_transformers.sentence_transformer.modules", reason="needs edgeopt[dev]")
torch = pytest.importorskip("torch", reason="needs edgeopt[torch]")

pytestmark = pytest.mark.heavy
MODES = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")


def answers(model: Model, inputs: tuple[str, ...] = sentences.TEXTS) -> np.ndarray:
    """Return what the module gives for texts of the full length, mostly padding."""
    rows = []
    for call in texts.tokenize(model, inputs, model.text.max_seq_len):
        with torch.inference_mode():
            (found,) = model.module(
                *(torch.from_numpy(call[spec.name]) for spec in model.main.signature.inputs)
            )
        if model.pooling:
            found = pool(found, torch.from_numpy(call["attention_mask"]), model.pooling)
            if model.pooling.normalize:
                found = torch.nn.functional.normalize(found)
        rows.append(found[0].numpy())
    return np.stack(rows)


def notes(folder: Path, prompt: str | None = None) -> list[str]:
    heard: list[str] = []
    with progress.listen(lambda e: heard.append(e.text) if e.state == "note" else None):
        import_model(folder, prompt)
    return heard


@pytest.mark.parametrize("mode", MODES)
def test_each_way_to_pool(tmp_path: Path, mode: str) -> None:
    folder = sentences.write(tmp_path / "model", kinds.Pooling(32, mode))
    model = import_model(folder)
    assert (model.pooling is not None) == (mode in ("cls", "max", "mean"))
    assert answers(model) == pytest.approx(sentences.encode(folder), abs=1e-5)


@pytest.mark.parametrize(
    "modes",
    [("mean_tokens",), ("weightedmean_tokens",), ("cls_token", "max_tokens", "mean_tokens")],
)
def test_flags_of_before_version_5_4(tmp_path: Path, modes: tuple[str, ...]) -> None:
    folder = sentences.write(tmp_path / "model")
    sentences.flags(folder, *modes)
    assert answers(import_model(folder)) == pytest.approx(sentences.encode(folder), abs=1e-5)


CHAINS: dict[str, Callable[[], list[Any]]] = {
    "dense": lambda: [kinds.Pooling(32), kinds.Dense(32, 8)],
    "normalize": lambda: [kinds.Pooling(32), kinds.Normalize(), kinds.Normalize()],
    "many": lambda: [
        kinds.Pooling(32, MODES),
        kinds.LayerNorm(192),
        kinds.Normalize(),
        kinds.Dense(192, 12, activation_function=torch.nn.GELU(), use_residual=True),
        kinds.Dropout(0.3),
        kinds.Dense(12, 12, bias=False, activation_function=None, use_residual=True),
    ],
    "tokens": lambda: [
        kinds.Dense(32, 6, module_input_name="token_embeddings"),
        kinds.Normalize(module_input_name="token_embeddings"),
        kinds.Pooling(6, "max"),
    ],
}


@pytest.mark.parametrize("chain", CHAINS)
def test_modules_behind_the_transformer(tmp_path: Path, chain: str) -> None:
    folder = sentences.write(tmp_path / "model", *CHAINS[chain]())
    model = import_model(folder)
    expected = sentences.encode(folder)
    assert answers(model) == pytest.approx(expected, abs=1e-5)
    if model.pooling is None:
        (output,) = model.main.signature.outputs
        assert (output.name, output.dims) == ("sentence_embedding", ("batch", expected.shape[1]))


def test_an_embedding_cut_to_its_first_values(tmp_path: Path) -> None:
    parts = (kinds.Pooling(32), kinds.Normalize())
    folder = sentences.write(tmp_path / "model", *parts, truncate_dim=5)
    found = answers(import_model(folder))
    assert found.shape == (len(sentences.TEXTS), 5)
    assert found == pytest.approx(sentences.encode(folder), abs=1e-5)


PROMPTS = {"query": "the tool for ", "document": "text: "}


@pytest.mark.parametrize("excluded", [False, True])
@pytest.mark.parametrize("mode", ["mean", ("cls", "max", "weightedmean", "lasttoken")])
def test_prompts(tmp_path: Path, mode: Any, excluded: bool) -> None:
    pooling = kinds.Pooling(32, mode, include_prompt=not excluded)
    options = {"prompts": PROMPTS, "default_prompt_name": "query"}
    folder = sentences.write(tmp_path / "model", pooling, **options)
    short = tuple(text[:60] for text in sentences.TEXTS)
    for chosen in (None, "document"):
        model = import_model(folder, chosen)
        assert model.text.prompt == PROMPTS[chosen or "query"]
        expected = sentences.encode(folder, short, prompt_name=chosen)
        assert answers(model, short) == pytest.approx(expected, abs=1e-5)
    assert notes(folder) == [
        "model: the prompt query ('the tool for ') is put before every text",
        "model: not put before texts: document ('text: '); choose one with --prompt",
    ]


def test_a_prompt_that_is_not_there_is_refused(tmp_path: Path) -> None:
    folder = sentences.write(tmp_path / "model", prompts={"passage": "p: "})
    assert import_model(folder).text.prompt == ""
    assert import_model(folder, "query").text.prompt == ""  # as encode_query has it
    with pytest.raises(InputError, match="has no prompt 'pasage'; did you mean 'passage'"):
        import_model(folder, "pasage")
    plain = checkpoints.write(tmp_path / "plain", "BertModel")
    with pytest.raises(InputError, match="has no prompt 'query'"):
        import_model(plain, "query")


@pytest.mark.parametrize("normalizer", ["BertNormalizer", None])
def test_texts_are_made_lower_case(tmp_path: Path, normalizer: str | None) -> None:
    body = checkpoints.write(tmp_path / "body", "BertModel")
    document = json.loads((body / "tokenizer.json").read_text())
    if normalizer is None:
        document["normalizer"] = None
    else:
        document["normalizer"] |= {"lowercase": False, "strip_accents": None}
    (body / "tokenizer.json").write_text(json.dumps(document))
    folder = sentences.write(tmp_path / "model", body=body)
    sentences.edit(folder / "sentence_bert_config.json", do_lower_case=True)
    given = ("A LIBRARY for Python", "\u00c9t\u00e9 of the TOOL")
    expected = sentences.encode(folder, given)
    assert answers(import_model(folder), given) == pytest.approx(expected, abs=1e-5)
    sentences.edit(folder / "sentence_bert_config.json", do_lower_case=False)
    assert np.abs(sentences.encode(folder, given) - expected).max() > 0.1


@pytest.mark.parametrize(("stated", "found"), [(12, 12), (40, 40), (None, 38)])
def test_the_length_is_the_modules_before_the_tokenizers(
    tmp_path: Path, stated: int | None, found: int
) -> None:
    folder = sentences.write(tmp_path / "model")
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": stated}))
    model = import_model(folder)
    assert model.text.max_seq_len == found
    assert answers(model) == pytest.approx(sentences.encode(folder), abs=1e-5)


def test_a_transformer_in_a_folder_of_its_own(tmp_path: Path) -> None:
    folder = sentences.write(tmp_path / "model", kinds.Pooling(32), kinds.Dense(32, 8))
    sentences.apart(folder)
    (folder / "onnx").mkdir()
    (folder / "onnx/model.onnx").write_bytes(b"not for us")
    assert answers(import_model(folder)) == pytest.approx(sentences.encode(folder), abs=1e-5)


def test_weights_of_modules_as_version_2_saved_them(tmp_path: Path) -> None:
    folder = sentences.write(tmp_path / "model", kinds.Pooling(32), kinds.Dense(32, 8))
    from safetensors.torch import load_file

    dense = folder / "2_Dense"
    torch.save(load_file(dense / "model.safetensors"), dense / "pytorch_model.bin")
    (dense / "model.safetensors").unlink()
    options = {"in_features": 32, "out_features": 8, "bias": True}
    options["activation_function"] = "torch.nn.modules.activation.Tanh"
    (dense / "config.json").write_text(json.dumps(options))
    sentences.flags(folder, "mean_tokens")
    assert answers(import_model(folder)) == pytest.approx(sentences.encode(folder), abs=1e-5)


def test_a_changed_module_is_another_model(tmp_path: Path) -> None:
    folder = sentences.write(tmp_path / "model", kinds.Pooling(32), kinds.Dense(32, 8))
    before = import_model(folder).digest
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "2_Dense/model.safetensors")
    save_file({k: v * 2 for k, v in weights.items()}, folder / "2_Dense/model.safetensors")
    assert import_model(folder).digest != before


def _listed(folder: Path, kind: str) -> None:
    listed = json.loads((folder / "modules.json").read_text())
    listed[-1]["type"] = kind
    (folder / "modules.json").write_text(json.dumps(listed))


_MODELS = "sentence_transformers.models."
REFUSED = {
    "has the module WordWeights": lambda f: _listed(f, _MODELS + "WordWeights"),
    "has the module LSTM": lambda f: _listed(f, _MODELS + "LSTM"),
    "code of its own, modeling.Own": lambda f: _listed(f, "modeling.Own"),
    "is a SparseEncoder": lambda f: sentences.edit(
        f / "config_sentence_transformers.json", model_type="SparseEncoder"
    ),
    "the setting query_expansion": lambda f: sentences.edit(
        f / "sentence_bert_config.json", query_expansion={"length": 4}
    ),
    "the setting config_args.output_hidden_states": lambda f: sentences.edit(
        f / "sentence_bert_config.json", config_args={"output_hidden_states": True}
    ),
    "loaded for fill-mask": lambda f: sentences.edit(
        f / "sentence_bert_config.json", transformer_task="fill-mask"
    ),
    "unknown pooling mode 'median'": lambda f: sentences.edit(
        f / "1_Pooling/config.json", pooling_mode="median"
    ),
    "'window', which is not known of Pooling": lambda f: sentences.edit(
        f / "1_Pooling/config.json", window=3
    ),
    "the activation own.Activation": lambda f: sentences.edit(
        f / "2_Dense/config.json", activation_function="own.Activation"
    ),
    "the activation torch.nn.modules.activation.Softmax": lambda f: sentences.edit(
        f / "2_Dense/config.json", activation_function="torch.nn.modules.activation.Softmax"
    ),
    "Dense takes 'scores', which no module": lambda f: sentences.edit(
        f / "2_Dense/config.json", module_input_name="scores"
    ),
    "weights of Dense do not fit": lambda f: sentences.edit(
        f / "2_Dense/config.json", out_features=9
    ),
    "the module Pooling has no config.json": lambda f: (f / "1_Pooling/config.json").unlink(),
    "Dense has no weights": lambda f: (f / "2_Dense/model.safetensors").unlink(),
    "is damaged, or not weights": lambda f: (f / "2_Dense/model.safetensors").write_bytes(b"x"),
}


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "embedder"
    return sentences.write(folder, kinds.Pooling(32), kinds.Dense(32, 8))


@pytest.mark.parametrize("why", REFUSED)
def test_what_is_not_carried_is_refused_by_name(embedder: Path, tmp_path: Path, why: str) -> None:
    folder = Path(shutil.copytree(embedder, tmp_path / "model"))
    change: Any = REFUSED[why]
    change(folder)
    with pytest.raises(InputError, match=why):
        import_model(folder)


def test_a_module_outside_the_folder_is_refused(embedder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(embedder, tmp_path / "model"))
    listed = json.loads((folder / "modules.json").read_text())
    listed[-1]["path"] = "../embedder/2_Dense"
    (folder / "modules.json").write_text(json.dumps(listed))
    with pytest.raises(InputError, match="does not lie inside the folder"):
        import_model(folder)


def scores(model: Model, pairs: Any = sentences.PAIRS) -> np.ndarray:
    """Return the scores as the runtime makes them of the module's logits."""
    from edgeopt.model.tokenizer import load

    assert model.text.tokenizer is not None
    tokens = load(model.text.tokenizer)
    functions = {"sigmoid": torch.sigmoid, "none": lambda v: v}
    functions["softmax"] = lambda v: v.softmax(-1)
    rows = []
    for first, second in pairs:
        encoded = tokens(model.text.prompt + first, second, truncation=True, max_length=38)
        names = [spec.name for spec in model.main.signature.inputs]
        zeros = [0] * len(encoded["input_ids"])  # what a tokenizer without token types stands for
        inputs = [torch.tensor([encoded.get(name, zeros)]) for name in names]
        with torch.inference_mode():
            rows.append(functions[model.activation](model.module(*inputs)[0])[0].numpy())
    return np.stack(rows)


ACTIVATIONS = [
    (1, None, "sigmoid"),
    (1, torch.nn.Identity(), "none"),
    (1, torch.nn.Tanh(), "none"),
    (3, None, "none"),
    (3, torch.nn.Sigmoid(), "sigmoid"),
]


@pytest.mark.parametrize(("labels", "activation", "found"), ACTIVATIONS)
def test_a_reranker_scores_as_crossencoder(
    tmp_path: Path, labels: int, activation: Any, found: str
) -> None:
    folder = sentences.reranker(tmp_path / "model", labels, activation)
    model = import_model(folder)
    assert (model.activation, len(model.labels)) == (found, labels)
    told = [text for text in notes(folder) if "those of CrossEncoder.predict" in text]
    assert len(told) == (0 if (labels, found) == (1, "sigmoid") else 1)
    assert scores(model) == pytest.approx(sentences.predict(folder), abs=1e-5)


@pytest.mark.parametrize(
    "keys",
    [
        {"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"}},
        {"sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity"},
        {"sentence_transformers": {"version": "4.1.0"}},
    ],
)
def test_a_reranker_of_before_version_5_4(tmp_path: Path, keys: dict[str, Any]) -> None:
    folder = sentences.reranker(tmp_path / "model", 1, None)
    for name in ("modules.json", "config_sentence_transformers.json", "sentence_bert_config.json"):
        (folder / name).unlink()
    sentences.edit(folder / "config.json", **keys)
    assert scores(import_model(folder)) == pytest.approx(sentences.predict(folder), abs=1e-5)


def test_a_classifier_that_is_no_reranker_keeps_its_softmax(tmp_path: Path) -> None:
    folder = checkpoints.write(tmp_path / "model")
    assert import_model(folder).activation == "softmax"


def test_an_activation_of_code_of_its_own_is_refused(tmp_path: Path) -> None:
    folder = checkpoints.write(tmp_path / "model")
    sentences.edit(folder / "config.json", sentence_transformers={"activation_fn": "own.Scale"})
    with pytest.raises(InputError, match=r"has the activation own\.Scale, which is not carried"):
        import_model(folder)


@pytest.mark.parametrize("labels", [1, 3])
def test_a_reranker_of_modules(tmp_path: Path, labels: int) -> None:
    body = checkpoints.write(tmp_path / "body", "BertModel")
    with quiet():
        parts = [
            kinds.Transformer(str(body)),
            kinds.Pooling(32, ("cls", "mean")),
            kinds.Dense(64, 16, activation_function=torch.nn.GELU()),
            kinds.Dense(16, labels, activation_function=None, module_output_name="scores"),
        ]
        from sentence_transformers import CrossEncoder

        made = CrossEncoder(modules=parts, device="cpu", prompts={"query": "the tool "})
        made.default_prompt_name = "query"
        made.save_pretrained(str(tmp_path / "model"), create_model_card=False)
    model = import_model(tmp_path / "model")
    assert not any("CrossEncoder" in text for text in notes(tmp_path / "model"))
    assert (model.task.name, len(model.labels)) == ("sequence-classification", labels)
    assert scores(model) == pytest.approx(sentences.predict(tmp_path / "model"), abs=1e-5)


HEADS: list[tuple[Any, dict[str, Any], tuple[str, ...]]] = [
    ([0, 1, 0, 1], {"labels": ["no", "yes"]}, ("no", "yes")),
    ([2, 0, 1, 0], {"labels": ["a", "b", "c"], "normalize_embeddings": True}, ("a", "b", "c")),
    (["x", "y", "x", "z"], {"labels": None}, ("x", "y", "z")),
    ([0, 1, 1, 0], {}, ("0", "1")),
]


@pytest.mark.parametrize(("classes", "config", "labels"), HEADS)
def test_a_setfit_head(
    tmp_path: Path, classes: Any, config: dict[str, Any], labels: tuple[str, ...]
) -> None:
    folder = sentences.write(tmp_path / "model")
    expected = sentences.head(folder, classes, config)
    model = import_model(folder)
    assert (model.task.name, model.labels) == ("sequence-classification", labels)
    found = torch.from_numpy(answers(model)).softmax(-1).numpy()
    assert found == pytest.approx(expected, abs=1e-5)
    own = read_head(folder / HEAD, config.get("labels"))
    rows = sentences.encode(folder, normalize_embeddings=bool(config.get("normalize_embeddings")))
    found = np.stack([own.probabilities(row) for row in rows])
    assert found == pytest.approx(expected, abs=1e-6)  # scikit-learn takes float32 here


@pytest.mark.parametrize("kind", ["rest", "many"])
def test_a_setfit_head_of_several_labels_a_text(tmp_path: Path, kind: str) -> None:
    folder = sentences.write(tmp_path / "model", kinds.Pooling(32), kinds.Dense(32, 8))
    rows = [[0, 1, 1], [1, 0, 1], [1, 1, 0], [0, 0, 0]]
    expected = sentences.head(folder, rows, {"labels": ["a", "b", "c"]}, kind)
    if kind == "many":
        expected = np.stack(expected, axis=1)[:, :, 1]
    model = import_model(folder)
    assert (model.labels, model.activation) == (("a", "b", "c"), "sigmoid")
    found = torch.from_numpy(answers(model)).sigmoid().numpy()
    assert found == pytest.approx(expected, abs=1e-5)


class Evil:
    """A pickle of it runs code if it is read by pickle itself."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return (Path.touch, (self.marker,))


def test_no_code_of_a_head_is_run(tmp_path: Path) -> None:
    folder = sentences.write(tmp_path / "model")
    marker = tmp_path / "ran"
    (folder / "model_head.pkl").write_bytes(pickle.dumps(Evil(marker)))
    with pytest.raises(InputError, match=r"holds pathlib\.\S*Path.*only scikit-learn's Logistic"):
        import_model(folder)
    assert not marker.exists()
    pickle.loads((folder / "model_head.pkl").read_bytes())
    assert marker.exists()


def test_other_heads_are_refused_by_name(tmp_path: Path) -> None:
    import joblib
    from sklearn.linear_model import LogisticRegression
    from sklearn.svm import SVC

    folder = sentences.write(tmp_path / "model")
    path = folder / "model_head.pkl"
    joblib.dump(SVC(), path)
    with pytest.raises(InputError, match=r"holds sklearn\.svm\._classes\.SVC, and only"):
        import_model(folder)
    joblib.dump(LogisticRegression(), path)
    with pytest.raises(InputError, match="is not a classifier that was trained"):
        import_model(folder)
    trained = LogisticRegression().fit(np.eye(4, 7), [0, 1, 0, 1])
    joblib.dump(trained, path)
    with pytest.raises(InputError, match="its head takes 7 values, but an embedding has 32"):
        import_model(folder)
    trained.multi_class = "multinomial"  # as versions before 1.8 stored it
    joblib.dump(trained, path)
    with pytest.raises(InputError, match="other probabilities by the version of scikit-learn"):
        import_model(folder)
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(InputError, match="is damaged, or not what SetFit writes"):
        import_model(folder)
