# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What the keys of the cache cover: a module, all that it imports, and nothing else."""

import ast
import json
import os
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from edgeopt import closure
from edgeopt.model import reference
from edgeopt.steps import TECHNIQUES
from edgeopt.target import ENGINES

pytestmark = pytest.mark.heavy  # reads the whole of edgeopt in processes

REFERENCE = ("edgeopt.lower.lowering", *reference.CODE)
PACKAGE = Path(closure.__file__).parent


def keys(tree: Path, *roots: str) -> list[str]:
    """Return the keys of ``roots``, each some modules, of ``tree`` as it is now."""
    code = (
        "import json, sys; from edgeopt import closure; "
        "print(json.dumps([closure.code(*r.split()) for r in sys.argv[1:]]))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code, *roots],
        env=os.environ | {"PYTHONPATH": str(tree), "EDGEOPT_CACHE": str(tree / "cache")},
        cwd=tree,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    found: list[str] = json.loads(out)
    return found


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package that can be edited."""
    place = tmp_path_factory.mktemp("tree")
    ignored = shutil.ignore_patterns("__pycache__", "prebuilt")
    shutil.copytree(PACKAGE, place / "edgeopt", ignore=ignored)
    return place


ROOTS = {
    "reference": " ".join(REFERENCE),
    "onnx": " ".join((*REFERENCE, "edgeopt.backends.onnx")),
    "movement": "edgeopt.compression.run edgeopt.compression.movement",
    "qat": "edgeopt.compression.run edgeopt.compression.qat",
}


@pytest.fixture(scope="module")
def known(tree: Path) -> list[str]:
    """The keys of ``ROOTS`` before the next change to ``tree``."""
    return keys(tree, *ROOTS.values())


MADE = {
    "__init__.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import edgeopt.apart\n"
    '__version__ = "1"\n',
    "errors.py": "",
    "top.py": "from typing import TYPE_CHECKING\n"
    "from edgeopt.room import inner\n"
    "import edgeopt.plain\n"
    "if TYPE_CHECKING:\n    from edgeopt import types\nelse:\n    from edgeopt import otherwise\n"
    "def work():\n    from edgeopt.late import thing\n    from .relative import x\n"
    'DATA = "table.toml"\n',
    "room/__init__.py": "from edgeopt import first\ndef later():\n    from edgeopt import unused\n",
    "room/inner.py": "from edgeopt.room import named\nimport numpy\nimport json\n",
    "room/named.py": "",
    "second/__init__.py": "def attribute():\n    from edgeopt import deep\n",
    "late.py": "from edgeopt.second import attribute\n",
    "table.toml": "a = 1\n",
    **{
        f"{name}.py": ""
        for name in ("plain", "types", "otherwise", "relative", "first", "unused", "deep", "apart")
    },
    "other.toml": "",
}
COVERED = {
    "top.py",
    "room/__init__.py",
    "room/inner.py",
    "room/named.py",
    "plain.py",
    "otherwise.py",
    "late.py",
    "relative.py",
    "first.py",
    "second/__init__.py",
    "deep.py",
    "table.toml",
}


def test_each_file_of_a_closure_moves_its_key_and_no_other_does(tmp_path: Path) -> None:
    for name, text in MADE.items():
        path = tmp_path / "edgeopt" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for name in (*sorted(f"{m.split('.')[1]}.py" for m in closure.OWN_NO_RESULT), "fields.py"):
        shutil.copy(PACKAGE / name, tmp_path / "edgeopt" / name)
    shutil.copy(PACKAGE / "errors.py", tmp_path / "edgeopt/errors.py")
    seen = {keys(tmp_path, "edgeopt.top")[0]}
    for name in sorted(MADE):
        path = tmp_path / "edgeopt" / name
        path.write_text(path.read_text() + "# a change\n")
        seen |= set(keys(tmp_path, "edgeopt.top"))
        expected = len([n for n in sorted(MADE) if n <= name and n in COVERED]) + 1
        assert len(seen) == expected, name
    path = tmp_path / "edgeopt/__init__.py"
    path.write_text(path.read_text().replace('"1"', '"2"'))
    assert keys(tmp_path, "edgeopt.top")[0] not in seen


@pytest.mark.parametrize(
    ("changed", "moved"),
    [
        ("model/encoder.py", {"reference", "onnx", "movement", "qat"}),
        ("model/network/tokens.py", {"reference", "onnx", "movement", "qat"}),
        ("model/texts.jsonl", {"reference", "onnx", "movement", "qat"}),
        ("backends/onnx.py", {"onnx"}),
        ("backends/openvino.py", set()),
        ("evaluate/fidelity.py", {"reference", "onnx"}),
        ("backends/grid.py", {"onnx", "qat"}),
        ("compression/movement.py", {"movement"}),
        ("compression/qat.py", {"qat"}),
        ("train/loop.py", {"movement", "qat"}),
        ("compression/run.py", {"movement", "qat"}),
        ("run/early_exit.py", set()),
        ("cli/compile.py", set()),
        ("report/tables.py", set()),
        ("cache.py", set()),
    ],
)
def test_a_change_moves_what_depends_on_it(
    tree: Path, known: list[str], changed: str, moved: set[str]
) -> None:
    path = tree / "edgeopt" / changed
    path.write_text(path.read_text() + "\n")
    after = keys(tree, *ROOTS.values())
    assert {name for name, a, b in zip(ROOTS, known, after, strict=True) if a != b} == moved
    known[:] = after


def test_a_technique_does_not_depend_on_the_files_of_others() -> None:
    """Only on those that it is made of itself."""
    made_of = {
        "distil": {"layers"},
        "gradual": {"structured"},
        "lottery": {"unstructured"},
        "movement": {"structured"},
    }
    for name in TECHNIQUES:
        found = closure.files("edgeopt.compression.run", f"edgeopt.compression.{name}")
        others = {n for n in TECHNIQUES if f"compression/{n}.py" in found} - {name}
        assert others == made_of.get(name, set()), name


@pytest.mark.parametrize("engine", ENGINES)
def test_an_artifact_depends_on_no_command_board_or_report(engine: str) -> None:
    found = closure.files(*REFERENCE, f"edgeopt.backends.{engine}")
    assert f"backends/{engine}.py" in found
    assert {
        "evaluate/fidelity.py",
        "lower/lowering.py",
        "model/encoder.py",
        "model/texts.jsonl",
    } <= set(found)
    rooms = {name.split("/")[0] for name in found}
    assert not rooms & {"cli", "report", "boards", "measure", "pipeline.py"}


def installed(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def test_versions_of_packages_count() -> None:
    found = closure.packages("edgeopt.backends.tvm", "edgeopt.backends.openvino")
    assert {"apache-tvm", "apache-tvm-ffi", "onnx", "onnxscript", "openvino", "nncf", "numpy"} <= {
        *found
    }
    assert found == {name: installed(name) for name in found}
    assert "filelock" not in found
    assert closure.packages("edgeopt.measure.timing") == {}


def test_each_import_is_of_a_package_that_is_known() -> None:
    """A distribution of another name than its import has to stand in ``DISTRIBUTIONS``."""
    names = [
        ".".join(p.relative_to(PACKAGE.parent).with_suffix("").parts)
        for p in PACKAGE.rglob("*.py")
        if "examples" not in p.parts
    ]
    modules = [name.removesuffix(".__init__") for name in names]
    declared = (
        " ".join(metadata.requires("edgeopt") or ())
        or (PACKAGE.parent / "pyproject.toml").read_text()
    )
    behind = {"protobuf", "safetensors", "tokenizers", "pillow", "scikit-learn", "keras"}
    for name in closure.packages(*modules):
        assert name.replace("_", "-") in declared or name in behind, name


DYNAMIC = {
    "__init__.py": 1,  # the face: public names, each with its home
    "backends/__init__.py": 2,  # ``code`` there counts the engine's module
    "backends/inside.py": 1,  # so it does
    "cli/__init__.py": 1,  # no result depends on a command
    "compression/technique.py": 1,  # ``run.techniques`` counts it
    "measure/profilers/__init__.py": 1,  # what is measured is not kept in the cache
    "power/meters/__init__.py": 1,  # nor is this
    "power/sensors/__init__.py": 1,  # nor is this
    "lower/remedies.py": 1,  # the engine's quantiser, which its module imports
    "extras.py": 1,  # ``require``, whose calls count as imports
    "support/__init__.py": 1,  # a format counts itself in what it keeps
    "runtime/python/edgeopt_rt.py": 1,  # wheels that hold an engine's library
}


def test_lookups_by_name_are_known() -> None:
    """A parser does not see what they import: who adds one says here who counts it."""
    found: dict[str, int] = {}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Call) and not all(
                isinstance(a, ast.Constant) for a in node.args[:1]
            ):
                name = getattr(node.func, "attr", None) or getattr(node.func, "id", None)
                if name in ("import_module", "find_spec", "__import__"):
                    place = path.relative_to(PACKAGE).as_posix()
                    found[place] = found.get(place, 0) + 1
    assert found == DYNAMIC


def test_an_unknown_module_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"edgeopt has no module edgeopt\.nothing"):
        closure.code("edgeopt.nothing")


def test_what_decides_no_result_imports_nothing_that_does() -> None:
    for name in closure.OWN_NO_RESULT:
        text = (PACKAGE / f"{name.split('.')[1]}.py").read_text()
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("edgeopt."):
                assert node.module in (*closure.OWN_NO_RESULT, "edgeopt.errors", "edgeopt.fields")
