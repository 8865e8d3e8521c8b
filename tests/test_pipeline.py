# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""From a source to a bundle, with tiny checkpoints and real backends."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import edgeopt
from edgeopt import cache, progress
from edgeopt.bundle import Bundle, golden, open_bundle
from edgeopt.bundle.verify import verify
from edgeopt.errors import CompileError, InputError
from edgeopt.lower import lowering
from edgeopt.model import importer, samples
from edgeopt.pipeline import compile
from edgeopt.recipe import Bound, load_recipe
from edgeopt.target import Target, load_target

pytest.importorskip("torch", reason="needs edgeopt[torch]")
pytest.importorskip("transformers", reason="needs edgeopt[torch]")
pytest.importorskip("onnxruntime", reason="needs edgeopt[onnx]")

from tests import checkpoints, every_engine
from tests.interrupt import INTERRUPT

pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.write(tmp_path_factory.mktemp("checkpoint") / "tiny")


@pytest.fixture(scope="module")
def host() -> Target:
    return every_engine.host()


@pytest.fixture(scope="module")
def bundle(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    output = tmp_path_factory.mktemp("bundles") / "tiny.edgeopt"
    return every_engine.bundle(checkpoint, output)


def steps_of(*arguments: object, **options: object) -> tuple[Bundle, list[str]]:
    """Compile and return what was told on the way."""
    told: list[str] = []
    with progress.listen(lambda event: told.append(event.text)):
        return compile(*arguments, **options), told  # type: ignore[arg-type]


def test_all_engines_are_in_the_bundle_and_agree(bundle: Bundle) -> None:
    kinds = {(a.engine, a.precision) for a in bundle.manifest.artifacts}
    engines = ("onnx", "tflite", "openvino", "tvm")
    assert kinds == {(e, p) for e in engines for p in ("fp32", "int8")}
    found = verify(bundle)
    assert found.ok
    assert all(a.agrees for a in found.artifacts)


def test_int8_is_calibrated_on_the_shortest_texts_too(checkpoint: Path) -> None:
    """A trained MiniLM's INT8 was off by .38 for an empty text without them, by .23 with them."""
    model = importer.import_model(checkpoint)
    prepared = lowering.prepare(model, (32,), samples.shipped(model, 40))
    tokens = [int(call["attention_mask"].sum()) for call in prepared.calibration]
    assert min(tokens) == 2
    assert all(int(c["attention_mask"].sum()) > 2 for c in prepared.checks[32])


def test_labels_tokenizer_and_origin_travel_along(bundle: Bundle) -> None:
    m = bundle.manifest
    assert m.name == "tiny"
    assert m.task.name == "sequence-classification"
    assert m.labels == checkpoints.LABELS
    assert "tokenizer/tokenizer.json" in m.tokenizer
    assert m.origin["architecture"] == "BertForSequenceClassification"
    assert all(len(h) == 64 for h in m.origin["weights_sha256"].values())


def test_no_path_of_this_machine_is_in_the_manifest(bundle: Bundle, checkpoint: Path) -> None:
    text = (bundle.path / "manifest.json").read_text()
    assert str(checkpoint.parent) not in text
    assert str(Path.home()) + "/" not in text


def test_golden_outputs_are_those_of_the_model(bundle: Bundle, checkpoint: Path) -> None:
    from edgeopt.model import reference
    from edgeopt.model.importer import import_model

    model = import_model(checkpoint)
    lengths = {call.seq_len for call in bundle.manifest.golden}
    assert lengths == {16, 32}
    for call in bundle.manifest.golden:
        batch, outputs = golden.read(bundle.path / call.directory)
        assert batch["input_ids"].shape == (1, call.seq_len)
        assert int(batch["attention_mask"].sum()) == call.tokens
        expected = reference.run(model, [batch])[0]
        assert abs(outputs["logits"] - expected["logits"]).max() < 1e-6


def test_an_unchanged_bundle_is_left_alone(checkpoint: Path, host: Target, tmp_path: Path) -> None:
    options = {"output": tmp_path / "a.edgeopt", "engines": ["onnx"], "precisions": ["fp32"]}
    first, _ = steps_of(checkpoint, host, **options)
    before = os.stat(first.path).st_ino
    again, told = steps_of(checkpoint, host, **options)
    assert told == [f"{again.path} is up to date"]
    assert os.stat(again.path).st_ino == before


def test_artifacts_come_from_the_cache(checkpoint: Path, host: Target, tmp_path: Path) -> None:
    options = {"engines": ["onnx"], "precisions": ["fp32"]}
    compile(checkpoint, host, output=tmp_path / "a.edgeopt", **options)
    second, told = steps_of(checkpoint, host, output=tmp_path / "b.edgeopt", **options)
    assert not [text for text in told if text.startswith("Lowering")]
    assert second.manifest == open_bundle(tmp_path / "a.edgeopt").manifest


def test_a_bundle_is_written_again_without_its_model(
    checkpoint: Path, host: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = cache.root()
    (tmp_path / "cache").mkdir()
    for kind in ("runtime", "zig"):  # what was built from C stays shared
        (shared / kind).mkdir(parents=True, exist_ok=True)
        (tmp_path / "cache" / kind).symlink_to(shared / kind)
    monkeypatch.setenv("EDGEOPT_CACHE", str(tmp_path / "cache"))
    options = {"engines": ["onnx"], "precisions": ["fp32"]}
    first = compile(checkpoint, host, output=tmp_path / "a.edgeopt", **options)
    written = {p: p.read_bytes() for p in first.path.rglob("*") if p.is_file()}

    second, told = steps_of(checkpoint, host, output=tmp_path / "b.edgeopt", **options)
    assert told == [f"{second.path} is written again out of the cache"]
    for path, content in written.items():
        assert (second.path / path.relative_to(first.path)).read_bytes() == content

    (kept,) = (tmp_path / "cache/artifact").glob("*/files/model.onnx")
    kept.write_bytes(kept.read_bytes()[:-1] + b"!")
    _, told = steps_of(checkpoint, host, output=tmp_path / "c.edgeopt", **options)
    assert any(text.startswith("Importing") for text in told)

    shutil.rmtree(kept.parents[1])
    third, told = steps_of(checkpoint, host, output=tmp_path / "d.edgeopt", **options)
    assert any(text.startswith("Lowering") for text in told)
    assert third.manifest == first.manifest


def test_below_the_bound_is_not_shipped(checkpoint: Path, host: Target, tmp_path: Path) -> None:
    recipe = load_recipe("default")
    strict = replace(recipe, bounds=recipe.bounds | {"int8": Bound(cosine_min=1.0)})
    made = compile(checkpoint, host, output=tmp_path / "a.edgeopt", recipe=strict, engines=["onnx"])
    assert [(a.engine, a.precision) for a in made.manifest.artifacts] == [("onnx", "fp32")]
    (skipped,) = made.manifest.skipped
    assert (skipped.engine, skipped.precision) == ("onnx", "int8")
    assert "is below the recipe's bound 1.0 (worst of 64 texts)" in skipped.reason
    assert not list(made.path.glob("artifacts/onnx-int8"))


def broken_tvm(target: Target) -> Target:
    """Return ``target`` with a core that LLVM does not know."""
    pi = load_target("raspberry-pi-4")
    engines = tuple(
        replace(e, options={"mcpu": "cortex-a999"}) if e.engine == "tvm" else e for e in pi.engines
    )
    return replace(pi, engines=engines, seq_lens=target.seq_lens)


def test_one_format_that_fails_does_not_sink_the_others(
    checkpoint: Path, host: Target, tmp_path: Path
) -> None:
    made = compile(
        checkpoint,
        broken_tvm(host),
        output=tmp_path / "a.edgeopt",
        engines=["onnx", "tvm"],
        precisions=["fp32"],
    )
    assert [a.engine for a in made.manifest.artifacts] == ["onnx"]
    assert [s.engine for s in made.manifest.skipped] == ["tvm"]
    assert "cortex-a999" in made.manifest.skipped[0].reason


def test_where_every_format_fails_nothing_is_left(
    checkpoint: Path, host: Target, tmp_path: Path
) -> None:
    with pytest.raises(CompileError, match=r"no artifact could be made[\s\S]*tvm fp32: "):
        compile(checkpoint, broken_tvm(host), output=tmp_path / "x/a.edgeopt", engines=["tvm"])
    assert list(tmp_path.iterdir()) == []


def test_an_onnx_file(bundle: Bundle, host: Target, tmp_path: Path) -> None:
    source = bundle.path / "artifacts/onnx-fp32/model.onnx"
    made = compile(
        source, host, output=tmp_path / "a.edgeopt", engines=["onnx", "tflite"], precisions=["fp32"]
    )
    assert made.manifest.reference == "onnxruntime FP32"
    assert [a.engine for a in made.manifest.artifacts] == ["onnx"]
    assert "TFLite is lowered from a PyTorch module" in made.manifest.skipped[0].reason


def beside_its_tokenizer(bundle: Bundle, checkpoint: Path, folder: Path) -> Path:
    """Copy the network as .onnx and what stands beside a checkpoint into ``folder``."""
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(checkpoint / name, folder)
    return Path(shutil.copy(bundle.path / "artifacts/onnx-fp32/model.onnx", folder))


def test_an_onnx_file_is_compiled_again_if_what_is_beside_it_changed(
    bundle: Bundle, checkpoint: Path, host: Target, tmp_path: Path
) -> None:
    source = beside_its_tokenizer(bundle, checkpoint, tmp_path)
    options = {"output": tmp_path / "a.edgeopt", "engines": ["onnx"], "precisions": ["fp32"]}

    def again() -> tuple[Bundle, bool]:
        made, told = steps_of(source, host, **options)
        return made, told != [f"{made.path} is up to date"]

    first, _ = again()
    assert not again()[1]

    config = json.loads((tmp_path / "config.json").read_text())
    config["id2label"] = {str(i): name for i, name in enumerate("xyz")}
    (tmp_path / "config.json").write_text(json.dumps(config))
    second, compiled = again()
    assert (compiled, second.manifest.labels) == (True, ("x", "y", "z"))

    tokens = json.loads((tmp_path / "tokenizer.json").read_text())
    tokens["normalizer"]["lowercase"] = False
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokens))
    third, compiled = again()
    assert compiled
    shipped = json.loads((third.path / "tokenizer/tokenizer.json").read_text())
    assert shipped["normalizer"]["lowercase"] is False
    assert len({b.manifest.inputs for b in (first, second, third)}) == 3

    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    settings["model_max_length"] = 34
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    fourth, compiled = again()
    assert (compiled, fourth.manifest.max_seq_len) == (True, 34)
    assert not again()[1]


