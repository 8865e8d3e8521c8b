# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What edgeopt leaves behind in a process that imports it: nothing but its results."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edgeopt.measure import measurement
from tests import checkpoints

pytestmark = pytest.mark.heavy

SCRIPT = """
import json, logging, os, random, signal, sys, tempfile, threading, warnings
import numpy as np, torch, transformers, onnx, onnxruntime, onnxscript

def umask():
    found = os.umask(0o22)
    os.umask(found)
    return found

def state():
    for thread in threading.enumerate():  # one that was told to end may need a moment
        if thread is not threading.main_thread():
            thread.join(timeout=10)
    loggers = logging.root.manager.loggerDict
    return {
        "variables": dict(os.environ),
        "folder": os.getcwd(),
        "umask": umask(),
        "signals": {n: repr(signal.getsignal(n)) for n in signal.valid_signals()},
        "logging": [logging.root.level, len(logging.root.handlers), logging.root.manager.disable],
        "loggers": sorted(n for n, l in loggers.items() if getattr(l, "disabled", False)),
        "warnings": [repr(f[:3]) for f in warnings.filters],
        "hooks": [repr(sys.excepthook), repr(threading.excepthook), repr(warnings.showwarning)],
        "streams": [id(sys.stdout), id(sys.stderr), os.stat(1).st_ino, os.stat(2).st_ino],
        "random": [random.random.__self__.getstate()[1][:3], np.random.get_state()[1][:3].tolist(),
                   torch.get_rng_state()[:32].tolist()],
        "torch": [str(torch.get_default_dtype()), torch.get_num_threads(),
                  torch.is_grad_enabled(), torch.backends.mha.get_fastpath_enabled()],
        "transformers": [transformers.utils.logging.is_progress_bar_enabled(),
                         transformers.utils.logging.get_verbosity()],
        "threads": sorted(t.name for t in threading.enumerate()),
        "children": open(f"/proc/self/task/{os.getpid()}/children").read(),
        "temporary": sorted(os.listdir(tempfile.gettempdir())),
    }

found = [state()]
import edgeopt
model, bundle = sys.argv[1:]
found.append(state())
edgeopt.compile(model, "host", output=bundle, engines=["onnx"], precisions=["fp32"])
found.append(state())
edgeopt.read(bundle, ["the tool"])
found.append(state())
texts = bundle + ".txt"
with open(texts, "w") as file:
    print("the tool", "a tool for text and data", sep="\\n", file=file)
edgeopt.profile(bundle, "host", runs=2, warmup=1, output=bundle + ".json", data=texts)
found.append(state())
sys.stdout.write(json.dumps(found))
"""


def test_a_process_is_as_it_was_before(tmp_path: Path) -> None:
    folder = checkpoints.write(tmp_path / "tiny")
    (tmp_path / "tmp").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder), str(tmp_path / "b.edgeopt")],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
        env=os.environ | {"TMPDIR": str(tmp_path / "tmp")},
    )
    assert done.returncode == 0, done.stderr
    states: list[dict[str, Any]] = json.loads(done.stdout)
    for name, before, after in zip(
        ("import", "compile", "read", "profile"), states, states[1:], strict=False
    ):
        changed = {key: (before[key], after[key]) for key in before if before[key] != after[key]}
        assert not changed, name
    (run,) = measurement.read(tmp_path / "b.edgeopt.json").runs
    assert run.first_ns > 0
    assert run.served is not None
    assert min(run.served.wall_ns) > 0
    assert run.served.tokens[0] < run.served.tokens[1]
