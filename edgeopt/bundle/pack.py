# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""A bundle as one file: a zip without compression, so that a program can map it.

Every file begins at a multiple of ``ALIGNMENT_BYTES`` if it is that large, else of
``SMALL_ALIGNMENT_BYTES``, by the padding field that Android's zipalign uses. Any zip tool unpacks
it. The same bundle gives the same bytes.
"""

from __future__ import annotations

import json
import shutil
import struct
import tempfile
import zipfile
from pathlib import Path

from edgeopt import place, progress
from edgeopt.bundle import Bundle
from edgeopt.bundle.manifest import FILE
from edgeopt.bundle.verify import changed_files
from edgeopt.errors import BundleError, InputError

ALIGNMENT_BYTES = 16384
"""The largest page of the devices' usual kernels (Raspberry Pi 5, Android 15, iOS)."""

SMALL_ALIGNMENT_BYTES = 64
"""What engines and .npy files want of data in memory."""

SUFFIX = ".edgeopt.zip"

_LOCAL_HEADER_BYTES = 30  # APPNOTE.TXT 4.3.7, before the name
_PADDING_ID = 0xD935  # zipalign's: u16 id, u16 size, u16 alignment, zeros
_PADDING_HEADER_BYTES = 6
_MANIFEST_BYTES = 1 << 26
_MAX_BYTES = 0xFFFFFFFF  # beyond, a zip needs fields that the runtime does not read


def pack(bundle: Bundle, output: Path) -> Path:
    """Write ``bundle`` into the file ``output``, replacing one there in one rename.

    Raises BundleError if the bundle was changed since it was made, and InputError if it has
    4 GB or more, or ``output`` cannot be written or is another file than a packed bundle; nothing
    is left then.
    """
    if output.resolve().is_relative_to(bundle.path.resolve()):
        raise InputError("lies in the bundle that is packed", where=str(output))
    place.check_file(output, "packed bundle", is_packed)
    if changed := changed_files(bundle):
        name, what = next(iter(changed.items()))
        raise BundleError(f"{name} {what}", where=str(bundle.path))
    names = [FILE, *sorted(bundle.manifest.files)]
    sizes = {name: (bundle.path / name).stat().st_size for name in names}
    if sum(sizes.values()) + len(names) * ALIGNMENT_BYTES > _MAX_BYTES:
        raise InputError("is too large for one file (4 GB)", where=str(bundle.path))
    try:
        with (
            progress.step(f"Packing {output}"),
            tempfile.NamedTemporaryFile(
                dir=output.parent, prefix=f".{output.name}.", delete=False
            ) as file,
        ):
            work = Path(file.name)
            try:
                _write(bundle, names, sizes, work)
                work.chmod(0o644)
                work.replace(output)
            except BaseException:
                work.unlink(missing_ok=True)
                raise
    except OSError as exc:
        raise InputError(f"cannot be written ({exc.strerror})", where=str(output)) from exc
    return output


def is_packed(path: Path) -> bool:
    """Tell whether the file ``path`` is a packed bundle, by its manifest; it may be damaged."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open(FILE) as file:
            document = json.loads(file.read(_MANIFEST_BYTES))
    except (zipfile.BadZipFile, KeyError, ValueError, RuntimeError, RecursionError):
        return False
    return isinstance(document, dict) and {"schema_version", "digest", "files"} <= set(document)


def _write(bundle: Bundle, names: list[str], sizes: dict[str, int], work: Path) -> None:
    with zipfile.ZipFile(work, "w", zipfile.ZIP_STORED) as archive:
        for name in names:
            info = zipfile.ZipInfo(name)  # dated 1980, so that equal bundles give equal files
            info.external_attr = 0o644 << 16
            assert archive.fp is not None
            large = sizes[name] >= ALIGNMENT_BYTES
            info.extra = _padding(
                archive.fp.tell() + _LOCAL_HEADER_BYTES + len(info.filename.encode()),
                ALIGNMENT_BYTES if large else SMALL_ALIGNMENT_BYTES,
            )
            info.file_size = sizes[name]
            with archive.open(info, "w") as to, (bundle.path / name).open("rb") as source:
                shutil.copyfileobj(source, to)


def _padding(offset: int, alignment: int) -> bytes:
    """Return the extra field after which, at ``offset``, the data is aligned."""
    zeros = -(offset + _PADDING_HEADER_BYTES) % alignment
    return struct.pack("<HHH", _PADDING_ID, 2 + zeros, alignment) + bytes(zeros)
