# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The page on operators has each of onnx's tests, and says of some what comes of them now."""

import re
from collections import Counter
from importlib.metadata import version
from importlib.util import find_spec

import pytest

pytest.importorskip("onnx", reason="needs edgeopt[onnx]")
pytest.importorskip("onnxruntime", reason="needs edgeopt[onnx]")

from tools import operators

pytestmark = pytest.mark.heavy

PAGE = operators.PAGE.read_text()


@pytest.fixture(scope="module")
def cases() -> list[operators.Case]:
    return list(operators.cases())


def rows() -> dict[str, list[str]]:
    """Return the cells behind each operator: its models, and how many agree in each engine."""
    table = PAGE.split("## By operator")[1]
    found = re.findall(r"^\| `(\S+)` \| (.*) \|$", table, re.MULTILINE)
    return {name: cells.split(" | ") for name, cells in found}


def agreeing(cells: list[str], column: int) -> int:
    cell = cells[column].removesuffix(" !")
    return int(cells[0]) if cell == "." else 0 if cell == "-" else int(cell)


def test_every_operator_has_its_row(cases: list[operators.Case]) -> None:
    counted = Counter(case.operator for case in cases)
    assert {name: int(cells[0]) for name, cells in rows().items()} == counted
    assert (
        f"The {len(cases)} models of the backend tests in the package onnx {version('onnx')}"
        in PAGE
    )


def test_the_counts_are_those_of_the_rows() -> None:
    for column, (name, spec) in enumerate(operators.columns().items(), 1):
        head = re.escape(f"| {name} {spec.version}")
        (agree,) = re.findall(rf"^{head}(?:, as written)? \| (\d+) \|", PAGE, re.MULTILINE)
        assert int(agree) == sum(agreeing(cells, column) for cells in rows().values())


@pytest.mark.parametrize("operator", ["Det", "Erf", "GatherElements", "RMSNormalization"])
def test_an_operator_comes_out_as_its_row_says(cases: list[operators.Case], operator: str) -> None:
    for module in ("openvino", "tvm"):
        if find_spec(module) is None:
            pytest.skip(f"{module} is not installed")
    chosen = [c for c in cases if c.operator == operator and not c.name.endswith("_expanded")][:3]
    found = operators.run(chosen)
    cells = rows()[operator]
    for column, name in enumerate(operators.columns(), 1):
        stages = Counter(made[name].stage for _, made in found.values())
        if cells[column] == ".":
            assert stages["agrees"] == len(chosen), (name, found)
        elif cells[column] == "-":
            assert not stages["agrees"] + stages["differs"], (name, found)
        else:
            assert stages["agrees"] <= agreeing(cells, column), (name, found)
