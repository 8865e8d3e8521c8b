# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Work that a process of its own does beside this one, and that ends with it.

The two share nothing but the cache: what the other process has built there by content, this one
finds, and what it is still at, this one waits for (``edgeopt.cache``). What it could not build is
built here, and told of here.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

_GROUPS = hasattr(os, "killpg")


def cores() -> int:
    """Return how many cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


@contextlib.contextmanager
def beside(module: str, work: Any) -> Iterator[None]:
    """Have ``python -m module`` do ``work``, which is pickled, while the block runs.

    It is ended with the block, and all that it started with it, also if this process is killed.
    Nothing is started on a single core, or if the system has no groups of processes.
    """
    if cores() < 2 or not _GROUPS:
        yield
        return
    process = subprocess.Popen(
        [sys.executable, "-m", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        start_new_session=True,  # Ctrl-C is for this process, which ends that one
    )
    assert process.stdin is not None
    try:
        with contextlib.suppress(BrokenPipeError):
            pickle.dump(work, process.stdin)
            process.stdin.flush()  # and stays open: it closes with this process
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()


def given() -> Any:
    """Return the work of this process, which ``beside`` started.

    From then on it ends, with all that it started, once the one that started it is gone.
    """
    work = pickle.load(sys.stdin.buffer)  # of the process that started this one

    def watch() -> None:
        while os.read(sys.stdin.fileno(), 1):
            pass
        os.killpg(os.getpgid(0), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
    return work
