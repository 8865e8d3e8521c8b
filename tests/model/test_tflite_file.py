# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""``.tflite`` files as people have them: what is carried, and what is refused in which words.

What is right is what LiteRT gives for the file, under the file's own names.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeopt.errors import InputError
from edgeopt.model import Model, network_call, reference
from edgeopt.model.importer import fingerprint, import_model

pytest.importorskip("ai_edge_litert", reason="needs edgeopt[tflite]")
pytest.importorskip("transformers", reason="needs edgeopt[torch]")

from tests import tflite_files
from tests.tflite_files import Type, ask

pytestmark = pytest.mark.heavy

IDS = np.array([[7, 3, 9, 1, 2, 5, 8, 4, 6, 7, 3, 9, 0, 0, 0, 0]])
MASK = np.array([[1] * 12 + [0] * 4])


def save(folder: Path, content: bytes, **config: Any) -> Path:
    path = folder / "tiny.tflite"
    path.write_bytes(content)
    if config:
        (folder / "config.json").write_text(json.dumps(config))
    return path


def image_processor(folder: Path) -> None:
    side = tflite_files.SIDE
    spec = {"image_processor_type": "ViTImageProcessor", "size": {"height": side, "width": side}}
    (folder / "preprocessor_config.json").write_text(json.dumps(spec))


def test_a_text_classifier_gives_what_litert_gives(tmp_path: Path) -> None:
    content = tflite_files.texts()
    model = import_model(save(tmp_path, content, id2label={"0": "a", "1": "b", "2": "c"}))
    (found,) = reference.run(model, [{"input_ids": IDS, "attention_mask": MASK}])
    expected = ask(content, "seq_16", {"input_ids": IDS, "attention_mask": MASK})
    np.testing.assert_array_equal(found["logits"], expected["logits"])
    assert (model.name, model.task.name) == ("tiny", "sequence-classification")
    assert (model.labels, model.activation) == (("a", "b", "c"), "softmax")
    assert (model.text.seq_lens, model.text.max_seq_len) == ((16,), 16)
    assert reference.name(model) == "LiteRT, the file itself"


def test_other_names_are_taken_for_ours(tmp_path: Path) -> None:
    content = tflite_files.texts(names=("serving_default_ids:0", "input_mask"), output="logits:0")
    model = import_model(save(tmp_path, content))
    assert [t.name for t in model.main.signature.inputs] == ["input_ids", "attention_mask"]
    (found,) = reference.run(model, [{"input_ids": IDS, "attention_mask": MASK}])
    expected = ask(content, "seq_16", {"serving_default_ids:0": IDS, "input_mask": MASK})
    np.testing.assert_array_equal(found["logits"], expected["logits:0"])


def test_signatures_of_several_lengths_are_lengths_of_one_model(tmp_path: Path) -> None:
    content = tflite_files.texts((8, 16))
    model = import_model(save(tmp_path, content))
    assert model.text.seq_lens == (8, 16)
    (found,) = reference.run(model, [{"input_ids": IDS[:, :8], "attention_mask": MASK[:, :8]}])
    expected = ask(content, "seq_8", {"input_ids": IDS[:, :8], "attention_mask": MASK[:, :8]})
    np.testing.assert_array_equal(found["logits"], expected["logits"])


def test_ids_beyond_the_table_are_known(tmp_path: Path) -> None:
    model = import_model(save(tmp_path, tflite_files.texts()))
    limits = {t.name: t.limit for t in model.main.signature.inputs}
    assert limits == {"input_ids": tflite_files.ROWS, "attention_mask": None}


def test_scores_of_a_softmax_are_left_alone(tmp_path: Path) -> None:
    model = import_model(save(tmp_path, tflite_files.texts(softmax=True)))
    assert model.activation == "none"


@pytest.mark.parametrize(
    ("given", "gives"),
    [
        ((Type.FLOAT32, None), (Type.FLOAT32, None)),
        ((Type.UINT8, (1 / 64, 128)), (Type.INT8, (0.05, -3))),
        ((Type.INT8, (1 / 100, 5)), (Type.UINT8, (0.04, 100))),
    ],
    ids=["float32", "uint8 to int8", "int8 to uint8"],
)
@pytest.mark.parametrize("batch", [1, -1], ids=["batch of 1", "free batch"])
def test_numbers_in_8_bits_are_real_values_outside(
    tmp_path: Path, given: Any, gives: Any, batch: int
) -> None:
    content = tflite_files.images(given=given, gives=gives, batch=batch)
    image_processor(tmp_path)
    model = import_model(save(tmp_path, content))
    assert model.main.signature.inputs[0].dims == (1, 8, 8, 3)
    pixels = np.random.default_rng(0).uniform(-1, 1, (1, 8, 8, 3)).astype(np.float32)
    (found,) = reference.run(model, [{"pixel_values": pixels}])
    scale, zero_point = given[1] or (1, 0)
    kind = {Type.UINT8: np.uint8, Type.INT8: np.int8}.get(given[0], np.float32)
    stored = pixels
    if given[1] is not None:
        limits = np.iinfo(kind)
        stored = np.clip(np.round(pixels / scale) + zero_point, limits.min, limits.max)
    numbers = ask(content, "serving_default", {"pixel_values": stored.astype(kind)})["logits"]
    scale, zero_point = gives[1] or (1, 0)
    expected = (numbers.astype(np.float32) - zero_point) * scale
    np.testing.assert_allclose(found["logits"], expected, rtol=1e-6)


