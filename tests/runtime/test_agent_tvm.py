"""The agent's TVM engine on libraries that the backend compiled for this host."""

import platform
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from edgeopt.bundle import golden
from edgeopt.engines.fetch import fetch
from edgeopt.engines.releases import find
from edgeopt.target import load_target
from tests.runtime.agent_runs import Run

pytest.importorskip("torch", reason="needs edgeopt[torch]")
pytest.importorskip("transformers", reason="needs edgeopt[torch]")
pytest.importorskip("tvm", reason="needs edgeopt[tvm]")

from edgeopt.backends import tvm
from edgeopt.model import reference, texts
from edgeopt.model.importer import import_model
from tests import checkpoints

pytestmark = pytest.mark.heavy

TARGET = replace(load_target("host"), seq_lens=(8, 16))
(SPEC,) = (spec for spec in TARGET.engines if spec.engine == "tvm")
ARCHITECTURES = ("BertForSequenceClassification", "DistilBertForQuestionAnswering")


@dataclass(frozen=True)
class Compiled:
    """A model's library, its golden directories by length, and the options that it needs."""

    model: Path
    golden: dict[int, Path]
    options: dict[str, str]

    def words(self, library: Path, seq_len: int, **changes: str) -> list[str]:
        options = {k: v.format(seq_len=seq_len) for k, v in (self.options | changes).items()}
        words = ["run", "--engine", "tvm", "--library", str(library), "--model", str(self.model)]
        words += ["--golden", str(self.golden[seq_len]), "--cosine-min", "0.9999"]
        for key, value in options.items():
            words += ["--option", f"{key}={value}"]
        return [*words, "--warmup", "1", "--runs", "3"]


@pytest.fixture(scope="module")
def library() -> Path:
    """TVM's runtime as a board gets it."""
    return fetch(find("tvm", SPEC.version), platform.machine()).library


@pytest.fixture(scope="module", params=ARCHITECTURES)
def compiled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    folder = tmp_path_factory.mktemp("compiled")
    model = import_model(checkpoints.write(folder / "checkpoint", request.param))
    (folder / "files").mkdir()
    artifact = tvm.lower(model, TARGET, SPEC, "fp32", (), folder / "files")
    calls = {}
    for seq_len in TARGET.seq_lens:
        (batch,) = texts.tokenize(model, ["a tool for text and data"], seq_len)
        calls[seq_len] = folder / f"golden{seq_len}"
        golden.write(calls[seq_len], batch, reference.run(model, [batch])[0])
    return Compiled(
        model=folder / "files" / artifact.files[0], golden=calls, options=dict(artifact.options)
    )


@pytest.mark.parametrize("seq_len", TARGET.seq_lens)
def test_every_length_and_output_agrees(
    agent: Path, library: Path, compiled: Compiled, seq_len: int
) -> None:
    done = Run(agent, *compiled.words(library, seq_len))
    assert done.status == 0, done.events
    outputs = [event["output"] for event in done.all("golden")]
    assert sorted(outputs) == sorted(compiled.options["outputs"].split(","))
    assert all(event["max_abs_error"] < 1e-4 for event in done.all("golden"))
    assert sum(len(event["wall_ns"]) for event in done.all("samples")) == 3
    assert done.one("done")["outputs_agree"] is True
    assert done.one("engine")["version"].startswith("ffi 0.1.")


def test_what_is_wrong_is_named(
    agent: Path, library: Path, compiled: Compiled, tmp_path: Path
) -> None:
    def failure(words: list[str]) -> str:
        done = Run(agent, *words)
        assert done.status == 1
        event = done.one("error")
        return f"{event['where']}: {event['message']}"

    assert failure(compiled.words(library, 8, function="main_9")) == (
        "main_9: is not in the model's library"
    )
    assert failure(compiled.words(library, 8, speed="1")).startswith(
        "speed: unknown option of engine tvm (known: function, inputs, outputs, mcpu)"
    )
    assert failure(compiled.words(library, 8, inputs="input_ids")) == (
        "inputs: expected NAME:int64 or NAME:int32, found input_ids"
    )
    assert "main_16" in failure(compiled.words(library, 8, function="main_16"))  # of 16 tokens
    alone = shutil.copy(library, tmp_path / library.name)
    assert failure(compiled.words(Path(alone), 8)).startswith(f"{tmp_path}/libtvm_ffi.so: cannot")
    notes = tmp_path / "notes.so"
    notes.write_text("not a library")
    assert str(notes) in failure(replace(compiled, model=notes).words(library, 8))
