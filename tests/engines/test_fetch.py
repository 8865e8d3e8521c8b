# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Engines from their official packages, downloaded by the ordinary clients."""

from pathlib import Path

import pytest

from edgeopt import cache, progress
from edgeopt.engines.fetch import fetch
from edgeopt.engines.releases import releases


@pytest.mark.heavy
def test_a_cached_library_that_was_damaged_is_fetched_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEOPT_CACHE", str(tmp_path))
    release = next(r for r in releases() if r.engine == "onnx" and r.registry == "pypi")
    library = fetch(release, "x86_64").library
    sha256 = cache.file_sha256(library)
    notes: list[str] = []
    with progress.listen(lambda event: notes.append(event.text)):
        assert fetch(release, "x86_64").library == library
        assert not any("damaged" in text for text in notes)
        data = bytearray(library.read_bytes())
        data[len(data) // 2] ^= 1
        library.write_bytes(data)
        assert cache.file_sha256(fetch(release, "x86_64").library) == sha256
    assert any("is damaged in the cache: fetched again" in text for text in notes)
