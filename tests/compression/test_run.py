# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import edgeopt
from edgeopt import progress
from edgeopt.bundle import golden
from edgeopt.compression.run import compress
from edgeopt.errors import InputError
from edgeopt.evaluate.data import read, split
from edgeopt.evaluate.score import answers
from edgeopt.model import reference
from edgeopt.model.importer import import_model
from edgeopt.model.network.widths import layers
from edgeopt.pipeline import compile
from edgeopt.recipe import FOLDER, Recipe, load_recipe
from edgeopt.steps import Step
from edgeopt.steps.layers import Layers
from edgeopt.steps.structured import Structured
from edgeopt.target import load_target
from tests import checkpoints
from tests.compression.conftest import rows, write_rows

pytest.importorskip("transformers", reason="needs edgeopt[torch]")
pytestmark = pytest.mark.heavy

GENTLE = Structured(remove=0.25, max_drop=1.0)
RUINOUS = Layers(drop=(0, 1), max_drop=0.0)


def recipe(*steps: Step) -> Recipe:
    return replace(load_recipe("default"), name="test", compress=steps)


def test_a_step_that_keeps_to_its_bound_is_kept(
    bert: Path, texts_file: Path, tmp_path: Path
) -> None:
    found = compress(bert, data=texts_file, recipe=recipe(GENTLE), output=tmp_path / "small")
    (step,) = found.steps
    assert step.kept
    assert found.measure == "accuracy"
    assert found.score_before > 0.9  # the checkpoint was trained to tell these texts apart
    assert (found.held_out, found.learnt_from) == (40, 160)
    assert step.parameters_after < step.parameters_before
    model = import_model(found.path)
    assert [layer.heads for layer in layers(model.module.network)] == [3, 3]
    assert model.labels == checkpoints.LABELS
    _, held_out = split(read(texts_file, model))
    right = answers(model, held_out, "check").argmax(1) == np.array(held_out.labels)
    assert right.mean() == pytest.approx(found.score_after)
    assert sum(p.numel() for p in model.module.parameters()) == found.parameters_after
    report = json.loads((tmp_path / "small/compress.json").read_text())
    written = report.pop("files")
    assert {*written, "compress.json"} == {p.name for p in (tmp_path / "small").iterdir()}
    assert report == json.loads(json.dumps(found.document()))
    assert report["steps"][0]["technique"] == "structured"
    assert str(tmp_path) not in json.dumps(report)
    assert model.origin["compressed"] == report


