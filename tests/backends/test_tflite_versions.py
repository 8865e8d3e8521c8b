# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Files for TensorFlow Lite of boards with older Pythons, run by the real tflite-runtime."""

from __future__ import annotations

import functools
import platform
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeopt import cache
from edgeopt.backends import tflite, tflite_versions
from edgeopt.errors import CompileError, MissingDependencyError
from edgeopt.model.importer import import_model
from edgeopt.target import load_target
from tests import checkpoints
from tests.lazily import lazily
from tools import debian_python

torch = pytest.importorskip("torch", reason="needs edgeopt[torch]")
pytest.importorskip("transformers", reason="needs edgeopt[torch]")
lazily("litert_torch", reason="needs edgeopt[tflite]")

pytestmark = pytest.mark.heavy
FileOf = Callable[[str | None, str], Path]

PYTHONS = {"2.7.0": "3.9", "2.14.0": "3.11"}
"""The Python of each tflite-runtime's wheel; 2.7.0 is the oldest on PyPI for this machine."""

RUN = """\
import sys, numpy, tflite_runtime.interpreter as tflite
calls = numpy.load(sys.argv[2])
runner = tflite.Interpreter(sys.argv[1], num_threads=1).get_signature_runner("seq_16")
one = numpy.ones((1, 16), numpy.int32)
found = [runner(input_ids=ids[None], attention_mask=one, token_type_ids=0 * one) for ids in calls]
numpy.save(sys.argv[3], numpy.concatenate([outputs["logits"] for outputs in found]))
"""


def packages(version: str) -> Path:
    """Return a folder with that tflite-runtime and a NumPy of its time, from PyPI."""
    wanted = (f"tflite-runtime=={version}", "numpy==1.26.4")
    python = PYTHONS[version]

    def build(folder: Path) -> None:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
        command += ["--only-binary=:all:", "--python-version", python, "--target", str(folder)]
        for tag in ("manylinux2014", "manylinux_2_17", "manylinux_2_34"):
            command += ["--platform", f"{tag}_{platform.machine()}"]
        subprocess.run([*command, *wanted], check=True, capture_output=True)

    return cache.entry("judge", cache.key(packages=wanted, python=python), build)


def python_for(version: str) -> tuple[list[str], dict[str, str]]:
    """Return what starts the Python for that tflite-runtime, and its environment."""
    environment = {"PYTHONPATH": str(packages(version)), "OMP_NUM_THREADS": "1"}
    if PYTHONS[version] == "{}.{}".format(*sys.version_info):
        return [sys.executable], environment
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
    try:
        root = debian_python.root(PYTHONS[version], "bullseye", architecture)
    except MissingDependencyError as exc:
        pytest.skip(str(exc))
    libraries = root / "usr/lib" / debian_python.TRIPLES[architecture]
    loader = next(libraries.glob("ld-linux-*.so.*"))
    program = root / f"usr/bin/python{PYTHONS[version]}"
    environment["PYTHONHOME"] = str(root / "usr")
    return [str(loader), "--library-path", str(libraries), str(program)], environment


