# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The examples in C and C++, built and run on tiny bundles of each text task."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

import edgeopt
from tests.runtime.examples.conftest import EXAMPLES, RUNTIME, Run, tool

pytestmark = pytest.mark.heavy

CONTEXT = "the tool is a library for text and data in python"


def make(folder: Path, target: str, flags: str, **variables: object) -> Path:
    """Build one program of examples/c with its own Makefile."""
    words = [tool("make"), "-f", EXAMPLES / "c" / "Makefile", target, "CC=gcc"]
    words += [f"VPATH={EXAMPLES / 'c'}", f"CFLAGS=-Wall -Wextra -Werror -pedantic {flags}"]
    words += [f"{name}={value}" for name, value in variables.items()]
    done = subprocess.run(
        [str(word) for word in words], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder / target


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with programs that have the library's sources in them, under sanitizers."""
    folder = tmp_path_factory.mktemp("sanitized")
    for target in ("classify", "cascade"):
        make(folder, target, "-O1 -g -fsanitize=address,undefined", RT=RUNTIME)
    return folder


@pytest.fixture(scope="module")
def classify(sanitized: Path) -> Path:
    return sanitized / "classify"


def test_labels_with_scores(classify: Path, bundles: dict[str, Path], run: Run) -> None:
    place = bundles["sequence-classification"]
    done = run(classify, place, "a tool for text", "the data")
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"labels: sequence-classification on onnx [\d.]+, fp32\n", done.stderr), (
        done.stderr
    )
    first, *scores = done.stdout.splitlines()[:4]
    assert first == "a tool for text"
    found = dict(reversed(line.split()) for line in scores)
    assert set(found) == {"games", "libs", "net"}
    assert sum(map(float, found.values())) == pytest.approx(1, abs=1e-3)
    assert "the data" in done.stdout
    assert run(classify, place, stdin="a tool for text\r\nthe data\n").stdout == done.stdout


def test_words_of_a_text(classify: Path, bundles: dict[str, Path], run: Run) -> None:
    done = run(classify, bundles["token-classification"], "the tool")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()[1:]
    assert lines
    for line in lines:
        assert re.fullmatch(r'  [01]\.\d{4}  (games|libs|net)  "(the|tool|the tool)"', line), line


def test_an_answer_from_its_context(classify: Path, bundles: dict[str, Path], run: Run) -> None:
    place = bundles["question-answering"]
    done = run(classify, place, "a tool", CONTEXT)
    assert done.returncode == 0, done.stderr
    _, first, *_ = done.stdout.splitlines()
    answer = re.fullmatch(r'  [01]\.\d{4}  "(.+)"', first)
    assert answer is not None
    assert answer[1] in CONTEXT
    assert run(classify, place, stdin=f"a tool\t{CONTEXT}\n").stdout == done.stdout
    alone = run(classify, place, "a tool")
    assert alone.returncode == 1
    assert alone.stderr.count("classify: ") == 1


def test_the_first_values_of_an_embedding(
    classify: Path, bundles: dict[str, Path], run: Run
) -> None:
    done = run(classify, bundles["feature-extraction"], "the tool")
    assert re.fullmatch(r"the tool\n  32 values:( -?\d+\.\d{4}){8}\n", done.stdout), done.stdout


def test_what_fails_is_told(classify: Path, classifier: Path, run: Run, tmp_path: Path) -> None:
    missing = run(classify, tmp_path / "none", "a")
    assert (missing.returncode, missing.stderr) == (
        2,
        f"classify: {tmp_path}/none: cannot be opened (No such file or directory)\n",
    )
    engine = run(classify, "-e", "tvm", classifier, "a")
    assert engine.returncode == 2
    assert engine.stderr == "classify: labels: the bundle has no tvm artifact\n"
    nowhere = run(classify, classifier, "a", EDGEOPT_RT_LIBRARIES=str(tmp_path))
    assert nowhere.returncode == 2
    assert f"onnx: no libonnxruntime.so.1* in $EDGEOPT_RT_LIBRARIES ({tmp_path})" in nowhere.stderr
    long = run(classify, classifier, stdin="a" * 70_000 + "\nthe tool\n")
    assert long.returncode == 1
    assert "the tool\n" in long.stdout
    assert run(classify).returncode == 2


def test_it_links_an_installed_library(
    prefix: Path, classifier: Path, run: Run, tmp_path: Path
) -> None:
    (library,) = prefix.glob("lib*/libedgeopt_rt.so")
    program = make(tmp_path, "classify", "-O2", RT=prefix, LIB=library.parent)
    assert run(program, classifier, "the tool").returncode == 0


def test_models_change_under_load(
    classifier: Path, other_classifier: Path, run: Run, tmp_path: Path
) -> None:
    program = make(tmp_path, "hot_swap", "-O1 -g -fsanitize=thread", RT=RUNTIME)
    # onnxruntime's library is not built for the sanitizer, which sees none of its atomics.
    (tmp_path / "known").write_text("race:libonnxruntime.so\n")
    known = {"TSAN_OPTIONS": f"suppressions={tmp_path}/known report_mutex_bugs=0"}
    done = run(program, 6, "a tool for text", classifier, other_classifier, **known)
    assert done.returncode == 0, done.stderr
    *swaps, last = done.stdout.splitlines()
    assert last == "0 calls failed"
    assert len(swaps) == 6
    assert len({line.split()[0] for line in swaps}) == 2
    assert all(int(line.split()[2]) > 0 for line in swaps), swaps
    gone = run(program, 1, "a tool", classifier, tmp_path / "none", **known)
    assert gone.returncode == 0
    assert "cannot be opened" in gone.stderr


