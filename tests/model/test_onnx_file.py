"""ONNX files as users have them: sound ones, and wrong ones with the exact complaint."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeopt.errors import InputError
from edgeopt.model import reference
from edgeopt.model.importer import fingerprint, import_model
from edgeopt.model.onnx_file import import_onnx

onnx = pytest.importorskip("onnx", reason="needs edgeopt[onnx]")
pytest.importorskip("onnxruntime", reason="needs edgeopt[onnx]")

INT64, FLOAT = onnx.TensorProto.INT64, onnx.TensorProto.FLOAT


def graph(**changes: Any) -> Any:
    """Return a ModelProto that looks up an embedding and projects it to two logits a token."""
    given: dict[str, Any] = {
        "inputs": ["input_ids", "attention_mask"],
        "output": "logits",
        "dtype": INT64,
        "rank": 3,
        "domain": "",
    } | changes
    helper, rng = onnx.helper, np.random.default_rng(0)
    weights = [
        onnx.numpy_helper.from_array(rng.normal(size=(50, 4)).astype(np.float32), "table"),
        onnx.numpy_helper.from_array(rng.normal(size=(4, 2)).astype(np.float32), "head"),
        onnx.numpy_helper.from_array(np.array([1], np.int64), "axis"),
    ]
    first = given["inputs"][0]
    nodes = [
        helper.make_node("Gather", ["table", first], ["hidden"]),
        helper.make_node("MatMul", ["hidden", "head"], ["tokens"], domain=given["domain"]),
    ]
    if given["rank"] == 2:
        nodes.append(
            helper.make_node("ReduceSum", ["tokens", "axis"], [given["output"]], keepdims=0)
        )
        dims = ["batch", 2]
    else:
        nodes.append(helper.make_node("Identity", ["tokens"], [given["output"]]))
        dims = ["batch", "seq", 2]
    made = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(n, given["dtype"], ["b", "s"]) for n in given["inputs"]],
        [helper.make_tensor_value_info(given["output"], FLOAT, dims)],
        weights,
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("my.ops", 1)]
    return helper.make_model(made, opset_imports=opsets, ir_version=8)


def save(folder: Path, **changes: Any) -> Path:
    path = folder / "tiny.onnx"
    onnx.save(graph(**changes), path)
    return path


@pytest.mark.parametrize(
    ("rank", "task"), [(2, "sequence-classification"), (3, "token-classification")]
)
def test_the_task_goes_by_the_logits(tmp_path: Path, rank: int, task: str) -> None:
    model = import_model(save(tmp_path, rank=rank))
    assert (model.name, model.task, model.labels) == ("tiny", task, ("LABEL_0", "LABEL_1"))
    assert [t.name for t in model.signature.inputs] == ["input_ids", "attention_mask"]
    assert model.signature.inputs[0].dims == ("batch", "seq")
    assert (model.module, model.tokenizer) == (None, None)
    assert model.max_seq_len == 512


def test_labels_come_from_the_config_beside_it(tmp_path: Path) -> None:
    config = {"id2label": {"1": "yes", "0": "no"}, "max_position_embeddings": 64}
    (tmp_path / "config.json").write_text(json.dumps(config))
    model = import_onnx(save(tmp_path, rank=2))
    assert model.labels == ("no", "yes")
    assert model.max_seq_len == 64


def test_it_is_its_own_reference(tmp_path: Path) -> None:
    model = import_onnx(save(tmp_path))
    batch = {"input_ids": np.array([[1, 2]]), "attention_mask": np.array([[1, 1]])}
    (outputs,) = reference.run(model, [batch])
    assert outputs["logits"].shape == (1, 2, 2)
    assert reference.name(model) == "onnxruntime FP32"


def test_the_digest_follows_the_content(tmp_path: Path) -> None:
    first = import_onnx(save(tmp_path)).digest
    assert import_onnx(save(tmp_path)).digest == first
    assert import_onnx(save(tmp_path, rank=2)).digest != first


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"inputs": ["tokens_in"]},
            "inputs are tokens_in; expected input_ids, attention_mask and maybe token_type_ids",
        ),
        (
            {"dtype": onnx.TensorProto.INT32},
            r"input input_ids is int32 with 2 dimensions; expected int64 \(batch, seq\)",
        ),
        ({"output": "answer"}, "outputs are answer; expected feature-extraction: "),
        ({"domain": "my.ops"}, r"uses operators of my\.ops"),
    ],
)
def test_what_is_no_such_graph(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=rf"tiny\.onnx: {message}"):
        import_onnx(save(tmp_path, **changes))


def test_weights_in_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "tiny.onnx"
    onnx.save(graph(), path, save_as_external_data=True, size_threshold=0, location="weights.bin")
    with pytest.raises(InputError, match=r"tiny\.onnx: keeps its weights in other files"):
        import_onnx(path)


@pytest.mark.parametrize("keep", [0, 10, 0.5])
def test_a_file_that_is_cut_short(tmp_path: Path, keep: float) -> None:
    path = save(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: int(keep if keep >= 1 else keep * len(content))])
    with pytest.raises(InputError, match=r"tiny\.onnx: is damaged, cut short, or not an ONNX file"):
        import_onnx(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.onnx: no such file"):
        import_onnx(tmp_path / "none.onnx")


def test_a_fingerprint_is_of_all_files(tmp_path: Path) -> None:
    path = save(tmp_path)
    assert fingerprint(path) != fingerprint(tmp_path)
    before = fingerprint(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    assert fingerprint(tmp_path) not in (None, before)
    assert fingerprint("owner/model") is None


def test_a_graph_of_images_is_pointed_to_its_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="inputs are pixel_values; expected input_ids") as caught:
        import_onnx(save(tmp_path, inputs=["pixel_values"]))
    assert caught.value.hint == (
        "A model of images is imported from its checkpoint, not from an .onnx file."
    )
