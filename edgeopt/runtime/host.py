# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The runtime library on this machine, through its Python binding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgeopt.errors import BoardError, BundleError, EdgeoptError, InputError
from edgeopt.runtime.build import build_for_host


def open_session(bundle: str | Path, **options: Any) -> Any:
    """Return an ``edgeopt_rt.Session`` on ``bundle``, a directory or a packed file.

    ``options`` are those of ``edgeopt_rt.open``. The library is built if it is not there yet;
    the engines' libraries are looked for in the wheels that are installed here. Raises
    BundleError, InputError or (no engine opens here) BoardError for what the library tells.
    """
    from edgeopt.runtime.python import edgeopt_rt

    library = build_for_host().library
    try:
        return edgeopt_rt.open(bundle, library=str(library), **options)
    except edgeopt_rt.Failure as exc:
        raise failed(exc) from exc


GREEDY = {"num_beams": 1, "no_repeat_ngram_size": 0, "min_tokens": 0}
"""Options of a Generator's prompt for the likeliest tokens, whatever the bundle says."""


def open_generator(bundle: str | Path, **options: Any) -> Any:
    """Return an ``edgeopt_rt.Generator`` on ``bundle``, as ``open_session`` does a Session."""
    from edgeopt.runtime.python import edgeopt_rt

    library = build_for_host().library
    try:
        return edgeopt_rt.Generator(bundle, library=str(library), **options)
    except edgeopt_rt.Failure as exc:
        raise failed(exc) from exc


def task_of(bundle: str | Path) -> str:
    """Return the task of ``bundle``, a directory or a packed file. Raises as ``open_session``."""
    from edgeopt.runtime.python import edgeopt_rt

    try:
        with edgeopt_rt.Bundle(bundle, library=str(build_for_host().library)) as opened:
            task: str = opened.task
            return task
    except edgeopt_rt.Failure as exc:
        raise failed(exc) from exc


def graph_for(bundle: str | Path, kind: str) -> str | None:
    """Return the graph of ``bundle`` that takes a ``kind``, "text" or "image".

    None for a bundle of one graph, whatever it takes. Raises what ``open_session`` raises.
    """
    from edgeopt.runtime.python import edgeopt_rt

    try:
        with edgeopt_rt.Bundle(bundle, library=str(build_for_host().library)) as opened:
            return kind if kind in opened.graphs else None
    except edgeopt_rt.Failure as exc:
        raise failed(exc) from exc


def failed(exc: Any) -> EdgeoptError:
    """Return the error of an ``edgeopt_rt.Failure``."""
    from edgeopt.runtime.python import edgeopt_rt

    families = {
        edgeopt_rt.INPUT: InputError,
        edgeopt_rt.BUNDLE: BundleError,
        edgeopt_rt.FILE: BundleError,
    }
    return families.get(exc.code, BoardError)(exc.message, where=exc.where)
