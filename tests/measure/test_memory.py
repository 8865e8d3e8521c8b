# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

from dataclasses import replace
from pathlib import Path

import pytest

from edgeopt.errors import InputError
from edgeopt.measure import measurement
from edgeopt.measure.gate import gate
from edgeopt.measure.memory import Memory, Phase
from edgeopt.measure.report import report
from tests.measure.test_measurement import MEASUREMENT, RUN

MB = 1_000_000
MEMORY = Memory(
    before=Phase(rss_bytes=2 * MB, anonymous_bytes=1 * MB, memfd_bytes=0, peak_bytes=3 * MB),
    loaded=Phase(rss_bytes=40 * MB, anonymous_bytes=21 * MB, memfd_bytes=0, peak_bytes=70 * MB),
    first=Phase(rss_bytes=60 * MB, anonymous_bytes=22 * MB, memfd_bytes=20 * MB),
    steady=Phase(
        rss_bytes=64 * MB,
        pss_bytes=50 * MB,
        anonymous_bytes=25 * MB,
        memfd_bytes=20 * MB,
        swap_bytes=0,
        artifact_mapped_bytes=10 * MB,
        peak_bytes=65 * MB,
    ),
)
TOLD = replace(RUN, memory=MEMORY, peak_memory_bytes=MEMORY.peak_bytes)


def measured(tmp_path: Path, run: measurement.Run = TOLD, **changes: object) -> Path:
    path = tmp_path / "m.json"
    facts: dict[str, object] = {"emulated": False, "runs": (run,), **changes}
    measurement.write(replace(MEASUREMENT, **facts), path)  # type: ignore[arg-type]
    return path


def limits(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "budget.toml"
    path.write_text(f"[memory]\n{text}\n")
    return path


def test_it_is_written_and_read_and_an_older_file_has_none(tmp_path: Path) -> None:
    (run,) = measurement.read(measured(tmp_path)).runs
    assert run.memory == MEMORY
    older = tmp_path / "older"
    older.mkdir()
    assert '"memory"' not in measured(older, RUN).read_text()
    assert measurement.read(older / "m.json").runs[0].memory is None


def test_copies_are_what_no_file_backs() -> None:
    assert [phase.unbacked_bytes for phase in MEMORY.all] == [1 * MB, 21 * MB, 42 * MB, 45 * MB]
    assert MEMORY.unbacked_at_load_bytes == 20 * MB
    assert MEMORY.first_run_growth_bytes == 20 * MB
    unknown = Memory(before=Phase(), loaded=Phase(), first=Phase(), steady=Phase())
    assert unknown.unbacked_at_load_bytes is unknown.peak_bytes is unknown.peak_of(0) is None


def test_a_peak_is_of_its_phase_or_not_known() -> None:
    assert [MEMORY.peak_of(place) for place in range(4)] == [3 * MB, 70 * MB, None, 65 * MB]
    assert MEMORY.peak_bytes == 70 * MB
    kept = replace(MEMORY.steady, peak_bytes=70 * MB, peak_is_of_phase=False)
    assert replace(MEMORY, steady=kept).peak_of(3) is None
    risen = replace(kept, peak_bytes=71 * MB)
    assert replace(MEMORY, steady=risen).peak_of(3) == 71 * MB
    lags = replace(MEMORY.steady, peak_bytes=63 * MB)
    assert replace(MEMORY, steady=lags).peak_of(3) == 64 * MB


def test_the_json_has_phases_and_what_is_derived() -> None:
    found = report(replace(MEASUREMENT, runs=(TOLD,)), Path("m.json")).document()["runs"][0]
    memory = found["memory"]
    assert memory["steady"]["pss_bytes"] == 50 * MB
    assert memory["steady"]["unbacked_bytes"] == 45 * MB
    assert memory["first"]["pss_bytes"] is None
    assert memory["first"]["peak_bytes"] is None
    assert memory["unbacked_at_load_bytes"] == 20 * MB


@pytest.mark.parametrize(
    ("limit", "status"),
    [
        ("steady_pss_mb = 50", "kept"),
        ("steady_pss_mb = 49.9", "broken"),
        ("loaded_unbacked_mb = 20", "broken"),
        ("loaded_peak_mb = 70", "kept"),
        ("steady_rss_mb = 64", "kept"),
        ("peak_mb = 69", "broken"),
    ],
)
def test_a_budget_is_of_a_phase(tmp_path: Path, limit: str, status: str) -> None:
    (check,) = gate(limits(tmp_path, limit), [measured(tmp_path)]).checks
    assert check.status == status


@pytest.mark.parametrize(
    ("limit", "run", "message"),
    [
        ("steady_pss_mb = 9", RUN, "is of an edgeopt that did not read it"),
        ("first_pss_mb = 9", TOLD, "lacks it: the board's kernel did not tell"),
        ("peak_mb = 9", replace(RUN, peak_memory_bytes=None), "the board's kernel did not tell"),
        ("steady_mb = 9", TOLD, "memory.steady_mb: unknown key; did you mean 'steady_rss_mb'"),
    ],
)
def test_a_figure_that_is_not_known_is_not_kept(
    tmp_path: Path, limit: str, run: measurement.Run, message: str
) -> None:
    with pytest.raises(InputError) as raised:
        gate(limits(tmp_path, limit), [measured(tmp_path, run)])
    assert message in str(raised.value)


def test_what_is_over_the_targets_budget_is_told() -> None:
    m = replace(MEASUREMENT, runs=(TOLD,), emulated=False, memory_budget_mib=50.0)
    (item,) = report(m, Path("m.json")).runs
    assert item.over_memory == (
        "took 66.8 MiB of memory at its peak; the budget of the target raspberry-pi-4 is 50 MiB"
    )
    for kept in (replace(m, memory_budget_mib=67.0), replace(m, memory_budget_mib=None)):
        assert report(kept, Path("m.json")).runs[0].over_memory is None
    assert report(replace(m, emulated=True), Path("m.json")).runs[0].over_memory is None