def run(version: str, file: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    start, environment = python_for(version)
    words = ["-c", RUN, str(file), str(folder / "calls.npy"), str(folder / "found.npy")]
    return subprocess.run([*start, *words], env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint, calls, and the answers of transformers."""
    from transformers import AutoModelForSequenceClassification

    folder = tmp_path_factory.mktemp("old")
    checkpoint = checkpoints.write(folder / "checkpoint", "BertForSequenceClassification")
    calls = np.random.default_rng(7).integers(5, 60, (8, 16)).astype(np.int32)
    np.save(folder / "calls.npy", calls)
    network = AutoModelForSequenceClassification.from_pretrained(checkpoint).eval()
    with torch.no_grad():
        answers = network(input_ids=torch.tensor(calls, dtype=torch.int64)).logits.numpy()
    np.save(folder / "answers.npy", answers)
    return folder


@pytest.fixture(scope="module")
def file_of(folder: Path) -> FileOf:
    """Lower the checkpoint for a ``min_runtime``, once for each and each precision."""
    model = import_model(folder / "checkpoint")
    target = replace(load_target("raspberry-pi-4"), seq_lens=(16,))
    (spec,) = (spec for spec in target.engines if spec.engine == "tflite")

    @functools.cache
    def lowered(min_runtime: str | None, precision: str) -> Path:
        files = folder / f"{min_runtime}-{precision}"
        files.mkdir()
        wanted = replace(spec, min_runtime=min_runtime)
        artifact = tflite.lower(model, target, wanted, precision, (), files)
        return files / artifact.files[0]

    return lowered


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("version", PYTHONS)
def test_the_real_runtime_answers_as_transformers_does(
    file_of: FileOf, folder: Path, version: str, precision: str
) -> None:
    done = run(version, file_of("2.7", precision), folder)
    assert done.returncode == 0, done.stderr
    found, answers = np.load(folder / "found.npy"), np.load(folder / "answers.npy")
    if precision == "fp32":
        assert np.abs(found - answers).max() < 1e-5
    else:
        lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(answers, axis=1)
        assert ((found * answers).sum(1) / lengths).min() > 0.99


def test_what_came_later_is_refused(file_of: FileOf, folder: Path) -> None:
    done = run("2.7.0", file_of(None, "fp32"), folder)
    assert done.returncode == 1
    assert "builtin_code out of range: 150" in done.stderr  # GELU


def test_int8_by_channel_is_refused_and_not_computed_otherwise(
    file_of: FileOf, folder: Path
) -> None:
    """The quantiser says that it needs what FP32 needs: so the runtime answered with zeros."""
    done = run("2.14.0", file_of(None, "int8"), folder)
    assert done.returncode == 1
    assert "Didn't find op for builtin opcode 'EMBEDDING_LOOKUP' version '4'" in done.stderr


@pytest.mark.parametrize(("min_runtime", "said"), [("2.7", "2.3.0"), (None, "2.9.0")])
def test_the_table_says_what_the_converter_says(
    file_of: FileOf, min_runtime: str | None, said: str
) -> None:
    """It writes into a file in floating point from which release on all its operators are."""
    from ai_edge_litert import schema_py_generated as schema

    path = file_of(min_runtime, "fp32")
    model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    (entry,) = (entry for entry in model.metadata if entry.name == b"min_runtime_version")
    written = bytes(model.buffers[entry.buffer].data).rstrip(b"\0").decode()
    since = [need.since for need in tflite_versions.needs(path)]
    assert None not in since
    newest = max(filter(None, since), key=tflite_versions.version_key)
    assert f"{newest}.0" == written == said


def test_what_blocks_is_named_with_its_layer(file_of: FileOf) -> None:
    with pytest.raises(CompileError) as caught:
        tflite_versions.check(file_of(None, "int8"), "2.14", "tiny")
    assert str(caught.value) == (
        "tiny: TensorFlow Lite 2.14 does not run EMBEDDING_LOOKUP version 4 "
        "(torch.nn.modules.sparse.Embedding_word_embeddings;1), which came with 2.18; nor "
        "FULLY_CONNECTED version 12\n"
        "Set a newer min_runtime for tflite in the target, or leave this precision out."
    )
    tflite_versions.check(file_of(None, "int8"), "2.18", "tiny")


def test_int8_that_no_route_reaches_is_refused_with_its_layer(file_of: FileOf) -> None:
    told = r"2\.5 does not run DEQUANTIZE version 5 \(.*Embedding.*\), which came with 2\.7"
    with pytest.raises(CompileError, match=told):
        file_of("2.5", "int8")


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu_by_its_terms_is_gelu(approximate: str) -> None:
    values = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    with tflite._gelu_by_terms():
        found = torch.nn.functional.gelu(values, approximate=approximate)
    wanted = torch.nn.functional.gelu(values, approximate=approximate)
    assert (found - wanted).abs().max() < 1e-12
    assert found.ne(wanted).any()  # and it is another computation
