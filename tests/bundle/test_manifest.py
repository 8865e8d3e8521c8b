# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeopt.bundle import Bundle, manifest, open_bundle
from edgeopt.errors import BundleError
from edgeopt.model.image import ImageInput
from edgeopt.model.tasks import IMAGE_CLASSIFICATION

MakeBundle = Callable[..., Bundle]


def rewrite(bundle: Bundle, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the manifest and give it a digest that fits, as an attacker would."""
    path = bundle.path / manifest.FILE
    document = json.loads(path.read_text())
    change(document)
    document["digest"] = manifest._digest(document)
    path.write_text(json.dumps(document))


def test_what_was_written_is_read_back(make_bundle: MakeBundle) -> None:
    bundle = make_bundle()
    assert open_bundle(bundle.path) == bundle
    assert bundle.manifest.labels == ("no", "yes")
    assert [(a.engine, a.precision) for a in bundle.manifest.artifacts] == [("onnx", "fp32")]


def test_how_images_are_prepared_is_read_back(make_bundle: MakeBundle) -> None:
    image = ImageInput(
        height=224,
        width=224,
        resize_height=256,
        resize_width=256,
        resample=3,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        rescale_factor=1 / 255,
    )
    bundle = make_bundle(input=image, task=IMAGE_CLASSIFICATION)
    assert open_bundle(bundle.path).manifest.input == image
    rewrite(bundle, lambda d: d["input"].update(resample="cubic"))
    with pytest.raises(BundleError, match=r"input\.resample: expected an integer, found 'cubic'"):
        open_bundle(bundle.path)


def test_a_directory_without_manifest(tmp_path: Path) -> None:
    with pytest.raises(BundleError) as caught:
        open_bundle(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}: is not a bundle: it has no manifest.json\n"
        "Make one with: edgeopt compile MODEL --target TARGET -o DIRECTORY"
    )


def test_a_changed_manifest_is_found(make_bundle: MakeBundle) -> None:
    bundle = make_bundle()
    path = bundle.path / "manifest.json"
    path.write_text(path.read_text().replace('"cosine_min": 1.0', '"cosine_min": 0.9'))
    with pytest.raises(BundleError, match="its digest does not match its content"):
        open_bundle(bundle.path)


def test_another_schema_version(make_bundle: MakeBundle) -> None:
    bundle = make_bundle()
    rewrite(bundle, lambda d: d.update(schema_version=99))
    with pytest.raises(BundleError, match="schema version 99; this edgeopt reads 2 and 3"):
        open_bundle(bundle.path)


def test_a_truncated_manifest(make_bundle: MakeBundle) -> None:
    bundle = make_bundle()
    path = bundle.path / "manifest.json"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(BundleError, match=r"manifest\.json: cannot be read"):
        open_bundle(bundle.path)


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "a/../../b", "a\\b", "./a"])
def test_a_file_outside_the_bundle_is_refused(make_bundle: MakeBundle, name: str) -> None:
    bundle = make_bundle()
    rewrite(bundle, lambda d: d["files"].update({name: {"bytes": 0, "sha256": "0" * 64}}))
    with pytest.raises(BundleError, match="does not lie inside the bundle"):
        open_bundle(bundle.path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("task"), "task: is missing, expected a string"),
        (lambda d: d.update(labels=[1]), r"labels\[0\]: expected a string, found 1 \(int\)"),
        (
            lambda d: d["artifacts"][0]["artifact"]["graphs"]["main"].update(files=["x"]),
            "artifacts: 'x' is not among the files",
        ),
        (
            lambda d: d["artifacts"][0].update(bytes="many"),
            r"artifacts\[0\]\.bytes: expected an integer, found 'many' \(str\)",
        ),
        (
            lambda d: d["golden"][0].update(directory="a" * 20_000),
            r"golden\[0\]\.directory: 'a{40}\.\.\.' is too long for a file's name",
        ),
        (
            lambda d: d["files"]["tokenizer/tokenizer.json"].update(sha256="zz"),
            r"sha256: expected a string that matches \[0-9a-f\]\{64\}, found 'zz'",
        ),
    ],
)
def test_wrong_content_is_named(
    make_bundle: MakeBundle, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    bundle = make_bundle()
    rewrite(bundle, change)
    with pytest.raises(BundleError, match=message):
        open_bundle(bundle.path)


def test_a_bundle_of_the_schema_before_is_read_as_one_of_today(tmp_path: Path) -> None:
    for kind in ("text", "image"):
        shutil.copy(Path(__file__).parent / f"schema_2/{kind}.json", tmp_path / "manifest.json")
        found = open_bundle(tmp_path).manifest
        document = json.loads(manifest.dump(found))
        assert document["schema_version"] == 3
        old = json.loads((tmp_path / "manifest.json").read_text())
        (first, *_), (before, *_) = document["artifacts"], old["artifacts"]
        assert first["artifact"]["graphs"]["main"] == {
            key: before[key] for key in ("files", "signature", "seq_lens")
        }
        assert first["fidelity"]["cosine_min"] == before["cosine_min"]
        assert document["files"] == old["files"]
        inputs = document["graphs"]["main"]["signature"]["inputs"]
        assert {t["name"]: t["limit"] for t in inputs if "limit" in t} == old["limits"]
        if kind == "image":
            assert document["input"] == {"kind": "image", **old["image"]}
        else:
            assert document["input"]["max_seq_len"] == old["max_seq_len"]
