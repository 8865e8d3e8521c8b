# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""SavedModels and Keras files, held against TensorFlow called directly on them."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeopt import progress
from edgeopt.errors import InputError
from edgeopt.model import reference
from edgeopt.model.importer import fingerprint, import_model
from edgeopt.pipeline import compile
from edgeopt.runtime.host import open_session
from tests.lazily import lazily
from tests.test_tflite_bundle import word_pieces

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
tf: Any = lazily("tensorflow", reason="needs edgeopt[tensorflow]")
keras: Any = lazily("keras", reason="needs edgeopt[tensorflow]")
lazily("tf2onnx", reason="needs edgeopt[tensorflow]")
litert: Any = lazily("ai_edge_litert.interpreter", reason="needs edgeopt[tflite]")
pytest.importorskip("transformers", reason="needs edgeopt[torch]")
pytest.importorskip("PIL", reason="needs pillow")

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of TensorFlow and tf2onnx
]

SIDE, ROWS = 32, 60
IDS = np.array([[2, 5, 8, 4, 6, 3, 0, 0]])
MASK = np.array([[1, 1, 1, 1, 1, 1, 0, 0]])


def texts(dtype: str = "int32", masked: bool = True, scores: str | None = None) -> Any:
    """Return a transformer of one layer with a classifier on the mean of its tokens."""
    keras.utils.set_random_seed(0)
    ids = keras.Input((None,), dtype=dtype, name="input_ids")
    mask = keras.Input((None,), dtype=dtype, name="attention_mask")
    hidden = keras.layers.Embedding(ROWS, 16)(ids)
    seen = keras.ops.cast(mask, "bool")[:, None, :] if masked else None
    attended = keras.layers.MultiHeadAttention(2, 8)(hidden, hidden, attention_mask=seen)
    hidden = keras.layers.LayerNormalization()(hidden + attended)
    inner = keras.layers.Dense(32, activation="gelu")(hidden)
    hidden = keras.layers.LayerNormalization()(hidden + keras.layers.Dense(16)(inner))
    column = keras.ops.cast(mask, "float32")[:, :, None]
    mean = keras.ops.sum(hidden * column, 1) / keras.ops.sum(column, 1)
    logits = keras.layers.Dense(3, activation=scores, name="logits")(mean)
    return keras.Model({"input_ids": ids, "attention_mask": mask}, {"logits": logits})


def vision_transformer() -> Any:
    keras.utils.set_random_seed(0)
    pixels = keras.Input((SIDE, SIDE, 3), name="pixel_values")
    patches = keras.layers.Conv2D(16, 8, strides=8)(pixels)
    hidden = keras.layers.Reshape((16, 16))(patches)
    attended = keras.layers.MultiHeadAttention(2, 8)(hidden, hidden)
    hidden = keras.layers.LayerNormalization()(hidden + attended)
    logits = keras.layers.Dense(5, name="logits")(keras.layers.GlobalAveragePooling1D()(hidden))
    return keras.Model(pixels, logits)


def convolutions() -> Any:
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((SIDE, SIDE, 3)),
            keras.layers.Conv2D(8, 3, strides=2, activation="relu"),
            keras.layers.Conv2D(8, 3, strides=2, activation="relu"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(5, activation="softmax"),
        ]
    )


def image_processor(folder: Path) -> None:
    size = {"height": SIDE, "width": SIDE}
    spec = {"image_processor_type": "ViTImageProcessor", "size": size}
    (folder / "preprocessor_config.json").write_text(json.dumps(spec))


@pytest.fixture
def notes() -> Iterator[list[str]]:
    told: list[str] = []
    with progress.listen(lambda event: told.append(event.text)):
        yield told


def saved(model: Any, path: Path) -> Path:
    """Write ``model`` as what the name says: .keras, .h5, or else a SavedModel."""
    if path.suffix in (".keras", ".h5"):
        model.save(path)
    else:
        model.export(path, verbose=False)
    return path


ENGINES = ("onnx", "tflite", "openvino", "tvm")


@pytest.mark.parametrize("name", ["own.keras", "saved"])
def test_a_text_transformer_runs_in_every_engine_as_in_tensorflow(
    tmp_path: Path, name: str
) -> None:
    model = texts()
    word_pieces(tmp_path)
    engines = ENGINES if name == "saved" else ("tflite",)
    bundle = compile(
        saved(model, tmp_path / name),
        "host",
        output=tmp_path / "b",
        precisions=["fp32"],
        engines=engines,
    )
    assert bundle.manifest.skipped == ()
    assert bundle.manifest.original.startswith(f"TensorFlow {tf.__version__} with transformers'")
    expected = model({"input_ids": IDS[:, :6], "attention_mask": MASK[:, :6]})["logits"]
    assert [a.engine for a in bundle.manifest.artifacts] == [e for e in ENGINES if e in engines]
    for entry in bundle.manifest.artifacts:
        assert entry.judged is not None
        assert entry.judged["error"] < 1e-5
        with open_session(bundle.path, engine=entry.engine) as session:
            session.select(1, 6)
            given = session.inputs()
            for key, value in (("input_ids", IDS), ("attention_mask", MASK)):
                given[key][...] = 0
                given[key][:, :6] = value[:, :6]
            session.execute()
            found = session.outputs()["logits"]
            np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("make", [vision_transformer, convolutions])
