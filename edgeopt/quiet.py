"""Keep what toolchains print about themselves off the user's terminal and out of ``--json``."""

from __future__ import annotations

import contextlib
import ctypes
import io
import logging
import os
import warnings
from collections.abc import Iterator

_SWITCHES = {
    "TF_CPP_MIN_LOG_LEVEL": "3",  # TensorFlow's C++ side, while it logs outside the block
    "TOKENIZERS_PARALLELISM": "false",  # else a note at every later fork
    "NNCF_DISABLE_TELEMETRY": "1",
}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Drop the warnings, log lines and prints of the toolchain that the block calls.

    Errors still raise, so nothing that matters is lost. Do not report progress inside: it would
    be dropped with the rest. Not for several threads at once: stdout and stderr belong to all.
    """
    for name, value in _SWITCHES.items():
        os.environ.setdefault(name, value)
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
            _closed(1),
            _closed(2),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@contextlib.contextmanager
def _closed(descriptor: int) -> Iterator[None]:
    """Send what C and C++ code writes to ``descriptor`` nowhere (absl has no switch for it)."""
    try:
        saved = os.dup(descriptor)
    except OSError:  # the process was started with it closed
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, descriptor)
        yield
    finally:
        ctypes.CDLL(None).fflush(None)  # C's own buffer would else be written later
        os.dup2(saved, descriptor)
        os.close(saved)
        os.close(nowhere)
