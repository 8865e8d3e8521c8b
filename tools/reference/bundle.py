# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The page on a bundle's manifest, from the dataclasses that read and write it."""

from __future__ import annotations

import dataclasses
from typing import Any

from edgeopt.bundle.manifest import (
    FILE,
    SCHEMA_VERSION,
    ArtifactEntry,
    FileEntry,
    Golden,
    Manifest,
    Skipped,
    TargetEntry,
)
from edgeopt.model.image import ImageSpec
from edgeopt.model.signature import Signature, TensorSpec
from tools.reference.markdown import literal, prose, table

_TABLES: tuple[tuple[str, Any], ...] = (
    ("artifacts", ArtifactEntry),
    ("files", FileEntry),
    ("golden", Golden),
    ("skipped", Skipped),
    ("target", TargetEntry),
    ("signature", Signature),
    ("inputs and outputs of a signature", TensorSpec),
    ("image", ImageSpec),
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
        f"`schema_version` is {SCHEMA_VERSION}; the others, with their types as Python has them (a "
        "tuple is an array, a mapping or one of the values below an object, None is null):",
        _fields(Manifest),
    ]
    for name, kind in _TABLES:
        parts += [f"## {name}", prose(kind.__doc__), _fields(kind)]
    return {"manifest.md": "\n\n".join(parts) + "\n"}


def _fields(kind: Any) -> str:
    rows = [(literal(f.name), literal(str(f.type))) for f in dataclasses.fields(kind)]
    return table(("key", "type"), rows).rstrip()
