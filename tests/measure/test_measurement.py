# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

import json
from dataclasses import replace
from pathlib import Path

import pytest

from edgeopt.errors import InputError, MeasurementError
from edgeopt.measure.measurement import (
    GoldenResult,
    Measurement,
    NotRun,
    Run,
    check_place,
    read,
    write,
)

RUN = Run(
    engine="onnx",
    engine_version="1.31.1",
    precision="int8",
    threads=1,
    seq_len=32,
    load_ns=5,
    warmup_ns=(9,),
    wall_ns=(3, 1, 2),
    cpu_ns=(3, 1, 2),
    rss_before_bytes=1,
    rss_loaded_bytes=2,
    peak_memory_bytes=3,
    artifact_bytes=4,
    golden=(
        GoldenResult(
            directory="golden/seq_32/0",
            output="logits",
            cosine=0.99,
            max_abs_error=0.1,
            agrees=True,
        ),
    ),
    outputs_agree=True,
    bound=0.97,
    state_before={"load_1min": 0.1},
    state_after={"load_1min": 0.9},
)
MEASUREMENT = Measurement(
    started_utc="2026-01-01T00:00:00+00:00",
    edgeopt_version="0.1.0",
    agent_version="0.1.0",
    bundle_name="tiny",
    bundle_digest="0" * 64,
    target="raspberry-pi-4",
    board_name="pi",
    emulated=True,
    board={"arch": "aarch64"},
    runs=(RUN,),
    not_run=(NotRun(engine="tvm", precision="fp32", reason="no library"),),
)


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "deep/er/m.json"
    write(MEASUREMENT, path)
    assert read(path) == MEASUREMENT
    assert [p.name for p in path.parent.iterdir()] == ["m.json"]


def test_a_measurement_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    write(MEASUREMENT, path)
    with pytest.raises(InputError, match="a measurement is never overwritten"):
        write(replace(MEASUREMENT, board_name="other"), path)
    assert read(path) == MEASUREMENT


def test_a_place_is_refused_before_the_work(tmp_path: Path) -> None:
    check_place(tmp_path / "new/er/m.json")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "m.json").write_text("")
    with pytest.raises(InputError, match="a measurement is never overwritten"):
        check_place(tmp_path / "m.json")
    with pytest.raises(InputError, match="cannot be written"):
        check_place(tmp_path / "m.json/m.json")


@pytest.mark.parametrize(
    "change",
    [
        {"schema_version": 9},
        {"emulated": "no"},
        {"runs": [{"engine": "onnx"}]},
        {"not_run": [{"engine": 1}]},
    ],
)
def test_a_damaged_measurement(tmp_path: Path, change: dict[str, object]) -> None:
    path = tmp_path / "m.json"
    write(MEASUREMENT, path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(MeasurementError, match=str(path)):
        read(path)
