# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What the agent says of its memory: against weights of a known size, and another program."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeopt.boards.local import LocalTransport
from edgeopt.bundle import open_bundle
from edgeopt.bundle.pack import pack
from edgeopt.errors import EdgeoptError
from edgeopt.measure.together import run_together
from tests.runtime.agent_runs import Case, Run

pytestmark = pytest.mark.heavy  # 64 MB of weights each, under the address sanitizer

WEIGHTS = 64_000_000
SLACK = 24_000_000
"""The engine's own, and the sanitizer's shadow, an eighth; a second copy would be far more."""


@pytest.fixture(autouse=True)
def _freed_memory_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """The address sanitizer keeps it otherwise, and the agent here is under it."""
    monkeypatch.setenv("ASAN_OPTIONS", "quarantine_size_mb=0")


PHASES = ["before", "loaded", "first", "steady"]


def write_graph(path: Path, nodes: list[tuple[str, list[str], str]], **weights: np.ndarray) -> None:
    """``nodes`` make ``rows`` of ``column``, which is ``ids`` (b, s, 1), or of ``ids`` itself."""
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    h, types = onnx.helper, onnx.TensorProto
    graph = h.make_graph(
        [
            h.make_node("Cast", ["ids"], ["f"], to=types.FLOAT),
            h.make_node("Cast", ["attention_mask"], ["m"], to=types.FLOAT),
            h.make_node("Unsqueeze", ["f", "axes"], ["column"]),
            h.make_node("Unsqueeze", ["m", "axes"], ["mask"]),
            *(h.make_node(kind, inputs, [output]) for kind, inputs, output in nodes),
            h.make_node("Mul", ["rows", "mask"], ["out"]),
        ],
        "graph",
        [
            h.make_tensor_value_info("attention_mask", types.INT32, ["b", "s"]),
            h.make_tensor_value_info("ids", types.INT64, ["b", "s"]),
        ],
        [h.make_tensor_value_info("out", types.FLOAT, ["b", "s", 3])],
        [
            h.make_tensor("axes", types.INT64, [1], [2]),
            *(onnx.numpy_helper.from_array(array, name) for name, array in weights.items()),
        ],
    )
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())


