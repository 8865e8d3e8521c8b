# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Data flows one way: a module imports only what stands before it (or beside it)."""

import ast
import functools
import graphlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "edgeopt"

# From the ground up. A module may import from its own floor and from those before it.
FLOORS = [
    {"_version", "errors", "architectures", "engine_names"},
    {
        "fields",
        "values",
        "options",
        "progress",
        "extras",
        "retention",
        "cache",
        "beside",
        "closure",
        "garbage",
        "quiet",
        "place",
    },
    {"device", "quantize", "steps"},
    {"host", "recipe"},
    {"target"},
    {"engines"},
    {"runtime"},
    {"model"},
    {"backends"},
    {"evaluate"},
    {"estimate"},
    {"train"},
    {"compression"},
    {"bundle"},
    {"lower", "support"},
    {"pipeline"},
    {"boards"},
    {"deploy", "power"},
    {"measure"},
    {"report", "run"},
    {"compress_pipeline", "estimate_pipeline", "evaluate_pipeline"},
    {"cli", "pytest_plugin"},
]
LEVEL = {name: level for level, names in enumerate(FLOORS) for name in names}


def part_of(module: str) -> str:
    return module.split(".")[1]


def running(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes of ``tree`` but for what is imported for types only."""
    yield tree
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        yield from running(node)


def imported(path: Path) -> set[str]:
    """Return the modules of edgeopt that ``path`` imports, at once or when a function runs."""
    found = set()
    for node in running(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "edgeopt":
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else node.module for name in names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name in MODULES}
    return found - {"edgeopt"}


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(
        ".__init__"
    )


# edgeopt's names, and the command.
FACES = {PACKAGE / name for name in ("__init__.py", "__main__.py")}
MODULES = {name_of(p): p for p in sorted(PACKAGE.rglob("*.py")) if p not in FACES}


@functools.cache
def imports() -> dict[str, set[str]]:
    """Return what each module of edgeopt imports."""
    return {name: imported(path) for name, path in MODULES.items()}


@pytest.mark.parametrize("name", MODULES)
def test_a_module_imports_only_what_stands_before_it(name: str) -> None:
    own = LEVEL[part_of(name)]
    assert not {part_of(n) for n in imports()[name] if LEVEL[part_of(n)] > own}


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Not even inside a part, nor when a function runs."""
    sorter = graphlib.TopologicalSorter(
        {name: others & MODULES.keys() for name, others in imports().items()}
    )
    try:
        sorter.prepare()
    except graphlib.CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_only_heavy_files_import_torch_when_they_are_collected() -> None:
    """Each worker collects every file, and torch is half of the time that it takes."""
    for path in sorted((PACKAGE.parent / "tests").rglob("test_*.py")):
        text = path.read_text(encoding="utf-8")
        if re.search(
            r'^(import torch|from torch|(torch = )?pytest.importorskip\("torch)', text, re.MULTILINE
        ):
            assert re.search(r"^pytestmark = (\[\s*)?pytest.mark.heavy", text, re.MULTILINE), path