def test_the_precision_is_that_of_most_weights(tmp_path: Path) -> None:
    source = import_model(save(tmp_path, tflite_files.texts())).main.source
    assert isinstance(source, network_call.FileSource)
    assert source.given.precision == "fp32"


def test_settings_beside_the_file_count(tmp_path: Path) -> None:
    path = save(tmp_path, tflite_files.texts())
    before = fingerprint(path)
    (tmp_path / "config.json").write_text("{}")
    assert fingerprint(path) != before


def refused(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        import_model(path)
    return str(caught.value).removeprefix(f"{path}: ")


@pytest.mark.parametrize("kept", [0.0, 0.1, 0.6, 0.97])
def test_a_damaged_file_is_refused(tmp_path: Path, kept: float) -> None:
    content = tflite_files.texts()
    path = save(tmp_path, content[: int(len(content) * kept)])
    assert refused(path).startswith("is damaged, ")


REFUSED: dict[str, tuple[bytes, str]] = {
    "custom operators": (
        tflite_files.texts(custom="Odd"),
        "has operators that LiteRT does not have: Odd\n"
        "Convert it again with builtin operators alone (TFLITE_BUILTINS).",
    ),
    "operators of TensorFlow": (
        tflite_files.texts(custom="FlexErf"),
        "has operators that LiteRT does not have: Erf (of TensorFlow, by Flex)\n"
        "Convert it again with builtin operators alone (TFLITE_BUILTINS).",
    ),
    "unknown inputs": (
        tflite_files.texts(names=("left", "right")),
        "inputs are left int32 (1, 16), right int32 (1, 16); expected input_ids, attention_mask "
        "and maybe token_type_ids, (batch, seq), or pixel_values, (batch, height, width, 3)\n"
        "Name its inputs so. The runtime fills in texts and images, and no others.",
    ),
    "more outputs": (
        tflite_files.texts(extra=True),
        "gives hidden besides logits\nThe runtime reads the outputs of sequence-classification "
        "alone (logits): convert it again with these.",
    ),
    "unknown outputs": (
        tflite_files.texts(output="output_0"),
        "outputs are output_0; expected feature-extraction: last_hidden_state; "
        "sequence-classification: logits; token-classification: logits; question-answering: "
        "start_logits, end_logits\nExport it again with these output names.",
    ),
    "padding seen": (
        tflite_files.texts((8, 16), masked=False),
        "gives another answer for a padded text\nA device pads texts to a few lengths. Save it "
        "again with an attention_mask that leaves padding out.",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_a_device_could_not_run_is_refused(tmp_path: Path, what: str) -> None:
    content, message = REFUSED[what]
    assert refused(save(tmp_path, content)) == message


def test_an_unsupported_dtype_is_refused(tmp_path: Path) -> None:
    content = tflite_files.images(given=(Type.INT16, (0.01, 0)))
    image_processor(tmp_path)
    assert refused(save(tmp_path, content)) == (
        "pixel_values is int16; expected one of float32, int32, int64, int8, uint8\nConvert it "
        "again with inputs and outputs of these; the runtime on a device has no others."
    )


def test_images_of_another_size_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path, tflite_files.images(channels=1))
    image_processor(tmp_path)
    assert refused(path) == (
        "its input pixel_values is float32 (1, 8, 8, 1); preprocessor_config.json makes images of "
        "float32 (1, 8, 8, 3) or (1, 3, 8, 8)\nPut the preprocessor_config.json beside it that "
        "the network was trained with."
    )


def test_a_file_without_signature_is_refused(tmp_path: Path) -> None:
    model = tflite_files.schema.ModelT.InitFromPackedBuf(tflite_files.texts(), 0)
    model.signatureDefs = None
    writer = tflite_files.Writer()
    writer.model = model
    assert refused(save(tmp_path, writer.bytes())) == (
        "has no signature, by which the runtime on a device calls its inputs and outputs\nConvert "
        "it again with a TensorFlow of 2.5 or newer."
    )


@pytest.mark.parametrize("name", ["own.tflite", "own.pt2", "own.keras", "own.h5"])
def test_an_absent_file_is_named(tmp_path: Path, name: str) -> None:
    assert refused(tmp_path / name) == "no such file"


def test_a_prompt_needs_a_text(tmp_path: Path) -> None:
    path = save(tmp_path, tflite_files.texts())
    with pytest.raises(InputError, match="prompt"):
        import_model(path, "query")


def test_the_model_is_no_torch_module(tmp_path: Path) -> None:
    model: Model = import_model(save(tmp_path, tflite_files.texts()))
    with pytest.raises(TypeError, match="a network in a file has no module"):
        _ = model.module
