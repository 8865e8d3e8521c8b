# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The Android example on this machine's Java: the same bridge, and Kotlin if kotlinc is here."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.runtime.examples.conftest import EXAMPLES, Run, tool

pytestmark = pytest.mark.heavy

# What Session.kt declares for the bridge, in Java, and one run without any of its comfort.
JAVA = {
    "Native": """
        package org.edgeopt.rt;
        import java.nio.charset.StandardCharsets;
        public class Native {
            static { System.loadLibrary("edgeopt_jni"); }
            static native long open(byte[] bundle, byte[] libraries, int threads);
            static native void close(long handle);
            static native byte[][] facts(long handle);
            static native Object[] run(long handle, byte[] text, byte[] pair);
            static byte[] utf8(String text) { return text.getBytes(StandardCharsets.UTF_8); }
            public static void main(String[] words) {
                try {
                    long handle = open(utf8(words[0]), null, 1);
                    byte[] pair = words.length > 2 ? utf8(words[2]) : null;
                    for (byte[] fact : facts(handle)) System.out.println(new String(fact));
                    Object[] result = run(handle, utf8(words[1]), pair);
                    float[] vector = (float[]) result[2];
                    System.out.println(((int[]) result[0]).length + " "
                        + ((float[]) result[1]).length + " "
                        + (vector == null ? 0 : vector.length));
                    close(handle);
                } catch (EdgeoptException failure) {
                    System.out.println(failure.getMessage());
                }
            }
        }""",
    "EdgeoptException": """
        package org.edgeopt.rt;
        public class EdgeoptException extends RuntimeException {
            public EdgeoptException(int code, byte[] where, byte[] reason) {
                super(code + " " + new String(where) + ": " + new String(reason));
            }
        }""",
}

KOTLIN = """
import org.edgeopt.rt.EdgeoptException
import org.edgeopt.rt.Session

fun main(words: Array<String>) {
    try {
        Session(words[0], threads = 1).use { session ->
            println("${session.task} ${session.engine} ${session.labels}")
            val result = session.run(words[1], words.getOrNull(2))
            println("${result.items.size} ${result.vector?.size} ${result.truncated}")
            val read = words.getOrNull(2) ?: words[1]
            for (item in result.items) println(read.substring(item.begin, item.end))
        }
    } catch (failure: EdgeoptException) {
        println("${failure.code} ${failure.message}")
    }
}
"""


@pytest.fixture(scope="module")
def bridge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with libedgeopt_jni.so for this machine."""
    home = Path(tool("javac")).resolve().parents[1]
    folder = tmp_path_factory.mktemp("jni")
    configure = ["-S", EXAMPLES / "android", "-B", folder, f"-DJNI_INCLUDE={home / 'include'}"]
    for words in (
        [*configure, "-DCMAKE_C_FLAGS=-Werror"],
        ["--build", folder, "--parallel", "2"],
    ):
        done = subprocess.run([tool("cmake"), *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder


def java(*classes: Path, bridge: Path) -> list[str]:
    """Return the command that runs these, with Java's own checks of a bridge on."""
    place = os.pathsep.join(map(str, classes))
    return [tool("java"), "-Xcheck:jni", f"-Djava.library.path={bridge}", "-cp", place]


def test_java_runs_it(bridge: Path, bundles: dict[str, Path], run: Run, tmp_path: Path) -> None:
    for name, code in JAVA.items():
        (tmp_path / f"{name}.java").write_text(code)
    sources = [tmp_path / f"{name}.java" for name in JAVA]
    done = run(tool("javac"), "-Xlint:all,-serial", "-Werror", "-d", tmp_path, *sources)
    assert done.returncode == 0, done.stderr
    program = [*java(tmp_path, bridge=bridge), "org.edgeopt.rt.Native"]
    done = run(*program, bundles["sequence-classification"], "a tool for text")
    lines = done.stdout.splitlines()
    assert lines[:2] == ["labels", "sequence-classification"]
    assert lines[3:] == ["onnx", "fp32", "games", "libs", "net", "11 3 0"]
    assert "WARNING" not in done.stdout
    done = run(*program, bundles["feature-extraction"], "the tool")
    assert done.stdout.splitlines()[-1] == "2 0 32"
    done = run(*program, tmp_path / "none", "the tool")
    assert done.stdout == f"5 {tmp_path}/none: cannot be opened (No such file or directory)\n"


def test_kotlin_runs_it(bridge: Path, bundles: dict[str, Path], run: Run, tmp_path: Path) -> None:
    kotlinc = shutil.which("kotlinc")
    if kotlinc is None:
        pytest.skip("kotlinc is not installed (npm install kotlin-compiler)")
    (tmp_path / "Main.kt").write_text(KOTLIN)
    jar = tmp_path / "main.jar"
    session = EXAMPLES / "android" / "org" / "edgeopt" / "rt" / "Session.kt"
    words = [kotlinc, session, tmp_path / "Main.kt", "-Werror", "-include-runtime", "-d", jar]
    done = run(*words)
    assert done.returncode == 0, done.stderr
    program = [*java(jar, bridge=bridge), "MainKt"]
    done = run(*program, bundles["sequence-classification"], "a tool \N{GAME DIE} for text")
    assert done.stdout.splitlines()[:2] == [
        "sequence-classification onnx [games, libs, net]",
        "3 null false",
    ]
    done = run(*program, bundles["question-answering"], "a tool", "\N{GAME DIE} the text")
    assert done.stdout.splitlines()[2:], done.stderr
    assert all(line in "\N{GAME DIE} the text" for line in done.stdout.splitlines()[2:])
    done = run(*program, tmp_path / "none", "the tool")
    assert done.stdout.startswith(f"5 {tmp_path}/none: cannot be opened")


def test_the_bridge_names_what_the_class_declares() -> None:
    kotlin = (EXAMPLES / "android/org/edgeopt/rt/Session.kt").read_text()
    bridge = (EXAMPLES / "android/edgeopt_jni.c").read_text()
    declared = {part.split("(")[0] for part in kotlin.split("external fun ")[1:]}
    assert declared == {
        part.split("(")[0] for part in bridge.split("JNICALL Java_org_edgeopt_rt_Native_")[1:]
    }
