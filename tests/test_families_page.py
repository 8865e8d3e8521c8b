# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The page on families has each of them, and says of one what comes of it now."""

import re
from importlib.util import find_spec

import pytest

from tools import families  # whose networks are those of tests that skip without transformers

pytestmark = pytest.mark.heavy


def rows() -> dict[str, list[str]]:
    found = re.findall(r"^\| `(\w+)` \| (.*) \|$", families.PAGE.read_text(), re.MULTILINE)
    return {name: cells.split(" | ") for name, cells in found}


def test_every_family_has_its_row() -> None:
    assert list(rows()) == families.names()


@pytest.mark.parametrize("name", ["AlbertForQuestionAnswering", "SwinForImageClassification"])
def test_a_family_comes_out_as_its_row_says(name: str) -> None:
    for module in ("onnxruntime", "litert_torch", "openvino", "nncf", "tvm"):
        if find_spec(module) is None:
            pytest.skip(f"{module} is not installed")
    shown = dict(zip(families.COLUMNS, rows()[name], strict=True))
    for column, cell in families.cells(name):
        assert (cell.cosine is None) == shown[column].startswith("("), (column, cell)
        if column[1] == "fp32" and cell.cosine is not None:
            assert cell.cosine > 0.9999
            assert shown[column] == "1.0000"