def test_a_change_of_the_encoder_has_the_reference_run_again(
    bundle: Bundle, checkpoint: Path, tmp_path: Path
) -> None:
    """In a copy of the package, since what runs here is not to be changed."""
    source = beside_its_tokenizer(bundle, checkpoint, tmp_path)
    package = Path(edgeopt.__file__).parent
    shutil.copytree(
        package, tmp_path / "edgeopt", ignore=shutil.ignore_patterns("__pycache__", "prebuilt")
    )
    code = (
        "import sys; from edgeopt.lower import lowering;"
        "from edgeopt.model import importer, samples;"
        "model = importer.import_model(sys.argv[1]);"
        "lowering.prepare(model, (16,), samples.shipped(model, 2))"
    )

    def entries() -> set[str]:
        environment = {"PYTHONPATH": str(tmp_path), "EDGEOPT_CACHE": str(tmp_path / "cache")}
        subprocess.run(
            [sys.executable, "-c", code, str(source)],
            env=os.environ | environment,
            cwd=tmp_path,
            check=True,
        )
        return {path.name for path in (tmp_path / "cache/reference").glob("[0-9a-f]*")}

    first = entries()
    for changed, kept in (("cli/run.py", True), ("model/encoder.py", False)):
        path = tmp_path / "edgeopt" / changed
        path.write_text(path.read_text() + "\n")
        assert (entries() == first) == kept, changed


