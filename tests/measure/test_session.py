# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What a session does on a board, counted: a small bundle of several artifacts on this machine."""

import posixpath
from collections import Counter
from collections.abc import Generator, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from edgeopt import boards
from edgeopt.boards import scripts
from edgeopt.boards.local import LocalTransport
from edgeopt.boards.transport import Completed
from edgeopt.bundle import open_bundle
from edgeopt.measure import measurement
from edgeopt.measure.session import profile
from edgeopt.runtime.build import AGENT
from tests.runtime.agent_runs import Case, write_model

pytestmark = pytest.mark.heavy

PRECISIONS = ("fp32", "fp16", "int8", "int4")
SCRIPTS = {text: name for name, text in vars(scripts).items() if name.isupper()}


class Counting(LocalTransport):
    """Notes which programs are started, by their names, and what was hashed for the switch."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.loads = 0
        self.hashed: list[str] = []

    def _note(self, argv: Sequence[str]) -> None:
        if posixpath.basename(argv[0]) == AGENT:
            self.started.append(f"agent {argv[1]}")
        elif argv[0] == "sh":
            self.started.append(SCRIPTS.get(argv[2], "another script"))
        else:
            self.started.append(argv[0])

    def run(
        self, argv: Sequence[str], *, stdin: bytes | Iterable[bytes] = b"", **rest: object
    ) -> Completed:
        self._note(argv)
        if scripts.HASHES in argv:
            assert isinstance(stdin, bytes)
            self.hashed += [line.split("  ")[1] for line in stdin.decode().splitlines()]
        return super().run(argv, stdin=stdin, **rest)  # type: ignore[arg-type]

    def lines(self, argv: Sequence[str], **rest: object) -> Generator[str, None, None]:
        self._note(argv)
        for line in super().lines(argv, **rest):  # type: ignore[arg-type]
            self.loads += '"load_ns"' in line
            yield line


@pytest.fixture
def wire(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Counting:
    made = Counting()
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(boards, "open_transport", lambda entry: made)
    return made


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    case = Case(Path(), Path(), tmp_path)
    write_model(case.model)
    case.precisions = PRECISIONS
    return case.write()


def test_each_artifact_is_loaded_once_and_takes_six_programs(
    wire: Counting, bundle: Path, tmp_path: Path
) -> None:
    profile(bundle, "host", runs=2, warmup=1, output=tmp_path / "first.json")
    wire.started.clear()
    wire.hashed.clear()
    wire.loads = 0
    found = profile(bundle, "host", runs=2, warmup=1, output=tmp_path / "again.json")
    assert wire.loads == len(found.runs) == len(PRECISIONS)
    counts = Counter(wire.started)
    each = {name: counts.pop(name) / len(PRECISIONS) for name in ("agent run", "agent clock")}
    assert each == {"agent run": 1, "agent clock": 2}
    # A deploy of each, of the agent, and of all together; the board's state before and after each,
    # its facts, and what can be sampled there.
    assert counts == {
        "MISSING": len(PRECISIONS) + 2,
        "another script": 2 * len(PRECISIONS) + 2,
        "HOLD": 1,
        "true": 1,
        "CURRENT": 1,
        "HASHES": 1,
        "ACTIVATE": 1,
    }


def test_the_switch_hashes_what_the_runtime_did_not(
    wire: Counting, bundle: Path, tmp_path: Path
) -> None:
    found = profile(bundle, "host", runs=2, warmup=1, output=tmp_path / "m.json")
    assert found.current is not None
    there = {
        path.relative_to(found.current).as_posix()
        for path in Path(found.current).rglob("*")
        if path.is_file()
    }
    artifacts = {f"artifacts/onnx-{precision}/model.onnx" for precision in PRECISIONS}
    assert artifacts < open_bundle(bundle).manifest.files.keys()
    assert sorted(wire.hashed) == sorted(there - artifacts - {".files"})
    assert "lib/libedgeopt_rt.so" in wire.hashed
    took = found.took
    assert took is not None
    assert 0 < took.upload < took.all
    assert took.timed + took.load + took.checks + took.deploy + took.upload < took.all


def test_batches_are_timed_in_processes_of_their_own(
    wire: Counting, bundle: Path, tmp_path: Path
) -> None:
    path = tmp_path / "m.json"
    found = profile(bundle, "host", runs=25, warmup=1, batches=(2, 8, 2), output=path)
    assert wire.loads == 3 * len(PRECISIONS)
    assert found.took is not None
    assert found.took.besides > 0
    for run in measurement.read(path).runs:
        assert [(one.batch, len(one.wall_ns)) for one in run.batches] == [(2, 13), (8, 10)]
        assert all(one.outputs_agree and one.cosine_min == 1 for one in run.batches)
        assert run.no_batches == ""
        assert len(run.wall_ns) == 25


def test_what_takes_one_input_is_loaded_for_no_batch(wire: Counting, tmp_path: Path) -> None:
    case = Case(Path(), Path(), tmp_path)
    write_model(case.model)
    case.artifact = replace(
        case.artifact,
        inputs=tuple(replace(s, dims=(1, *s.dims[1:])) for s in case.artifact.inputs),
        outputs=tuple(replace(s, dims=(1, *s.dims[1:])) for s in case.artifact.outputs),
    )
    found = profile(case.write(), "host", runs=2, batches=(2,), output=tmp_path / "m.json")
    (run,) = found.measurement.runs
    assert (run.batches, run.no_batches, wire.loads) == ((), "it takes one input at a time", 1)
