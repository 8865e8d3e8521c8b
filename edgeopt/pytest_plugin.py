# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""A pytest plugin: a test that fails if an artifact does not keep to its budget.

    def test_the_model_keeps_to_its_budget(edgeopt_budget):
        edgeopt_budget("budget.toml", "measurement.json", "evaluation.json")

Files are looked for from the folder that pytest was started for (its rootdir). What it needs of
edgeopt is imported when the fixture is called.
"""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike
from pathlib import Path

import pytest


@pytest.fixture
def edgeopt_budget(pytestconfig: pytest.Config) -> Callable[..., None]:
    """Return what fails the test unless the files keep to a budget: see ``edgeopt gate``.

    It is called with the budget's file, and measurements, evaluations and bundles. What was not
    measured, or is no such file, fails it too, and says how to get it.
    """

    def check(budget: str | PathLike[str], *sources: str | PathLike[str]) -> None:
        __tracebackhide__ = True
        from edgeopt.errors import EdgeoptError
        from edgeopt.measure.gate import KEPT, gate

        root: Path = pytestconfig.rootpath
        try:
            found = gate(root / budget, [root / source for source in sources])
            why = [f"{c.artifact}: {c.limit} {c.status}: {c.text}" for c in found.checks]
            kept = [c.status == KEPT for c in found.checks]
        except EdgeoptError as error:
            why, kept = [str(error)], [False]
        if not all(kept):
            lines = [line for line, fine in zip(why, kept, strict=True) if not fine]
            pytest.fail("\n".join([f"{budget} is not kept", *lines]), pytrace=False)

    return check
