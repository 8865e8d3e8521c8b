"""The agent's OpenVINO engine, under the undefined-behaviour sanitizer.

OpenVINO's TBB opens a library with RTLD_DEEPBIND, which the address sanitizer refuses.
"""

import platform
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from edgeopt.engines.fetch import fetch
from edgeopt.engines.releases import find
from tests.runtime.agent_runs import Run, failure_of
from tests.runtime.compiled import ARCHITECTURES, TARGET, Compiled, lower
from tests.runtime.conftest import build

pytest.importorskip("torch", reason="needs edgeopt[torch]")
pytest.importorskip("transformers", reason="needs edgeopt[torch]")

# Only looked for: the backend imports it, without the part that reports to its maker.
pytestmark = [
    pytest.mark.heavy,
    pytest.mark.skipif(find_spec("openvino") is None, reason="needs edgeopt[openvino]"),
]


@pytest.fixture(scope="module")
def checked_agent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("agent"), "undefined")


@pytest.fixture(scope="module")
def library() -> Path:
    """OpenVINO's C library and what it needs, as a board gets them."""
    return fetch(find("openvino", "2026.4.1"), platform.machine()).library


@pytest.fixture(scope="module", params=ARCHITECTURES)
def compiled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    return lower("openvino", request.param, tmp_path_factory.mktemp("openvino"))


def test_every_length_and_output_agrees(
    checked_agent: Path, library: Path, compiled: Compiled
) -> None:
    words = compiled.words(library, TARGET.seq_lens[0])
    for seq_len in TARGET.seq_lens[1:]:  # one session, bound again for each length
        words += ["--golden", str(compiled.golden[seq_len])]
    done = Run(checked_agent, *words)
    assert done.status == 0, done.events
    assert len(done.all("golden")) == len(TARGET.seq_lens) * len(compiled.outputs)
    assert {e["output"] for e in done.all("golden")} == set(compiled.outputs)
    assert all(e["max_abs_error"] < 1e-4 for e in done.all("golden"))
    assert sum(len(e["wall_ns"]) for e in done.all("samples")) == 3
    assert done.one("done")["outputs_agree"] is True
    assert done.one("engine")["version"] == "2026.4.1"


def test_what_is_wrong_is_named(
    checked_agent: Path, library: Path, compiled: Compiled, tmp_path: Path
) -> None:
    absent = replace(compiled, model=tmp_path / "absent.xml")
    assert "Could not open the file" in failure_of(checked_agent, absent.words(library, 8))
    wrong = compiled.words(library, 8, INFERENCE_PRECISION_HINT="f9")
    assert "f9" in failure_of(checked_agent, wrong)
    other = library.with_name("libtbb.so.12")
    assert failure_of(checked_agent, compiled.words(other, 8)) == (
        f"{other}: has no ov_get_openvino_version: it is not OpenVINO's C library"
    )
