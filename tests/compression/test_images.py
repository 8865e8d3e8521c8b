# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Classifiers of images compressed: what comes out is what transformers makes of the folder.

Each family is a small network that has learnt to tell drawn images apart.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgeopt
from edgeopt.compression.run import compress
from edgeopt.compression.technique import technique
from edgeopt.errors import InputError
from edgeopt.evaluate import score
from edgeopt.evaluate.data import Data, batches, read
from edgeopt.fields import Table
from edgeopt.model import Model
from edgeopt.model.checkpoint import save
from edgeopt.model.importer import import_model
from edgeopt.model.network.widths import layers
from edgeopt.quiet import quiet
from edgeopt.recipe import Recipe, load_recipe
from edgeopt.steps import Step, read_steps
from tests.compression import pictures

transformers = pytest.importorskip("transformers", reason="needs edgeopt[torch]")
pytest.importorskip("PIL", reason="needs Pillow")
pytestmark = pytest.mark.heavy

QUICK = {"epochs": 1, "learning_rate": 1e-3, "precision": "fp32"}


@dataclass(frozen=True, kw_only=True)
class Learnt:
    """A trained checkpoint, as it is imported, and images that it has not seen."""

    folder: Path
    model: Model
    data: Data

    def accuracy(self, model: Model) -> float:
        found = score.answers(model, self.data, "Checking")
        return float((found.argmax(1) == np.array(self.data.labels)).mean())


Get = Callable[[str], Learnt]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pictures.write_images(tmp_path_factory.mktemp("images") / "seen", 40)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Get:
    """Write a network of a family that has learnt nothing, the first time it is asked for."""
    home = tmp_path_factory.mktemp("fresh")
    unseen = pictures.write_images(home / "unseen", 34, seed=1)
    made: dict[str, Learnt] = {}

    def get(family: str) -> Learnt:
        if family not in made:
            folder = pictures.checkpoint(home / family, family)
            model = import_model(folder)
            made[family] = Learnt(folder=folder, model=model, data=read(unseen, model).first(32))
        return made[family]

    return get


