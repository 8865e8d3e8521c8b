# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The library's bundle reader on damaged and hostile bundles: an error with its place, no crash."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import math
import os
import platform
import re
import shutil
import struct
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgeopt.bundle import open_bundle
from edgeopt.bundle.manifest import _digest
from edgeopt.bundle.pack import pack
from edgeopt.errors import BundleError
from edgeopt.runtime.build import SOURCES, build_runtime, library_sources
from edgeopt.runtime.python import edgeopt_rt
from tests.programs import SANITIZED, compiled
from tests.runtime.agent_runs import Case, Run

pytestmark = pytest.mark.heavy  # starts a program for each bundle

BEFORE = Path(__file__).parent.parent / "bundle/schema_2"
"""Manifests that the version before schema 3 wrote."""

Change = Callable[[dict[str, Any]], object]


def failure(case: Case, bundle: Path) -> tuple[str, str]:
    done = case.run(bundle=bundle)
    assert done.status == 1, done.events
    event = done.one("error")
    return event["where"], event["message"]


def changed(case: Case, change: Change, *, sign: bool = True) -> Path:
    """The case's bundle with its manifest changed, and its digest made right again."""
    path = case.write() / "manifest.json"
    document = json.loads(path.read_text())
    change(document)
    if sign:
        document["digest"] = _digest(document)
    path.write_text(json.dumps(document))
    return path.parent


def packed(case: Case) -> Path:
    return pack(open_bundle(case.write()), case.folder / "case.zip")


def test_a_packed_bundle_runs_like_its_directory(case: Case) -> None:
    done = case.run(bundle=packed(case))
    assert done.events[-1] == {"event": "done", "outputs_agree": True}


def as_schema_2(manifest: dict[str, Any]) -> None:
    """Make the manifest one of schema 2, as the version before wrote it."""
    graph = manifest.pop("graphs")["main"]
    limits = {t["name"]: t.pop("limit") for t in graph["signature"]["inputs"] if "limit" in t}
    given = manifest.pop("input")
    assert given.pop("kind") == "text"
    manifest |= {"schema_version": 2, "image": None, "limits": limits, **graph, **given}
    for entry in manifest["artifacts"]:
        artifact = entry.pop("artifact")
        entry |= artifact.pop("graphs")["main"] | artifact | entry.pop("fidelity")


def test_a_bundle_of_the_schema_before_runs(case: Case) -> None:
    case.signature = replace(
        case.signature,
        inputs=tuple(replace(t, limit=8) for t in case.signature.inputs),
    )
    now = open_bundle(case.write()).manifest
    bundle = changed(case, as_schema_2)
    before = open_bundle(bundle).manifest
    assert replace(before, digest="") == replace(now, digest="")
    assert case.run(bundle=bundle).events[-1] == {"event": "done", "outputs_agree": True}
    wrong = changed(case, lambda m: (as_schema_2(m), m["limits"].update(ids=7)))
    assert "holds 7 at 7, expected 0 to 6" in failure(case, wrong)[1]
    refused = changed(case, lambda m: (as_schema_2(m), m.update(limits={"ids": 0})))
    assert "limits: expected whole numbers above 0" in failure(case, refused)[1]


@pytest.mark.parametrize("kind", ["text", "image"])
def test_a_manifest_of_the_schema_before_is_read_alike_by_both(kind: str, tmp_path: Path) -> None:
    if importlib.util.find_spec("ziglang") is None:
        pytest.skip("ziglang is not installed")
    shutil.copy(BEFORE / f"{kind}.json", tmp_path / "manifest.json")
    manifest = open_bundle(tmp_path).manifest
    assert manifest.input.kind == kind
    library = str(build_runtime(platform.machine()).library)
    with edgeopt_rt.Bundle(tmp_path, library=library) as opened:
        assert (opened.name, opened.task) == (manifest.name, manifest.task.name)
        assert opened.labels == list(manifest.labels)
        assert [(a.engine, a.precision) for a in opened.artifacts] == [
            (a.engine, a.precision) for a in manifest.artifacts
        ]


def main(manifest: dict[str, Any]) -> Any:
    """Return the model's graph."""
    return manifest["graphs"]["main"]


def own(manifest: dict[str, Any]) -> Any:
    """Return the first artifact's graph."""
    return manifest["artifacts"][0]["artifact"]["graphs"]["main"]


