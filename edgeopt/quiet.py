"""Keep what toolchains print about themselves off the user's terminal and out of ``--json``."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Iterator

# Read by the C++ sides when they are first loaded.
_SWITCHES = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "GLOG_minloglevel": "3",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Drop the warnings, log lines and prints of the toolchain that the block calls.

    Errors still raise, so nothing that matters is lost. Do not report progress inside: it would
    be dropped with the rest. Lines that C++ code writes past Python are left to the switches.
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
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
