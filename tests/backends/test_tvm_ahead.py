# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What TVM compiles in a process of its own is what it compiles in this one."""

import time
from dataclasses import replace
from pathlib import Path

import pytest

from edgeopt import beside, cache
from edgeopt.backends import Artifact, tvm
from edgeopt.backends.tvm_library import HOST_CHECK, LIBRARY
from edgeopt.model import Model
from edgeopt.model.importer import import_model
from edgeopt.target import load_target
from tests.backends.test_tvm import EVEN, saved, target_for

pytest.importorskip("tvm", reason="needs edgeopt[tvm]")
pytest.importorskip("transformers", reason="needs edgeopt[torch]")
pytestmark = [
    pytest.mark.heavy,
    pytest.mark.skipif(beside.cores() < 2, reason="needs two cores"),
]


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return import_model(saved("BertModel", tmp_path / "checkpoint", **EVEN))


def libraries(place: Path) -> list[Path]:
    return sorted((place / "tvm").glob("[0-9a-f]*/made.json"))


def lowered(model: Model, place: Path, precision: str) -> tuple[Artifact, list[str]]:
    """Return the artifact and the hashes of its library and of the one for this host."""
    directory = place / precision
    directory.mkdir(parents=True)
    target, spec = target_for("raspberry-pi-4", (16,))
    artifact = tvm.lower(model, target, spec, precision, (), directory)
    names = [*artifact.files, f"{HOST_CHECK}/{LIBRARY}"]
    return artifact, [cache.file_sha256(directory / name) for name in names]


def test_both_precisions_are_found_and_are_the_same_bytes(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tvm, "_WORTH_A_PROCESS", 0)
    alone, other = tmp_path / "alone", tmp_path / "beside"
    monkeypatch.setenv("EDGEOPT_CACHE", str(alone))
    expected = [lowered(model, alone, precision) for precision in ("fp32", "int8")]
    monkeypatch.setenv("EDGEOPT_CACHE", str(other))
    with tvm.ahead(model, *target_for("raspberry-pi-4", (16,)), ["fp32", "int8"]):
        end = time.monotonic() + 600
        while len(libraries(other)) < 2:
            assert time.monotonic() < end, "nothing was compiled"
            time.sleep(0.1)
        before = libraries(other)
        assert [lowered(model, other, p) for p in ("fp32", "int8")] == expected
        assert libraries(other) == before


def test_what_is_refused_is_left_to_lower(model: Model, tmp_path: Path) -> None:
    target, spec = target_for("raspberry-pi-4", (16,))
    with tvm.ahead(model, target, replace(spec, options={"mcpu": "no-such-core"}), ["fp32"]):
        pass
    musl = replace(load_target("raspberry-pi-4").device.os, libc="musl")
    with tvm.ahead(model, replace(target, device=replace(target.device, os=musl)), spec, ["fp32"]):
        pass
