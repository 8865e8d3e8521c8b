# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""``edgeopt card`` of a bundle that was compiled, profiled on this machine and evaluated."""

import json
from pathlib import Path

import pytest

from edgeopt.cli import cli
from edgeopt.cli.output import run
from tests import checkpoints, labelled
from tests.lazily import lazily

for name in ("transformers", "onnxruntime", "ziglang", "sklearn"):
    lazily(name, reason=f"needs {name}")

pytestmark = pytest.mark.heavy


def test_the_commands_that_a_card_is_made_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    checkpoints.write(tmp_path / "tiny")
    labelled.classes(Path("dev.jsonl"), 120)

    def edgeopt(*words: str) -> tuple[int, str, str]:
        code = run(cli, list(words))
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    made = ["-t", "host", "-e", "onnx", "-p", "fp32", "-o", "tiny.edgeopt"]
    assert edgeopt("compile", "tiny", *made)[0] == 0
    words = ["--board", "host", "--runs", "40", "--threads", "1", "-o", "m.json"]
    assert edgeopt("profile", "tiny.edgeopt", *words)[0] == 0
    code, shown, _ = edgeopt(
        "evaluate", "tiny.edgeopt", "--data", "dev.jsonl", "--original", "tiny", "--json"
    )
    assert code == 0
    Path("e.json").write_text(shown)

    code, shown, _ = edgeopt("card", "tiny.edgeopt", "m.json", "--evaluation", "e.json", "--json")
    assert code == 0
    document = json.loads(shown)
    assert json.loads(Path("cards/tiny-host.json").read_text()) == document
    (done,) = document["runs"]
    raw = json.loads(Path("m.json").read_text())["runs"][0]
    assert done["latency_ns"]["p50"]["value"] in raw["wall_ns"]
    assert done["not_supported"]["p99"] == 299
    assert 0 < done["memory_bytes"]["before"] < done["memory_bytes"]["peak"]
    assert done["first_inference_ns"] > 0
    page = Path("cards/tiny-host.md").read_text()
    assert "| onnx fp32 | accuracy |" in page
    assert "cannot tell apart" in page
    # What it says is how to repeat it is what was done, and what the command line takes.
    assert [line.split()[1] for line in document["repeat"]] == [
        "compile", "profile", "evaluate", "card",
    ]  # fmt: skip
    assert edgeopt(*document["repeat"][-1].split()[1:])[:2] == (
        0,
        "cards/tiny-host.md\ncards/tiny-host.json\n",
    )
    assert edgeopt(*document["repeat"][0].split()[1:-1], "again.edgeopt")[0] == 0

    code, _, told = edgeopt("card", "tiny.edgeopt", "m.json", "-o", "m.md")
    assert code == 2
    assert "m.json: exists and is no card" in told
    code, _, told = edgeopt("card", "tiny.edgeopt", "e.json")
    assert (code, "Traceback" in told) == (7, False)
    assert "e.json: is not a measurement" in told