def test_a_changed_manifest_is_found(case: Case) -> None:
    bundle = changed(case, lambda m: m.update(name="other"), sign=False)
    assert failure(case, bundle) == (
        "manifest.json",
        "was changed: its digest does not match its content",
    )


def test_a_changed_artifact_is_found(case: Case) -> None:
    path = case.write() / "artifacts/onnx-fp32/model.onnx"
    name = "artifacts/onnx-fp32/model.onnx"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert failure(case, case.bundle) == (name, "was changed: its SHA-256 is another")
    path.write_bytes(content[:-1])
    assert failure(case, case.bundle) == (
        name,
        f"has {len(content) - 1} bytes, expected {len(content)}",
    )
    path.unlink()
    assert failure(case, case.bundle) == (
        str(path),
        "cannot be opened (No such file or directory)",
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(schema_version=4), "schema version 4, this runtime reads 2 and 3"),
        (lambda m: m.pop("task"), "task: expected it to be there"),
        (lambda m: m.update(task="poetry"), "task: expected one of those"),
        (lambda m: m.update(task="feature\u0000"), "task: expected one of those"),
        (lambda m: m.update(name="a\u0000b"), "name: expected a string"),
        (lambda m: m.update(labels={}), "labels: expected an array"),
        (lambda m: m.update(labels=[1]), "labels: expected a string"),
        (lambda m: m["input"].update(prompt=1), "prompt: expected a string"),
        (
            lambda m: (
                m.update(task="token-classification"),
                m["input"].update(prompt="a: "),
            ),
            "prompt: expected none for this task",
        ),
        (
            lambda m: m["input"].update(max_seq_len=-1),
            "max_seq_len: expected a whole number in its range",
        ),
        (
            lambda m: m["input"].update(max_seq_len=1.5),
            "max_seq_len: expected a whole number in its range",
        ),
        (lambda m: m["input"].update(pad_id=2**31), "pad_id: expected a whole number in its range"),
        (lambda m: m.update(input=[]), "kind: expected it to be there"),
        (lambda m: m["input"].update(kind="smell"), "kind: expected one of those"),
        (lambda m: m["input"].update(kind="image"), "input: expected the task's kind"),
        (lambda m: m["input"].update(kind="audio"), "input: expected the task's kind"),
        (
            lambda m: main(m)["signature"]["inputs"][0].update(limit=0),
            "limit: expected a whole number in its range",
        ),
        (lambda m: m.update(graphs=[]), "main: expected it to be there"),
        (lambda m: m["graphs"].update(decode=main(m)), "has several graphs, this runtime runs one"),
        (
            lambda m: main(m).update(states=[{"input": "ids", "output": "out"}]),
            "has states, which this runtime does not keep",
        ),
        (lambda m: m.update(artifacts={}), "artifacts: expected an array"),
        (lambda m: own(m).update(files=[]), "artifacts.files: expected at least one"),
        (
            lambda m: own(m).update(files=["artifacts/x"]),
            "artifacts.files: expected names that are among the files",
        ),
        (
            lambda m: own(m).update(seq_lens=[8, 8]),
            "seq_lens: expected growing numbers up to max_seq_len",
        ),
        (
            lambda m: own(m)["signature"].update(inputs=[]),
            "artifacts.signature: expected as many tensors as the model's",
        ),
        (
            lambda m: main(m)["signature"].update(inputs=main(m)["signature"]["inputs"] * 9),
            "inputs: expected up to 16 tensors",
        ),
        (
            lambda m: main(m)["signature"]["inputs"][0].update(dims=[1] * 9),
            "dims: expected up to 8 of them",
        ),
        (
            lambda m: main(m)["signature"]["inputs"][0].update(dims=[0]),
            'dims: expected a size, "batch" or "seq"',
        ),
        (
            lambda m: next(iter(m["files"].values())).update(sha256="f"),
            "sha256: expected 64 hex digits",
        ),
        (
            lambda m: next(iter(m["files"].values())).update(bytes=-1),
            "bytes: expected a whole number in its range",
        ),
    ],
)
def test_a_wrong_manifest_is_refused_with_its_key(case: Case, change: Change, message: str) -> None:
    where, found = failure(case, changed(case, change))
    assert where == "manifest.json"
    assert message in found


