# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Tiny bundles, the library as CMake installs it, and what a program needs to find both."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests import checkpoints, generators

RUNTIME = Path(__file__).parents[3] / "edgeopt" / "runtime"
EXAMPLES = RUNTIME / "examples"
Run = Callable[..., "subprocess.CompletedProcess[str]"]


def tool(name: str) -> str:
    """Return the path of a program, or skip."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


@pytest.fixture(scope="session")
def make_bundle(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Compile a tiny checkpoint of an architecture for ONNX in FP32."""
    pytest.importorskip("torch", reason="needs edgeopt[torch]")
    pytest.importorskip("onnxscript", reason="needs edgeopt[onnx]")
    import edgeopt

    target = replace(edgeopt.load_target("host"), seq_lens=(8, 32))

    def make(name: str, architecture: str, **changes: object) -> Path:
        folder = tmp_path_factory.mktemp(name)
        checkpoint = checkpoints.write(folder / name, architecture, **changes)
        if architecture == "BertModel":  # as sentence-transformers saves it
            parts = {"Transformer": "", "Pooling": "1_Pooling"}
            kinds = [
                {
                    "idx": i,
                    "name": str(i),
                    "path": path,
                    "type": f"sentence_transformers.models.{kind}",
                }
                for i, (kind, path) in enumerate(parts.items())
            ]
            (checkpoint / "modules.json").write_text(json.dumps(kinds))
            (checkpoint / "1_Pooling").mkdir()
            options = checkpoint / "1_Pooling" / "config.json"
            options.write_text(json.dumps({"pooling_mode_mean_tokens": True}))
        place = folder / f"{name}.edgeopt"
        edgeopt.compile(checkpoint, target, output=place, engines=["onnx"], precisions=["fp32"])
        return place

    return make


@pytest.fixture(scope="session")
def classifier(make_bundle: Callable[..., Path]) -> Path:
    return make_bundle("labels", "BertForSequenceClassification")


@pytest.fixture(scope="session")
def other_classifier(make_bundle: Callable[..., Path]) -> Path:
    return make_bundle("fewer", "BertForSequenceClassification", num_hidden_layers=1)


@pytest.fixture(scope="session")
def cascade_file(
    classifier: Path, other_classifier: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A cascade.json: the classifier of one layer answers if its best score is over one half."""
    from edgeopt.bundle import open_bundle
    from edgeopt.run.early_exit import Cascade, Part

    parts = []
    for place in (other_classifier, classifier):
        manifest = open_bundle(place).manifest
        parts.append(
            Part(name=manifest.name, digest=manifest.digest, engine="onnx", precision="fp32")
        )
    path = tmp_path_factory.mktemp("cascade") / "cascade.json"
    Cascade(
        first=parts[0], second=parts[1], temperature=1.0, threshold=0.5, max_drop=0.01, doubt=0.1,
        chosen_on=500, spoilt=1, measure="accuracy", early=0.5, accuracy=0.9, accuracy_first=0.8,
        accuracy_second=0.9, texts=500,
    ).save(path)  # fmt: skip
    return path


@pytest.fixture(scope="session")
def bundles(make_bundle: Callable[..., Path], classifier: Path) -> dict[str, Path]:
    """A bundle of each text task."""
    return {
        "sequence-classification": classifier,
        "token-classification": make_bundle("names", "BertForTokenClassification"),
        "question-answering": make_bundle("answers", "DistilBertForQuestionAnswering"),
        "feature-extraction": make_bundle("vectors", "BertModel"),
    }


@pytest.fixture(scope="session")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that generates text, beside the checkpoint that it was made of."""
    pytest.importorskip("torch", reason="needs edgeopt[torch]")
    import edgeopt

    folder = tmp_path_factory.mktemp("writer")
    generators.write(folder / "writer", "gpt2")
    place = folder / "writer.edgeopt"
    edgeopt.compile(folder / "writer", "host", output=place, precisions=["fp32"])
    return place


@pytest.fixture(scope="session")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where CMake installed the runtime, built with warnings as errors."""
    cmake = tool("cmake")
    folder = tmp_path_factory.mktemp("cmake")
    build, installed = folder / "build", folder / "prefix"
    for words in (
        ["-S", RUNTIME, "-B", build, "-DCMAKE_C_FLAGS=-Werror"],
        ["--build", build, "--parallel", "2"],
        ["--install", build, "--prefix", installed],
    ):
        done = subprocess.run([cmake, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return installed


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """The environment of a program that finds onnxruntime's library."""
    spec = importlib.util.find_spec("onnxruntime")
    if spec is None or spec.origin is None:
        pytest.skip("onnxruntime is not installed")
    return os.environ | {"EDGEOPT_RT_LIBRARIES": str(Path(spec.origin).parent / "capi")}


@pytest.fixture(scope="session")
def run(environment: dict[str, str]) -> Run:
    """Run a program; its status is the test's to look at."""

    def run(*words: object, stdin: str = "", **more: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [str(word) for word in words],
            env=environment | more,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert "Sanitizer" not in done.stderr, done.stderr
        assert "runtime error" not in done.stderr, done.stderr
        return done

    return run


@pytest.fixture(scope="session")
def board_folder(prefix: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as on a board: the library, its Python files, and the Python examples."""
    folder = tmp_path_factory.mktemp("board")
    for place in (RUNTIME / "python", EXAMPLES / "python", EXAMPLES / "server"):
        for path in place.glob("*.py"):
            shutil.copy(path, folder)
    (library,) = prefix.glob("lib*/libedgeopt_rt.so")
    shutil.copy(library, folder)
    return folder


@pytest.fixture(scope="session")
def old_python() -> str:
    """Python 3.6, the oldest that the binding promises to run in."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = [shutil.which("python3.6"), *pyenv.glob("3.6.*/bin/python3.6")]
    for path in filter(None, found):
        words = [str(path), "-c", "import sys; print(sys.version_info[:2])"]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.stdout.strip() == "(3, 6)":
            return str(path)
    pytest.skip("Python 3.6 is not installed (pyenv install 3.6)")
