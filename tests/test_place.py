# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What is replaced, what is not, and what a process that is killed leaves."""

import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edgeopt import place
from edgeopt.bundle import Bundle, open_bundle
from edgeopt.bundle.verify import changed_files
from edgeopt.bundle.write import foreign, reserved, tidy
from edgeopt.errors import BundleError, BusyError, InputError
from tests.bundle.conftest import make_bundle, sources

__all__ = ["make_bundle", "sources"]  # fixtures

MakeBundle = Callable[..., Bundle]


def refused(output: Path, *inputs: Path) -> str:
    with pytest.raises(InputError) as caught, reserved(output, inputs):
        pass
    return caught.value.message


def tree(folder: Path) -> dict[str, bytes | None]:
    return {
        str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None
        for p in folder.rglob("*")
    }


@pytest.mark.parametrize(
    "manifest",
    [
        "{}",
        '{"name": "My site", "start_url": "/", "icons": []}',
        '{"manifest_version": 3, "name": "An extension", "version": "1.0"}',
        '{"schema_version": 2, "files": {}}',
        '{"schema_version": 2, "files": {}, "digest": "0"}',
        "not JSON",
    ],
)
def test_a_manifest_that_is_no_bundles_is_not_replaced(tmp_path: Path, manifest: str) -> None:
    site = tmp_path / "web"
    site.mkdir()
    (site / "manifest.json").write_text(manifest)
    (site / "index.html").write_text("mine")
    before = tree(site)
    expected = "exists, and its manifest.json is not a whole bundle's, so it is not overwritten"
    assert refused(site) == expected
    assert tree(site) == before


@pytest.mark.parametrize("name", ["notes.txt", ".git/config", "golden/mine.npy", "empty/"])
def test_a_bundle_with_something_else_in_it_is_not_replaced(
    make_bundle: MakeBundle, name: str
) -> None:
    bundle = make_bundle()
    path = bundle.path / name
    if name.endswith("/"):
        path.mkdir()
    else:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    before = tree(bundle.path)
    first = name.split("/")[0] if name.startswith((".git", "empty")) else name
    assert refused(bundle.path) == (
        f"holds {first}, which is no part of the bundle there, so it is not overwritten"
    )
    with pytest.raises(InputError, match="no part of the bundle"):
        make_bundle(labels=("a", "b"))  # it may have come while the work was done
    assert tree(bundle.path) == before


def test_a_link_in_a_bundle_is_not_replaced(make_bundle: MakeBundle, tmp_path: Path) -> None:
    bundle = make_bundle()
    path = bundle.path / "tokenizer/tokenizer.json"
    path.rename(tmp_path / "kept.json")
    path.symlink_to(tmp_path / "kept.json")
    assert refused(bundle.path).startswith("holds tokenizer/tokenizer.json")


def test_a_damaged_bundle_and_one_of_another_schema_may_be_replaced(
    make_bundle: MakeBundle,
) -> None:
    from tests.bundle.test_manifest import rewrite

    bundle = make_bundle()
    shutil.rmtree(bundle.path / "golden/seq_4/0")
    rewrite(bundle, lambda d: d.update(schema_version=1))
    with reserved(bundle.path):
        pass
    assert make_bundle().manifest.labels == ("no", "yes")


