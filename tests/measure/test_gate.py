# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from edgeopt.errors import InputError
from edgeopt.measure import measurement
from edgeopt.measure.gate import gate
from tests.measure.test_conditions import stat
from tests.measure.test_energy import RAIL, columns
from tests.measure.test_measurement import MEASUREMENT, RUN
from tests.measure.test_statistics import shuffled
from tests.measure.traces import reads, run, trace

ROOT = Path(__file__).parents[2]


def measured(tmp_path: Path, *, emulated: bool = False, agree: bool = True, n: int = 100) -> Path:
    """A run of 1 to ``n`` ms: of 100 the median is 50 ms, and from 42 to 59."""
    times = tuple(10**6 * t for t in shuffled(n)) if agree else ()
    run = replace(
        RUN,
        wall_ns=times,
        cpu_ns=times,
        warmup_ns=(),
        outputs_agree=agree,
        peak_memory_bytes=50_000_000,
        artifact_bytes=20_000_000,
    )
    path = tmp_path / "m.json"
    measurement.write(replace(MEASUREMENT, emulated=emulated, runs=(run,)), path)
    return path


def evaluated(tmp_path: Path, *, original: bool = True) -> Path:
    difference = {"value": -0.01, "low": -0.03, "high": 0.01, "verdict": "cannot tell apart"}
    figure = {"value": 0.9, "low": 0.87, "high": 0.93}
    figure |= {"difference": difference if original else None}
    system = {"engine": "onnx", "precision": "int8", "figures": {"accuracy": figure}}
    path = tmp_path / "e.json"
    path.write_text(json.dumps({"main": "accuracy", "artifacts": [system]}))
    return path


def limits(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "budget.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("most", "status"),
    [(60, "kept"), (59, "kept"), (58, "cannot tell"), (42, "cannot tell"), (41, "broken")],
)
def test_a_latency_is_kept_if_its_upper_bound_is(tmp_path: Path, most: int, status: str) -> None:
    found = gate(limits(tmp_path, f"[latency]\np50_ms = {most}\n"), [measured(tmp_path)])
    (check,) = found.checks
    assert check.status == status
    assert found.passed == (status == "kept")
    text = f"p50_ms is 50 (42 to 59), at most {most} is allowed"
    why = "; its interval holds the limit, more samples may tell"
    assert check.text == text + (why if status == "cannot tell" else "")


@pytest.mark.parametrize(
    ("least", "status"), [(0.87, "kept"), (0.9, "cannot tell"), (0.94, "broken")]
)
def test_an_accuracy_is_kept_if_its_lower_bound_is(
    tmp_path: Path, least: float, status: str
) -> None:
    found = gate(limits(tmp_path, f"[accuracy]\naccuracy = {least}\n"), [evaluated(tmp_path)])
    assert [c.status for c in found.checks] == [status]


def test_an_evaluation_of_another_bundle_is_refused(tmp_path: Path) -> None:
    path = evaluated(tmp_path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"digest": "another"}))
    with pytest.raises(InputError, match="is of another bundle than "):
        gate(limits(tmp_path, "[size]\nartifact_mb = 90\n"), [measured(tmp_path), path])


def test_a_drop_is_what_the_original_is_better_by(tmp_path: Path) -> None:
    found = gate(limits(tmp_path, "[accuracy_drop]\naccuracy = 0.02\n"), [evaluated(tmp_path)])
    (check,) = found.checks
    assert (check.figure.value, check.figure.low, check.figure.high) == (0.01, -0.01, 0.03)
    assert check.status == "cannot tell"


