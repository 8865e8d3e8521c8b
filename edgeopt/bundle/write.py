"""Put a bundle together: whole, or not at all."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from edgeopt import cache, place
from edgeopt.bundle import Bundle
from edgeopt.bundle.manifest import FILE, FileEntry, Manifest, dump, load
from edgeopt.errors import BundleError, InputError


def reserved(output: Path) -> contextlib.AbstractContextManager[None]:
    """Hold ``output`` for one bundle, as ``place.reserved`` does."""
    return place.reserved(output, FILE, "bundle")


def write(output: Path, manifest: Manifest, files: Mapping[str, Path]) -> Bundle:
    """Write the bundle at ``output``, replacing an older one there in one rename.

    ``files`` maps bundle paths to the files that are copied there; ``manifest.files`` and
    ``manifest.digest`` are filled in here. A bundle with the same content is left as it is.
    Raises InputError where the disk is full or the place cannot be written; nothing is left then.
    """
    entries = {
        name: FileEntry(bytes=path.stat().st_size, sha256=cache.file_sha256(path))
        for name, path in sorted(files.items())
    }
    text = dump(replace(manifest, files=entries))
    if _same(output, text):
        return Bundle(path=output, manifest=load(output))
    work = None
    try:
        work = Path(tempfile.mkdtemp(dir=output.parent, prefix=f".{output.name}.new-"))
        for name, path in files.items():
            (work / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, work / name)
        (work / FILE).write_bytes(text)
        work.chmod(0o755)
        place.swap(work, output)
    except OSError as exc:
        raise InputError(
            f"the bundle cannot be written ({exc.strerror})", where=str(output)
        ) from exc
    finally:
        if work is not None:
            shutil.rmtree(work, ignore_errors=True)
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