def test_images_run_in_every_engine_as_in_tensorflow(
    tmp_path: Path, make: Callable[[], Any]
) -> None:
    model = make()
    image_processor(tmp_path)
    bundle = compile(
        saved(model, tmp_path / "own.keras"), "host", output=tmp_path / "b", precisions=["fp32"]
    )
    assert bundle.manifest.skipped == ()
    pixels = np.random.default_rng(0).uniform(-1, 1, (1, SIDE, SIDE, 3)).astype(np.float32)
    expected = model(pixels)
    for entry in bundle.manifest.artifacts:
        with open_session(bundle.path, engine=entry.engine) as session:
            session.select(1, 0)
            session.inputs()["pixel_values"][...] = pixels
            session.execute()
            found = session.outputs()["logits"]
            np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)


def test_int8_is_made_by_each_engines_own_quantiser(tmp_path: Path) -> None:
    word_pieces(tmp_path)
    bundle = compile(
        saved(texts(), tmp_path / "own.keras"),
        "host",
        output=tmp_path / "b",
        precisions=["int8"],
        engines=["onnx", "tflite", "openvino"],
    )
    routes = {a.engine: a.artifact.route for a in bundle.manifest.artifacts}
    assert routes["tflite"] == "tf.lite, signatures seq_16 -> ai-edge-quantizer dynamic_wi8_afp32"
    assert routes["onnx"].startswith("tf2onnx (opset ")
    assert "openvino" in routes


def test_a_saved_model_gives_what_its_signature_gives(tmp_path: Path, notes: list[str]) -> None:
    path = saved(texts(), tmp_path / "saved")
    model = import_model(path)
    (found,) = reference.run(model, [{"input_ids": IDS, "attention_mask": MASK}])
    signature = tf.saved_model.load(str(path)).signatures["serving_default"]
    given = {"input_ids": IDS, "attention_mask": MASK}
    wanted = signature(**{k: tf.constant(v, tf.int32) for k, v in given.items()})
    np.testing.assert_allclose(found["logits"], wanted["logits"], rtol=1e-6)
    assert model.main.signature.inputs[0].limit == ROWS
    assert model.main.signature.inputs[0].dims == ("batch", "seq")
    assert reference.name(model) == "TensorFlow, the file itself"


def test_ids_that_a_keras_input_takes_as_floats_are_taken(tmp_path: Path) -> None:
    model = texts("float32")
    found = import_model(saved(model, tmp_path / "own.keras"))
    assert found.main.signature.inputs[0].dtype == "int64"
    (got,) = reference.run(found, [{"input_ids": IDS, "attention_mask": MASK}])
    given = {"input_ids": IDS.astype(np.float32), "attention_mask": MASK.astype(np.float32)}
    np.testing.assert_allclose(got["logits"], model(given)["logits"], rtol=1e-6)


def test_scores_of_a_softmax_are_left_alone(tmp_path: Path) -> None:
    path = saved(texts(scores="softmax"), tmp_path / "own.keras")
    assert import_model(path).activation == "none"


def several(path: Path) -> Path:
    """Write a SavedModel with two signatures, neither of which is the default."""
    module, model = tf.Module(), texts()
    module.model = model
    specs = [tf.TensorSpec([None, None], tf.int32, name=n) for n in ("input_ids", "attention_mask")]

    def call(factor: float) -> Any:
        def run(input_ids: Any, attention_mask: Any) -> Any:
            given = {"input_ids": input_ids, "attention_mask": attention_mask}
            return {"logits": model(given)["logits"] * factor}

        return tf.function(run, input_signature=specs, autograph=False).get_concrete_function()

    tf.saved_model.save(module, str(path), signatures={"plain": call(1.0), "twice": call(2.0)})
    return path


def refused(path: Path, signature: str = "") -> str:
    with pytest.raises(InputError) as caught:
        import_model(path, signature=signature)
    return str(caught.value).removeprefix(f"{path}: ")


def test_one_of_several_signatures_is_chosen(tmp_path: Path) -> None:
    path = several(tmp_path / "saved")
    batch = {"input_ids": IDS, "attention_mask": MASK}
    (plain,) = reference.run(import_model(path, signature="plain"), [batch])
    (twice,) = reference.run(import_model(path, signature="twice"), [batch])
    np.testing.assert_allclose(twice["logits"], 2 * plain["logits"], rtol=1e-6)
    assert refused(path) == (
        "has several signatures: plain, twice\nChoose one with --signature NAME."
    )
    assert refused(path, "thrice") == "has no signature 'thrice', only plain, twice"


def test_a_saved_model_without_signature_is_refused(tmp_path: Path) -> None:
    tf.saved_model.save(tf.Module(), str(tmp_path / "saved"))
    assert refused(tmp_path / "saved") == (
        "has no signature, which says how it is called\nSave it with tf.saved_model.save(model, "
        "folder, signatures=...), or by model.export() of Keras."
    )


