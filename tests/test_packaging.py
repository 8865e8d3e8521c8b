# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""A wheel, built as a release is, holds all data and runs away from the checkout."""

import email
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from edgeopt._version import __version__
from edgeopt.runtime.build import NOTICES
from tools import other_pythons

pytestmark = pytest.mark.heavy  # makes a wheel

ROOT = Path(__file__).parent.parent
SHIPPED = {".py", ".toml", ".jsonl", ".txt", ".c", ".h", ".md", ".typed"}
RUNTIME_SHIPPED = {".hpp", ".cpp", ".kt", ".in", ".modulemap"}


def backend(source: Path, hook: str, folder: Path) -> Path:
    code = f"from setuptools import build_meta; print(build_meta.{hook}({str(folder)!r}))"
    built = subprocess.run(
        [sys.executable, "-c", code], cwd=source, capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr
    if hook == "build_wheel":
        assert "Warning" not in built.stderr
    return folder / built.stdout.split()[-1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build a wheel from a copy, so that no build folder is left in the checkout."""
    pytest.importorskip("setuptools", reason="building a wheel needs setuptools", minversion="77")
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", *NOTICES):
        shutil.copy(ROOT / name, source)
    ignore = shutil.ignore_patterns("__pycache__")
    for name in ("edgeopt", "profiles", "targets"):
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=ignore)
    return backend(source, "build_wheel", folder)


@pytest.fixture(scope="module")
def installed(wheel: Path) -> Path:
    """Unpack the wheel, which is all that installing a pure one does with its modules."""
    folder = wheel.parent / "installed"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def test_wheel_package_and_header_have_one_version(wheel: Path, installed: Path) -> None:
    header = (installed / "edgeopt/runtime/include/edgeopt_rt.h").read_text()
    assert re.findall(r'^#define EO_VERSION "(.*)"$', header, re.MULTILINE) == [__version__]
    numbers = re.findall(r"^#define EO_VERSION_(\w+) (\d+)$", header, re.MULTILINE)
    release = re.findall(r"\d+", __version__)[:3]  # what follows marks what is no release
    assert numbers == list(zip(("MAJOR", "MINOR", "PATCH"), release, strict=True))
    assert wheel.name.split("-")[1] == __version__


def run(installed: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=installed.parent,  # away from the checkout
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=True,
    )


def test_every_file_of_the_package_ships_and_nothing_else(wheel: Path) -> None:
    expected = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "edgeopt").rglob("*")
        if path.suffix in SHIPPED and path.is_file()
    }
    expected |= {
        str(path.relative_to(ROOT))
        for path in (ROOT / "edgeopt" / "runtime").rglob("*")
        if path.is_file()
        and (path.suffix in RUNTIME_SHIPPED or path.name in ("Makefile", *NOTICES))
    }
    for name in ("profiles", "targets"):  # rglob follows no links
        expected |= {f"edgeopt/{name}/{path.name}" for path in (ROOT / name).glob("*.toml")}
    shipped = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert shipped == expected
    assert "edgeopt/recipes/default.toml" in shipped


def test_the_licence_and_the_notices_of_others_travel(wheel: Path, installed: Path) -> None:
    (info,) = installed.glob("*.dist-info")
    said = email.message_from_bytes((info / "METADATA").read_bytes())
    assert said["License-Expression"] == "Apache-2.0"
    assert said["Author"] == "edgeopt contributors"
    assert said.get_all("License-File") == list(NOTICES)
    for name in NOTICES:
        text = (ROOT / name).read_bytes()
        assert (info / "licenses" / name).read_bytes() == text
        assert (installed / "edgeopt" / "runtime" / name).read_bytes() == text


def test_the_notices_hold_the_whole_licences_of_others() -> None:
    """Each is to be found word by word, under the name that its file in LICENSES has."""
    notices = (ROOT / "THIRD_PARTY_NOTICES.txt").read_text()
    texts = {path.stem: path.read_text().strip() for path in (ROOT / "LICENSES").glob("*.txt")}
    assert texts.keys() == {"Apache-2.0", "MIT", "MIT-CMU", "Unicode-3.0"}
    for name, text in texts.items():
        assert text in notices, name
        assert f"Licence: {name}" in notices, name
    runtime = ROOT / "edgeopt" / "runtime" / "src"
    for path in [
        *runtime.glob("**/*_abi.h"),
        runtime / "tokenizer" / "unicode_tables.h",
        runtime / "image" / "image.c",
    ]:
        assert path.is_file()
        assert path.relative_to(runtime.parent.parent).as_posix() in notices


def test_the_pythons_that_are_tried_are_those_that_it_names() -> None:
    named = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["classifiers"]
    kind = "Programming Language :: Python :: "
    tried = ("3.11", *other_pythons.VERSIONS)
    assert [c.removeprefix(kind) for c in named if c.startswith(kind)] == [*tried]
    assert f"| x86-64 Linux | {', '.join(tried[1:])} |" in (ROOT / "docs" / "faq.md").read_text()


def test_the_installed_command_knows_the_same_targets(installed: Path) -> None:
    out = run(installed, "-m", "edgeopt", "targets", "--json")
    names = {target["name"] for target in json.loads(out.stdout)["targets"]}
    assert names == {path.stem for path in (ROOT / "targets").glob("*.toml")}


def test_the_installed_package_reads_its_own_files(installed: Path) -> None:
    code = "import edgeopt.target as t; print(t.__file__, t.load_target('rk3588').device.path)"
    module, profile = run(installed, "-c", code).stdout.split()
    assert module.startswith(str(installed))
    assert profile == str(installed / "edgeopt/profiles/rk3588.toml")


def test_a_source_distribution_gives_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    shutil.copytree(wheel.parent / "source", tmp_path / "source", symlinks=True)
    shutil.rmtree(tmp_path / "source" / "build", ignore_errors=True)
    packed = backend(tmp_path / "source", "build_sdist", tmp_path)
    subprocess.run(["tar", "-xf", packed, "-C", tmp_path], check=True)
    again = backend(tmp_path / packed.name.removesuffix(".tar.gz"), "build_wheel", tmp_path)
    names = zipfile.ZipFile(again).namelist()
    assert names == zipfile.ZipFile(wheel).namelist()
    assert "edgeopt/runtime/src/session/session.c" in names