@pytest.fixture(scope="module")
def learnt(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Get:
    """Train a network of a family, the first time it is asked for."""
    home = tmp_path_factory.mktemp("learnt")
    unseen = pictures.write_images(home / "unseen", 34, seed=1)
    made: dict[str, Learnt] = {}

    def get(family: str) -> Learnt:
        if family not in made:
            folder = pictures.train(pictures.checkpoint(home / family, family), images)
            model = import_model(folder)
            made[family] = Learnt(folder=folder, model=model, data=read(unseen, model))
        return made[family]

    return get


def step(**options: Any) -> Step:
    return read_steps(Table({"compress": [options]}, file="test.toml").tables("compress"))[0]


def applied(of: Learnt, images: Path, **options: Any) -> Model:
    chosen = step(**options)
    found = technique(chosen.technique)
    found.check(of.model, chosen)
    return found.apply(of.model, chosen, read(images, of.model)).model


def check_saved(of: Learnt, made: Model, folder: Path, *, plain: bool) -> None:
    """Hold what is saved against ``made``; transformers alone loads it if it is ``plain``."""
    import torch

    folder.mkdir()
    save(made, folder, of.folder)
    wanted = score.answers(made, of.data, "As made")
    again = import_model(folder)
    np.testing.assert_allclose(score.answers(again, of.data, "Again"), wanted, atol=1e-5)
    assert ("edgeopt" in json.loads((folder / "config.json").read_text())) != plain
    if not plain:
        return
    with quiet():
        network = transformers.AutoModelForImageClassification.from_pretrained(folder).eval()
    batch = next(iter(batches(made, of.data)))
    with torch.inference_mode():
        found = network(batch.inputs[0]).logits.numpy()
    np.testing.assert_allclose(found, wanted[batch.rows], atol=1e-4)


@pytest.mark.parametrize(
    ("family", "parts", "plain"),
    [
        ("ViT", ["heads", "neurons"], True),  # config.json has a word for heads of another size
        ("DeiT", ["heads", "neurons"], True),
        ("Beit", ["heads", "neurons"], True),
        ("Swin", ["heads", "neurons"], False),
        ("Pvt", ["heads", "neurons"], False),
        ("Segformer", ["heads", "neurons"], False),
        ("CLIP", ["heads", "neurons"], False),
        ("Dinov2", ["neurons"], True),
        ("ConvNextV2", ["neurons"], False),
        ("Hiera", ["neurons"], True),
    ],
)
def test_heads_and_neurons_that_put_out_nothing_can_go(
    family: str, parts: list[str], plain: bool, fresh: Get, images: Path, tmp_path: Path
) -> None:
    """Those whose weights were set to zero are chosen, and the network computes what it did."""
    import copy

    of = fresh(family)
    module: Any = copy.deepcopy(of.model.module)
    silent = of.model.with_module(module)
    for layer in layers(module.network):
        half = layer.neurons // 2  # one in two, so that a ratio of config.json stays whole
        layer.ffn_output.weight.data[:, ::2] = 0
        for name in layer.family.between:  # of an odd neuron GRN's mean is of all: none is given
            if name == "grn":
                layer.block.get_submodule(name).weight.data.zero_()  # type: ignore[operator]
        if layer.attention_output is not None and layer.heads > 1 and "heads" in parts:
            layer.attention_output.weight.data[:, : layer.head_dim] = 0
        assert half
    was = Learnt(folder=of.folder, model=silent, data=of.data)
    options = {"technique": "structured", "parts": parts, "remove": 0.5, "reconstruct": False}
    if "heads" in parts:
        made = applied(was, images, **options, importance="magnitude", multiple=1, widths="uniform")
        # Half of the heads go, and only one of them was silent: that one is among them.
        kept = [layer.heads for layer in layers(made.module.network)]  # type: ignore[arg-type]
        assert all(
            n == max(1, layer.heads // 2)
            for n, layer in zip(kept, layers(module.network), strict=True)
        )
        check_saved(of, made, tmp_path / "both", plain=plain)
        options["parts"] = ["neurons"]
    made = applied(was, images, **options, importance="magnitude", multiple=1)
    before, after = (score.answers(m, of.data, "Comparing") for m in (silent, made))
    np.testing.assert_allclose(after, before, atol=1e-4)
    assert [2 * layer.neurons for layer in layers(made.module.network)] == [  # type: ignore[arg-type]
        layer.neurons for layer in layers(module.network)
    ]


@pytest.mark.parametrize("family", ["ViT", "Swin", "ConvNext"])
def test_a_pruned_classifier_keeps_its_accuracy(
    family: str, learnt: Get, images: Path, tmp_path: Path
) -> None:
    of = learnt(family)
    assert of.accuracy(of.model) > 0.9
    made = applied(of, images, technique="structured", parts=["neurons"], remove=0.25)
    assert of.accuracy(made) > of.accuracy(of.model) - 0.05
    assert all(
        after.neurons < before.neurons
        for before, after in zip(
            layers(of.model.module.network),  # type: ignore[arg-type]
            layers(made.module.network),  # type: ignore[arg-type]
            strict=True,
        )
    )


@pytest.mark.parametrize(("family", "going"), [("ViT", [1]), ("Swin", [0, 3]), ("Siglip", [0])])
def test_layers_are_dropped_as_transformers_would_have_built_it(
    family: str, going: list[int], fresh: Get, images: Path, tmp_path: Path
) -> None:
    of = fresh(family)
    made = applied(of, images, technique="layers", drop=going)
    assert len(layers(made.module.network)) == len(layers(of.model.module.network)) - len(going)  # type: ignore[arg-type]
    check_saved(of, made, tmp_path / "made", plain=True)


def test_no_stage_is_emptied(fresh: Get, images: Path) -> None:
    of = fresh("Swin")
    with pytest.raises(InputError, match="stage 1 would have no layer left of its 2"):
        applied(of, images, technique="layers", drop=[2, 3])
    with pytest.raises(InputError, match="only 2 can, as each stage keeps one"):
        applied(of, images, technique="layers", count=3)
    with pytest.raises(InputError, match="stage 1 would have no layer left of its 2; give a share"):
        applied(of, images, technique="distil", layers=[0, 1], training=QUICK)


@pytest.mark.parametrize("family", ["ViT", "Siglip", "Segformer"])
def test_low_rank_layers_come_back(family: str, fresh: Get, images: Path, tmp_path: Path) -> None:
    of = fresh(family)
    made = applied(of, images, technique="low_rank", share=0.7)
    check_saved(of, made, tmp_path / "made", plain=False)
    logits = [score.answers(m, of.data, "Comparing") for m in (of.model, made)]
    assert score.change(of.model, logits[1], logits[0], of.data) < 0.1


@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("ViT", {"layers": 0.5, "losses": {"response": 1.0, "relations": 1.0, "hidden": 1.0}}),
        ("ViT", {"hidden": 16, "neurons": 32}),
        ("CLIP", {"layers": 1}),  # its patches have no bias: none may be learnt
        ("ConvNext", {"layers": 0.5, "losses": {"response": 1.0, "labels": 1.0}}),
        ("ResNet", {}),
    ],
)
def test_students_learn_of_images(
    family: str, options: dict[str, Any], learnt: Get, images: Path, tmp_path: Path
) -> None:
    of = learnt(family)
    made = applied(of, images, technique="distil", training=QUICK | {"epochs": 4}, **options)
    check_saved(of, made, tmp_path / "made", plain=True)
    assert of.accuracy(made) > 0.6


