# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from edgeopt.bundle import Bundle
from edgeopt.bundle.pack import pack
from edgeopt.bundle.verify import verify
from edgeopt.bundle.write import reserved, write
from edgeopt.errors import BusyError, InputError
from tests.bundle.conftest import manifest

MakeBundle = Callable[..., Bundle]


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.name != "sources")


def test_nothing_but_the_bundle_is_left(make_bundle: MakeBundle, tmp_path: Path) -> None:
    make_bundle()
    assert names(tmp_path) == ["tiny.edgeopt"]


def test_the_same_content_is_not_written_again(make_bundle: MakeBundle) -> None:
    bundle = make_bundle()
    before = os.stat(bundle.path / "manifest.json").st_ino
    assert make_bundle().manifest.digest == bundle.manifest.digest
    assert os.stat(bundle.path / "manifest.json").st_ino == before


def test_a_damaged_bundle_is_written_again(make_bundle: MakeBundle) -> None:
    bundle = make_bundle()
    (bundle.path / "artifacts/onnx-fp32/model.onnx").write_bytes(b"xxxxxxxxxxx")
    make_bundle()
    assert (bundle.path / "artifacts/onnx-fp32/model.onnx").read_bytes() == b"not a model"


def test_another_bundle_is_replaced(make_bundle: MakeBundle, tmp_path: Path) -> None:
    make_bundle()
    bundle = make_bundle(labels=("a", "b"))
    assert bundle.manifest.labels == ("a", "b")
    assert names(tmp_path) == ["tiny.edgeopt"]


def test_a_missing_source_leaves_nothing(sources: dict[str, Path], tmp_path: Path) -> None:
    output = tmp_path / "out.edgeopt"
    sources["artifacts/onnx-fp32/model.onnx"].unlink()
    with pytest.raises(OSError, match="No such file"):
        write(output, manifest(), sources)
    assert names(tmp_path) == []


def test_a_directory_of_the_users_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/chapter1.tex").write_text("It was a dark night")
    with pytest.raises(InputError) as caught, reserved(tmp_path / "thesis"):
        pass
    assert str(caught.value) == (
        f"{tmp_path}/thesis: exists and is not a bundle, so it is not overwritten\n"
        "Give another directory with -o, or remove it."
    )


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(InputError, match="cannot be written"),
        reserved(tmp_path / "file/out.edgeopt"),
    ):
        pass


def test_a_read_only_place() -> None:
    with (
        pytest.raises(InputError, match=r"/proc/out\.edgeopt: cannot be written"),
        reserved(Path("/proc/out.edgeopt")),
    ):
        pass


def test_folders_made_for_nothing_go_again(tmp_path: Path) -> None:
    with reserved(tmp_path / "a/b/out.edgeopt"):
        assert (tmp_path / "a/b").is_dir()
    assert names(tmp_path) == []


def test_two_runs_at_once(tmp_path: Path) -> None:
    output = tmp_path / "out.edgeopt"
    with (
        FileLock(tmp_path / ".out.edgeopt.lock"),
        pytest.raises(BusyError, match="another edgeopt is writing this bundle"),
        reserved(output),
    ):
        pass
    with reserved(output):
        pass
    assert names(tmp_path) == []


def test_packing_overwrites_packed_bundles_only(make_bundle: MakeBundle, tmp_path: Path) -> None:
    bundle = make_bundle()
    packed = pack(bundle, tmp_path / "b.zip")
    before = packed.read_bytes()
    assert pack(bundle, packed).read_bytes() == before
    thesis = tmp_path / "thesis.pdf"
    thesis.write_bytes(b"%PDF")
    archive = tmp_path / "photos.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("manifest.json", "{}")
    link = tmp_path / "link.zip"
    link.symlink_to(packed)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (thesis, archive, link, pipe, Path(os.devnull)):
        with pytest.raises(InputError, match="exists and is not a packed bundle, so it is not"):
            pack(bundle, path)
    with pytest.raises(InputError, match="lies in the bundle that is packed"):
        pack(bundle, bundle.path / "b.zip")
    assert thesis.read_bytes() == b"%PDF"
    assert link.is_symlink()
    assert not verify(bundle, run_artifacts=False).changed
