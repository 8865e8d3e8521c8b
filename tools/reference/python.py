# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The page on the Python interface, from the docstrings of what ``edgeopt`` exports."""

from __future__ import annotations

import ast
import importlib.util
import re

import edgeopt
from tools.reference.markdown import code, prose


def pages() -> dict[str, str]:
    """Return the page ``python.md``."""
    functions, values = [], []
    for name in sorted(edgeopt.__all__, key=str.lower):
        found = _definition(name)
        (values if isinstance(found, ast.ClassDef) else functions).append(_entry(name, found))
    parts = [
        "# The Python interface",
        "What `import edgeopt` gives. Each name is loaded when it is first used, so that the "
        "import pulls in no toolchain. Whatever fails raises a kind of `EdgeoptError`: see "
        "[Exit codes](exit-codes.md).",
        "## Functions",
        *functions,
        "## Values",
        *values,
    ]
    return {"python.md": "\n\n".join(parts) + "\n"}


def _definition(name: str) -> ast.FunctionDef | ast.ClassDef:
    """Return the definition of ``edgeopt.NAME``, read and not imported."""
    home = edgeopt._HOMES[name]
    spec = importlib.util.find_spec(home)
    assert spec is not None
    assert spec.origin is not None
    with open(spec.origin, encoding="utf-8") as file:
        module = ast.parse(file.read())
    return next(
        node
        for node in module.body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name
    )


def _entry(name: str, found: ast.FunctionDef | ast.ClassDef) -> str:
    parts = [f"### {name}"]
    if isinstance(found, ast.FunctionDef):
        parts.append(code(_signature(name, found), "python"))
    elif fields := [node for node in found.body if isinstance(node, ast.AnnAssign)]:
        parts.append(code("\n".join(map(_spelt, fields)), "python"))
    return "\n\n".join([*parts, prose(ast.get_docstring(found))])


def _spelt(node: ast.AST) -> str:
    """Return the node as this code is formatted; ``ast`` has single quotes, and no blanks at =."""
    written = ast.unparse(node).replace("'", '"').replace(" ** ", "**")
    return re.sub(r" ?= ?", " = ", written)


def _signature(name: str, found: ast.FunctionDef) -> str:
    """Return the call, an argument a line if it is long."""
    given = _spelt(found.args)
    returned = f" -> {ast.unparse(found.returns)}" if found.returns else ""
    line = f"edgeopt.{name}({given}){returned}"
    if len(line) <= 100:
        return line
    arguments = given.split(", ")
    joined: list[str] = []
    for argument in arguments:  # a comma inside brackets does not part two arguments
        if joined and joined[-1].count("[") > joined[-1].count("]"):
            joined[-1] += f", {argument}"
        else:
            joined.append(argument)
    return f"edgeopt.{name}(\n    " + ",\n    ".join(joined) + f",\n){returned}"
