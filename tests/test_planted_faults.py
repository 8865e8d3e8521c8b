# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Kinds of planted faults are caught as their page says, and the page has each kind."""

import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

pytest.importorskip("transformers", reason="needs edgeopt[torch]")

from tools.planted_faults import __main__ as command
from tools.planted_faults.faults import FAULTS
from tools.planted_faults.harness import Workshop

pytestmark = pytest.mark.heavy

QUICK = (
    "a weight transposed",
    "the attention mask dropped",
    "positions off by one",
    "ReLU for GELU",
    "one weight infinite",
    "INT8: weights saturated",
    "labels in another order",
    "two words' ids swapped",
    "the model of another build, listed as this one's",
)


def rows() -> dict[str, list[str]]:
    found = re.findall(r"^\| ([^|]+) \| (.*) \|$", command.PAGE.read_text(), re.MULTILINE)
    return {kind: cells.split(" | ") for kind, cells in found}


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    if find_spec("onnxruntime") is None:
        pytest.skip("needs edgeopt[onnx]")
    made = Workshop(tmp_path_factory.mktemp("workshop"))
    yield made
    made.close()


def test_there_are_at_least_forty_kinds_and_each_has_its_row() -> None:
    kinds = [fault.kind for fault in FAULTS]
    assert len(set(kinds)) == len(kinds) >= 40
    assert [kind for kind in rows() if kind in kinds] == kinds


def test_a_kind_that_is_missed_has_its_reason() -> None:
    missed = {kind for kind, cells in rows().items() if command.MISSED in cells}
    assert missed == set(command.WHY_MISSED)


@pytest.mark.parametrize("kind", QUICK)
def test_a_fault_is_caught_as_its_row_says(kind: str, workshop: Workshop) -> None:
    fault = next(f for f in FAULTS if f.kind == kind)
    outcome = workshop.try_fault(fault)
    assert outcome.caught, outcome
    assert list(command.row(outcome)[1:]) == [cell.strip() for cell in rows()[kind]]


def test_what_is_sound_is_let_through(workshop: Workshop, tmp_path: Path) -> None:
    from edgeopt.pipeline import compile
    from tools.planted_faults.harness import host, verified

    workshop.forget()
    bundle = compile(
        workshop.network("classifier"),
        host(("onnx",)),
        output=tmp_path / "sound.edgeopt",
        engines=["onnx"],
        precisions=["fp32", "int8"],
    )
    assert not bundle.manifest.skipped
    assert verified(bundle) == ""
