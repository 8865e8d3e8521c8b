# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""``edgeopt estimate`` of a small BERT, without and with measurements."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

import edgeopt
from edgeopt.cli import cli
from edgeopt.cli.output import run
from edgeopt.errors import InputError
from edgeopt.estimate_pipeline import Estimated, Estimates
from edgeopt.measure.measurement import Measurement, Run, write
from tests import checkpoints
from tests.lazily import lazily

for name in ("transformers", "onnxruntime", "ziglang"):
    lazily(name, reason=f"needs {name}")

pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("estimate")
    # Weights of the usual size for so wide a network: larger ones make answers of rounding errors.
    source = checkpoints.write(
        folder / "small", hidden_size=512, intermediate_size=2048, num_hidden_layers=4,
        initializer_range=0.05,
    )  # fmt: skip
    output = folder / "t.edgeopt"
    return edgeopt.compile(
        source, "raspberry-pi-4", engines=["onnx"], precisions=["fp32"], output=output
    ).path


def measured(bundle: Path, file: Path, **changes: object) -> Path:
    """Write what ``profile`` would have of the bundle's onnx fp32 at 32 tokens: 30 ms a call."""
    run = Run(
        engine="onnx", engine_version="1.31.1", precision="fp32", threads=4, seq_len=32,
        load_ns=1, warmup_ns=(), wall_ns=(30_000_000,) * 9, cpu_ns=(1,) * 9, rss_before_bytes=1,
        rss_loaded_bytes=1, peak_memory_bytes=1, artifact_bytes=1, golden=(), outputs_agree=True,
        bound=0.9, state_before={}, state_after={},
    )  # fmt: skip
    taken = Measurement(
        started_utc="2026-11-30T00:00:00Z", edgeopt_version="0", agent_version="0",
        bundle_name="tiny", bundle_digest=edgeopt.open_bundle(bundle).manifest.digest,
        target="raspberry-pi-4", board_name="kitchen", emulated=False, board={}, runs=(run,),
        not_run=(),
    )  # fmt: skip
    write(replace(taken, **changes), file)  # type: ignore[arg-type]
    return file


