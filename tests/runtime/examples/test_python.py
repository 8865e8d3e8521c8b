# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What Python runs on a board: syntax, the example, and the pool of sessions."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest

from tests.runtime.examples.conftest import EXAMPLES, RUNTIME, Run

PLACES = (RUNTIME / "python", EXAMPLES / "python", EXAMPLES / "server")
FILES = sorted(path for place in PLACES for path in place.glob("*.py"))

POOL = """
import sys, threading
import edgeopt_pool

first, second, missing = sys.argv[1:]
answered, failed, stop = set(), [], threading.Event()
with edgeopt_pool.Pool(first, sessions=2, threads=1) as pool:
    def load():
        while not stop.is_set():
            try:
                with pool.session() as session:
                    session.run(text="a tool for text")
                    answered.add(session.bundle.name)
            except Exception as exc:
                failed.append(exc)

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    for turn in range(6):
        stop.wait(0.05)
        pool.swap([second, first][turn % 2])
    try:
        pool.swap(missing)
    except edgeopt_pool.edgeopt_rt.Failure as failure:
        print(failure)
    with pool.session() as session:
        print(session.run(text="a tool for text").label)
    stop.set()
    for thread in threads:
        thread.join()
print(sorted(answered), failed)
try:
    with pool.session():
        pass
except ValueError as exc:
    print(exc)
with open("/proc/self/maps") as maps:
    print("mapped:", [line for line in maps if ".edgeopt/" in line])
"""


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_it_keeps_to_what_python_3_6_reads(path: Path) -> None:
    ast.parse(path.read_text(), feature_version=(3, 6))


def interpreter(request: pytest.FixtureRequest) -> str:
    return sys.executable if request.param == "this" else request.getfixturevalue("old_python")


python = pytest.fixture(interpreter, params=["this", "3.6"])


@pytest.mark.heavy
def test_the_script(
    python: str, board_folder: Path, bundles: dict[str, Path], run: Run, tmp_path: Path
) -> None:
    script = board_folder / "classify.py"
    done = run(python, script, bundles["sequence-classification"], "a tool for text")
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"a tool for text\n(  [01]\.\d{4}  (games|libs|net)\n){3}", done.stdout), (
        done.stdout
    )
    done = run(python, script, bundles["question-answering"], stdin="a tool\ta tool for text\n")
    assert re.match(r"a tool\ta tool for text\n  [01]\.\d{4}   '", done.stdout), done
    done = run(python, script, bundles["feature-extraction"], "the tool")
    assert done.stdout.startswith("the tool\n  32 values: ")
    done = run(python, script, bundles["token-classification"], "the tool")
    assert "'the'" in done.stdout or "'the tool'" in done.stdout
    done = run(python, script, tmp_path / "none", "a")
    assert done.returncode == 1
    assert done.stderr.startswith(f"classify: {tmp_path}/none: cannot be opened")


@pytest.mark.heavy
def test_a_pool_changes_its_bundle_under_load(
    python: str,
    board_folder: Path,
    classifier: Path,
    other_classifier: Path,
    run: Run,
    tmp_path: Path,
) -> None:
    words = [classifier, other_classifier, tmp_path / "none"]
    done = run(python, "-c", POOL, *words, PYTHONPATH=str(board_folder))
    assert done.returncode == 0, done.stderr
    missing, label, answered, closed, mapped = done.stdout.splitlines()
    assert missing.startswith(f"{tmp_path}/none: cannot be opened")
    assert label in ("games", "libs", "net")
    assert answered == "['fewer', 'labels'] []"
    assert closed == "the pool is closed"
    assert mapped == "mapped: []"


CASCADE = """
import sys
import edgeopt_rt

path, small, large = sys.argv[1:4]
with edgeopt_rt.Bundle(small) as small, edgeopt_rt.Bundle(large) as large:
    with edgeopt_rt.Cascade(path, small, large, batch=2, threads=1) as cascade:
        for text in ("the python", "library of"):
            print(cascade.run(text).label, cascade.early)
        print([result.label for result in cascade.run_texts(["the python", "library of"])])
    try:
        edgeopt_rt.Cascade(path, large, small)
    except edgeopt_rt.Failure as failure:
        print(failure.message)
"""


@pytest.mark.heavy
def test_a_cascade(
    python: str,
    board_folder: Path,
    cascade_file: Path,
    classifier: Path,
    other_classifier: Path,
    run: Run,
) -> None:
    words = [cascade_file, other_classifier, classifier]
    done = run(python, "-c", CASCADE, *words, PYTHONPATH=str(board_folder))
    assert done.returncode == 0, done.stderr
    *lines, both, refused = done.stdout.splitlines()
    assert all(re.fullmatch(r"(games|libs|net) \[(True|False)\]", line) for line in lines)
    assert both == str([line.split()[0] for line in lines])
    assert refused.startswith("was found for the small bundle fewer ")


@pytest.mark.heavy
def test_a_bundle_is_what_its_link_pointed_to(
    board_folder: Path, classifier: Path, other_classifier: Path, run: Run, tmp_path: Path
) -> None:
    link = tmp_path / "current"
    code = f"""
import os, edgeopt_rt
os.symlink({str(classifier)!r}, {str(link)!r})
bundle = edgeopt_rt.Bundle({str(link)!r})
os.remove({str(link)!r})
os.symlink({str(other_classifier)!r}, {str(link)!r})
print(edgeopt_rt.Session(bundle).run(text="a tool").label)
"""
    done = run(sys.executable, "-c", code, PYTHONPATH=str(board_folder))
    assert done.returncode == 0, done.stderr