def test_a_damaged_saved_model_is_refused(tmp_path: Path) -> None:
    path = saved(texts(), tmp_path / "saved")
    graph = path / "saved_model.pb"
    graph.write_bytes(graph.read_bytes()[:300])
    assert refused(path).startswith("TensorFlow cannot load it (")


def test_half_a_saved_model_is_refused(tmp_path: Path) -> None:
    path = saved(texts(), tmp_path / "saved")
    (path / "saved_model.pb").unlink()
    assert refused(path) == (
        "has variables but no saved_model.pb, so it is no whole SavedModel\nCopy or save it again."
    )


def test_a_file_that_tf_lite_quantised_is_packed_in_int8(tmp_path: Path) -> None:
    converter = tf.lite.TFLiteConverter.from_saved_model(
        str(saved(convolutions(), tmp_path / "saved"))
    )
    rng = np.random.default_rng(0)
    samples = [[rng.normal(size=(1, SIDE, SIDE, 3)).astype(np.float32)] for _ in range(8)]
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: iter(samples)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.uint8
    path = tmp_path / "own.tflite"
    path.write_bytes(converter.convert())
    image_processor(tmp_path)
    bundle = compile(path, "host", output=tmp_path / "b", engines=["tflite"])
    (entry,) = bundle.manifest.artifacts
    assert (entry.precision, entry.artifact.route) == ("int8", "the imported file, byte for byte")
    assert entry.judged is not None
    assert entry.judged["error"] < 1e-6
    runner = litert.Interpreter(str(path)).get_signature_runner()
    ((name, given),) = runner.get_input_details().items()
    ((_, gives),) = runner.get_output_details().items()
    scale, zero_point = given["quantization"]
    stored = np.clip(np.round(samples[0][0] / scale) + zero_point, 0, 255).astype(np.uint8)
    ((_, numbers),) = runner(**{name: stored}).items()
    scale, zero_point = gives["quantization"]
    with open_session(bundle.path) as session:
        session.select(1, 0)
        session.inputs()["pixel_values"][...] = samples[0][0]
        session.execute()
        found = session.outputs()["logits"]
        np.testing.assert_allclose(found, (numbers.astype(np.float32) - zero_point) * scale)


def test_a_tflite_file_whose_weights_nothing_sets_is_refused(tmp_path: Path) -> None:
    given = keras.Input((SIDE, SIDE, 3), name="pixel_values")
    holder = tf.Module()
    holder.model = keras.Model(given, keras.layers.GlobalAveragePooling2D()(given))
    holder.model = keras.Model(given, keras.layers.Dense(3)(holder.model.output))
    spec = tf.TensorSpec([1, SIDE, SIDE, 3], name="pixel_values")
    call = tf.function(lambda pixel_values: {"logits": holder.model(pixel_values)})
    signature = call.get_concrete_function(spec)
    tf.saved_model.save(holder, str(tmp_path / "saved"), signatures={"serving_default": signature})
    path = tmp_path / "own.tflite"
    path.write_bytes(tf.lite.TFLiteConverter.from_saved_model(str(tmp_path / "saved")).convert())
    assert refused(path).startswith("keeps variables (READ_VARIABLE, VAR_HANDLE), which no call")


def test_a_damaged_keras_file_is_refused(tmp_path: Path) -> None:
    path = saved(texts(), tmp_path / "own.keras")
    path.write_bytes(path.read_bytes()[:3000])
    assert refused(path).startswith("Keras does not load it (")


@pytest.mark.parametrize("name", ["own.keras", "own.h5"])
def test_code_in_a_keras_file_is_not_run(tmp_path: Path, name: str) -> None:
    ids = keras.Input((4,), name="input_ids")
    model = keras.Model(ids, keras.layers.Lambda(lambda x: x + 1)(ids))
    path = saved(model, tmp_path / name)
    assert refused(path).endswith(
        "\nCode in a file is not run: save the model with Keras's own layers alone."
    )


def test_operators_that_reach_for_files_are_refused(tmp_path: Path) -> None:
    def run(input_ids: Any) -> Any:
        read = tf.strings.length(tf.io.read_file("/nowhere"))
        return {"logits": tf.cast(input_ids + read, tf.float32)}

    spec = tf.TensorSpec([None, None], tf.int32, name="input_ids")
    call = tf.function(run, input_signature=[spec], autograph=False).get_concrete_function()
    tf.saved_model.save(tf.Module(), str(tmp_path / "saved"), signatures=call)
    assert refused(tmp_path / "saved") == (
        "has operators that read or write files, or run code: ReadFile\nSave the network alone."
    )


def test_padding_that_changes_an_answer_is_refused(tmp_path: Path) -> None:
    path = saved(texts(masked=False), tmp_path / "own.keras")
    assert refused(path).startswith("gives another answer for a padded text\n")


def test_the_settings_beside_a_saved_model_count(tmp_path: Path) -> None:
    path = saved(texts(), tmp_path / "saved")
    before = fingerprint(path)
    word_pieces(tmp_path)
    assert fingerprint(path) != before
    assert import_model(path).labels == ("a", "b", "c")