def test_sizes_that_no_memory_has_are_refused(case: Case) -> None:
    def grow(manifest: dict[str, Any]) -> None:
        for signature in (main(manifest)["signature"], own(manifest)["signature"]):
            signature["outputs"][0]["dims"] = ["batch", "seq", 2**31 - 1]

    assert failure(case, changed(case, grow)) == ("out", "is over 2^28 elements")


@pytest.mark.parametrize("name", ["../model.onnx", "/etc/passwd", "a//b", "./a", "a/../b", "a\\b"])
def test_a_name_that_leaves_the_bundle_is_refused(case: Case, name: str) -> None:
    def move(manifest: dict[str, Any]) -> None:
        (old,) = own(manifest)["files"]
        manifest["files"][name] = manifest["files"].pop(old)
        own(manifest)["files"] = [name]

    assert failure(case, changed(case, move)) == (name, "does not lie inside the bundle")


def test_what_is_no_bundle_is_refused(case: Case, tmp_path: Path) -> None:
    file = tmp_path / "file"
    for content, message in (
        (b"", "is no bundle: too short for a zip"),
        (b"x" * 100_000, "is no bundle: neither a directory nor a whole zip"),
    ):
        file.write_bytes(content)
        assert failure(case, file) == (str(file), message)
    (tmp_path / "empty").mkdir()
    assert failure(case, tmp_path / "empty")[0] == str(tmp_path / "empty/manifest.json")


def test_a_damaged_zip_is_refused(case: Case, tmp_path: Path) -> None:
    whole = packed(case).read_bytes()
    file = tmp_path / "damaged.zip"
    end = whole.rindex(b"PK\x05\x06")
    central = whole.index(b"PK\x01\x02")
    for at, value in (
        (end + 16, b"\xff\xff\xff\x7f"),  # where the central directory begins
        (end + 12, b"\xff\xff\xff\x7f"),  # how long it is
        (end + 8, b"\x00\x00"),
        (central, b"XX"),
        (central + 28, b"\xff\xff"),  # the first name's length
        (central + 30, b"\xff\xff"),
        (central + 42, b"\xff\xff\xff\xff"),  # where the file's own header is
        (central + 24, b"\xff\xff\xff\x7f"),
        (central + 10, b"\x08\x00"),  # deflated
        (0, b"XX"),
        (26, b"\xff\xff"),
    ):
        damaged = bytearray(whole)
        damaged[at : at + len(value)] = value
        file.write_bytes(damaged)
        assert failure(case, file)[1], at
    for size in range(0, len(whole), 97):
        file.write_bytes(whole[:size])
        assert failure(case, file)[1]


