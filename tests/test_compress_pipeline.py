# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

import json
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("transformers", reason="needs edgeopt[torch]")

import edgeopt
from edgeopt import cache
from edgeopt.boards import registry
from edgeopt.cli import cli
from edgeopt.cli.output import run
from edgeopt.compression import structured
from edgeopt.errors import BoardError, InputError
from edgeopt.estimate.costs import CountedCosts, LayerCosts
from edgeopt.estimate.counted import MACS
from edgeopt.estimate.latency import paired
from edgeopt.evaluate.data import read
from edgeopt.measure import latency_check, latency_table
from edgeopt.model.checkpoint import network
from edgeopt.model.importer import import_model
from edgeopt.model.network.widths import layers
from edgeopt.recipe import Recipe, load_recipe
from edgeopt.steps import Step
from edgeopt.steps.layers import Layers
from edgeopt.steps.structured import Structured
from edgeopt.train.context import Context
from tests import checkpoints
from tests.compression.conftest import rows, write_rows

pytestmark = pytest.mark.heavy

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
HALF = Layers(drop=(0,), max_drop=1.0)
BARE = replace(MACS, element=0.0)  # so small a network is mostly elements
BUDGET = Structured(latency=0.7, widths="uneven", multiple=8, max_drop=1.0)


def recipe(*steps: Step) -> Recipe:
    return replace(load_recipe("default"), name="test", compress=steps)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.write(tmp_path_factory.mktemp("bert") / "sorter")


@pytest.fixture(scope="module")
def texts_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rows(tmp_path_factory.mktemp("texts") / "texts.jsonl", rows(200))


def test_a_step_without_gain_is_rolled_back_and_says_so(
    bert: Path, texts_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["compress", str(bert), "--data", str(texts_file), "-o", str(tmp_path / "small")]
    words += ["--target", "raspberry-pi-4", "--seq-len", "16", "--recipe", str(tmp_path / "r.toml")]
    text = Path(load_recipe("default").path).read_text()
    steps = ('structured"\nremove = 0.0', 'layers"\ndrop = [0]', 'vocabulary"\nfirst = 80')
    for step in (*steps, 'embeddings"\nbits = 4\ngroup = 16'):
        text += f'[[compress]]\nmax_drop = 1.0\ntechnique = "{step}\n'
    (tmp_path / "r.toml").write_text(text)
    assert run(cli, words) == 0
    shown = capsys.readouterr().out
    assert "times faster" in shown
    assert "counted for Raspberry Pi 4 Model B: onnx int8, 16 tokens, 4 threads" in shown
    report = json.loads((tmp_path / "small/compress.json").read_text())
    useless, half, same, smaller = report["steps"]
    why = "gains no latency on Raspberry Pi 4 Model B (counted 1.00 times as fast)"
    assert (useless["kept"], useless["rolled_back"]) == (False, why)
    assert useless["latency"]["ratio"] == 1.0
    assert half["kept"]
    assert half["latency"]["ratio"] == half["latency"]["of_original"] > 1.5
    # All tokens occur, and none went.
    assert (same["modified"], same["kept"], same["rolled_back"]) == (
        False,
        False,
        "changed nothing",
    )
    # It aims at size, so that no latency need be gained.
    assert (smaller["aims"], smaller["latency"]["gains"]) == ("size", False)
    assert (smaller["kept"], smaller["modified"], smaller["rolled_back"]) == (True, True, None)
    assert (half["modified"], half["rolled_back"]) == (True, None)
    assert report["times_faster"] == smaller["latency"]["of_original"]
    assert report["latency"]["kind"] == "counted"
    assert report["latency"]["known_error"].startswith("at most 18 %")


def test_on_this_machine_latency_is_measured(bert: Path, texts_file: Path, tmp_path: Path) -> None:
    found = edgeopt.compress(
        bert,
        data=texts_file,
        recipe=recipe(replace(BUDGET, latency=0.97)),
        output=tmp_path / "small",
        target="host",
        precision="fp32",
        seq_len=16,
    )
    source = found.latency
    assert source is not None
    assert (source.kind, source.engine, source.precision) == ("measured", "onnx", "fp32")
    assert (source.seq_len, source.threads, source.unit) == (16, 1, "process CPU time, ns")
    assert source.where.startswith("this machine (")
    (step,) = found.steps
    assert "of the layers' cost (measured on " in step.change
    gain = step.latency
    assert gain is not None
    assert gain.rounds == latency_check.ROUNDS
    assert gain.low <= gain.ratio <= gain.high
    assert min(gain.before, gain.after) > 1000  # ns
    assert step.kept == gain.gains
    tables = [
        found
        for path in (cache.root() / "latency").glob("*/samples.json")
        if "heads 4" in (found := json.loads(path.read_text()))
    ]
    assert {f"heads {n}" for n in range(1, 5)} | {f"neurons {n}" for n in range(8, 65, 8)} in [
        set(table) for table in tables
    ]
    assert {len(samples) for table in tables for samples in table.values()} == {
        latency_table.ROUNDS
    }


def test_on_a_board_latency_is_measured_and_trials_do_not_stay(
    bert: Path, texts_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "cache"  # samples are cached: this run shall take its own
    own.mkdir()
    for kind in cache.root().glob("*"):
        if kind.name != "latency":
            (own / kind.name).symlink_to(kind)
    monkeypatch.setenv("EDGEOPT_CACHE", str(own))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))  # where this machine, as a board, keeps all
    (tmp_path / "home").mkdir()
    found = edgeopt.compress(
        bert,
        data=texts_file,
        recipe=recipe(HALF),
        output=tmp_path / "small",
        target="host",
        board="host",
        engine="onnx",
        precision="fp32",
        seq_len=16,
    )
    assert found.latency is not None
    assert (found.latency.kind, found.latency.where[:10]) == ("measured", "board host")
    gain = found.steps[0].latency
    assert gain is not None
    assert (gain.rounds, gain.low <= gain.ratio <= gain.high) == (latency_check.BOARD_ROUNDS, True)
    bundles = list((tmp_path / "home/.edgeopt/bundles").iterdir())
    manifests = [b for b in bundles if (b / "manifest.json").exists()]
    assert [json.loads((b / "manifest.json").read_text())["name"] for b in manifests] == ["sorter"]
    assert list((tmp_path / "home/.edgeopt").glob("current-*")) == []


