# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import edgeopt

pytest.importorskip("accelerate", reason="needs edgeopt[distributed]")
torch = pytest.importorskip("torch", reason="needs edgeopt[torch]")
pytestmark = pytest.mark.heavy

RECIPE = """
calibration_texts = 8
bounds = {fp32 = {cosine_min = 0.9}, fp16 = {cosine_min = 0.9}, int8 = {cosine_min = 0.8}}

[[compress]]
technique = "distil"
max_drop = 1.0
losses = {labels = 1.0}  # the teacher is what learns here: its own answers would teach nothing

[compress.training]
epochs = 1
# Of 144 texts the last batch has one: the second process has no share in it.
batch_size = 13
precision = "fp32"
seq_len = 16
learning_rate = 1e-3
"""
LAUNCH = ["torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m"]


@pytest.fixture
def command(bert: Path, texts_file: Path, tmp_path: Path) -> list[str]:
    """The command line behind ``-m``.

    It is without dropout: each process draws the same, but of other texts, so that with it the two
    ways cannot come to the same.
    """
    from shutil import copytree

    folder = copytree(bert, tmp_path / "sorter")
    config = json.loads((folder / "config.json").read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (folder / "config.json").write_text(json.dumps(config))
    recipe = tmp_path / "taught.toml"
    recipe.write_text(RECIPE)
    return ["edgeopt", "compress", str(folder), "-r", str(recipe), "-d", str(texts_file), "--json"]


def start(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def weights(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def test_two_processes_come_to_the_weights_of_one(command: list[str], tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    texts = command[command.index("-d") + 1]
    edgeopt.compress(command[2], recipe=tmp_path / "taught.toml", data=texts, output=one)
    found = start(*LAUNCH, *command, "-o", str(two))
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout)["path"] == str(two)  # one document, so of one process
    assert found.stderr.count("Writing") == 1
    before, alone, together = (weights(f) for f in (tmp_path / "sorter", one, two))
    assert max(float((alone[n] - before[n]).abs().max()) for n in alone) > 3e-3
    # The gradients are sums of the same terms in another order. Adam divides them by their own
    # size, so that if one is nothing but rounding, its step differs by up to the rate.
    for name, weight in alone.items():
        assert float((weight - together[name]).abs().mean()) < 1e-5, name


def test_wrong_input_is_told_once_and_ends_both(command: list[str], tmp_path: Path) -> None:
    command[command.index("-d") + 1] = str(tmp_path / "none.jsonl")
    found = start(*LAUNCH, *command, "-o", str(tmp_path / "new"))
    assert found.returncode == 1  # the launcher's own
    assert found.stderr.count("error:") == 1
    assert json.loads(found.stdout)["error"]["kind"] == "InputError"
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("work", ["'made'", "fail()"])
def test_connections_are_closed_as_the_processes_end(work: str, tmp_path: Path) -> None:
    # A thread of theirs that outlives the interpreter may end a process with SIGABRT.
    script = tmp_path / "script.py"
    script.write_text(f"""
import atexit
from edgeopt.train.distributed import run
from edgeopt.errors import InputError

def last():
    import torch
    print("connected" if torch.distributed.is_initialized() else "closed", flush=True)

def fail():
    raise InputError("wrong")

atexit.register(last)
try:
    run(lambda peers: {work})
except InputError:
    pass
""")
    found = start(*LAUNCH[:-1], str(script))
    assert found.returncode == 0, found.stderr
    # Lines of two processes may run into each other.
    assert (found.stdout.count("closed"), found.stdout.count("connected")) == (2, 0)