def test_figures_of_several_files_make_one_gate(tmp_path: Path) -> None:
    budget = limits(
        tmp_path,
        'engine = "onnx"\n[latency]\np50_ms = 60\n[memory]\npeak_mb = 49\n[size]\n'
        "artifact_mb = 20\n[accuracy]\naccuracy = 0.8\n",
    )
    found = gate(budget, [measured(tmp_path), evaluated(tmp_path)])
    assert {c.limit: c.status for c in found.checks} == {
        "latency.p50_ms": "kept",
        "memory.peak_mb": "broken",
        "size.artifact_mb": "kept",
        "accuracy.accuracy": "kept",
    }
    assert not found.passed


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[latency]\np99_ms = 9\n", "p99 takes 299 independent samples, and "),
        ("[energy]\nper_inference_mj = 9\n", "has no energy\nIt takes a board with a power sensor"),
        ("[counters]\ninstructions = 9\n", "has no counters\nIt takes an emulated board"),
        ("[accuracy]\nf1 = 0.9\n", "none of the files has it\nEvaluate it: edgeopt evaluate"),
        ('precision = "fp32"\n[size]\nartifact_mb = 9\n', "no artifact of fp32 is in"),
        ("[latency]\np95_ms = 9\n", "latency.p95_ms: unknown key"),
        ("[latncy]\np50_ms = 9\n", 'latncy: unknown key; did you mean "latency"'),
        ("", "latency: is missing, and so is every other limit"),
    ],
)
def test_a_limit_on_what_was_not_measured_is_an_error(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(InputError) as caught:
        gate(limits(tmp_path, text), [measured(tmp_path)])
    assert message.replace('"', "'") in str(caught.value)


def powered(tmp_path: Path, *, busy_cores: float = 0.0, whole: bool = True) -> Path:
    """A run of a hundred calls, 400 mJ each above idle; others keep so many of 4 cores busy."""
    known = {"total": ("VDD_IN",)} if whole else {}
    found = trace(*columns(), reads("/proc/stat", stat(1 + busy_cores)), rails=(RAIL,), **known)
    timed = replace(run(found), precision="int8")
    path = tmp_path / "m.json"
    board = dict(MEASUREMENT.board) | {"cores": [{}] * 4}
    measurement.write(replace(MEASUREMENT, emulated=False, board=board, runs=(timed,)), path)
    return path


@pytest.mark.parametrize(("most", "status"), [(410, "kept"), (400, "cannot tell"), (390, "broken")])
def test_an_energy_is_kept_if_its_upper_bound_is(tmp_path: Path, most: int, status: str) -> None:
    budget = limits(tmp_path, f"[energy]\nper_inference_mj = {most}\n")
    (check,) = gate(budget, [powered(tmp_path)]).checks
    assert check.figure.value == pytest.approx(400)
    assert check.status == status


def test_rails_that_are_no_whole_are_no_energy_of_an_inference(tmp_path: Path) -> None:
    budget = limits(tmp_path, "[energy]\nper_inference_mj = 410\n")
    with pytest.raises(InputError, match="rails of which it is not known what they add up to"):
        gate(budget, [powered(tmp_path, whole=False)])


def test_a_disturbed_run_tells_nothing(tmp_path: Path) -> None:
    budget = limits(tmp_path, "[latency]\np50_ms = 200\n[energy]\nper_inference_mj = 390\n")
    found = gate(budget, [powered(tmp_path, busy_cores=2)])
    assert [c.status for c in found.checks] == ["cannot tell", "cannot tell"]
    assert "measure it again: other programs took 2" in found.checks[0].text


def test_an_emulated_boards_time_is_no_latency(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is of the emulated board pi, whose latency is its own"):
        gate(limits(tmp_path, "[latency]\np50_ms = 60\n"), [measured(tmp_path, emulated=True)])


def test_wrong_outputs_keep_to_no_budget(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="outputs of onnx int8 disagreed"):
        gate(limits(tmp_path, "[size]\nartifact_mb = 60\n"), [measured(tmp_path, agree=False)])


@pytest.mark.heavy
def test_the_pytest_plugin_fails_a_test_and_imports_nothing_before(tmp_path: Path) -> None:
    measured(tmp_path)
    limits(tmp_path, "[latency]\np50_ms = 58\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_budget.py").write_text(
        "import sys\n"
        "def test_nothing_is_imported():\n"
        "    ours = {name for name in sys.modules if name.startswith('edgeopt')}\n"
        "    assert ours == {'edgeopt', 'edgeopt._version', 'edgeopt.pytest_plugin'}\n"
        "def test_budget(edgeopt_budget):\n"
        "    edgeopt_budget('budget.toml', 'm.json')\n"
    )
    words = ["-m", "pytest", "-p", "edgeopt.pytest_plugin", "-p", "no:anyio", str(tmp_path)]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1
    assert "1 failed, 1 passed" in done.stdout
    assert "budget.toml is not kept" in done.stdout
    assert "onnx int8: latency.p50_ms cannot tell: p50_ms is 50 (42 to 59)" in done.stdout
    assert "Traceback" not in done.stdout
