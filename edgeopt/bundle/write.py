"""Put a bundle together: whole, or not at all."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from edgeopt import cache
from edgeopt.bundle import Bundle
from edgeopt.bundle.manifest import FILE, FileEntry, Manifest, dump, load
from edgeopt.errors import BundleError, BusyError, InputError


@contextlib.contextmanager
def reserved(output: Path) -> Iterator[None]:
    """Hold ``output`` for one bundle: check that it can be written, and lock out other runs.

    Raises InputError where ``output`` is something other than a bundle or cannot be written, and
    BusyError where another process writes it. Checked before the hours of work, not after.
    """
    from filelock import FileLock, Timeout

    _check_replaceable(output)
    made: list[Path] = []
    try:
        _make_folders(output.parent, made)
        tempfile.TemporaryFile(dir=output.parent).close()
        lock = FileLock(output.parent / f".{output.name}.lock", timeout=0)
        lock.acquire()
    except Timeout as exc:
        raise BusyError(
            "another edgeopt is writing this bundle",
            where=str(output),
            hint="Wait for it, or give another directory with -o.",
        ) from exc
    except OSError as exc:
        _remove_empty(made)
        raise InputError(
            f"cannot be written ({exc.strerror})",
            where=str(output),
            hint="Give a directory that can with -o.",
        ) from exc
    try:
        yield
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()
        _remove_empty(made)


def _make_folders(folder: Path, made: list[Path]) -> None:
    """Make ``folder`` and its parents, noting in ``made`` those that were not there."""
    if not folder.exists():
        _make_folders(folder.parent, made)
        folder.mkdir(exist_ok=True)
        made.append(folder)


def _remove_empty(made: list[Path]) -> None:
    for folder in reversed(made):
        with contextlib.suppress(OSError):  # not empty: the bundle, or somebody else's file
            folder.rmdir()


def _check_replaceable(output: Path) -> None:
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return
    if not (output / FILE).is_file():
        raise InputError(
            "exists and is not a bundle, so it is not overwritten",
            where=str(output),
            hint="Give another directory with -o, or remove it.",
        )


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
        _swap(work, output)
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


def _swap(work: Path, output: Path) -> None:
    """Put ``work`` in the place of ``output``; a reader sees the old bundle or the new one."""
    old = None
    if output.exists():
        old = Path(tempfile.mkdtemp(dir=output.parent, prefix=f".{output.name}.old-"))
        output.rename(old / output.name)
    try:
        work.rename(output)
    except OSError:
        if old is not None:
            (old / output.name).rename(output)
        raise
    finally:
        if old is not None:
            shutil.rmtree(old, ignore_errors=True)