def write_weights(path: Path) -> None:
    """A table of ``WEIGHTS`` bytes, whose rows ``ids`` pick."""
    table = np.zeros((WEIGHTS // 12, 3), np.float32)
    table[:8] = np.arange(8)[:, None] * np.array([1, 2, 3])
    write_graph(path, [("Gather", ["table", "ids"], "rows")], table=table)


def phases(done: Run) -> list[dict[str, Any]]:
    assert done.status == 0, done.events
    told = done.all("memory")
    assert [event["phase"] for event in told] == PHASES
    return told


def test_known_weights_are_copied_or_mapped(case: Case, tmp_path: Path) -> None:
    write_weights(case.model)
    before, loaded, _, steady = phases(case.run())
    copied = loaded["anonymous_bytes"] - before["anonymous_bytes"]
    assert WEIGHTS <= copied < WEIGHTS + SLACK
    assert loaded["peak_bytes"] > before["peak_bytes"] + copied - SLACK
    assert steady["artifact_mapped_bytes"] < SLACK
    assert steady["swap_bytes"] == 0

    packed = pack(open_bundle(case.bundle), tmp_path / "packed.edgeopt")
    _, loaded, _, steady = phases(case.run(bundle=packed))
    for phase in (loaded, steady):  # onnxruntime reads it where it is mapped, and copies
        assert WEIGHTS <= phase["artifact_mapped_bytes"] < WEIGHTS + SLACK
        assert phase["rss_bytes"] > 2 * WEIGHTS
        assert phase["rss_bytes"] - phase["anonymous_bytes"] > WEIGHTS


def test_weights_that_onnxruntime_packs_are_in_its_arena(case: Case) -> None:
    side = 2048
    first, last = np.zeros((1, side), np.float32), np.zeros((side, 3), np.float32)
    first[0, 0], last[0] = 1, (1, 2, 3)
    square = np.eye(side, dtype=np.float32)
    nodes = [
        ("MatMul", ["column", "first"], "a"),
        ("MatMul", ["a", "square"], "b"),
        ("MatMul", ["b", "last"], "rows"),
    ]
    write_graph(case.model, nodes, first=first, square=square, last=last)
    before, *rest = phases(case.run())
    assert "arena_bytes" not in before
    for phase in rest:
        assert square.nbytes <= phase["arena_bytes"] < 1.5 * square.nbytes
    write_weights(case.model)  # which it does not pack
    _, loaded, *_ = phases(case.run())
    assert loaded["arena_bytes"] < 1_000_000


def kernel(pid: int, file: str) -> dict[str, int]:
    """Return the figures of a file of /proc of another process, bytes."""
    lines = Path(f"/proc/{pid}/{file}").read_text().splitlines()
    words = [line.split() for line in lines if line.endswith(" kB")]
    return {key.rstrip(":"): 1024 * int(value) for key, value, _ in words}


def test_another_program_reads_the_same(case: Case) -> None:
    write_weights(case.model)
    told: dict[str, dict[str, Any]] = {}
    pipe = subprocess.PIPE
    with subprocess.Popen(
        case.words("blocks", "--warmup", "0"), stdin=pipe, stdout=pipe, text=True
    ) as agent:
        assert agent.stdout is not None
        for line in agent.stdout:
            event = json.loads(line)
            if event["event"] == "memory":
                told[event["phase"]] = event
            if event["event"] == "ready":
                break
        found = kernel(agent.pid, "smaps_rollup")  # it waits for the first block
        peak = kernel(agent.pid, "status")["VmHWM"]
        rest, _ = agent.communicate("")
    *_, last = (json.loads(line) for line in rest.splitlines() if '"memory"' in line)
    for name, key in (
        ("rss_bytes", "Rss"),
        ("pss_bytes", "Pss"),
        ("anonymous_bytes", "Anonymous"),
        ("private_dirty_bytes", "Private_Dirty"),
    ):
        assert found[key] > WEIGHTS
        for event in (told["first"], last):
            assert event[name] == pytest.approx(found[key], abs=1_000_000), name
    assert last["peak_bytes"] == pytest.approx(peak, abs=1_000_000)
    assert last["peak_is_of_phase"]


def test_what_instances_share_counts_once(case: Case, tmp_path: Path) -> None:
    """Against the same without the weights: engines and the C library are shared as well.

    The engine is a copy: of a file that other tests map, a process' share is theirs to change.
    """
    case.library = Path(shutil.copy(case.library, tmp_path / case.library.name))
    shared = []
    for name in ("small", "large"):
        if name == "large":
            write_weights(case.model)
        case.write()
        packed = pack(open_bundle(case.bundle), tmp_path / f"{name}.edgeopt")
        words = case.words("blocks", "--warmup", "1", "--runs", "0", bundle=packed)
        with LocalTransport() as transport:
            found = run_together(transport, words, "here", count=3, runs=400, threads=1)
        assert [len(one.wall_ns) for one in found.instances] == [400] * 3
        assert all(one.begin_ns < one.end_ns for one in found.instances)
        assert found.pss_bytes is not None
        assert found.rss_bytes is not None
        shared.append(found.rss_bytes - found.pss_bytes)
    small, large = shared
    assert large - small == pytest.approx(2 * WEIGHTS, rel=0.05)  # of three mappings


def test_if_one_instance_is_killed_the_others_end_too(case: Case) -> None:
    bundle = case.write()
    words = case.words("blocks", "--warmup", "0", bundle=bundle)
    killed = []

    def kill_one() -> None:
        while len(found := running(bundle)) < 2 or not all(map(is_busy, found)):
            time.sleep(0.05)
        killed.append(found[0])
        os.kill(found[0], signal.SIGKILL)

    killer = threading.Thread(target=kill_one)
    killer.start()
    with LocalTransport() as transport, pytest.raises(EdgeoptError, match="ended by signal 9"):
        run_together(transport, words, "here", count=2, runs=100_000_000, threads=1)
    killer.join()
    assert killed
    assert running(bundle) == []


def running(bundle: Path) -> list[int]:
    """Return the agents that have ``bundle`` open."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if str(bundle).encode() in (place / "cmdline").read_bytes().split(b"\0"):
                found.append(int(place.name))
    return sorted(found)


def is_busy(pid: int) -> bool:
    """Whether it has computed for longer than loading takes."""
    with contextlib.suppress(OSError):
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return int(words[11]) + int(words[12]) > os.sysconf("SC_CLK_TCK")
    return False


def hidden(case: Case, file: str, behind: str) -> Run:
    """Run the agent where ``file`` of its /proc is ``behind``."""
    words = shlex.join(case.words("run", "--warmup", "0", "--runs", "1"))
    script = f"mount --bind {behind} /proc/$$/{file} && exec {words}"
    space = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
    if subprocess.run([*space, "mount --bind /dev/null /proc/$$/smaps"], check=False).returncode:
        pytest.skip("the kernel lets no file of /proc be hidden")
    return Run(Path(space[0]), *space[1:], script)


def test_what_the_kernel_does_not_tell_is_left_out(case: Case) -> None:
    for event in phases(hidden(case, "smaps", "/dev/null")):
        told = event.keys() - {"event", "phase", "arena_bytes"}
        assert told == {"rss_bytes", "peak_bytes", "peak_is_of_phase"}
        assert 0 < event["rss_bytes"] <= event["peak_bytes"] + 4_000_000
    kept = phases(hidden(case, "clear_refs", "/dev/full"))
    assert [event["peak_is_of_phase"] for event in kept] == [True, False, False, False]