@pytest.mark.parametrize(("wanted", "lengths"), [((4096,), (38,)), ((16, 32, 64), (16, 32, 38))])
def test_a_model_that_takes_less_than_the_target_is_read_to_its_end(
    checkpoint: Path, tmp_path: Path, wanted: tuple[int, ...], lengths: tuple[int, ...]
) -> None:
    target = replace(load_target("host"), seq_lens=wanted)
    made = compile(
        checkpoint, target, output=tmp_path / "b", engines=["tflite"], precisions=["fp32"]
    )
    assert made.manifest.artifacts[0].artifact.main.seq_lens == lengths


def test_a_length_that_a_model_does_not_take_is_refused(
    checkpoint: Path, tmp_path: Path, host: Target
) -> None:
    with pytest.raises(InputError) as caught:
        compile(checkpoint, host, output=tmp_path / "b", engines=["onnx"], seq_lens=(16, 50))
    assert caught.value.message == "takes up to 38 tokens, and was asked for 50"
    assert caught.value.hint == "Leave --seq-len out, and its own longest is taken."
    assert not (tmp_path / "b").exists()


def test_ctrl_c_leaves_nothing(checkpoint: Path, tmp_path: Path) -> None:
    output = tmp_path / "out/a.edgeopt"
    words = ["compile", str(checkpoint), "--target", "host", "-e", "tflite", "-o", str(output)]
    process = subprocess.Popen(
        [sys.executable, "-m", "edgeopt", *words],
        env=os.environ | {"EDGEOPT_CACHE": str(tmp_path / "cache")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("Importing"):
            break
    process.send_signal(INTERRUPT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "Traceback" not in out + err
    assert not (tmp_path / "out").exists()
    leftovers = [p for p in (tmp_path / "cache").rglob("*.build-*")]
    assert leftovers == []


def test_json_is_the_whole_of_stdout(checkpoint: Path, tmp_path: Path) -> None:
    target = tmp_path / "short.toml"
    text = (Path(load_target("host").path)).read_text()
    lines = ["seq_lens = [16]" if x.startswith("seq_lens") else x for x in text.splitlines()]
    target.write_text("\n".join(lines))
    words = ["compile", str(checkpoint), "--target", str(target), "-e", "onnx", "-p", "fp32"]
    done = subprocess.run(
        [sys.executable, "-m", "edgeopt", *words, "-o", str(tmp_path / "a.edgeopt"), "--json"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["bundle"] == str(tmp_path / "a.edgeopt")
    (artifact,) = document["artifacts"]
    assert {"engine", "precision", "files", "bytes", "cosine_min", "max_abs_error"} <= set(artifact)
    assert document["skipped"] == []


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vision") / "eyes"
    return checkpoints.write(folder, "ViTForImageClassification")


@pytest.fixture(scope="module")
def image_bundle(pictures: Path, host: Target, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    output = tmp_path_factory.mktemp("bundles") / "eyes.edgeopt"
    return compile(pictures, host, output=output, recipe=every_engine.loose())


def test_all_engines_take_a_model_of_images(image_bundle: Bundle) -> None:
    m = image_bundle.manifest
    assert not m.skipped
    engines = ("onnx", "tflite", "openvino", "tvm")
    kinds = {(a.engine, a.precision) for a in m.artifacts}
    assert kinds == {(e, p) for e in engines for p in ("fp32", "int8")}
    assert all(a.artifact.main.seq_lens == () and a.fidelity.calls == 32 for a in m.artifacts)
    found = verify(image_bundle)
    assert found.ok
    assert all(a.agrees for a in found.artifacts)


def test_how_images_are_prepared_travels_along(image_bundle: Bundle, pictures: Path) -> None:
    m = image_bundle.manifest
    assert (m.task.name, m.labels) == ("image-classification", checkpoints.LABELS)
    assert (m.max_seq_len, m.tokenizer, m.pooling) == (0, (), None)
    assert json.loads((image_bundle.path / "manifest.json").read_text())["input"] == {
        "kind": "image",
        "height": 32,
        "width": 32,
        "resize_height": 32,
        "resize_width": 32,
        "resample": 2,
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
        "rescale_factor": 1 / 255,
    }
    assert len(m.origin["images_sha256"]) == 64
    assert len(m.golden) == 2
    for call in m.golden:
        assert (call.seq_len, call.tokens) == (0, 0)
        batch, outputs = golden.read(image_bundle.path / call.directory)
        assert batch["pixel_values"].shape == (1, 3, 32, 32)
        assert batch["pixel_values"].dtype == "float32"
        assert outputs["logits"].shape == (1, 3)


def test_a_model_of_images_is_shown_as_one(image_bundle: Bundle) -> None:
    words = [sys.executable, "-m", "edgeopt", "inspect", str(image_bundle.path)]
    shown = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert "eyes  image-classification, images of 32 x 32" in shown
    assert "image   height=32, width=32, resize_height=32" in shown
    assert "worst of 32 calls on images" in shown
    assert "tokens" not in shown


def test_a_folder_of_images_takes_the_place_of_the_made_ones(
    pictures: Path, host: Target, tmp_path: Path
) -> None:
    (tmp_path / "photos").mkdir()
    for i in range(3):
        pixels = bytes((i * 40 + j) % 256 for j in range(5 * 4 * 3))
        (tmp_path / f"photos/{i}.ppm").write_bytes(b"P6 5 4 255\n" + pixels)
    options = {"engines": ["onnx"], "precisions": ["fp32"], "data": tmp_path / "photos"}
    made = compile(pictures, host, output=tmp_path / "a.edgeopt", **options)
    assert [a.fidelity.calls for a in made.manifest.artifacts] == [3]
    again, told = steps_of(pictures, host, output=tmp_path / "a.edgeopt", **options)
    assert told == [f"{again.path} is up to date"]
    (tmp_path / "photos/1.ppm").write_bytes(b"P6 5 4 255\n" + bytes(60))
    changed = compile(pictures, host, output=tmp_path / "a.edgeopt", **options)
    assert changed.manifest.origin["images_sha256"] != made.manifest.origin["images_sha256"]


def test_images_for_a_model_of_texts_are_refused(
    checkpoint: Path, host: Target, tmp_path: Path
) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/a.ppm").write_bytes(b"P6 1 1 255\n123")
    with pytest.raises(InputError, match="takes a file of texts"):
        compile(checkpoint, host, output=tmp_path / "a.edgeopt", data=tmp_path / "photos")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["photos"]