TEXTS = [
    f"{a} {b}" for a in ("the", "library", "tool", "data") for b in ("python", "of", "in", "a")
]
CASCADE = """
#include <edgeopt_rt.hpp>
#include <cstdio>
#include <string>

int main(int, char **argv)
try {
    edgeopt::cascade cascade{argv[1], edgeopt::bundle{argv[2]}, edgeopt::bundle{argv[3]}};
    for (char **word = argv + 4; *word != nullptr; word++) {
        const eo_item best = cascade.run({{*word}}).front().items[0];
        std::printf("%s\\n  %.4f  %s%s\\n", *word, best.score,
                    std::string{cascade.label(best.label)}.c_str(),
                    cascade.early(0) ? "  (early)" : "");
    }
    return 0;
} catch (const edgeopt::error &failure) {
    std::printf("%s\\n", failure.what());
    return failure.code;
}
"""


def test_the_small_model_answers_where_it_is_sure(
    cascade_file: Path, classifier: Path, other_classifier: Path, run: Run, sanitized: Path
) -> None:
    program = sanitized / "cascade"
    words = [cascade_file, other_classifier, classifier]
    done = run(program, *words, *TEXTS)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[::2] == TEXTS
    found = [line.split() for line in lines[1::2]]
    for small, large, (score, label, *early) in zip(
        edgeopt.read(other_classifier, TEXTS).results,
        edgeopt.read(classifier, TEXTS).results,
        found,
        strict=True,
    ):
        stands = small if early else large
        assert bool(early) == (small.items[0].score >= 0.5)
        assert label == stands.items[0].label
        assert float(score) == pytest.approx(stands.items[0].score, abs=1e-4)
    early = sum(len(words) == 3 for words in found)
    assert 0 < early < len(TEXTS)
    assert done.stderr == f"{early} of 16 texts left early\n"
    assert run(program, *words, stdin="\n".join(TEXTS)).stdout == done.stdout

    long = run(program, *words, stdin="the tool\n" * 8 + "a" * 70_000 + "\nthe tool\n")
    assert long.returncode == 1
    assert long.stdout.count("the tool") == 8
    swapped = run(program, cascade_file, classifier, other_classifier, "a")
    assert swapped.returncode == 2
    assert "was found for the small bundle fewer " in swapped.stderr
    assert run(program).returncode == 2


def test_a_cascade_in_cpp(
    cascade_file: Path,
    classifier: Path,
    other_classifier: Path,
    run: Run,
    prefix: Path,
    tmp_path: Path,
) -> None:
    (library,) = prefix.glob("lib*/libedgeopt_rt.so")
    (tmp_path / "cascade.cpp").write_text(CASCADE)
    program = tmp_path / "cascade"
    flags = ["-std=c++17", "-Wall", "-Wextra", "-Werror", "-pedantic", f"-I{prefix / 'include'}"]
    flags += [library, f"-Wl,-rpath,{library.parent}"]
    built = run(tool("g++"), tmp_path / "cascade.cpp", *flags, "-o", program)
    assert built.returncode == 0, built.stderr
    done = run(program, cascade_file, other_classifier, classifier, *TEXTS)
    assert done.returncode == 0, done.stdout
    assert done.stdout.splitlines()[::2] == TEXTS
    assert 0 < done.stdout.count("(early)") < len(TEXTS)
    swapped = run(program, cascade_file, classifier, other_classifier, "a")
    assert swapped.returncode == 1  # EO_EINPUT
    assert "was found for the small bundle fewer " in swapped.stdout


@pytest.mark.parametrize("way", ["find_package", "add_subdirectory"])
def test_cmake_finds_it(
    way: str, prefix: Path, bundles: dict[str, Path], run: Run, tmp_path: Path
) -> None:
    how = {
        "find_package": [f"-DCMAKE_PREFIX_PATH={prefix}"],
        "add_subdirectory": [f"-DEDGEOPT_RT_SOURCES={RUNTIME}", "-DEDGEOPT_RT_WITH_TVM=OFF"],
    }[way]
    configure = ["-S", EXAMPLES / "cpp", "-B", tmp_path, "-DCMAKE_CXX_FLAGS=-Werror", *how]
    for words in (configure, ["--build", tmp_path, "--target", "classify", "--parallel", "2"]):
        done = run(tool("cmake"), *words)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "warning" not in done.stdout + done.stderr
    program = tmp_path / "classify"
    done = run(program, bundles["question-answering"], stdin=f"a tool\t{CONTEXT}\n")
    assert done.returncode == 0, done.stderr
    assert '"' in done.stdout
    done = run(program, bundles["sequence-classification"], stdin="a tool\n\n")
    assert done.returncode == 0, done.stderr
    assert "games" in done.stdout
    done = run(program, tmp_path / "none")
    assert done.returncode == 1
    assert done.stderr.endswith("cannot be opened (No such file or directory) (code 5)\n")


def test_an_engine_can_be_left_out(classifier: Path, run: Run, tmp_path: Path) -> None:
    engines = ("ONNX", "TFLITE", "OPENVINO", "TVM")
    off = [f"-DEDGEOPT_RT_WITH_{engine}=OFF" for engine in engines]
    source = f"-DEDGEOPT_RT_SOURCES={RUNTIME}"
    assert run(tool("cmake"), "-S", EXAMPLES / "cpp", "-B", tmp_path, source, *off).returncode == 0
    done = run("cmake", "--build", tmp_path, "--target", "classify", "--parallel", "2")
    assert done.returncode == 0, done.stderr
    done = run(tmp_path / "classify", classifier)
    assert done.stderr == "classify: onnx: this build has no such engine (code 3)\n"
