# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What the engines of a target make of a file that anybody may have made.

The engine itself is asked, never a list: ``trial`` runs a graph in it, in a process of its own. A
format is a module with ``inspect(path, target, engines) -> Support``, such as ``onnx_graph``, which
asks for a whole file and, if that fails, for each of its operators.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeopt.errors import InputError

if TYPE_CHECKING:
    from edgeopt.support.report import Support
    from edgeopt.target import Target

FORMATS = {".onnx": "edgeopt.support.onnx_graph"}
"""The ends of files' names, in small letters, and the modules that ask for them."""


def inspect(path: Path, target: Target, engines: Sequence[str] = ()) -> Support:
    """Return what the engines of ``target``, or those named, make of a file, or a folder with one.

    Raises InputError for another kind of file, and what the format's module raises.
    """
    from edgeopt.model.importer import onnx_of

    file = onnx_of(path) if path.is_dir() else path
    if file is None or file.suffix.lower() not in FORMATS:
        raise InputError(
            f"is no file that engines are asked for; expected {' or '.join(FORMATS)}",
            where=str(path),
            hint="A checkpoint is converted for each engine: edgeopt compile says what came of it.",
        )
    module: Any = importlib.import_module(FORMATS[file.suffix.lower()])
    found: Support = module.inspect(file, target, engines)
    return found