def test_what_is_no_directory_of_its_own_is_not_replaced(
    make_bundle: MakeBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = make_bundle()
    link = tmp_path / "current.edgeopt"
    link.symlink_to(bundle.path.name)
    end = ", so it is not overwritten"
    assert refused(link) == f"is a link to tiny.edgeopt{end}"
    link.unlink()
    link.symlink_to("nowhere")
    assert refused(link) == f"is a link to nowhere{end}"
    assert refused(Path("/")) == f"is not given by its name{end}"
    (tmp_path / "file").write_text("")
    assert refused(tmp_path / "file") == f"exists and is not a bundle{end}"
    assert refused(bundle.path, bundle.path) == f"is the model itself{end}"
    held = bundle.path / "tokenizer/tokenizer.json"
    assert refused(bundle.path, held) == f"holds {held}{end}"
    assert refused(tmp_path / ("n" * 300)) == "cannot be written (File name too long)"
    assert refused(tmp_path / ("n" * 245)) == "cannot be written (File name too long)"
    monkeypatch.chdir(bundle.path / "golden")
    assert refused(bundle.path) == f"is the current directory, or holds it{end}"
    for name in (".", "..", "../.."):
        assert refused(Path(name)) == f"is not given by its name{end}"
    assert refused(Path("/proc/self")).startswith("is a link to ")
    assert refused(Path("/proc")) == f"is a mount point{end}"


WRITES = """
import sys
from pathlib import Path
from edgeopt import cache, place
from edgeopt.bundle.write import reserved, write
from tests.bundle.conftest import manifest

folder, exchange = Path(sys.argv[1]), sys.argv[2] == "exchange"
if not exchange:
    place._exchange = lambda one, two: False
source = folder / "from"
files = {str(p.relative_to(source)): p for p in source.rglob("*") if p.is_file()}
print("ready", flush=True)
count = 0
while True:
    with reserved(folder / "b.edgeopt"):
        write(folder / "b.edgeopt", manifest(name=f"v{count}"), files)
    count += 1
"""


def writer(folder: Path, sources: dict[str, Path], how: str) -> subprocess.Popen[str]:
    for name, path in sources.items():
        (folder / "from" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, folder / "from" / name)
    program = subprocess.Popen(
        [sys.executable, "-c", WRITES, str(folder), how],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert program.stdout is not None
    assert program.stdout.readline() == "ready\n"
    return program


@pytest.mark.heavy
@pytest.mark.parametrize("how", ["exchange", "two renames"])
def test_a_kill_at_any_moment_leaves_a_whole_bundle(
    tmp_path: Path, sources: dict[str, Path], how: str
) -> None:
    chance = random.Random(1)
    for _ in range(4):
        program = writer(tmp_path, sources, how)
        until = time.monotonic() + 30
        while not list(tmp_path.glob("b.edgeopt/manifest.json")) and time.monotonic() < until:
            time.sleep(0.01)  # the first of all has nothing before it
        time.sleep(0.2 * chance.random())
        program.kill()
        program.communicate()
        if how == "exchange":
            assert not changed_files(open_bundle(tmp_path / "b.edgeopt"))
        with reserved(tmp_path / "b.edgeopt"):  # the next run
            assert not changed_files(open_bundle(tmp_path / "b.edgeopt"))
        assert sorted(os.listdir(tmp_path)) == ["b.edgeopt", "from", "sources"]


@pytest.mark.heavy
def test_a_reader_never_finds_half_a_bundle(tmp_path: Path, sources: dict[str, Path]) -> None:
    program = writer(tmp_path, sources, "exchange")
    seen: set[str] = set()
    until = time.monotonic() + 30
    while len(seen) < 20 and time.monotonic() < until:
        try:
            seen.add(open_bundle(tmp_path / "b.edgeopt").manifest.name)
        except BundleError:
            assert not seen  # before the first was there
    program.kill()
    program.communicate()
    assert len(seen) == 20


def test_the_gap_between_two_renames_is_closed_by_the_next_run(
    make_bundle: MakeBundle, tmp_path: Path
) -> None:
    bundle = make_bundle()
    new = make_bundle(tmp_path / "other", labels=("a", "b"))
    bundle.path.rename(tmp_path / ".tiny.edgeopt.old-0a1b2c3d")
    new.path.rename(tmp_path / ".tiny.edgeopt.new-abcdefg_")
    with reserved(bundle.path):
        assert open_bundle(bundle.path).manifest == bundle.manifest
    assert sorted(os.listdir(tmp_path)) == ["sources", "tiny.edgeopt"]


def test_what_looks_left_over_but_is_somebody_elses_stays(
    make_bundle: MakeBundle, tmp_path: Path
) -> None:
    bundle = make_bundle()
    names = [".tiny.edgeopt.old-backup01", ".tiny.edgeopt.new-mydata01", ".tiny.edgeopt.old-2"]
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "thesis.tex").write_text("mine")
    shutil.copytree(bundle.path, tmp_path / ".tiny.edgeopt.old-bundle01")
    (tmp_path / ".tiny.edgeopt.old-bundle01/notes").write_text("mine")
    with reserved(bundle.path):
        pass
    for name in [*names, ".tiny.edgeopt.old-bundle01"]:
        assert (tmp_path / name).is_dir()


def test_what_another_run_is_writing_stays(make_bundle: MakeBundle, tmp_path: Path) -> None:
    output = tmp_path / "tiny.edgeopt"
    with reserved(output), place.replacing(output, "bundle", foreign) as work:
        (work / "half").write_text("")
        with pytest.raises(BusyError), reserved(output):
            pass
        assert (work / "half").exists()
        (work / "half").unlink()
        shutil.copytree(make_bundle(tmp_path / "other").path, work, dirs_exist_ok=True)
    assert not changed_files(open_bundle(output))


def test_a_run_with_nothing_to_do_tidies_too(make_bundle: MakeBundle, tmp_path: Path) -> None:
    bundle = make_bundle()
    half = tmp_path / ".tiny.edgeopt.new-01234567"
    (half / "artifacts").mkdir(parents=True)
    (half / ".edgeopt-unfinished").touch()
    (tmp_path / ".tiny.edgeopt.lock").touch()
    tidy(bundle.path)
    assert sorted(os.listdir(tmp_path)) == ["sources", "tiny.edgeopt"]
