# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What is written down when something fails that nobody foresaw: a file to attach to a report."""

from __future__ import annotations

import datetime
import os
import platform
import shlex
import sys
import tempfile
import traceback
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from edgeopt._version import __version__

EXIT_CODE = 70
"""EX_SOFTWARE of sysexits.h: an internal error."""

_TOOLS = (
    "ai-edge-litert",
    "ai-edge-quantizer",
    "apache-tvm",
    "click",
    "litert-torch",
    "nncf",
    "numpy",
    "onnx",
    "onnxruntime",
    "openvino",
    "paramiko",
    "sentence-transformers",
    "tokenizers",
    "torch",
    "transformers",
)


def write(error: BaseException, arguments: Sequence[str]) -> Path | None:
    """Write the traceback of ``error`` with versions and command line; return the file.

    It goes to ``$XDG_STATE_HOME/edgeopt/errors``, or to the folder for temporary files if that
    cannot be written. Returns None if neither can.
    """
    text = _text(error, arguments)
    state = Path(os.environ.get("XDG_STATE_HOME") or Path("~/.local/state").expanduser())
    stamp = datetime.datetime.now().strftime("%Y%m%dT%H%M%S")
    for folder in (state / "edgeopt" / "errors", Path(tempfile.gettempdir())):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(".txt", f"edgeopt-{stamp}-", folder)
            with open(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
                file.write(text)
        except OSError:
            continue
        return Path(name)
    return None


def _text(error: BaseException, arguments: Sequence[str]) -> str:
    versions = [f"edgeopt {__version__}", f"Python {platform.python_version()}"]
    for name in _TOOLS:
        try:
            versions.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    lines = [
        f"command: {shlex.join(['edgeopt', *arguments])}",
        f"system: {platform.platform()}, {sys.byteorder} endian",
        f"versions: {', '.join(versions)}",
        "",
        *traceback.format_exception(error),
    ]
    return "\n".join(line.rstrip("\n") for line in lines) + "\n"
