# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Put a bundle together: whole, or not at all."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from edgeopt import cache, place
from edgeopt.bundle import Bundle
from edgeopt.bundle.manifest import FILE, FileEntry, Manifest, dump, listed, load
from edgeopt.errors import BundleError, InputError

_KIND = "bundle"


def reserved(output: Path, inputs: Sequence[Path] = ()) -> contextlib.AbstractContextManager[None]:
    """Hold ``output`` for one bundle made of the files ``inputs``, as ``place.reserved`` does."""
    return place.reserved(output, _KIND, foreign, inputs)


def tidy(output: Path) -> None:
    """Remove what a killed run left beside the bundle ``output``, as ``place.tidy`` does."""
    place.tidy(output, _KIND, foreign)


def foreign(folder: Path) -> str | None:
    """Say why ``folder`` is not to be replaced by a bundle, None if it is one and nothing else.

    One of an older schema, and one with changed or missing files, may be replaced.
    """
    if not place.is_made(folder / FILE):
        return f"exists and is not a {_KIND}"
    try:
        names = listed(folder)
    except BundleError:
        return f"exists, and its {FILE} is not a whole {_KIND}'s"
    other = place.other_than(folder, {FILE, *names})
    return None if other is None else f"holds {other}, which is no part of the {_KIND} there"


def write(output: Path, manifest: Manifest, files: Mapping[str, Path]) -> Bundle:
    """Write the bundle at ``output``, replacing an older one there as ``edgeopt.place`` does.

    ``files`` maps bundle paths to the files that are copied there; ``manifest.files`` and
    ``manifest.digest`` are filled in here. A bundle with the same content is left as it is.
    Raises InputError if the disk is full, the place cannot be written, or something is there
    that is no bundle; nothing is left then.
    """
    entries = {
        name: FileEntry(bytes=path.stat().st_size, sha256=cache.file_sha256(path))
        for name, path in sorted(files.items())
    }
    text = dump(replace(manifest, files=entries))
    if _same(output, text):
        return Bundle(path=output, manifest=load(output))
    try:
        with place.replacing(output, _KIND, foreign) as work:
            for name, path in files.items():
                (work / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, work / name)
            (work / FILE).write_bytes(text)
    except OSError as exc:
        raise InputError(
            f"the bundle cannot be written ({exc.strerror})", where=str(output)
        ) from exc
    return Bundle(path=output, manifest=load(output))


def _same(output: Path, manifest: bytes) -> bool:
    """Tell whether ``output`` already is this bundle, byte for byte."""
    from edgeopt.bundle.verify import changed_files

    try:
        return (output / FILE).read_bytes() == manifest and not changed_files(
            Bundle(path=output, manifest=load(output))
        )
    except (OSError, BundleError):
        return False
