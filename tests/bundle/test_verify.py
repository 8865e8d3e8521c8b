# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

import io
import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeopt.bundle import Bundle, open_bundle
from edgeopt.bundle.manifest import FILE, _digest
from edgeopt.bundle.verify import ArtifactCheck, verify
from edgeopt.cache import file_sha256
from tests.runtime.agent_runs import Case, write_model

MakeBundle = Callable[..., Bundle]
MODEL = "artifacts/onnx-fp32/model.onnx"


def test_an_intact_bundle(make_bundle: MakeBundle) -> None:
    found = verify(make_bundle(), run_artifacts=False)
    assert found.ok
    assert found.files == 4


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"not a modeL", "was changed: its SHA-256 is another"),
        (b"not", "has 3 bytes, expected 11"),
        (None, "is missing"),
    ],
)
def test_a_changed_byte_is_found(make_bundle: MakeBundle, content: bytes | None, what: str) -> None:
    bundle = make_bundle()
    if content is None:
        (bundle.path / MODEL).unlink()
    else:
        (bundle.path / MODEL).write_bytes(content)
    found = verify(bundle)
    assert not found.ok
    assert found.changed == {MODEL: what}
    assert found.artifacts == ()  # nothing is run from a changed bundle


def test_a_file_that_was_added_is_found(make_bundle: MakeBundle) -> None:
    bundle = make_bundle()
    (bundle.path / "extra").write_text("")
    assert verify(bundle).changed == {"extra": "is not in the manifest"}


@pytest.mark.parametrize("what", ["file", "folder", "inner"])
def test_links_are_told_and_not_followed(make_bundle: MakeBundle, what: str) -> None:
    bundle = make_bundle()
    away = bundle.path.parent / "away"
    if what == "file":  # the same content, elsewhere
        (bundle.path / MODEL).rename(away)
        (bundle.path / MODEL).symlink_to(away)
        expected = {MODEL: f"is a link to {away}"}
    elif what == "folder":
        (bundle.path / "artifacts").rename(away)
        (bundle.path / "artifacts").symlink_to(away)
        expected = {MODEL: "lies behind a link", "artifacts": f"is a link to {away}"}
    else:
        away.mkdir()
        (away / "secret").write_text("")
        (bundle.path / "extra").symlink_to(away)
        expected = {"extra": f"is a link to {away}"}
    assert verify(bundle, run_artifacts=False).changed == expected


def test_pipes_are_not_waited_for(make_bundle: MakeBundle) -> None:
    bundle = make_bundle()
    (bundle.path / MODEL).unlink()
    os.mkfifo(bundle.path / MODEL)
    assert verify(bundle).changed == {MODEL: "is no regular file"}


@pytest.fixture
def case(tmp_path: Path) -> Case:
    """A bundle whose artifact runs: see ``tests.runtime.agent_runs``."""
    made = Case(Path(), Path(), tmp_path)
    write_model(made.model, mask_dtype="INT64")
    made.artifact = made.signature
    return made


