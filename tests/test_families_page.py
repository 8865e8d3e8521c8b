# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The page on families has each of them, and says of one what comes of it now."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from edgeopt.target import load_target, target_names
from tools import families  # whose networks are those of tests that skip without transformers

pytestmark = pytest.mark.heavy


def test_every_family_has_its_row() -> None:
    found = families.written()
    assert list(found) == families.names()
    for name, row in found.items():
        assert tuple(row) == families.COLUMNS, name
        assert -1 not in {cell.cosine for cell in row.values()}, name  # NaN has its reason


def test_the_page_is_what_the_tool_writes() -> None:
    assert families.page(families.written()) == families.PAGE.read_text()


def test_what_is_not_lowered_anew_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = families.written()
    del found["BertModel"]["tvm fp32"]
    del found["GPT2Model"]["tflite fp16"]
    monkeypatch.setattr(families, "PAGE", tmp_path / "families.md")
    families.PAGE.write_text(families.page(found))
    assert families.written() == found


def test_an_engine_that_has_half_precision_has_a_column_of_it() -> None:
    built = {
        f"{spec.engine} fp16"
        for name in target_names()
        for spec in load_target(name).engines
        if "fp16" in spec.precisions
    }
    assert built == {column for column in families.COLUMNS if column.endswith("fp16")}


@pytest.mark.parametrize("name", ["AlbertForQuestionAnswering", "SwinForImageClassification"])
def test_a_family_comes_out_as_its_row_says(name: str) -> None:
    for module in ("onnxruntime", "litert_torch", "openvino", "nncf", "tvm"):
        if find_spec(module) is None:
            pytest.skip(f"{module} is not installed")
    shown = families.written()[name]
    for column, cell in families.cells(name):
        assert (cell.cosine is None) == (shown[column].cosine is None), (column, cell)
        least = {"fp32": 0.9999, "fp16": 0.999}.get(column.split()[1])
        if least is not None and cell.cosine is not None:
            assert cell.cosine > least, (column, cell)
            assert shown[column].cosine == 1, column