def test_quantised_training_leaves_weights_on_the_grid(
    learnt: Get, images: Path, tmp_path: Path
) -> None:
    from edgeopt.backends.grid import Grid, linears, snap

    of = learnt("ViT")
    made = applied(of, images, technique="qat", training=QUICK)
    for module in linears(made).values():
        np.testing.assert_allclose(snap(module.weight, Grid()), module.weight, atol=1e-6)
    check_saved(of, made, tmp_path / "made", plain=True)


def test_tokens_of_an_image_are_pooled(fresh: Get, images: Path, tmp_path: Path) -> None:
    of = fresh("DeiT")
    for method in ("pool", "prune"):
        made = applied(of, images, technique="tokens", method=method, layers=[1], keep=[0.5])
        check_saved(of, made, tmp_path / method, plain=False)
        seen: list[int] = []
        network: Any = made.module.network
        hook = network.deit.layers[2].register_forward_pre_hook(
            lambda _, given, seen=seen: seen.append(given[0].shape[1])
        )
        score.answers(made, of.data, "Counting")
        hook.remove()
        assert set(seen) == {10 if method == "pool" else 9}  # of 18 with both marks


@pytest.mark.parametrize(
    ("family", "options", "message"),
    [
        ("ConvNext", {"technique": "structured"}, r"no attention heads .* parts = \[\"neurons\"\]"),
        ("Swinv2", {"technique": "movement"}, r"no attention heads .* parts = \[\"neurons\"\]"),
        ("Beit", {"technique": "tokens", "layers": [0], "keep": [0.5]}, "reads more of an image"),
        ("Swin", {"technique": "distil", "hidden": 8}, "layers = 0.5 takes half of each"),
        (
            "Swin",
            {"technique": "distil", "losses": {"hidden": 1.0}},
            "losses.hidden: compares hidden states .* response and labels work",
        ),
        ("ViT", {"technique": "distil", "augment": 1}, "augment: changes copies of texts"),
        ("ResNet", {"technique": "layers", "count": 1}, "'resnet' cannot be changed"),
        ("ResNet", {"technique": "qat"}, "most weights of ResNetForImageClassification are in con"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(
    family: str, options: dict[str, Any], message: str, fresh: Get, images: Path
) -> None:
    with pytest.raises(InputError, match=message):
        applied(fresh(family), images, **options)


def made_of(steps: list[dict[str, Any]]) -> Recipe:
    from dataclasses import replace

    tables = Table({"compress": steps}, file="test.toml").tables("compress")
    return replace(load_recipe("prune-images"), compress=read_steps(tables))


def test_the_command_and_what_compile_makes_of_it(
    learnt: Get, images: Path, tmp_path: Path
) -> None:
    """From the command to the bundle's answers, which are transformers' on the new checkpoint."""
    pytest.importorskip("onnxruntime", reason="needs edgeopt[onnx]")
    of = learnt("ViT")
    out = tmp_path / "small"
    words = [
        "compress",
        str(of.folder),
        "--data",
        str(images),
        "-r",
        "prune-images",
        "-o",
        str(out),
    ]
    words += ["--target", "raspberry-pi-4"]
    run = [sys.executable, "-m", "edgeopt", *words]
    said = subprocess.run(run, capture_output=True, text=True, check=True).stdout
    assert "accuracy on 24 held-out images" in said
    report = json.loads((out / "compress.json").read_text())
    assert (report["measure"], report["held_out"], report["learnt_from"]) == ("accuracy", 24, 96)
    assert report["seq_len"] == 0
    (done,) = report["steps"]
    assert done["kept"]
    assert done["latency"]["ratio"] > 1.01
    bundle = edgeopt.compile(
        out, "host", output=tmp_path / "b.edgeopt", engines=["onnx"], precisions=["fp32"]
    )
    assert bundle.manifest.original.endswith('pipeline("image-classification")')
    found = edgeopt.evaluate_bundle(bundle, images, original=out)
    assert found.original is not None
    assert found.artifacts[0].figures["accuracy"].value == found.original.figures["accuracy"].value
    assert found.original.figures["accuracy"].value == pytest.approx(
        report["score_after"], abs=0.06
    )


def test_compile_compresses_images_and_bounds_what_int8_loses(
    learnt: Get, images: Path, tmp_path: Path
) -> None:
    from dataclasses import replace

    from edgeopt.quantize import Quantize

    pytest.importorskip("onnxruntime", reason="needs edgeopt[onnx]")
    of = learnt("ViT")
    recipe = load_recipe("prune-images")
    recipe = replace(recipe, quantize=Quantize(max_drop=0.2))
    bundle = edgeopt.compile(
        of.folder,
        "host",
        output=tmp_path / "b.edgeopt",
        recipe=recipe,
        data=images,
        engines=["onnx"],
        precisions=["int8"],
    )
    manifest = bundle.manifest
    (step,) = manifest.origin["compressed"]["steps"]
    assert (step["technique"], step["kept"]) == ("structured", True)
    assert manifest.origin["compressed"]["held_out"] == 24
    (artifact,) = manifest.artifacts
    assert artifact.accuracy is not None
    assert (artifact.accuracy["measure"], artifact.accuracy["texts"]) == ("accuracy", 24)
    assert artifact.accuracy["drop"] <= 0.2
    texts = tmp_path / "texts.txt"
    texts.write_text("a text\n" * 120)
    for data, message in (
        (texts, "has no column of image files"),
        (None, "compresses, which needs a checkpoint and your texts or images"),
    ):
        with pytest.raises(InputError, match=message):
            edgeopt.compile(
                of.folder, "host", output=tmp_path / "c.edgeopt", recipe=recipe, data=data
            )
    table = tmp_path / "table.csv"  # compress takes it, and what is calibrated on does not
    names = [f"{path},{path.parent.name}" for path in sorted(images.glob("*/*.ppm"))]
    table.write_text("\n".join(["file_name,label", *names]) + "\n")
    with pytest.raises(InputError, match=r"is a file of texts, but .* takes a folder of images"):
        edgeopt.compile(of.folder, "host", output=tmp_path / "c.edgeopt", recipe=recipe, data=table)


def test_images_without_labels_are_held_against_the_original(
    learnt: Get, images: Path, tmp_path: Path
) -> None:
    of = learnt("ViT")
    flat = tmp_path / "flat"
    flat.mkdir()
    for number, path in enumerate(sorted(images.glob("*/*.ppm"))):
        (flat / f"{number}.ppm").write_bytes(path.read_bytes())
    steps = [{"technique": "layers", "count": 1, "max_drop": 1.0}]
    found = compress(of.folder, data=flat, recipe=made_of(steps), output=tmp_path / "out")
    assert (found.measure, found.score_before) == ("same label", 1.0)


def test_recipes_of_texts_and_dual_encoders_are_refused(
    learnt: Get, images: Path, tmp_path: Path
) -> None:
    of = learnt("ViT")
    with pytest.raises(
        InputError, match="vocabulary: is for networks of texts, and ViT is for ima"
    ):
        compress(of.folder, data=images, recipe="prune", output=tmp_path / "a")
    texts = tmp_path / "texts.txt"
    texts.write_text("a text\n" * 120)
    with pytest.raises(InputError, match="has no column of image files"):
        compress(of.folder, data=texts, recipe="prune-images", output=tmp_path / "b")
    table = tmp_path / "table.csv"  # for evaluate as well
    names = [f"{path},{path.parent.name}" for path in sorted(images.glob("*/*.ppm"))]
    table.write_text("\n".join(["file_name,label", *names]) + "\n")
    assert read(table, of.model).digest() == read(images, of.model).digest()
    found = edgeopt.evaluate_bundle(of.model, table, limit=12)
    assert (found.noun, found.units) == ("images", 12)
    few = pictures.write_images(tmp_path / "few", 4)
    with pytest.raises(InputError, match="has 12 images, but 100 are needed"):
        compress(of.folder, data=few, recipe="prune-images", output=tmp_path / "c")
    from tests import dual_encoders

    clip = dual_encoders.clip(tmp_path / "clip")
    with pytest.raises(InputError, match=r"has two networks.*\n?.*CLIPForImageClassification"):
        compress(clip, data=images, recipe="prune-images", output=tmp_path / "d")
    assert not any((tmp_path / name).exists() for name in "abcd")