def checked(case: Case, change: Callable[[Path, dict[str, Any]], object]) -> ArtifactCheck:
    """Change files and manifest, make hashes and digest right again, and verify."""
    folder = case.write()
    document = json.loads((folder / FILE).read_text())
    change(folder, document)
    for path in folder.rglob("*"):
        if path.is_file() and path.name != FILE:
            name = path.relative_to(folder).as_posix()
            document["files"][name] = {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
    document["digest"] = _digest(document)
    (folder / FILE).write_text(json.dumps(document))
    found = verify(open_bundle(folder))
    assert found.changed == {}
    (check,) = found.artifacts
    assert found.ok == (check.agrees is not False and check.runtime is not False)
    return check


def test_an_artifact_runs_here_and_in_the_runtime(case: Case) -> None:
    check = checked(case, lambda folder, document: None)
    assert (check.agrees, check.runtime, check.reason) == (True, True, None)


def huge(shape: tuple[int, ...]) -> bytes:
    file = io.BytesIO()
    header = {"descr": "<i8", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue() + bytes(64)


def artifact(document: dict[str, Any]) -> Any:
    return document["artifacts"][0]["artifact"]["graphs"]["main"]["signature"]


GOLDEN = "golden/golden0/in.ids.npy"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda f, d: (f / MODEL).write_bytes(os.urandom(200)), "onnx cannot run this artifact"),
        (lambda f, d: (f / MODEL).write_bytes(b""), "onnx cannot run this artifact"),
        (lambda f, d: d["artifacts"][0]["artifact"].update(engine="onyx"), "unknown engine 'onyx'"),
        (lambda f, d: np.save(f / GOLDEN, np.array([{}]), allow_pickle=True), "the header says"),
        (lambda f, d: (f / GOLDEN).write_bytes(pickle.dumps([1])), "is not a golden array"),
        (lambda f, d: (f / GOLDEN).write_bytes(huge((1, 2**50))), "64 bytes of data, the header"),
        (lambda f, d: (f / GOLDEN).write_bytes(huge((-1, -8))), "is not a golden array"),
        (lambda f, d: (f / GOLDEN).write_bytes(b""), "is not a golden array"),
        (lambda f, d: (f / GOLDEN).unlink() or d["files"].pop(GOLDEN), "not the model's tensors"),
        (lambda f, d: np.save(f / GOLDEN, np.zeros(8, np.int64)), "has the shape (8,), expected"),
        (lambda f, d: artifact(d)["inputs"][0].update(dims=["batch", 9]), "the shape (1, 8)"),
        (lambda f, d: np.save(f / "golden/golden0/out.out.npy", np.zeros((1, 2, 3), np.float32)),
         "shape"),
        (lambda f, d: d.update(golden=[]), "has no golden call"),
        (lambda f, d: d["golden"][0].update(directory="golden/none"), "cannot be read (No such"),
        (lambda f, d: d["golden"][0].update(directory=GOLDEN), "cannot be read (Not a dir"),
    ],
)  # fmt: skip
def test_what_does_not_load_or_run_fails(
    case: Case, change: Callable[[Path, dict[str, Any]], object], reason: str
) -> None:
    check = checked(case, change)
    assert check.agrees is False
    assert reason in str(check.reason)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda f, d: artifact(d)["outputs"][0].update(dims=["batch", "seq"]), "out"),
        (lambda f, d: artifact(d)["outputs"][0].update(dims=["batch", "seq", 4]), "out"),
        (lambda f, d: artifact(d)["inputs"][0].update(dtype="float32"), "ids"),
        (lambda f, d: d.update(task="token-classification", labels=["a", "b"]), "shape"),
        (lambda f, d: [(f / "tokenizer").mkdir(), (f / "tokenizer/tokenizer.json").write_text("{}"),
                       d["input"].update(tokenizer=["tokenizer/tokenizer.json"])], "tokenizer"),
    ],
)  # fmt: skip
def test_what_the_runtime_refuses_fails(
    case: Case, change: Callable[[Path, dict[str, Any]], object], reason: str
) -> None:
    check = checked(case, change)
    assert (check.agrees, check.runtime) == (True, False)
    assert str(check.reason).startswith("the runtime refuses it: ")
    assert reason in str(check.reason)


def test_an_engine_that_is_not_installed_is_not_run(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    check = checked(case, lambda folder, document: None)
    assert (check.agrees, check.runtime) == (None, None)
    assert "onnxruntime cannot be imported" in str(check.reason)


def test_a_session_is_not_opened_on_another_bundles_file(case: Case) -> None:
    from edgeopt.runtime.build import build_for_host
    from edgeopt.runtime.python import edgeopt_rt

    folder = case.write()
    library = str(build_for_host().library)
    with edgeopt_rt.Bundle(folder, library=library) as opened:
        with edgeopt_rt.Session(opened) as session:
            assert session.engine == "onnx"
        # The engine opens by path what was hashed before: the same bytes today, others tomorrow.
        shutil.copy(folder / MODEL, folder / "copy")
        (folder / "copy").rename(folder / MODEL)
        with pytest.raises(edgeopt_rt.Failure, match="was replaced while the bundle") as caught:
            edgeopt_rt.Session(opened)
        assert caught.value.code == edgeopt_rt.FILE
        assert not opened.is_replaced()
        case.bound = 0.98
        case.write()
        assert opened.is_replaced()
        with pytest.raises(edgeopt_rt.Failure, match="was replaced while the bundle"):
            edgeopt_rt.Session(opened)
    with edgeopt_rt.open(folder, library=library) as session:
        assert session.engine == "onnx"
