# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The library as one file is the library: it compiles clean, exports the same, runs a bundle."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from edgeopt.engine_names import ENGINES
from edgeopt.errors import CompileError, InputError
from edgeopt.runtime.amalgamate import _lex, _print, _read, amalgamate, export
from edgeopt.runtime.build import FLAGS, NOTICES, library_sources
from edgeopt.runtime.python import edgeopt_rt
from tests.programs import compiled
from tests.runtime.agent_runs import Case, write_model
from tests.runtime.test_abi import exported, functions

pytestmark = pytest.mark.heavy  # writes the whole source for each

NAMES = {f.split("(")[0].split()[-1].lstrip("*") for f in functions()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("export")
    export(made)
    return made


def gcc(*arguments: object) -> None:
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    done = subprocess.run(["gcc", *map(str, arguments)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture(scope="module")
def library(folder: Path) -> Path:
    flags = (*FLAGS, "-O1", "-shared", "-fPIC", "-fvisibility=hidden")
    libraries = ("-ldl", "-lm", "-lpthread")
    return compiled("libedgeopt_rt.so", *flags, folder / "edgeopt_rt.c", *libraries)


def test_the_same_sources_give_the_same_text() -> None:
    assert amalgamate() == amalgamate()


def test_the_licence_stands_once_at_the_top_of_each_file(folder: Path) -> None:
    tags = ("SPDX" + "-FileCopyrightText: ", "SPDX" + "-License-Identifier: ")
    for name in ("edgeopt_rt.c", "edgeopt_rt.h"):
        text = (folder / name).read_text()
        first, second = text.splitlines()[:2]
        assert (first, second) == (
            f"/* {tags[0]}edgeopt contributors",
            f" * {tags[1]}Apache-2.0 */",
        )
        assert [text.count(tag) for tag in tags] == [1, 1]


@pytest.mark.parametrize("path", library_sources(), ids=lambda path: path.name)
def test_the_tokens_are_the_file(path: Path) -> None:
    assert "".join(token.text for token in _lex(path, path.read_text())) == path.read_text()


def test_only_the_header_is_exported(library: Path) -> None:
    assert exported(library) == NAMES


@pytest.mark.parametrize(
    "without", [(e,) for e in ENGINES] + [ENGINES], ids=lambda engines: "+".join(engines)
)
def test_it_compiles_clean_without_engines(folder: Path, without: tuple[str, ...]) -> None:
    left_out = [f"-DEO_WITHOUT_{engine.upper()}" for engine in without]
    gcc(*FLAGS, *left_out, "-fsyntax-only", folder / "edgeopt_rt.c")


@pytest.mark.parametrize("triple", ["aarch64-linux-gnu.2.17", "arm-linux-gnueabihf.2.17"])
def test_it_compiles_clean_for_boards(folder: Path, triple: str) -> None:
    compiled("edgeopt_rt.o", *FLAGS, "-O1", "-c", folder / "edgeopt_rt.c", triple=triple)


def test_it_runs_a_bundle(library: Path, onnxruntime_library: Path, tmp_path: Path) -> None:
    case = Case(library, onnxruntime_library, tmp_path)
    write_model(case.model)
    bundle = str(case.write())
    options = {"library": str(library), "libraries": str(onnxruntime_library)}
    with edgeopt_rt.open(bundle, threads=1, **options) as session:
        assert (session.engine, session.precision) == ("onnx", "fp32")
        session.select(1, 8)
        inputs = session.inputs()
        inputs["ids"][:] = case.ids
        inputs["attention_mask"][:] = case.mask
        session.execute()
        np.testing.assert_array_equal(session.outputs()["out"], case.out)


def test_cmake_builds_it(folder: Path, tmp_path: Path) -> None:
    if shutil.which("cmake") is None:
        pytest.skip("cmake is not installed")
    configure = ["cmake", "-S", str(folder), "-B", str(tmp_path), "-DBUILD_SHARED_LIBS=ON"]
    for command in ([*configure, "-DEDGEOPT_RT_ENGINES=onnx"], ["cmake", "--build", str(tmp_path)]):
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "warning" not in done.stderr
    assert exported(tmp_path / "libedgeopt_rt.so") == NAMES
    install_it = ["cmake", "--install", str(tmp_path), "--prefix", str(tmp_path / "prefix")]
    assert subprocess.run(install_it, capture_output=True).returncode == 0
    notices = tmp_path / "prefix" / "share" / "licenses" / "edgeopt_rt"
    assert {path.name for path in notices.iterdir()} == set(NOTICES)


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "app.c").touch()
    with pytest.raises(InputError, match=r"holds app\.c, which is not of an earlier run"):
        export(tmp_path)
    assert list(tmp_path.iterdir()) == [tmp_path / "app.c"]


def test_a_second_export_replaces_the_first(folder: Path) -> None:
    before = (folder / "edgeopt_rt.c").read_bytes()
    (folder / "edgeopt_rt.c").write_text("old")
    export(folder)
    assert (folder / "edgeopt_rt.c").read_bytes() == before


def renamed(text: str, *names: str, tags: tuple[str, ...] = ()) -> str:
    source = _read(Path("a.c"), text)
    return _print(source, set(), {n: f"a__{n}" for n in names}, {t: f"a__{t}" for t in tags})


def test_only_names_are_renamed() -> None:
    text = """\
static int load(void); /* load it's */
struct load { int load; char text[MAX]; enum load kind; };
static int use(struct load *p) { return p->load + p[0].load + load() + sizeof "load" + 'l'; }
static const struct load one = {.load = 1, .text = "load"};
"""
    assert renamed(text, "load", "MAX", tags=("load",)) == (
        """\
static int a__load(void); /* load it's */
struct a__load { int load; char text[a__MAX]; enum a__load kind; };
static int use(struct a__load *p) { return p->load + p[0].load + a__load() + sizeof "load" + 'l'; }
static const struct a__load one = {.load = 1, .text = "load"};
"""
    )


def test_what_files_share_becomes_static() -> None:
    text = "extern const int eo_a;\nint eo_b(int (*f)(void));\nint eo_b(int (*f)(void)) { f(); }\n"
    assert renamed(text) == (
        "EO_PRIVATE const int eo_a;\nEO_PRIVATE int eo_b(int (*f)(void));\n"
        "EO_PRIVATE int eo_b(int (*f)(void)) { f(); }\n"
    )


def test_names_are_found_where_they_are_declared() -> None:
    source = _read(
        Path("a.c"),
        "#define LENGTH(a) (sizeof(a))\nenum { A, B = 2 };\n"
        "static const char *const x[] = {0}, y;\n"
        '_Static_assert(sizeof(int) == 4, "int");\ntypedef int (*call)(int n);\n'
        "__attribute__((cold)) static struct s { int m; } *f(int q) { int z; return 0; }\n",
    )
    assert source.named("static") == {"x", "y", "f"}
    assert source.named("typedef") == {"call"}
    assert source.named("external") == set()
    assert (source.enumerators, source.tags, source.macros) == ({"A", "B"}, {"s"}, ["LENGTH"])


def test_what_cannot_be_renamed_is_refused() -> None:
    with pytest.raises(CompileError, match=r"a\.c: a macro that pastes or quotes its arguments"):
        _read(Path("a.c"), "#define NAME(a) #a\n")
