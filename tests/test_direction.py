"""Data flows one way: a module imports only what stands before it (or beside it)."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "edgeopt"

# From the ground up. A module may import from its own floor and from those before it.
FLOORS = [
    {"errors"},
    {"fields", "progress", "extras", "cache", "quiet", "place"},
    {"device", "host", "target", "recipe", "quantize", "steps"},
    {"engines"},
    {"runtime"},
    {"model"},
    {"fidelity"},
    {"compress"},
    {"backends"},
    {"bundle"},
    {"lowering", "timing", "latency_table"},
    {"accuracy", "answers"},
    {"tokenization", "backoff"},
    {"pipeline"},
    {"boards"},
    {"measure", "report"},
    {"judges", "compression"},
    {"cli"},
]
LEVEL = {name: level for level, names in enumerate(FLOORS) for name in names}


def part_of(path: Path) -> str:
    relative = path.relative_to(PACKAGE).with_suffix("")
    return relative.parts[0]


def imported_parts(path: Path) -> set[str]:
    """Return the parts of edgeopt that ``path`` imports when it runs (not for types only)."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "edgeopt":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("edgeopt."):
            found.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("edgeopt.")}
    return found - {"__version__"}


# edgeopt.compress, called, is edgeopt.compression.compress.
FACES = {PACKAGE / name for name in ("__init__.py", "__main__.py", "compress/__init__.py")}
MODULES = sorted(p for p in PACKAGE.rglob("*.py") if p not in FACES)


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_module_imports_only_what_stands_before_it(path: Path) -> None:
    own = LEVEL[part_of(path)]
    backwards = {name for name in imported_parts(path) if LEVEL[name] > own}
    assert not backwards
