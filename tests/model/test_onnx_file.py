# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""ONNX files as people have them: what is carried, and what is refused in which words.

What is right is what onnxruntime gives for the file as it came, under the file's own names.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeopt import progress
from edgeopt.errors import InputError
from edgeopt.model import Model, reference
from edgeopt.model.importer import fingerprint, import_model
from edgeopt.model.onnx_file import import_onnx

onnx = pytest.importorskip("onnx", reason="needs edgeopt[onnx]")
ort = pytest.importorskip("onnxruntime", reason="needs edgeopt[onnx]")

Kind = onnx.TensorProto
IDS = np.array([[7, 3, 9, 1, 0, 0]])
MASK = np.array([[1, 1, 1, 1, 0, 0]])
TYPES = np.array([[0, 0, 1, 1, 0, 0]])
OURS = {"input_ids": IDS, "attention_mask": MASK, "token_type_ids": TYPES}
WIDTH = 2
ROWS = 50


def graph(**changes: Any) -> Any:
    """Return a ModelProto that looks up tokens, hides padding, and projects to two logits.

    ``inputs`` are names in the order of ids, mask, types; ``outputs`` map names to one of tokens
    (batch, seq, 2), sum (batch, 2), score (batch,), hidden (batch, seq, 4) and first (batch, seq).
    """
    given: dict[str, Any] = {
        "inputs": ["input_ids", "attention_mask"],
        "kinds": [Kind.INT64] * 4,
        "dims": ["batch", "seq"],
        "outputs": {"logits": "tokens"},
        "opset": 17,
        "ir": 8,
        "domain": "",
        "more": [],
        "masked": True,
        "rows": ROWS,
        "inner": "hidden",
    } | changes
    helper, rng = onnx.helper, np.random.default_rng(0)
    arrays = {
        "table": rng.normal(size=(given["rows"], 4)).astype(np.float32),
        "types": rng.normal(size=(2, 4)).astype(np.float32),
        "places": rng.normal(size=(40, 4)).astype(np.float32),
        "head": rng.normal(size=(4, WIDTH)).astype(np.float32),
        "axis": np.array([1], np.int64),
        "wide": np.array([0, -1, 1], np.int64),
        "column": np.array(0, np.int64),
    }
    names, inner = given["inputs"], given["inner"]
    node = helper.make_node
    nodes = [node("Gather", ["table", names[0]], ["looked_up"])]
    last = "looked_up"
    for table, name in zip(("types", "places"), names[2:], strict=False):
        nodes += [
            node("Gather", [table, name], [f"{table}_rows"]),
            node("Add", [last, f"{table}_rows"], [f"with_{table}"]),
        ]
        last = f"with_{table}"
    if given["masked"]:
        nodes += [
            node("Cast", [names[1]], ["mask"], to=Kind.FLOAT),
            node("Reshape", ["mask", "wide"], ["columns"]),
            node("Mul", [last, "columns"], [inner]),
        ]
    else:
        nodes.append(node("Identity", [last], [inner]))
    nodes.append(node("MatMul", [inner, "head"], ["tokens"], domain=given["domain"]))
    axes = {} if given["opset"] >= 13 else {"axes": [1]}
    sums = ["tokens", "axis"] if given["opset"] >= 13 else ["tokens"]
    nodes.append(node("ReduceSum", sums, ["sum"], keepdims=0, **axes))
    nodes.append(node("Gather", ["sum", "column"], ["score"], axis=1))
    nodes.append(node("Gather", ["tokens", "column"], ["first"], axis=2))
    batch, seq = given["dims"]
    shapes = {
        "tokens": [batch, seq, WIDTH],
        "sum": [batch, WIDTH],
        "score": [batch],
        "hidden": [batch, seq, 4],
        "first": [batch, seq],
        "label": [batch],
    }
    nodes += given["more"]
    nodes += [node("Identity", [made], [name]) for name, made in given["outputs"].items()]
    made = helper.make_graph(
        nodes,
        "tiny",
        [
            helper.make_tensor_value_info(n, kind, given["dims"])
            for n, kind in zip(names, given["kinds"], strict=False)
        ],
        [
            helper.make_tensor_value_info(n, Kind.FLOAT, shapes.get(made))
            for n, made in given["outputs"].items()
        ],
        [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    opsets = [helper.make_opsetid("", given["opset"])]
    if given["domain"]:
        opsets.append(helper.make_opsetid(given["domain"], 1))
    return helper.make_model(made, opset_imports=opsets, ir_version=given["ir"])


def save(folder: Path, **changes: Any) -> Path:
    path = folder / "tiny.onnx"
    onnx.save(graph(**changes), path)
    return path


def ask(path: Path, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return what onnxruntime gives for the file itself, under its own names."""
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    kinds = {"tensor(int32)": np.int32, "tensor(float)": np.float32, "tensor(bool)": np.bool_}
    kinds["tensor(float16)"] = np.float16
    given = {
        i.name: feeds[i.name].astype(kinds.get(i.type, np.int64)) for i in session.get_inputs()
    }
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(names, given), strict=True))


def shipped(model: Model) -> dict[str, np.ndarray]:
    """Return what the graph that artifacts are made of gives, under the signature's names."""
    session = ort.InferenceSession(str(model.main.source.path), providers=["CPUExecutionProvider"])
    wanted = {t.name for t in model.main.signature.inputs}
    assert [i.name for i in session.get_inputs()] == [t.name for t in model.main.signature.inputs]
    assert {i.type for i in session.get_inputs()} == {"tensor(int64)"}
    assert {o.type for o in session.get_outputs()} == {"tensor(float)"}
    names = [t.name for t in model.main.signature.outputs]
    assert [o.name for o in session.get_outputs()] == names
    given = {name: value for name, value in OURS.items() if name in wanted}
    return dict(zip(names, session.run(names, given), strict=True))


@pytest.fixture
def notes() -> Iterator[list[str]]:
    told: list[str] = []
    with progress.listen(lambda event: told.append(event.text)):
        yield told


def beside(folder: Path, **config: Any) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"} | config))


@pytest.mark.parametrize(
    ("outputs", "task"),
    [
        ({"logits": "sum"}, "sequence-classification"),
        ({"logits": "tokens"}, "token-classification"),
    ],
)
def test_the_task_goes_by_the_logits(tmp_path: Path, outputs: Any, task: str) -> None:
    path = save(tmp_path, outputs=outputs)
    model = import_model(path)
    assert (model.name, model.task.name, model.labels) == ("tiny", task, ("LABEL_0", "LABEL_1"))
    assert [t.name for t in model.main.signature.inputs] == ["input_ids", "attention_mask"]
    assert model.main.signature.inputs[0].dims == ("batch", "seq")
    assert (model.main.is_torch, model.text.tokenizer, model.text.max_seq_len) == (False, None, 512)
    assert model.main.source.path == path  # nothing had to be changed
    assert reference.name(model) == "onnxruntime FP32"


MASK_AS_FLOAT = [Kind.INT64, Kind.FLOAT]
CARRIED: dict[str, tuple[dict[str, Any], dict[str, str], str]] = {
    # what it is like: changes, the file's names for ours, the output that is taken
    "other names": (
        {"inputs": ["input_ids:0", "input_mask:0", "segment_ids:0"]},
        {"input_ids:0": "input_ids", "input_mask:0": "attention_mask",
         "segment_ids:0": "token_type_ids"},
        "logits",
    ),
    "int32": ({"kinds": [Kind.INT32] * 3}, {}, "logits"),
    "mask in float32": ({"kinds": MASK_AS_FLOAT}, {}, "logits"),
    "mask in bool": ({"kinds": [Kind.INT64, Kind.BOOL]}, {}, "logits"),
    "an inner name that is ours": (
        {"inputs": ["ids", "input_mask"], "inner": "input_ids"},
        {"ids": "input_ids", "input_mask": "attention_mask"},
        "logits",
    ),
    "more outputs": (
        {"outputs": {"last_hidden_state": "hidden", "pooler_output": "sum"}},
        {},
        "last_hidden_state",
    ),
    "more outputs first": (
        {"outputs": {"hidden_states.0": "hidden", "logits": "sum", "attentions.0": "tokens"}},
        {},
        "logits",
    ),
    "its own pooling": (
        {"outputs": {"token_embeddings": "hidden", "sentence_embedding": "sum"}},
        {},
        "sentence_embedding",
    ),
    "a score for each text": ({"outputs": {"logits": "score"}}, {}, "logits"),
    "dimensions without names": ({"dims": [None, None]}, {}, "logits"),
    "one name for both": ({"dims": ["n", "n"]}, {}, "logits"),
    "opset 11": ({"opset": 11, "ir": 6}, {}, "logits"),
    "opset 20": ({"opset": 20, "ir": 10}, {}, "logits"),
    "positions": (
        {"inputs": ["input_ids", "attention_mask", "token_type_ids", "position_ids"]}, {}, "logits"
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", CARRIED)
def test_what_is_carried_answers_as_the_file_does(tmp_path: Path, kind: str) -> None:
    changes, names, output = CARRIED[kind]
    beside(tmp_path)
    path = save(tmp_path, **changes)
    model = import_onnx(path)
    feeds = OURS | {"position_ids": np.arange(6)[None]}
    feeds |= {theirs: OURS[ours] for theirs, ours in names.items()}
    expected = ask(path, feeds)[output]
    (got,) = shipped(model).values()
    np.testing.assert_allclose(got, expected.reshape(got.shape), rtol=0, atol=1e-6)
    wanted = {t.name for t in model.main.signature.inputs}
    batch = {name: value for name, value in OURS.items() if name in wanted}
    (referred,) = reference.run(model, [batch])[0].values()
    np.testing.assert_array_equal(referred, expected.reshape(got.shape))


def test_inputs_of_no_declared_shape(tmp_path: Path) -> None:
    proto = graph(outputs={"logits": "sum"})
    for value in proto.graph.input:
        value.type.tensor_type.ClearField("shape")
    path = tmp_path / "tiny.onnx"
    onnx.save(proto, path)
    expected = ask(path, {"input_ids": IDS, "attention_mask": MASK})["logits"]
    np.testing.assert_allclose(shipped(import_onnx(path))["logits"], expected, rtol=0, atol=1e-6)


def test_an_input_that_nothing_depends_on_is_left_out(tmp_path: Path, notes: list[str]) -> None:
    """Not even positions, which nobody could tell how to count here."""
    proto = graph(outputs={"logits": "sum"})
    proto.graph.input.append(
        onnx.helper.make_tensor_value_info("position_ids", Kind.INT32, ["batch", "seq"])
    )
    proto.graph.node.insert(
        0, onnx.helper.make_node("Cast", ["position_ids"], ["dead"], to=Kind.INT64)
    )
    path = tmp_path / "tiny.onnx"
    onnx.save(proto, path)
    model = import_onnx(path)
    assert [t.name for t in model.main.signature.inputs] == ["input_ids", "attention_mask"]
    feeds = {"input_ids": IDS, "attention_mask": MASK, "position_ids": IDS.astype(np.int32)}
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (expected,) = session.run(["logits"], feeds)
    np.testing.assert_allclose(shipped(model)["logits"], expected, rtol=0, atol=1e-6)
    assert any("nothing depends on its input position_ids" in text for text in notes)


def test_what_was_changed_is_told(tmp_path: Path, notes: list[str]) -> None:
    import_onnx(save(tmp_path, outputs={"logits": "sum", "attentions": "tokens"}))
    assert any("leaves out attentions, which sequence-classification" in text for text in notes)
    beside(tmp_path, architectures=["BertForSequenceClassification"])
    import_onnx(save(tmp_path, inputs=["input_ids", "input_mask"], outputs={"out": "sum"}))
    assert any("input input_mask is taken as attention_mask" in text for text in notes)
    assert any("output out is taken as logits" in text for text in notes)


@pytest.mark.parametrize("dims", [["batch", 24], [1, 24]])
def test_a_fixed_length_is_the_only_one(tmp_path: Path, dims: list[Any]) -> None:
    model = import_onnx(save(tmp_path, dims=dims, outputs={"logits": "sum"}))
    assert (model.text.seq_lens, model.text.max_seq_len) == ((24,), 24)
    assert model.main.signature.inputs[0].dims == (dims[0], "seq")


def written_down(batch: int, seq: int) -> list[Any]:
    """Return nodes that reshape tokens to sum as an exporter does that knows every size."""
    shape = np.array([batch, seq, 1, WIDTH])
    rows = np.arange(batch).reshape(batch, 1, 1)
    constant = onnx.helper.make_node
    arrays = {"known": shape, "row": np.concatenate([rows, rows * 0], 2)}
    return [
        *(
            constant("Constant", [], [name], value=onnx.numpy_helper.from_array(array))
            for name, array in arrays.items()
        ),
        constant("Reshape", ["tokens", "known"], ["apart"]),
        constant("GatherND", ["apart", "row"], ["firsts"]),
        constant("ReduceMean", ["firsts"], ["pooled"], keepdims=0, axes=[1, 2]),
    ]


@pytest.mark.parametrize(
    ("dims", "inside"),
    [([4, "seq"], "free"), ([4, 6], "free"), ([4, 6], "written down")],
)
def test_a_fixed_batch_becomes_one_text(
    tmp_path: Path, notes: list[str], dims: list[Any], inside: str
) -> None:
    changes: dict[str, Any] = {"outputs": {"logits": "sum"}}
    if inside == "written down":
        changes = {"outputs": {"logits": "pooled"}, "more": written_down(4, 6)}
    path = save(tmp_path, dims=dims, **changes)
    four = {n: np.repeat(v[:1], 4, 0) for n, v in OURS.items()}
    four["input_ids"] = (np.arange(24).reshape(4, 6) * 11) % ROWS
    expected = ask(path, four)["logits"]
    model = import_onnx(path)
    assert model.main.signature.inputs[0].dims == (1, "seq")
    assert any("takes 4 texts at once, and is rewritten for one" in text for text in notes)
    session = ort.InferenceSession(str(model.main.source.path), providers=["CPUExecutionProvider"])
    for row in range(4):
        one = {i.name: four[i.name][row : row + 1] for i in session.get_inputs()}
        (found,) = session.run(None, one)
        np.testing.assert_allclose(found, expected[row : row + 1], rtol=0, atol=1e-6)


def test_labels_come_from_the_config_beside_it(tmp_path: Path) -> None:
    beside(tmp_path, id2label={"1": "yes", "0": "no"}, max_position_embeddings=64)
    model = import_onnx(save(tmp_path, outputs={"logits": "sum"}))
    assert model.labels == ("no", "yes")
    assert model.text.max_seq_len == 64


@pytest.mark.parametrize(
    "labels", [{"0": "no"}, {"0": "a", "1": "b", "2": "c"}, {"0": "a", "2": "b"},
               {"1": "a", "2": "b"}, {"no": "a"}, ["a"]]
)  # fmt: skip
def test_labels_of_another_count_are_refused(tmp_path: Path, labels: Any) -> None:
    beside(tmp_path, id2label=labels)
    with pytest.raises(InputError, match=r"id2label: names labels .*has 2 values: expected the"):
        import_onnx(save(tmp_path, outputs={"logits": "sum"}))


def test_what_runs_is_how_long_a_text_may_be(tmp_path: Path) -> None:
    """The table of positions has 40 rows, whatever config.json says."""
    inputs = ["input_ids", "attention_mask", "token_type_ids", "position_ids"]
    beside(tmp_path, max_position_embeddings=128)
    assert import_onnx(save(tmp_path, inputs=inputs)).text.max_seq_len == 40


def test_positions_that_start_behind_the_padding(tmp_path: Path) -> None:
    beside(tmp_path, model_type="roberta", max_position_embeddings=2050, pad_token_id=1)
    assert import_onnx(save(tmp_path)).text.max_seq_len == 2048


def halved(path: Path, **options: Any) -> None:
    from onnxruntime.transformers.float16 import convert_float_to_float16

    onnx.save(convert_float_to_float16(onnx.load(path), **options), path)


@pytest.mark.parametrize("keep_io_types", [True, False])
def test_half_precision_is_made_full(tmp_path: Path, keep_io_types: bool, notes: list[str]) -> None:
    path = save(tmp_path, kinds=MASK_AS_FLOAT)
    halved(path, keep_io_types=keep_io_types)
    model = import_onnx(path)
    expected = ask(path, OURS)["logits"].astype(np.float32)
    np.testing.assert_allclose(shipped(model)["logits"], expected, rtol=0, atol=0.01)
    assert {t.data_type for t in onnx.load(model.main.source.path).graph.initializer} == {
        Kind.FLOAT,
        Kind.INT64,
    }
    assert reference.name(model) == "onnxruntime FP16"
    assert any("is in FP16; its weights are made FP32" in text for text in notes)


def quantised(path: Path, way: str) -> None:
    from onnxruntime import quantization
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    if way == "dynamic":
        quantization.quantize_dynamic(str(path), str(path))
    elif way == "nbits":
        big = graph(rows=64)
        made = MatMulNBitsQuantizer(big, block_size=16)
        made.process()
        made.model.save_model_to_file(str(path))
    else:

        class Reader(quantization.CalibrationDataReader):
            def __init__(self) -> None:
                self.calls = iter([{"input_ids": IDS, "attention_mask": MASK}])

            def get_next(self) -> Any:
                return next(self.calls, None)

        form = getattr(quantization.QuantFormat, way)
        quantization.quantize_static(str(path), str(path), Reader(), quant_format=form)


@pytest.mark.heavy
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("way", ["dynamic", "QDQ", "QOperator", "nbits"])
def test_what_is_quantised_already_is_refused(tmp_path: Path, way: str) -> None:
    path = save(tmp_path)
    quantised(path, way)
    with pytest.raises(InputError, match=r"tiny\.onnx: is quantised already \(") as caught:
        import_onnx(path)
    assert caught.value.hint is not None
    assert caught.value.hint.startswith("Give the FP32 file that it was made of")


def drop_out(training: bool) -> list[Any]:
    value = onnx.numpy_helper.from_array(np.array(training))
    return [
        onnx.helper.make_node("Constant", [], ["mode"], value=value),
        onnx.helper.make_node("Dropout", ["sum", "", "mode"], ["dropped"]),
    ]


def test_dropout_that_is_off_is_carried(tmp_path: Path) -> None:
    path = save(tmp_path, more=drop_out(False), outputs={"logits": "dropped"})
    model = import_onnx(path)
    feeds = {"input_ids": IDS, "attention_mask": MASK}
    np.testing.assert_allclose(shipped(model)["logits"], ask(path, feeds)["logits"], atol=1e-6)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "unknown input": (
        {"inputs": ["tokens_in", "other"]},
        "inputs are tokens_in, other; expected input_ids, attention_mask and maybe token_type_ids",
    ),
    "a mask of doubles": (
        {"kinds": [Kind.INT64, Kind.DOUBLE]},
        r"input attention_mask is float64 with 2 dimensions; expected int64 \(batch, seq\)",
    ),
    "unknown output": ({"outputs": {"answer": "sum"}}, "outputs are answer; expected feature-"),
    "another domain": ({"domain": "my.ops"}, r"uses operators of my\.ops"),
    "a fixed batch of texts that know each other": (
        {"dims": [8, "seq"], "outputs": {"logits": "centred"},
         "more": [onnx.helper.make_node("ReduceMean", ["sum"], ["mean"], axes=[0]),
                  onnx.helper.make_node("Sub", ["sum", "mean"], ["centred"])]},
        "takes a fixed batch of 8 texts; a device reads one",
    ),
    "no mask": (
        {"masked": False, "outputs": {"logits": "sum"}, "inputs": ["input_ids"]},
        "gives another answer for a padded text: it uses no attention_mask",
    ),
    "training": (
        {"more": drop_out(True), "outputs": {"logits": "dropped"}},
        "Dropout dropped makes its answers random, as in training",
    ),
    "vocabulary": ({"rows": WIDTH * 25, "outputs": {"logits": "words"},
                    "more": [onnx.helper.make_node("Concat", ["tokens"] * 25, ["words"], axis=2)]},
                   "logits has a value for each of the vocabulary's 50 words: it is a language"),
    "integers": (
        {"more": [onnx.helper.make_node("Cast", ["sum"], ["label"], to=Kind.INT64)],
         "outputs": {"logits": "label"}},
        "outputs are logits; expected",
    ),
    "a logit for each token": (
        {"outputs": {"logits": "first"}},
        r"output logits is \(1, 11\) for a text of 11 tokens; sequence-classification has \(1, 8\)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_refused(tmp_path: Path, kind: str) -> None:
    changes, message = REFUSED[kind]
    proto = graph(**changes)
    if kind == "integers":
        proto.graph.output[0].type.tensor_type.elem_type = Kind.INT64
    path = tmp_path / "tiny.onnx"
    onnx.save(proto, path)
    with pytest.raises(InputError, match=rf"tiny\.onnx: {message}"):
        import_onnx(path)


@pytest.mark.parametrize(
    ("architecture", "made", "message"),
    [
        ("BertForTokenClassification", "sum", "is for sequence-classification, but config.json"),
        ("BertForSequenceClassification", "tokens", "is for token-classification, but config.json"),
        ("BertForMaskedLM", "tokens", "has a value for each of the vocabulary's 2 words"),
        ("BertForQuestionAnswering", "tokens", "outputs are logits; expected"),
    ],
)
def test_a_config_of_another_task_is_refused(
    tmp_path: Path, architecture: str, made: str, message: str
) -> None:
    beside(tmp_path, architectures=[architecture])
    with pytest.raises(InputError, match=message):
        import_onnx(save(tmp_path, outputs={"logits": made}))


def test_positions_that_nobody_knows_are_refused(tmp_path: Path) -> None:
    inputs = ["input_ids", "attention_mask", "token_type_ids", "position_ids"]
    with pytest.raises(InputError, match="takes position_ids, and whether this network counts"):
        import_onnx(save(tmp_path, inputs=inputs))


def test_scores_are_not_made_scores_again(tmp_path: Path, notes: list[str]) -> None:
    softmax = onnx.helper.make_node("Softmax", ["sum"], ["scores"])
    model = import_onnx(save(tmp_path, more=[softmax], outputs={"logits": "scores"}))
    assert model.activation == "none"
    assert any("logits are scores already" in text for text in notes)


def apart(path: Path, name: str = "weights.bin") -> None:
    onnx.save(onnx.load(path), path, save_as_external_data=True, size_threshold=0, location=name)


def test_weights_in_another_file_become_one_file(tmp_path: Path) -> None:
    path = save(tmp_path)
    expected = ask(path, {"input_ids": IDS, "attention_mask": MASK})["logits"]
    apart(path)
    model = import_onnx(path)
    np.testing.assert_allclose(shipped(model)["logits"], expected, rtol=0, atol=1e-6)
    assert sorted(model.origin["weights_sha256"]) == ["tiny.onnx", "weights.bin"]
    before = fingerprint(path), model.digest
    weights = bytearray((tmp_path / "weights.bin").read_bytes())
    weights[3] ^= 1
    (tmp_path / "weights.bin").write_bytes(weights)
    assert fingerprint(path) != before[0]
    assert import_onnx(path).digest != before[1]


def test_links_of_a_hubs_cache_are_followed(tmp_path: Path) -> None:
    """As a hub's client lays it out: snapshots/REVISION has links into blobs."""
    repository = tmp_path / "models--owner--name"
    snapshot, blobs = repository / "snapshots/0123", repository / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    expected = ask(save(snapshot), {"input_ids": IDS, "attention_mask": MASK})["logits"]
    apart(snapshot / "tiny.onnx", "tiny.onnx_data")
    for i, name in enumerate(("tiny.onnx", "tiny.onnx_data")):
        (snapshot / name).rename(blobs / f"{i}")
        (snapshot / name).symlink_to(f"../../blobs/{i}")
    model = import_onnx(snapshot / "tiny.onnx")
    assert model.name == "tiny"
    np.testing.assert_allclose(shipped(model)["logits"], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "a/../../secret", "link"])
def test_weights_outside_of_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    path = save(folder)
    apart(path)
    (tmp_path / "secret").write_bytes((folder / "weights.bin").read_bytes())
    os.symlink("../secret", folder / "link")
    proto = onnx.load(path, load_external_data=False)
    for tensor in proto.graph.initializer:
        tensor.external_data[0].value = name
    onnx.save(proto, path)
    with pytest.raises(InputError, match="which is not a file of the same folder"):
        import_onnx(path)


def test_more_than_2_gb_are_refused_before_any_is_read(tmp_path: Path) -> None:
    path = save(tmp_path)
    apart(path)
    proto = onnx.load(path, load_external_data=False)
    vast = proto.graph.initializer.add(name="vast", data_type=Kind.FLOAT, dims=[1 << 29, 2])
    vast.data_location = Kind.EXTERNAL
    for key, value in {"location": "vast.bin", "offset": 0, "length": 1 << 32}.items():
        vast.external_data.add(key=key, value=str(value))
    onnx.save(proto, path)
    with (tmp_path / "vast.bin").open("wb") as file:
        file.truncate(1 << 32)  # it takes no room: nothing was written
    with pytest.raises(InputError, match=r"its weights have 42949\d+ bytes; an artifact is one"):
        import_onnx(path)
    with (tmp_path / "one.onnx").open("wb") as file:
        file.truncate(1 << 32)
    with pytest.raises(InputError, match="has 4294967296 bytes; an ONNX file holds less than 2 GB"):
        import_onnx(tmp_path / "one.onnx")


def test_capital_letters_in_the_end_of_a_name(tmp_path: Path) -> None:
    path = save(tmp_path).rename(tmp_path / "TINY.ONNX")
    assert (
        import_model(path).task.name == import_model(tmp_path).task.name == "token-classification"
    )


def test_a_type_that_onnxruntime_does_not_compute_in(tmp_path: Path) -> None:
    add = onnx.helper.make_node
    more = [
        add("Cast", ["sum"], ["half"], to=Kind.BFLOAT16),
        add("Add", ["half", "half"], ["twice"], name="/layer/Add"),
        add("Cast", ["twice"], ["back"], to=Kind.FLOAT),
    ]
    path = save(tmp_path, more=more, outputs={"logits": "back"})
    with pytest.raises(InputError, match=r"onnxruntime does not run it \(.*Add\(14\).*/layer/Add"):
        import_onnx(path)


def test_weights_that_are_not_there_or_cut_short(tmp_path: Path) -> None:
    path = save(tmp_path)
    apart(path)
    weights = tmp_path / "weights.bin"
    weights.write_bytes(weights.read_bytes()[:-4])
    with pytest.raises(InputError, match=r"ends at byte \d+ of weights.bin, which has \d+"):
        import_onnx(path)
    weights.unlink()
    assert fingerprint(path)
    with pytest.raises(InputError, match=r"lies in weights\.bin, which is not there"):
        import_onnx(path)


def test_a_file_newer_than_onnxruntime_is_rewritten(tmp_path: Path, notes: list[str]) -> None:
    older = tmp_path / "older.onnx"
    onnx.save(graph(), older)
    path = save(tmp_path, opset=onnx.defs.onnx_opset_version(), ir=onnx.IR_VERSION)
    model = import_onnx(path)
    expected = ask(older, {"input_ids": IDS, "attention_mask": MASK})["logits"]
    np.testing.assert_allclose(shipped(model)["logits"], expected, rtol=0, atol=1e-6)
    assert any("is newer than onnxruntime" in text for text in notes)


def test_functions_of_its_own_and_sparse_weights(tmp_path: Path) -> None:
    helper, proto = onnx.helper, graph(outputs={"logits": "sum"})
    twice = helper.make_function(
        "own", "Twice", ["x"], ["y"], [helper.make_node("Add", ["x", "x"], ["y"])],
        [helper.make_opsetid("", 17)],
    )  # fmt: skip
    proto.functions.append(twice)
    proto.opset_import.append(helper.make_opsetid("own", 1))
    proto.graph.node[-1].CopyFrom(helper.make_node("Twice", ["sum"], ["logits"], domain="own"))
    dense = next(t for t in proto.graph.initializer if t.name == "head")
    values = onnx.numpy_helper.from_array(np.array([1.5, -2], np.float32), "head")
    at = onnx.numpy_helper.from_array(np.array([1, 6], np.int64), "head_at")
    proto.graph.sparse_initializer.append(helper.make_sparse_tensor(values, at, [4, 2]))
    proto.graph.initializer.remove(dense)
    path = tmp_path / "tiny.onnx"
    onnx.save(proto, path)
    expected = ask(path, {"input_ids": IDS, "attention_mask": MASK})["logits"]
    np.testing.assert_allclose(shipped(import_onnx(path))["logits"], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("keep", [0, 10, 0.5])
def test_a_file_that_is_cut_short(tmp_path: Path, keep: float) -> None:
    path = save(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: int(keep if keep >= 1 else keep * len(content))])
    with pytest.raises(InputError, match=r"tiny\.onnx: is damaged, cut short, or not an ONNX file"):
        import_onnx(path)


def _without_outputs(proto: Any) -> None:
    del proto.graph.output[:]


def _without_a_weight(proto: Any) -> None:
    del proto.graph.initializer[0]


def _with_a_name_twice(proto: Any) -> None:
    proto.graph.node.append(proto.graph.node[0])


def _without_opset(proto: Any) -> None:
    del proto.opset_import[:]


def _without_a_dimension(proto: Any) -> None:
    proto.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 0


def _of_an_opset_to_come(proto: Any) -> None:
    proto.opset_import[0].version = 99


def _of_endless_length(proto: Any) -> None:
    dim = proto.graph.input[0].type.tensor_type.shape.dim[1]
    dim.ClearField("dim_param")
    dim.dim_value = 1 << 33


def _with_a_weight_that_is_no_number(proto: Any) -> None:
    table = next(t for t in proto.graph.initializer if t.name == "head")
    array = onnx.numpy_helper.to_array(table).copy()
    array[0, 0] = np.nan
    table.CopyFrom(onnx.numpy_helper.from_array(array, "head"))


def _with_too_little_data(proto: Any) -> None:
    proto.graph.initializer[0].raw_data = b"1234"


@pytest.mark.parametrize(
    "damage",
    [_without_outputs, _without_a_weight, _with_a_name_twice, _without_opset, _without_a_dimension,
     _with_too_little_data, _of_an_opset_to_come, _of_endless_length,
     _with_a_weight_that_is_no_number],
)  # fmt: skip
def test_a_graph_that_is_not_sound(tmp_path: Path, damage: Callable[[Any], None]) -> None:
    proto = graph()
    damage(proto)
    path = tmp_path / "tiny.onnx"
    onnx.save(proto, path)
    with pytest.raises(InputError, match=r"tiny\.onnx: ") as caught:
        import_onnx(path)
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000, b'{"id2label": 7}']
)
def test_a_damaged_config(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(InputError, match=r"config\.json"):
        import_onnx(save(tmp_path))


def test_a_config_of_odd_values_is_no_traceback(tmp_path: Path, notes: list[str]) -> None:
    odd = {"architectures": [None], "max_position_embeddings": -3, "pad_token_id": "x"}
    (tmp_path / "config.json").write_text(json.dumps(odd | {"vocab_size": [1], "model_type": []}))
    assert import_onnx(save(tmp_path)).text.max_seq_len == 512


def test_names_that_are_no_text(tmp_path: Path) -> None:
    path = save(tmp_path)
    path.write_bytes(path.read_bytes().replace(b"MatMul", b"Mat\xff\xfel"))
    with pytest.raises(InputError, match=r"tiny\.onnx: is damaged.*\(a name in it is no text\)"):
        import_onnx(path)
    assert fingerprint(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.onnx: no such file"):
        import_onnx(tmp_path / "none.onnx")
    os.mkfifo(tmp_path / "pipe.onnx")
    with pytest.raises(InputError, match=r"pipe\.onnx: is no file"):
        import_onnx(tmp_path / "pipe.onnx")


def test_a_graph_of_images_is_pointed_to_its_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="inputs are pixel_values; expected input_ids") as caught:
        import_onnx(save(tmp_path, inputs=["pixel_values"], masked=False))
    assert caught.value.hint == (
        "A model of images is imported from its checkpoint, not from an .onnx file."
    )


def test_config_a_folder_up_and_the_folder_itself(tmp_path: Path, notes: list[str]) -> None:
    """As Optimum and sentence-transformers lay it out: NAME/config.json, NAME/onnx/model.onnx."""
    folder = tmp_path / "name"
    (folder / "onnx").mkdir(parents=True)
    beside(folder, id2label={"0": "no", "1": "yes"}, max_position_embeddings=30)
    path = folder / "onnx/model.onnx"
    onnx.save(graph(outputs={"logits": "sum"}), path)
    for source in (path, folder):
        model = import_model(source)
        assert (model.name, model.labels, model.text.max_seq_len) == ("name", ("no", "yes"), 30)
    assert any(f"its config.json and tokenizer are those of {folder}" in n for n in notes)
    onnx.save(graph(), folder / "onnx/other.onnx")
    path.rename(folder / "onnx/model_fp32.onnx")
    with pytest.raises(InputError, match=r"has 2 \.onnx files and no other weights"):
        import_model(folder)


def test_a_folder_with_nothing_but_the_file(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(graph(outputs={"logits": "sum"}), path)
    assert import_model(tmp_path).main.source.path == path


def test_a_fingerprint_is_of_all_that_is_read(tmp_path: Path) -> None:
    path = save(tmp_path)
    seen = {fingerprint(path)}
    assert fingerprint(path) in seen
    beside(tmp_path, id2label={"0": "a", "1": "b"})
    seen.add(fingerprint(path))
    (tmp_path / "tokenizer.json").write_text("{}")
    seen.add(fingerprint(path))
    (tmp_path / "unrelated.csv").write_text("1")
    assert fingerprint(path) in seen
    assert len(seen) == 3
    assert fingerprint(tmp_path) not in seen
    assert fingerprint("owner/model") is None


def test_a_fingerprint_is_of_the_folders_around_too(tmp_path: Path) -> None:
    """NAME/onnx/model.onnx, its config.json beside it, and the tokenizer a folder up."""
    inner = tmp_path / "name/onnx"
    inner.mkdir(parents=True)
    path = inner / "model.onnx"
    onnx.save(graph(outputs={"logits": "sum"}), path)
    for source in (path, inner):
        seen = {fingerprint(source)}
        for place, text in (
            (tmp_path / "name/config.json", '{"model_type": "bert"}'),
            (inner / "config.json", '{"model_type": "bert", "id2label": {"0": "a", "1": "b"}}'),
            (tmp_path / "name/tokenizer.json", '{"version": "1.0"}'),
        ):
            place.write_text(text)
            seen.add(fingerprint(source))
        (tmp_path / "name/pictures.zip").touch()
        seen.add(fingerprint(source))
        assert len(seen) == 4, source
        for place in (tmp_path / "name").glob("*.json"):
            place.unlink()
        (inner / "config.json").unlink()


def test_a_fingerprint_is_of_the_modules_of_a_sentence_encoder(tmp_path: Path) -> None:
    path = save(tmp_path, outputs={"last_hidden_state": "hidden"})
    beside(tmp_path)
    kinds = {"": "Transformer", "pooled": "Pooling"}
    modules = [
        {"path": path, "type": f"sentence_transformers.models.{kind}"}
        for path, kind in kinds.items()
    ]
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    (tmp_path / "pooled").mkdir()
    seen = set()
    for mode in ("mean", "cls"):
        (tmp_path / "pooled/config.json").write_text(json.dumps({"pooling_mode": mode}))
        seen.add(fingerprint(path))
    assert len(seen) == 2


def test_labels_and_length_are_part_of_the_digest(tmp_path: Path) -> None:
    path = save(tmp_path, outputs={"logits": "sum"})
    digests = set()
    for names, most in ((("a", "b"), 30), (("b", "a"), 30), (("b", "a"), 20)):
        labels = {str(i): name for i, name in enumerate(names)}
        beside(tmp_path, id2label=labels, max_position_embeddings=most)
        digests.add(import_onnx(path).digest)
    assert len(digests) == 3
