# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The page on a bundle's manifest, from the dataclasses that read and write it."""

from __future__ import annotations

import dataclasses
import json
import types
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from edgeopt.backends import Artifact, ArtifactGraph
from edgeopt.bundle.manifest import (
    FILE,
    READS,
    SCHEMA_VERSION,
    ArtifactEntry,
    FileEntry,
    Golden,
    GraphEntry,
    Manifest,
    Skipped,
    TargetEntry,
    TextEntry,
)
from edgeopt.evaluate.fidelity import Fidelity
from edgeopt.model.image import ImageInput
from edgeopt.model.pooling import Pooling
from edgeopt.model.signature import Signature, State, TensorSpec
from edgeopt.model.tasks import Task
from edgeopt.values import Ascending, Check, Like, Most, Named, OneOf, Range, write
from tools.reference.markdown import literal, prose, table

_TABLES: tuple[tuple[str, Any], ...] = (
    ('input of kind "text"', TextEntry),
    ('input of kind "image"', ImageInput),
    ("graphs", GraphEntry),
    ("signature", Signature),
    ("inputs and outputs of a signature", TensorSpec),
    ("states", State),
    ("pooling", Pooling),
    ("artifacts", ArtifactEntry),
    ("artifact", Artifact),
    ("graphs of an artifact", ArtifactGraph),
    ("fidelity", Fidelity),
    ("skipped", Skipped),
    ("golden", Golden),
    ("target", TargetEntry),
    ("files", FileEntry),
)


def pages() -> dict[str, str]:
    """Return the page ``manifest.md``."""
    parts = [
        f"# {FILE}",
        f"What a bundle says of itself, in schema {SCHEMA_VERSION}. The files around it are in "
        "[Bundles](bundle.md). `digest` is the SHA-256 of the document without that key, keys "
        "sorted, without white space; a reader that finds another one, a file that is not listed, "
        "or a number or text spelt otherwise than edgeopt writes it, refuses the bundle.",
        prose(Manifest.__doc__),
        f"`schema_version` is {SCHEMA_VERSION}. A reader takes "
        f"{' and '.join(map(str, READS))}, and leaves keys alone that it does not know. The others "
        "are:",
        _fields(Manifest),
    ]
    for name, kind in _TABLES:
        parts += [f"## {name} ({kind.__name__})", prose(kind.__doc__), _fields(kind)]
    return {"manifest.md": "\n\n".join(parts) + "\n"}


def _fields(kind: Any) -> str:
    hints = get_type_hints(kind, include_extras=True)
    rows = [
        (literal(f.name), _type(hints[f.name], ()), _default(f)) for f in dataclasses.fields(kind)
    ]
    if kind_name := getattr(kind, "kind", None):
        rows.insert(0, (literal("kind"), literal(f'"{kind_name}"'), ""))
    return table(("key", "holds", "if it is missing"), rows).rstrip()


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default is dataclasses.MISSING:
        return ""
    plain = write(field.default)
    return literal(json.dumps(plain))


_JSON = {bool: "true or false", int: "integer", float: "number", str: "text", Any: "any value"}


def _type(hint: Any, marks: tuple[Any, ...]) -> str:
    """Return what JSON has for ``hint``, with the bounds that ``marks`` set."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _type(inner[0], (*marks, *inner[1:]))
    if origin in (Union, types.UnionType):
        return " or ".join(_type(one, marks) for one in inner)
    most = next((f", up to {m.count}" for m in marks if isinstance(m, Most)), "")
    if origin is tuple:
        order = "ascending " if any(isinstance(m, Ascending) for m in marks) else ""
        return f"{order}array of {_type(inner[0], ())}{most}"
    if origin is not None:
        return f"object: {_type(inner[1], ())} by name{most}"
    if hint is type(None):
        return "null"
    if dataclasses.is_dataclass(hint) and not issubclass(hint, Named):
        return f"object ({hint.__name__})"
    found = "text: a task" if hint is Task else _JSON[hint]
    for mark in marks:
        if isinstance(mark, Range):
            found += f", {mark}"
        elif isinstance(mark, OneOf):
            found = " or ".join(literal(f'"{word}"') for word in mark.words)
        elif isinstance(mark, Like):
            found += f" that matches {literal(mark.pattern)}"
        elif isinstance(mark, Check):
            found += ": a path in the bundle"
    return found
