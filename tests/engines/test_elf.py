# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

import _ctypes
from pathlib import Path

import pytest

from edgeopt.engines.elf import read_needs, version_key
from edgeopt.errors import InputError


def test_a_module_of_this_python() -> None:
    needs = read_needs(Path(_ctypes.__file__))
    assert needs.arch in ("x86_64", "aarch64")
    assert needs.glibc is not None
    assert "libc.so.6" in needs.libraries


@pytest.mark.parametrize("content", [b"", b"#!/bin/sh\n", b"\x7fELF", b"\x7fELF\x02\x01\x01" * 3])
def test_what_is_not_elf(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "lib.so"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"lib\.so: is not an ELF file"):
        read_needs(path)


def test_versions_compare_by_number() -> None:
    assert max(["2.9", "2.17", "2.4"], key=version_key) == "2.17"
