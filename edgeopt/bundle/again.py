# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Write a bundle again out of the cache: its model is not even imported.

What is kept of a bundle is its manifest, and where in the cache each artifact's files lie. Other
files, which are small, are copied.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from edgeopt import cache, retention
from edgeopt.bundle import Bundle
from edgeopt.bundle.manifest import FILE, load
from edgeopt.bundle.write import write
from edgeopt.errors import BundleError

_KIND = "bundle"
_PLACES, _OTHERS = "places.json", "files"


def keep(bundle: Bundle, files: Mapping[str, Path]) -> None:
    """Keep how ``bundle`` was put together of ``files``, under the hash of all it depends on.

    ``files`` are those that ``write`` was given. Raises InputError if the cache cannot be written.
    """
    home = cache.root()

    def build(folder: Path) -> None:
        places = {}
        for name, path in files.items():
            if path.is_relative_to(home):
                places[name] = path.relative_to(home).as_posix()
            else:
                (folder / _OTHERS / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, folder / _OTHERS / name)
        (folder / _PLACES).write_text(json.dumps(places))
        shutil.copyfile(bundle.path / FILE, folder / FILE)

    cache.entry(_KIND, bundle.manifest.inputs, build)


def write_again(output: Path, inputs: str) -> Bundle | None:
    """Write the bundle that was made of ``inputs`` at ``output``, and return it.

    None if none is kept, or if something of it is no longer in the cache, or not as it was. Raises
    InputError as ``write`` does.
    """
    home = cache.root()
    folder = home / _KIND / inputs[:32]
    if not retention.take(folder):
        return None
    try:
        manifest = load(folder)
        places = {name: Path(p) for name, p in json.loads((folder / _PLACES).read_text()).items()}
        entries = {home.joinpath(*place.parts[:2]) for place in places.values()}
        if not all(retention.take(entry) for entry in entries):
            return None
        files = {
            name: home / places[name] if name in places else folder / _OTHERS / name
            for name in manifest.files
        }
        if any(cache.file_sha256(path) != manifest.files[n].sha256 for n, path in files.items()):
            return None
    except (BundleError, OSError, ValueError):
        return None
    return write(output, manifest, files)