def test_an_estimate_names_itself_and_its_error(
    bundle: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert run(cli, ["estimate", str(bundle), "-t", "raspberry-pi-4"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("Estimates for Raspberry Pi 4 Model B, 4 threads: not measured\n")
    assert re.search(r"onnx fp32 .* ms +[\d.]+-[\d.]+ ms +\d+% +\[a\]", shown)
    assert "[a] Error of estimates of transformers; device measured" in shown
    assert "leaving out each engine in turn" in shown
    assert max(map(len, shown.splitlines()[:3])) <= 80

    assert run(cli, ["estimate", str(bundle), "-t", "raspberry-pi-5", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["kind"] == "estimate"
    entries = {(e.engine, e.precision): e for e in edgeopt.open_bundle(bundle).manifest.artifacts}
    for told in document["artifacts"]:
        entry = entries[told["engine"], told["precision"]]
        assert told["bytes"] == entry.bytes
        assert told["estimate"]["low_ms"] < told["estimate"]["latency_ms"]
        assert told["estimate"]["error"]["units"] >= 3


def test_a_longer_call_takes_longer(bundle: Path) -> None:
    def found(seq_len: int, threads: int = 4) -> tuple[int, float]:
        (row,) = edgeopt.estimate_latency(
            bundle, "raspberry-pi-4", precisions=["fp32"], seq_len=seq_len, threads=threads
        ).rows
        assert row.estimate is not None
        assert row.macs is not None
        return row.macs, row.estimate.ms

    short, long = found(24), found(36)
    assert 1.4 < long[0] / short[0] < 1.6
    assert long[1] > short[1]
    with_one = found(36, threads=1)
    assert with_one[0] == long[0]
    assert with_one[1] > long[1]


def test_a_network_unlike_all_that_was_measured_has_no_estimate(
    bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Four tokens: what a call takes beside its products was measured in no such network."""
    assert run(cli, ["estimate", str(bundle), "-t", "raspberry-pi-4", "--seq-len", "4"]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"onnx fp32 .* none", shown)
    assert re.search(r"no estimate: its [\d.]+ million multiply-accumulates are far fewer", shown)


def test_a_file_stands_for_what_would_be_built_of_it(bundle: Path) -> None:
    opened = edgeopt.open_bundle(bundle)
    entry = next(e for e in opened.manifest.artifacts if e.precision == "fp32")
    file = bundle / entry.artifact.files[0]
    by_file = edgeopt.estimate_latency(file, "raspberry-pi-5", seq_len=32)
    assert {(r.engine, r.precision) for r in by_file.rows} == {
        (spec.engine, precision)
        for spec in edgeopt.load_target("raspberry-pi-5").engines
        for precision in spec.precisions
    }
    assert all(row.bytes is None for row in by_file.rows)
    by_bundle = edgeopt.estimate_latency(bundle, "raspberry-pi-5", seq_len=32)
    macs = {r.macs for r in by_file.rows if r.estimate}
    assert macs == {r.macs for r in by_bundle.rows}


def test_measurements_count(bundle: Path, tmp_path: Path) -> None:
    file = measured(bundle, tmp_path / "m.json")
    asked = {"precisions": ["fp32"], "measurements": [file], "bundles": [bundle]}
    (same,) = edgeopt.estimate_latency(bundle, "raspberry-pi-4", seq_len=32, **asked).rows
    assert (same.measured_ms, same.estimate) == (30.0, None)
    (other,) = edgeopt.estimate_latency(bundle, "raspberry-pi-4", seq_len=36, **asked).rows
    (alone,) = edgeopt.estimate_latency(
        bundle, "raspberry-pi-4", seq_len=36, precisions=["fp32"]
    ).rows
    assert other.estimate is not None
    assert alone.estimate is not None
    assert (other.estimate.calibrated_on, alone.estimate.calibrated_on) == (1, 0)
    assert other.estimate.error.situation == "yours 1"
    assert other.estimate.error.median < alone.estimate.error.median
    # Of four tokens, it tells nothing of more: that is said.
    document = json.loads(file.read_text())
    document["runs"][0]["seq_len"] = 4
    (tmp_path / "4.json").write_text(json.dumps(document))
    asked["measurements"] = [tmp_path / "4.json"]
    four = edgeopt.estimate_latency(bundle, "raspberry-pi-4", seq_len=36, **asked)
    assert four.rows[0].estimate == alone.estimate
    assert "4.json: onnx fp32 scales no estimate: its " in four.notes[0]
    asked["measurements"] = [file]
    # With other threads it says nothing of this call, and that is told.
    asked["threads"] = 1
    one = edgeopt.estimate_latency(bundle, "raspberry-pi-4", seq_len=36, **asked)
    assert one.rows[0].estimate is not None
    assert one.rows[0].estimate.calibrated_on == 0
    assert one.notes[0].startswith("1 of the measured runs are not used: other threads than 1")


def test_counted_instructions_bound_an_estimate_from_below(bundle: Path, tmp_path: Path) -> None:
    """A Cortex-A72 starts at most 3 instructions a cycle: four at 1.8 GHz 21.6 thousand million."""
    file = measured(bundle, tmp_path / "c.json", emulated=True)
    document = json.loads(file.read_text())
    document["runs"][0]["counters"] = {"instructions": [43_200_000_000] * 5, "classes": {}}
    file.write_text(json.dumps(document))
    asked = {"precisions": ["fp32"], "measurements": [file]}
    (row,) = edgeopt.estimate_latency(bundle, "raspberry-pi-4", seq_len=32, **asked).rows
    assert row.floor_ms == pytest.approx(2000)
    assert row.estimate is not None
    assert (row.estimate.ms, row.estimate.low_ms) == (2000, 2000)
    assert row.estimate.calibrated_on == 0
    (other,) = edgeopt.estimate_latency(bundle, "raspberry-pi-4", seq_len=36, **asked).rows
    assert other.floor_ms is None


def test_what_cannot_be_estimated_is_refused(bundle: Path, tmp_path: Path) -> None:
    def refused(match: str, source: Path = bundle, target: str = "raspberry-pi-4", **asked: object):
        with pytest.raises(InputError, match=match):
            edgeopt.estimate_latency(source, target, **asked)  # type: ignore[arg-type]

    emulated = measured(bundle, tmp_path / "e.json", emulated=True)
    refused(
        r"e\.json: is of an emulated board, whose times are no device's, and counted no",
        measurements=[emulated],
    )
    elsewhere = measured(bundle, tmp_path / "o.json", target="raspberry-pi-5")
    refused("is of a bundle for raspberry-pi-5, and", measurements=[elsewhere])
    strange = measured(bundle, tmp_path / "s.json", bundle_digest="0" * 64)
    refused("is of a bundle that does not lie beside it", measurements=[strange])
    (tmp_path / "none").mkdir()
    refused("holds no measurement", measurements=[tmp_path / "none"])
    refused("has no compute.peak_gflops_fp32", target="raspberry-pi-2")
    refused("has 4 cores", threads=5)
    refused("takes at most 38 tokens, asked for 39", seq_len=39)
    refused("has no such artifact", engines=["tvm"])
    refused("is no file", source=tmp_path / "no.onnx")


def test_only_ranges_apart_are_ranked(bundle: Path) -> None:
    found = edgeopt.estimate_latency(bundle, "raspberry-pi-5")
    first, *_ = found.rows
    assert first.estimate is not None

    def row(name: str, low: float, high: float) -> Estimated:
        assert first.estimate is not None
        moved = replace(first.estimate, ms=(low + high) / 2, low_ms=low, high_ms=high)
        return replace(first, precision=name, estimate=moved)

    rows = (row("a", 1, 2), row("b", 1.5, 3), row("c", 2.5, 4))
    apart = Estimates(source="s", target="t", device="d", threads=1, rows=rows)
    assert apart.told_apart == (("onnx a", "onnx c"),)
