# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Keep what toolchains print about themselves off the user's terminal and out of ``--json``."""

from __future__ import annotations

import contextlib
import ctypes
import io
import logging
import os
import warnings
from collections.abc import Iterator, Mapping

SWITCHES = {
    "TF_CPP_MIN_LOG_LEVEL": "3",  # TensorFlow's C++ side, while it logs outside the block
    "TOKENIZERS_PARALLELISM": "false",  # else a note at every later fork
}

_is_quiet = False


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Drop the warnings, log lines and prints of the toolchain that the block calls.

    Errors still raise, so nothing that matters is lost. Do not report progress inside: it would
    be dropped with the rest. Not for several threads at once: stdout and stderr belong to all.
    A block within a quiet one changes nothing: of many short ones, make one around them.
    """
    global _is_quiet
    if _is_quiet:
        yield
        return
    _is_quiet = True
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with (
            environment(SWITCHES),
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
        _is_quiet = False


@contextlib.contextmanager
def environment(defaults: Mapping[str, str]) -> Iterator[None]:
    """Have the block see ``defaults`` for variables that the user did not set; then they go again.

    They are the user's process and its children's, and not ours to change for good.
    """
    ours = [name for name in defaults if name not in os.environ]
    os.environ.update({name: defaults[name] for name in ours})
    try:
        yield
    finally:
        for name in ours:
            os.environ.pop(name, None)


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
