# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Link for another machine, and say what the linker said if it fails."""

from pathlib import Path

import pytest

from edgeopt.backends.tvm_link import GLIBC, link, linker
from edgeopt.errors import CompileError

pytest.importorskip("ziglang", reason="needs edgeopt[cross]")


def test_zig_links_against_the_oldest_glibc_of_aarch64() -> None:
    words = linker("aarch64")
    assert words[words.index("-target") + 1] == f"aarch64-linux-gnu.{GLIBC}"


def test_a_damaged_object_is_reported_with_the_linker_s_words(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.o"
    damaged.write_bytes(b"\x7fELF" + bytes(60))
    with pytest.raises(CompileError) as caught:
        link(linker("aarch64"), [damaged], tmp_path / "model.so")
    assert caught.value.where == str(tmp_path / "model.so")
    assert "the linker failed with exit status 1" in caught.value.message
    assert "damaged.o" in caught.value.message
    assert not (tmp_path / "model.so").exists()
