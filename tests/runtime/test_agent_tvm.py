"""The agent's TVM engine on libraries that the backend compiled for this host."""

import platform
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from edgeopt.engines.fetch import fetch
from edgeopt.engines.releases import find
from tests.runtime.agent_runs import Run, failure_of
from tests.runtime.compiled import ARCHITECTURES, TARGET, Compiled, lower

pytest.importorskip("torch", reason="needs edgeopt[torch]")
pytest.importorskip("transformers", reason="needs edgeopt[torch]")
pytest.importorskip("tvm", reason="needs edgeopt[tvm]")

pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module")
def library() -> Path:
    """TVM's runtime as a board gets it."""
    return fetch(find("tvm", "0.26.0"), platform.machine()).library


@pytest.fixture(scope="module", params=ARCHITECTURES)
def compiled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    return lower("tvm", request.param, tmp_path_factory.mktemp("tvm"))


@pytest.mark.parametrize("seq_len", TARGET.seq_lens)
def test_every_length_and_output_agrees(
    agent: Path, library: Path, compiled: Compiled, seq_len: int
) -> None:
    done = Run(agent, *compiled.words(library, seq_len))
    assert done.status == 0, done.events
    assert sorted(e["output"] for e in done.all("golden")) == sorted(compiled.outputs)
    assert all(e["max_abs_error"] < 1e-4 for e in done.all("golden"))
    assert sum(len(e["wall_ns"]) for e in done.all("samples")) == 3
    assert done.one("done")["outputs_agree"] is True
    assert done.one("engine")["version"].startswith("ffi 0.1.")


def test_what_is_wrong_is_named(
    agent: Path, library: Path, compiled: Compiled, tmp_path: Path
) -> None:
    assert failure_of(agent, compiled.words(library, 8, function="main_9")) == (
        "main_9: is not in the model's library"
    )
    assert failure_of(agent, compiled.words(library, 8, speed="1")).startswith(
        "speed: unknown option of engine tvm (known: function, inputs, outputs, mcpu)"
    )
    assert failure_of(agent, compiled.words(library, 8, inputs="input_ids")) == (
        "inputs: expected NAME:int64 or NAME:int32, found input_ids"
    )
    # called with 8 tokens
    assert "main_16" in failure_of(agent, compiled.words(library, 8, function="main_16"))
    alone = Path(shutil.copy(library, tmp_path / library.name))
    assert failure_of(agent, compiled.words(alone, 8)).startswith(
        f"{tmp_path}/libtvm_ffi.so: cannot be loaded"
    )
    notes = tmp_path / "notes.so"
    notes.write_text("not a library")
    assert str(notes) in failure_of(agent, replace(compiled, model=notes).words(library, 8))