def zipped(file: Path, entries: list[tuple[str, bytes]], **facts: Any) -> Path:
    """A zip of ``entries``, in their order, which says ``facts`` of each."""
    with zipfile.ZipFile(file, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a name twice
        for name, content in entries:
            info = zipfile.ZipInfo("x" * len(name))
            for key, value in facts.items():
                setattr(info, key, value)
            archive.writestr(info, content)
    content = file.read_bytes()
    for name, _ in entries:  # as no tool would write it
        content = content.replace(b"x" * len(name), name.encode(), 1)
    for name, _ in entries:
        content = content.replace(b"x" * len(name), name.encode(), 1)
    file.write_bytes(content)
    return file


@pytest.mark.parametrize(
    "name",
    ["../evil", "/etc/evil", "a/../../evil", "a\\evil", "a//evil", "./evil", "evil\0.txt"],
)
def test_a_zip_with_a_name_that_leads_out_is_refused(case: Case, name: str) -> None:
    manifest = (case.write() / "manifest.json").read_bytes()
    file = zipped(case.folder / "b.zip", [("manifest.json", manifest), (name, b"")])
    assert failure(case, file) == (
        str(file),
        "has a name that does not lie inside the bundle (entry 1)",
    )


def test_a_zip_with_two_readings_is_refused(case: Case) -> None:
    manifest = (case.write() / "manifest.json").read_bytes()
    file = case.folder / "b.zip"
    twice = [("manifest.json", manifest), ("manifest.json", b"{}")]
    assert failure(case, zipped(file, twice)) == (str(file), "has a name twice (entry 1)")

    whole = packed(case).read_bytes()
    end, central = whole.rindex(b"PK\x05\x06"), whole.index(b"PK\x01\x02")
    other = b"PK\x01\x02" + whole[central + 4 :].replace(b"manifest.json", b"manifest.jsoN")
    damaged = "is a damaged zip, or one of over 4 GB"
    size, at = end - central, central
    for content, message in (
        # Something between the central directory and the end record, where some readers look.
        (whole[:end] + bytes(46) + whole[end:], damaged),
        # The end record says where one directory is, and how long another, just before it.
        (whole[:end] + other, damaged),
        (whole[: end + 12] + struct.pack("<II", size - 46, at) + whole[end + 20 :], damaged),
        (whole[: end + 8] + b"\1\0\1\0" + whole[end + 12 :], "is a damaged zip (its end)"),
        (whole[: end + 8] + b"\xff\xff\xff\xff" + whole[end + 12 :], "has 65535 entries, expected"),
        # The name beside the data is another than in the directory.
        (whole.replace(b"manifest.json", b"manifest.jsoN", 1), "does not lie where the zip says"),
        (b"prepended" + whole, "is a damaged zip"),
        (whole + b"appended", "is no bundle: neither a directory nor a whole zip"),
    ):
        file.write_bytes(content)
        assert failure(case, file)[1].startswith(message), message


def test_a_key_twice_is_refused(case: Case) -> None:
    path = case.write() / "manifest.json"
    text = json.dumps(json.loads(path.read_text()))
    for key, value in (
        ("labels", '["c"]'),
        ("digest", f'"{"0" * 64}"'),
        ("files", "{}"),
        ("origin", "{}"),
    ):
        path.write_text(text.replace("{", f'{{"{key}": {value}, ', 1))
        assert failure(case, path.parent)[1].startswith("a key stands there twice")
        with pytest.raises(BundleError, match=f"the key '{key}' stands there twice"):
            open_bundle(path.parent)


@pytest.mark.parametrize(
    ("ours", "other"),
    [
        ('"case"', '"c\\u0061se"'),
        ('"by hand"', '"by\\/hand"'),
        ('"by hand"', '"by\x7fhand"'),
        ('"by hand"', '"by \N{LATIN SMALL LETTER A WITH ACUTE}"'),
        ('"by hand"', '"by \\u00E1"'),
        ('"by hand"', '"by \\ud800"'),
        ('"by hand"', '"by \\udc00\\ud800"'),
        ('"by hand"', '"by \\u000a"'),
        ('"pad_id": 0', '"pad_id": -0'),
        ('"pad_id": 0', '"pad_id": 0.0'),
        ('"pad_id": 0', '"pad_id": 0e0'),
        ('"pad_id": 0', '"pad_id": false'),
        ('"token_types": false', '"token_types": 0'),
        ('"bound": 0.99', '"bound": NaN'),
        ('"bound": 0.99', '"bound": 1e999'),
        ('"bound": 0.99', '"bound": 1.5'),
        ('"max_seq_len": 16', '"max_seq_len": 1' + "0" * 5000),
        ('"origin": {}', '"origin": ' + "[" * 64 + "]" * 64),
    ],
)
def test_what_others_read_otherwise_is_refused_by_both(case: Case, ours: str, other: str) -> None:
    """The digest is that of what stands there, as the runtime takes it: it does not decide."""
    path = case.write() / "manifest.json"
    text = json.dumps(json.loads(path.read_text()), sort_keys=True, separators=(", ", ": "))
    assert ours in text
    text = text.replace(ours, other, 1)
    kept = re.sub(r'"digest": "[0-9a-f]*", ', "", text)
    compact = re.sub(r'("(?:[^"\\]|\\.)*")|[ \n]+', r"\1", kept)
    digest = hashlib.sha256(compact.encode()).hexdigest()
    path.write_text(re.sub(r'"digest": "[0-9a-f]*"', f'"digest": "{digest}"', text))
    assert "digest does not match" not in failure(case, path.parent)[1]
    with pytest.raises(BundleError):
        open_bundle(path.parent)


def test_keys_beyond_ascii_have_one_order(case: Case) -> None:
    keys = {"a": 1, "z": 1, "\N{LATIN SMALL LETTER E WITH ACUTE}": 1, "a b": 1, "a!": 1, '"': 1}
    keys |= {"\N{GRINNING FACE}": 1, "\ufffd": 1, "\x7f": 1, "\n": 1, "A": 1, "a\\": 1, "": 1}
    bundle = changed(case, lambda m: m.update(origin=keys))
    assert open_bundle(bundle).manifest.origin == keys
    assert case.run(bundle=bundle).events[-1]["event"] == "done"


def test_a_pipe_is_not_waited_for(case: Case, tmp_path: Path) -> None:
    bundle = case.write()
    for name in ("golden/golden0/in.ids.npy", "artifacts/onnx-fp32/model.onnx", "manifest.json"):
        (bundle / name).unlink()
        os.mkfifo(bundle / name)
        found = failure(case, bundle)
        assert found[1] == "is no file that can be mapped"
        assert found[0] == str(bundle / name)
    os.mkfifo(tmp_path / "pipe.zip")
    assert failure(case, tmp_path / "pipe.zip")[1] == "is no file that can be mapped"


@pytest.mark.parametrize("count", [5000, 200_000])
def test_more_than_any_bundle_has_is_refused(case: Case, count: int) -> None:
    entry = {"bytes": 0, "sha256": "0" * 64}
    many = changed(case, lambda m: m["files"].update({f"f{i}": entry for i in range(count)}))
    assert failure(case, many) == ("manifest.json", "files: expected not so many")
    with pytest.raises(BundleError, match=rf"{count // 100}\d\d of them, expected up to 4096"):
        open_bundle(many)


@pytest.mark.parametrize(
    ("engine", "key"),
    [
        ("onnx", "session.model_external_initializers_file_folder_path"),
        ("onnx", "operators"),
        ("onnx", "graph"),
        ("openvino", "CACHE_DIR"),
    ],
)
def test_options_with_paths_are_not_taken_from_a_bundle(case: Case, engine: str, key: str) -> None:
    def change(manifest: dict[str, Any]) -> None:
        artifact = manifest["artifacts"][0]["artifact"]
        artifact.update(engine=engine, options={key: str(case.folder / "new")})

    bundle = changed(case, change)
    with pytest.raises(BundleError, match=f"{key}: is no option that a bundle may set"):
        open_bundle(bundle)
    if engine == "onnx":  # which is the library that is there
        expected = (key, "is no option of onnx that a bundle may set")
        assert failure(case, bundle) == expected
    assert not (case.folder / "new").exists()


def test_a_library_in_a_bundle_is_not_loaded_unless_it_was_deployed(case: Case) -> None:
    source = case.folder / "evil.c"
    marker = case.folder / "loaded"
    source.write_text(
        "#include <stdio.h>\n__attribute__((constructor)) static void run(void)"
        f'{{ FILE *file = fopen("{marker}", "w"); if (file != NULL) {{ fclose(file); }} }}\n'
    )
    bundle = case.write()
    (bundle / "lib").mkdir()
    library = bundle / "lib/libonnxruntime.so.1"
    subprocess.run(["gcc", "-shared", "-fPIC", str(source), "-o", str(library)], check=True)
    deployed = case.folder / ".edgeopt/bundles/0123-4567"
    deployed.parent.mkdir(parents=True)
    for path, loads in ((bundle, False), (deployed, True)):
        if loads:
            bundle.rename(deployed)
        environment = {"ASAN_OPTIONS": "verify_asan_link_order=0:detect_leaks=0"}
        done = subprocess.run(
            [str(case.program), "run", "--bundle", str(path)],
            capture_output=True, text=True, env=environment,
        )  # fmt: skip
        assert done.returncode == 1, done.stderr
        assert marker.exists() == loads
        app = (
            "import ctypes, sys\nimport edgeopt_rt\n"
            "print(edgeopt_rt._engine_places([type('B', (), {'path': sys.argv[1]})]))"
        )
        words = [sys.executable, "-c", app, str(path)]
        python = {"PYTHONPATH": str(SOURCES.parent / "python")}
        places = subprocess.run(
            words, capture_output=True, text=True, env=python, check=True
        ).stdout
        assert (str(path / "lib") in places.split(":")) == loads


def test_a_compressed_zip_is_refused(case: Case, tmp_path: Path) -> None:
    bundle = case.write()
    file = tmp_path / "deflated.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(bundle.rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(bundle))
    assert failure(case, file) == (
        "manifest.json",
        "is compressed or encrypted; pack the bundle with: edgeopt pack",
    )


def dual(manifest: dict[str, Any]) -> None:
    """Make the manifest one of a dual encoder, whose graph of texts is the one there was."""
    text = manifest["graphs"].pop("main")
    given = manifest["input"]
    image = {"kind": "image", "height": 4, "width": 4, "resize_height": 4, "resize_width": 4}
    image |= {"resample": 2, "mean": [0, 0, 0], "std": [1, 1, 1], "rescale_factor": 1}
    pixels = {"name": "pixel_values", "dtype": "float32", "dims": ["batch", 3, 4, 4]}
    embeds = {"name": "image_embeds", "dtype": "float32", "dims": ["batch", 3]}
    manifest["graphs"] = {
        "text": text | {"task": "text-embedding", "input": given},
        "image": {
            "signature": {"inputs": [pixels], "outputs": [embeds]},
            "task": "image-embedding",
        },
    }
    artifact = manifest["artifacts"][0]["artifact"]
    artifact["graphs"] = {"text": artifact["graphs"].pop("main")}
    for golden in manifest["golden"]:
        golden["graph"] = "text"
    manifest |= {"task": "zero-shot-image-classification", "activation": "softmax", "input": image}
    manifest |= {"similarity": {"scale": 2.0, "bias": -1.0}}


def test_embeddings_are_compared_as_the_manifest_says(case: Case) -> None:
    if importlib.util.find_spec("ziglang") is None:
        pytest.skip("ziglang is not installed")
    library = str(build_runtime(platform.machine()).library)
    with edgeopt_rt.Bundle(changed(case, dual), library=library) as opened:
        assert opened.graphs == ["text", "image"]
        found = opened.compare([1.0, 0.0], [[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
        with pytest.raises(edgeopt_rt.Failure, match="an embedding of another size"):
            opened.compare([1.0, 0.0], [[1.0]])
    assert found.logits == [1.0, -1.0, -3.0]
    shares = [math.exp(logit) for logit in found.logits]
    assert found.scores == pytest.approx([share / sum(shares) for share in shares])
    sigmoid = changed(case, lambda m: (dual(m), m.update(activation="sigmoid")))
    with edgeopt_rt.Bundle(sigmoid, library=library) as opened:
        scores = opened.compare([1.0], [[0.5]]).scores
    assert scores == pytest.approx([0.5])


def test_a_model_of_one_graph_compares_nothing(case: Case) -> None:
    if importlib.util.find_spec("ziglang") is None:
        pytest.skip("ziglang is not installed")
    library = str(build_runtime(platform.machine()).library)
    with (
        edgeopt_rt.Bundle(case.write(), library=library) as opened,
        pytest.raises(edgeopt_rt.Failure, match="it compares no image with texts"),
    ):
        opened.compare([1.0], [[1.0]])


def test_the_fuzz_target_finds_nothing_in_a_few_seconds(case: Case, tmp_path: Path) -> None:
    fuzz = SOURCES.parent / "fuzz"
    flags = (*SANITIZED, "-DFUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION")
    sources = (fuzz / "fuzz_bundle.c", fuzz / "main.c", *library_sources())
    program = compiled("fuzz", *flags, *sources, "-ldl", "-lm", "-lpthread")
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    (corpus / "packed").write_bytes(b"\0" + packed(case).read_bytes())
    (corpus / "manifest").write_bytes(b"\1" + (case.bundle / "manifest.json").read_bytes())
    two = (changed(case, dual) / "manifest.json").read_bytes()
    (corpus / "two-graphs").write_bytes(b"\1" + two)
    done = subprocess.run(
        [program, corpus, "1", "3"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert int(done.stdout.split()[0]) > 100


def test_texts_need_a_tokenizer(case: Case) -> None:
    done = Run(
        case.program, "read", "--bundle", str(case.write()), "--libraries", str(case.library),
        text='{"text": "hello"}\n',
    )  # fmt: skip
    assert done.one("error")["message"] == "the bundle has no tokenizer"


def test_a_missing_library_is_named_for_each_artifact(case: Case) -> None:
    shutil.copy(case.model, case.folder / "other.onnx")
    done = case.run("--libraries", str(case.folder))
    assert done.one("error")["message"] == f"no libonnxruntime.so.1* in {case.folder}"
    done = case.run("--engine", "tvm")
    assert done.one("error")["message"] == "the bundle has no tvm artifact"