def test_widths_are_chosen_within_a_budget(bert: Path, texts_file: Path) -> None:
    model = import_model(bert)
    data = read(texts_file, model).first(64)
    costs = CountedCosts(name="counted for a test", seq_len=16, rates=BARE)
    pruned, text, _ = structured.apply(model, BUDGET, data, Context(costs=costs))
    table: LayerCosts = structured._costs(model, BUDGET, Context(costs=costs))
    share = structured._cost(pruned, table) / structured._cost(model, table)
    assert 0.6 < share <= 0.7
    assert text.endswith(f", {share:.3f} of the layers' cost (counted for a test)")
    assert all(layer.neurons % 8 == 0 for layer in layers(network(pruned)))
    whole = replace(BUDGET, parts=("neurons",))
    kept, _, _ = structured.apply(model, whole, data, Context(costs=costs))
    assert [layer.heads for layer in layers(network(kept))] == [4, 4]
    assert structured._cost(kept, table) / structured._cost(model, table) <= 0.7
    narrowest = replace(BUDGET, latency=0.05)
    with pytest.raises(InputError, match=r"latency: is 0.05, but the cheapest widths cost 0\.\d"):
        structured.apply(model, narrowest, data, Context(costs=costs))


def test_a_gain_is_one_that_can_be_told_apart() -> None:
    before = [100, 103, 98, 101, 99, 100, 102, 100, 97, 100]
    clear = paired(before, before, [50] * 9 + [500])  # one round was disturbed
    assert (clear.ratio, clear.low, clear.gains) == (2.0, 1.94, True)
    assert not paired(before, before, before).gains
    noise = paired(before, before, [99, 104, 90, 101, 80, 101, 102, 99, 98, 101])
    assert noise.low < 1 < noise.high
    assert not noise.gains
    five = paired([300] * 5, [100] * 5, [50, 60, 70, 80, 99])
    assert (five.low, five.high, five.gains) == (pytest.approx(100 / 99), 2.0, True)
    assert five.of_original == pytest.approx(300 / 70)


def test_what_gives_no_latency_is_refused_before_any_work(
    bert: Path, texts_file: Path, tmp_path: Path
) -> None:
    def wrong(**options: object) -> str:
        with pytest.raises((InputError, BoardError)) as caught:
            edgeopt.compress(
                bert, data=texts_file, recipe=recipe(HALF), output=tmp_path / "x", **options
            )
        return str(caught.value)

    registry.save(registry.BoardEntry(name="toy", kind="emulated", target="raspberry-pi-4"))
    registry.save(
        registry.BoardEntry(
            name="bare",
            kind="ssh",
            user="me",
            host="127.0.0.1",
            port=1,
            host_key=KEY,
        )
    )
    try:
        assert wrong(board="toy").startswith(
            "board toy: is emulated: its times are the emulator's, no device's, and judge nothing\n"
            "Leave --board out"
        )
        assert wrong(board="bare").startswith("board bare: stands for no target\n")
        assert wrong(board="bare", target="raspberry-pi-4").startswith("bare: ")  # not reached
    finally:
        registry.remove("toy")
        registry.remove("bare")
    assert "no board is called 'nosuch'" in wrong(board="nosuch")
    assert "target jetson-nano builds no 'tflite'" in wrong(target="jetson-nano", engine="tflite")
    assert wrong(seq_len=16).startswith("an engine, a precision or a length is of a target's")
    assert "takes at most 38 tokens, asked for 64" in wrong(target="rk3588", seq_len=64)
    here = edgeopt.load_target("host").device.arch
    other = "raspberry-pi-4" if here == "x86_64" else "intel-n100"
    assert f"but target {other} is for" in wrong(board="host", target=other)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("remove = 0.3", r"compress\[0\].remove: is given beside latency, which says how much"),
        ("heads = 2", r"compress\[0\].heads: is given beside latency"),
        ('widths = "uniform"', r'compress\[0\].widths: expected "uneven"'),
        ('importance = "magnitude"', r"compress\[0\].importance: expected fisher or taylor"),
        ("latency = 1.5", r"compress\[0\].latency: expected 0.05 to 0.99, found 1.5"),
    ],
)
def test_options_that_contradict_a_budget_are_refused(
    line: str, message: str, tmp_path: Path
) -> None:
    options = {"latency": "0.6", "widths": '"uneven"'}
    name, value = line.split(" = ")
    lines = "".join(f"{k} = {v}\n" for k, v in (options | {name: value}).items())
    path = tmp_path / "r.toml"
    text = Path(load_recipe("default").path).read_text()
    path.write_text(f'{text}[[compress]]\ntechnique = "structured"\n{lines}')
    with pytest.raises(InputError, match=message):
        load_recipe(path)