def test_a_compressed_model_that_was_trained_further_is_not_replaced(
    bert: Path, texts_file: Path, tmp_path: Path
) -> None:
    output = tmp_path / "small"
    compress(bert, data=texts_file, recipe=recipe(GENTLE), output=output)
    compress(bert, data=texts_file, recipe=recipe(GENTLE), output=output)  # as it wrote it itself
    (output / "optimizer.pt").write_text("mine")
    end = ", so it is not overwritten"
    with pytest.raises(InputError, match=f"holds optimizer.pt, which was not written.*{end}"):
        compress(bert, data=texts_file, recipe=recipe(GENTLE), output=output)
    (output / "optimizer.pt").unlink()
    weights = bytearray((output / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (output / "model.safetensors").write_bytes(weights)
    with pytest.raises(InputError, match=f"holds model.safetensors, which was changed.*{end}"):
        compress(bert, data=texts_file, recipe=recipe(GENTLE), output=output)
    (output / "compress.json").write_text('{"recipe": "prune"}')  # as older versions wrote it
    with pytest.raises(InputError, match=f"does not list what was written with it{end}"):
        compress(bert, data=texts_file, recipe=recipe(GENTLE), output=output)
    assert (output / "model.safetensors").read_bytes() == weights


@pytest.fixture(scope="module")
def embeddings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose every change shows: cosine with the original, not one of three labels."""
    return checkpoints.write(tmp_path_factory.mktemp("embeddings") / "model", "BertModel")


def test_a_step_that_loses_more_is_rolled_back_and_the_next_goes_on(
    embeddings: Path, texts_file: Path, tmp_path: Path
) -> None:
    told: list[str] = []
    steps = recipe(replace(GENTLE, max_drop=0.0), Layers(count=1, max_drop=1.0))
    with progress.listen(lambda event: told.append(event.text)):
        found = compress(embeddings, data=texts_file, recipe=steps, output=tmp_path / "small")
    first, second = found.steps
    assert not first.kept
    assert first.score_after < first.score_before == found.score_before
    assert first.drop == pytest.approx(first.score_before - first.score_after)
    (line,) = [text for text in told if text.startswith("structured: ")]
    assert line.endswith("ROLLED BACK, as it loses more than 0")
    assert second.kept
    assert second.parameters_before == first.parameters_before  # it went on with the model before
    assert found.score_after == second.score_after
    model = import_model(found.path)
    assert [layer.neurons for layer in layers(model.module.network)] == [64]


def test_where_all_is_rolled_back_the_model_is_what_came_in(
    embeddings: Path, texts_file: Path, tmp_path: Path
) -> None:
    steps = recipe(replace(GENTLE, max_drop=0.0))
    found = compress(embeddings, data=texts_file, recipe=steps, output=tmp_path / "same")
    assert found.score_after == found.score_before
    assert found.parameters_after == found.parameters_before
    old, new = import_model(embeddings), import_model(found.path)
    data = read(texts_file, old)
    np.testing.assert_array_equal(answers(new, data, "new"), answers(old, data, "old"))


def test_without_labels_agreement_is_what_counts(bert: Path, tmp_path: Path) -> None:
    lines = tmp_path / "texts.txt"
    lines.write_text("".join(row["text"] + "\n" for row in rows(120)))
    found = compress(bert, data=lines, recipe=recipe(GENTLE), output=tmp_path / "small")
    assert found.measure == "same label"
    assert found.score_before == 1.0
    assert 0.5 < found.score_after <= 1.0


def test_embeddings_are_held_against_the_originals(
    embeddings: Path, tmp_path: Path, texts_file: Path
) -> None:
    found = compress(embeddings, data=texts_file, recipe=recipe(GENTLE), output=tmp_path / "small")
    assert found.measure == "cosine"
    assert found.score_before == pytest.approx(1.0)
    assert 0.3 < found.score_after < 1.0


def test_the_work_comes_from_the_cache(bert: Path, texts_file: Path, tmp_path: Path) -> None:
    compress(bert, data=texts_file, recipe=recipe(GENTLE), output=tmp_path / "a")
    told: list[str] = []
    with progress.listen(lambda event: told.append(event.text)):
        compress(bert, data=texts_file, recipe=recipe(GENTLE), output=tmp_path / "b")
        # Another bound needs the same work, and may come to another end.
        strict = recipe(replace(GENTLE, max_drop=0.0))
        found = compress(bert, data=texts_file, recipe=strict, output=tmp_path / "c")
    assert found.steps[0].max_drop == 0.0
    assert not [text for text in told if "Measuring" in text or "Checking" in text]
    for name in ("model.safetensors", "config.json", "compress.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_compile_takes_the_folder_and_the_recipe(
    bert: Path, texts_file: Path, tmp_path: Path
) -> None:
    host = replace(load_target("host"), seq_lens=(16,))
    options = {"engines": ["onnx"], "precisions": ["fp32"]}
    found = compress(bert, data=texts_file, recipe=recipe(GENTLE), output=tmp_path / "small")
    model = import_model(found.path)
    two = compile(found.path, host, output=tmp_path / "two.edgeopt", **options)
    one = compile(
        bert,
        host,
        recipe=recipe(GENTLE),
        data=texts_file,
        output=tmp_path / "one.edgeopt",
        **options,
    )
    for bundle in (one, two):
        (artifact,) = bundle.manifest.artifacts
        assert artifact.fidelity.cosine_min > 0.9999
        for call in bundle.manifest.golden:
            batch, outputs = golden.read(bundle.path / call.directory)
            (expected,) = reference.run(model, [batch])
            np.testing.assert_allclose(outputs["logits"], expected["logits"], atol=1e-5)
        assert bundle.manifest.origin["compressed"]["steps"][0]["kept"]
    assert (one.manifest.name, two.manifest.name) == ("sorter", "small")


def test_compile_with_compression_needs_data(bert: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="recipe test compresses, which needs a checkpoint and"):
        compile(bert, "host", recipe=recipe(GENTLE), output=tmp_path / "a.edgeopt")
    with pytest.raises(InputError, match=r"has no images [\s\S]*texts takes a file of texts"):
        compile(bert, "host", recipe=recipe(GENTLE), data=bert, output=tmp_path / "a.edgeopt")
    assert list(tmp_path.iterdir()) == []


def edit(folder: Path, **section: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["edgeopt"] |= section
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"heads": [3]}, r"edgeopt.heads: expected 2 numbers, one a layer, found 1"),
        ({"heads": [3, 5]}, r"edgeopt.heads\[1\]: expected 1 to 4, found 5"),
        ({"neurons": [0, 48]}, r"edgeopt.neurons\[0\]: expected 1 or more, found 0"),
        ({"heads": [3, 2]}, r"of another shape: bert.encoder.layer.1.* \(24 stored, 16 expected\)"),
        ({"rows": 1}, r"edgeopt.rows: unknown key"),
    ],
)
def test_widths_that_are_not_those_of_the_weights_are_refused(
    section: dict[str, object], message: str, bert: Path, texts_file: Path, tmp_path: Path
) -> None:
    found = compress(bert, data=texts_file, recipe=recipe(GENTLE), output=tmp_path / "small")
    edit(found.path, **section)
    with pytest.raises(InputError, match=message):
        import_model(found.path)


def test_wrong_data_is_refused_before_any_work(bert: Path, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "few.jsonl", rows(99))
    with pytest.raises(InputError, match="has 99 texts, but 100 are needed"):
        compress(bert, data=path, output=tmp_path / "small")
    wrong = rows(120)
    wrong[3]["label"] = "game"
    path = write_rows(tmp_path / "wrong.jsonl", wrong)
    with pytest.raises(InputError, match=r"text 4 has the label 'game'.*did you mean 'games'"):
        compress(bert, data=path, output=tmp_path / "small")
    wrong[3]["label"] = 3  # type: ignore[assignment]
    write_rows(path, wrong)
    with pytest.raises(InputError, match="text 4 has the label 3, which is not one of the model's"):
        compress(bert, data=path, output=tmp_path / "small")
    del wrong[3]["label"]
    write_rows(path, wrong)
    with pytest.raises(InputError, match='line 4: has no "label", which other lines have'):
        compress(bert, data=path, output=tmp_path / "small")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["few.jsonl", "wrong.jsonl"]


def test_wrong_models_and_places_are_refused(bert: Path, texts_file: Path, tmp_path: Path) -> None:
    tokens = checkpoints.write(tmp_path / "tokens", "BertForTokenClassification")
    with pytest.raises(InputError, match="is for token-classification"):
        compress(tokens, data=texts_file, output=tmp_path / "small")
    with pytest.raises(InputError, match=r"has no \[\[compress\]\] steps"):
        compress(bert, data=texts_file, recipe="default", output=tmp_path / "small")
    with pytest.raises(InputError, match="drop: 2 layers are to go, but there are 2"):
        compress(bert, data=texts_file, recipe=recipe(RUINOUS), output=tmp_path / "small")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/a.tex").write_text("x")
    with pytest.raises(InputError, match="exists and is not a compressed model"):
        compress(bert, data=texts_file, output=tmp_path / "thesis")
    with pytest.raises(InputError, match="is the model itself"):
        compress(bert, data=texts_file, output=bert)
    assert not (tmp_path / "small").exists()


def test_the_command_and_the_shipped_recipe(bert: Path, texts_file: Path, tmp_path: Path) -> None:
    words = ["compress", str(bert), "--data", str(texts_file), "-o", str(tmp_path / "s"), "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "edgeopt", *words], capture_output=True, text=True, check=True
    )
    document = json.loads(done.stdout)
    assert document["path"] == str(tmp_path / "s")
    assert [step["technique"] for step in document["steps"]] == ["vocabulary", "structured"]
    words = [sys.executable, "-m", "edgeopt", *words[:-1]]
    shown = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert "structured" in shown
    assert "accuracy on 40 held-out texts" in shown
    assert (FOLDER / "prune.toml").is_file()


def test_the_package_is_the_function(bert: Path, texts_file: Path, tmp_path: Path) -> None:
    found = edgeopt.compress(
        bert, data=texts_file, recipe=recipe(GENTLE), output=tmp_path / "small"
    )
    assert found.path == tmp_path / "small"
