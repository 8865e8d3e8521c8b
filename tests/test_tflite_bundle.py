# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""A ``.tflite`` file as it is: packed, checked, and run by the C runtime as LiteRT runs it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert", reason="needs edgeopt[tflite]")
pytest.importorskip("transformers", reason="needs edgeopt[torch]")
pytest.importorskip("PIL", reason="needs pillow")

from edgeopt.bundle.verify import verify
from edgeopt.errors import CompileError, InputError
from edgeopt.pipeline import compile
from edgeopt.runtime.host import open_session
from tests import tflite_files
from tests.tflite_files import Type, ask

pytestmark = pytest.mark.heavy


def word_pieces(folder: Path) -> None:
    letters = [chr(ord("a") + i) for i in range(26)]
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *letters, *(f"##{letter}" for letter in letters)]
    (folder / "vocab.txt").write_text("\n".join(words))
    settings = {"tokenizer_class": "BertTokenizer", "model_max_length": 16}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    config = {"model_type": "bert", "id2label": {"0": "a", "1": "b", "2": "c"}}
    (folder / "config.json").write_text(json.dumps(config))


def test_a_file_of_texts_is_packed_and_run_as_it_is(tmp_path: Path) -> None:
    content = tflite_files.texts((8, 16), names=("serving_default_ids:0", "input_mask"))
    word_pieces(tmp_path)
    path = tmp_path / "own.tflite"
    path.write_bytes(content)
    bundle = compile(path, "host", output=tmp_path / "own.edgeopt")
    (entry,) = bundle.manifest.artifacts
    assert (entry.engine, entry.precision) == ("tflite", "fp32")
    assert (bundle.path / entry.artifact.main.files[0]).read_bytes() == content
    assert entry.judged is not None
    assert entry.judged["error"] < 1e-6
    skipped = {s.engine: s.reason for s in bundle.manifest.skipped}
    assert skipped == {
        engine: f"own: {said} does not read .tflite files, and nothing is converted from one\n"
        "Compile what it was converted from: a checkpoint, an .onnx file, a SavedModel or a Keras "
        "file."
        for engine, said in (("onnx", "onnxruntime"), ("openvino", "OpenVINO"), ("tvm", "TVM"))
    }
    (check,) = verify(bundle).artifacts
    assert (check.agrees, check.runtime, check.reason) == (True, True, None)
    ids = np.array([[2, 4, 31, 32, 3, 0, 0, 0]])
    mask = np.array([[1, 1, 1, 1, 1, 0, 0, 0]])
    with open_session(bundle.path) as session:
        session.select(1, 8)
        session.inputs()["input_ids"][...] = ids
        session.inputs()["attention_mask"][...] = mask
        session.execute()
        found = session.outputs()["logits"].copy()
    wanted = ask(content, "seq_8", {"serving_default_ids:0": ids, "input_mask": mask})
    np.testing.assert_allclose(found, wanted["logits"], rtol=1e-6)


@pytest.mark.parametrize(
    ("given", "gives"),
    [
        ((Type.UINT8, (1 / 64, 128)), (Type.INT8, (0.05, -3))),
        ((Type.INT8, (1 / 100, 5)), (Type.UINT8, (0.04, 100))),
        ((Type.FLOAT32, None), (Type.FLOAT32, None)),
    ],
    ids=["uint8 to int8", "int8 to uint8", "float32"],
)
def test_the_runtime_quantises_and_dequantises_as_litert_does(
    tmp_path: Path, given: Any, gives: Any
) -> None:
    content = tflite_files.images(given=given, gives=gives, batch=-1)
    side = tflite_files.SIDE
    spec = {"image_processor_type": "ViTImageProcessor", "size": {"height": side, "width": side}}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(spec))
    path = tmp_path / "own.tflite"
    path.write_bytes(content)
    bundle = compile(path, "host", output=tmp_path / "own.edgeopt", engines=["tflite"])
    (entry,) = bundle.manifest.artifacts
    assert entry.fidelity.max_abs_error == 0
    assert entry.judged is not None
    assert entry.judged["error"] < 1e-6
    (check,) = verify(bundle).artifacts
    assert (check.agrees, check.runtime) == (True, True)
    # Halves, which are rounded away from zero, and values beyond both ends.
    scale, zero_point = given[1] or (1.0, 0)
    steps = np.linspace(-200, 200, side * side * 3).round() + 0.5
    pixels = (steps * scale).astype(np.float32).reshape(1, side, side, 3)
    with open_session(bundle.path) as session:
        session.select(1, 0)
        session.inputs()["pixel_values"][...] = pixels
        session.execute()
        found = session.outputs()["logits"].copy()
    stored = pixels
    if given[1] is not None:
        limits = np.iinfo(np.uint8 if given[0] == Type.UINT8 else np.int8)
        away = np.trunc(steps + np.copysign(0.5, steps)).reshape(pixels.shape)
        stored = np.clip(away + zero_point, limits.min, limits.max)
    numbers = ask(content, "serving_default", {"pixel_values": stored})["logits"]
    scale, zero_point = gives[1] or (1.0, 0)
    np.testing.assert_allclose(
        found, (numbers.astype(np.float32) - zero_point) * scale, rtol=1e-5, atol=1e-5
    )


def test_another_precision_is_not_made_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "own.tflite"
    path.write_bytes(tflite_files.texts())
    with pytest.raises(CompileError, match=r"the \.tflite file is in fp32 and is packed as it is"):
        compile(path, "host", output=tmp_path / "b", engines=["tflite"], precisions=["int8"])
    assert not (tmp_path / "b").exists()


def test_a_signature_is_chosen_of_a_saved_model_alone(tmp_path: Path) -> None:
    path = tmp_path / "own.tflite"
    path.write_bytes(tflite_files.texts())
    with pytest.raises(InputError, match="the signature 'x' can be chosen of a SavedModel alone"):
        compile(path, "host", output=tmp_path / "b", signature="x")
