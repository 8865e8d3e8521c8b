# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

import ctypes
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from edgeopt.boards.emulated import plugin, user_mode
from edgeopt.boards.registry import LOCAL, BoardEntry
from edgeopt.errors import InputError, MissingDependencyError
from edgeopt.measure.counters import CLASSES
from tests.programs import compiled

BOARD = BoardEntry(name="pi", kind="emulated", mode="user")

# What clang's assembler for AArch64 makes of them.
INSTRUCTIONS = {
    "integer": (
        (0x8B020020, "add x0, x1, x2"),
        (0xD2800020, "movz x0, #1"),
        (0x9B027C20, "mul x0, x1, x2"),
        (0x9B020C20, "madd x0, x1, x2, x3"),
    ),
    "branch": (
        (0x14000000, "b ."),
        (0xD65F03C0, "ret"),
        (0xB4000000, "cbz x0, ."),
        (0xD4000001, "svc #0"),
        (0xD53BD040, "mrs x0, tpidr_el0"),
    ),
    "load": (
        (0xF9400020, "ldr x0, [x1]"),
        (0xA94007E0, "ldp x0, x1, [sp]"),
        (0xB9800420, "ldrsw x0, [x1, #4]"),
        (0x58000000, "ldr x0, ."),
        (0xC85FFC20, "ldaxr x0, [x1]"),
        (0xF8BFC020, "ldapr x0, [x1]"),
        (0xF8A00041, "ldadda x0, x1, [x2]"),
        (0xF9800000, "prfm pldl1keep, [x0]"),
    ),
    "store": (
        (0xF9000020, "str x0, [x1]"),
        (0xA9BF07E0, "stp x0, x1, [sp, #-16]!"),
        (0x38226820, "strb w0, [x1, x2]"),
        (0xC89FFC20, "stlr x0, [x1]"),
        (0xC8037C20, "stxr w3, x0, [x1]"),
    ),
    "vector_load": (
        (0x3DC00020, "ldr q0, [x1]"),
        (0xAD400400, "ldp q0, q1, [x0]"),
        (0xBC404420, "ldr s0, [x1], #4"),
        (0x4C407000, "ld1 {v0.16b}, [x0]"),
        (0x4D40C800, "ld1r {v0.4s}, [x0]"),
        (0x9C000000, "ldr q0, ."),
        (0x3CDFD020, "ldur q0, [x1, #-3]"),
        (0xA540A000, "ld1w {z0.s}, p0/z, [x0]"),
    ),
    "vector_store": (
        (0x3D800020, "str q0, [x1]"),
        (0x6D0027E8, "stp d8, d9, [sp]"),
        (0x4C00A800, "st1 {v0.4s, v1.4s}, [x0]"),
        (0x3C9FD020, "stur q0, [x1, #-3]"),
        (0xE540E000, "st1w {z0.s}, p0, [x0]"),
    ),
    "vector": (
        (0x4E22D420, "fadd v0.4s, v1.4s, v2.4s"),
        (0x6E22DC20, "fmul v0.4s, v1.4s, v2.4s"),
        (0x4FA29020, "fmul v0.4s, v1.4s, v2.s[1]"),
        (0x1E222820, "fadd s0, s1, s2"),
        (0x4EA11C20, "mov v0.16b, v1.16b"),
        (0x0E22C020, "smull v0.8h, v1.8b, v2.8b"),
        (0x0F52A020, "smull v0.4s, v1.4h, v2.h[1]"),
        (0x4EA29C20, "mul v0.4s, v1.4s, v2.4s"),
        (0x4FA28020, "mul v0.4s, v1.4s, v2.s[1]"),
        (0x6EA2B420, "sqrdmulh v0.4s, v1.4s, v2.4s"),
        (0x4F82C020, "sqdmulh v0.4s, v1.4s, v2.s[0]"),
        (0x6E828420, "sqrdmlah v0.4s, v1.4s, v2.4s"),
        (0x4EA1B820, "fcvtzs v0.4s, v1.4s"),
        (0x4EA2BC20, "addp v0.4s, v1.4s, v2.4s"),
        (0x4E602820, "saddlp v0.4s, v1.8h"),
        (0x4E22DC20, "fmulx v0.4s, v1.4s, v2.4s"),
        (0x4E823820, "zip1 v0.4s, v1.4s, v2.4s"),
        (0x0E0C3C00, "umov w0, v0.s[1]"),
        (0x0E62D020, "sqdmull v0.4s, v1.4h, v2.4h"),
        (0x0E22E020, "pmull v0.8h, v1.8b, v2.8b"),
        (0x6EA1F820, "fsqrt v0.4s, v1.4s"),
    ),
    "multiply_add": (
        (0x4E22CC20, "fmla v0.4s, v1.4s, v2.4s"),
        (0x4EA2CC20, "fmls v0.4s, v1.4s, v2.4s"),
        (0x4FA21820, "fmla v0.4s, v1.4s, v2.s[3]"),
        (0x4FC25820, "fmls v0.2d, v1.2d, v2.d[1]"),
        (0x4E420C20, "fmla v0.8h, v1.8h, v2.8h"),
        (0x4EC20C20, "fmls v0.8h, v1.8h, v2.8h"),
        (0x4F121820, "fmla v0.8h, v1.8h, v2.h[5]"),
        (0x4E22EC20, "fmlal v0.4s, v1.4h, v2.4h"),
        (0x6EA2CC20, "fmlsl2 v0.4s, v1.4h, v2.4h"),
        (0x1F020C20, "fmadd s0, s1, s2, s3"),
        (0x1F628C20, "fnmsub d0, d1, d2, d3"),
        (0x4E629420, "mla v0.8h, v1.8h, v2.8h"),
        (0x6E629420, "mls v0.8h, v1.8h, v2.8h"),
        (0x6F520820, "mla v0.8h, v1.8h, v2.h[5]"),
        (0x6FA24020, "mls v0.4s, v1.4s, v2.s[1]"),
        (0x0E628020, "smlal v0.4s, v1.4h, v2.4h"),
        (0x4E628020, "smlal2 v0.4s, v1.8h, v2.8h"),
        (0x2E228020, "umlal v0.8h, v1.8b, v2.8b"),
        (0x0E62A020, "smlsl v0.4s, v1.4h, v2.4h"),
        (0x0F522820, "smlal v0.4s, v1.4h, v2.h[5]"),
        (0x6F526820, "umlsl2 v0.4s, v1.8h, v2.h[5]"),
        (0x4E606820, "sadalp v0.4s, v1.8h"),
        (0x6E206820, "uadalp v0.8h, v1.16b"),
        (0x6EC2FC20, "bfmlalt v0.4s, v1.8h, v2.8h"),
        (0x65A20020, "fmla z0.s, p0/m, z1.s, z2.s"),
        (0x65A22020, "fmls z0.s, p0/m, z1.s, z2.s"),
        (0x65A28020, "fmad z0.s, p0/m, z1.s, z2.s"),
        (0x64AA0020, "fmla z0.s, z1.s, z2.s[1]"),
    ),
    "dot": (
        (0x4E829420, "sdot v0.4s, v1.16b, v2.16b"),
        (0x2E829420, "udot v0.2s, v1.8b, v2.8b"),
        (0x4FA2E820, "sdot v0.4s, v1.16b, v2.4b[3]"),
        (0x6FA2E020, "udot v0.4s, v1.16b, v2.4b[1]"),
        (0x4E829C20, "usdot v0.4s, v1.16b, v2.16b"),
        (0x4F82F820, "usdot v0.4s, v1.16b, v2.4b[2]"),
        (0x4F02F820, "sudot v0.4s, v1.16b, v2.4b[2]"),
        (0x4E82A420, "smmla v0.4s, v1.16b, v2.16b"),
        (0x6E82A420, "ummla v0.4s, v1.16b, v2.16b"),
        (0x4E82AC20, "usmmla v0.4s, v1.16b, v2.16b"),
        (0x6E42FC20, "bfdot v0.4s, v1.8h, v2.8h"),
        (0x4F62F020, "bfdot v0.4s, v1.8h, v2.2h[1]"),
        (0x6E42EC20, "bfmmla v0.4s, v1.8h, v2.8h"),
        (0x44820020, "sdot z0.s, z1.b, z2.b"),
        (0x44AA0420, "udot z0.s, z1.b, z2.b[1]"),
        (0x44827820, "usdot z0.s, z1.b, z2.b"),
        (0x44AA1C20, "sudot z0.s, z1.b, z2.b[1]"),
        (0x45029820, "smmla z0.s, z1.b, z2.b"),
        (0x45829820, "usmmla z0.s, z1.b, z2.b"),
    ),
}


def test_instructions_are_told_apart() -> None:
    library = compiled(
        "classes.so", *plugin.FLAGS[:-1], plugin.SOURCES / "classes.c", f"-I{plugin.SOURCES}"
    )
    class_of = ctypes.CDLL(str(library)).eo_class_of
    found = {
        text: CLASSES[class_of(ctypes.c_uint32(word))]
        for words in INSTRUCTIONS.values()
        for word, text in words
    }
    assert found == {text: name for name, words in INSTRUCTIONS.items() for _, text in words}
    assert INSTRUCTIONS.keys() == set(CLASSES)


def test_classes_have_the_names_of_the_header() -> None:
    header = (plugin.SOURCES / "classes.h").read_text()
    names = re.findall(r"^    EO_([A-Z_]+),", header, re.MULTILINE)
    assert tuple(name.lower() for name in names) == CLASSES


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (LOCAL, "this is no emulated board of ours"),
        (replace(BOARD, kind="ssh", mode=None), "this is no emulated board of ours"),
        (replace(BOARD, mode="full-system"), "this is a full-system board"),
    ],
)
def test_only_a_user_mode_board_counts(entry: BoardEntry, message: str) -> None:
    with pytest.raises(InputError, match=message):
        plugin.counting_plugin(entry, "aarch64")


def qemu_only(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Leave QEMU as all that this machine has."""
    program = user_mode.qemu()
    if program is None:
        pytest.skip("qemu-aarch64 is not installed")
    path = folder / "qemu-aarch64"
    path.symlink_to(program)
    monkeypatch.setenv("PATH", str(folder))
    return path


def test_without_a_compiler_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    qemu_only(tmp_path, monkeypatch)
    with pytest.raises(MissingDependencyError) as caught:
        plugin.counting_plugin(BOARD, "aarch64")
    assert "a C compiler (cc)" in str(caught.value)
    assert "sudo apt install gcc" in str(caught.value)


def test_a_qemu_without_plugins_is_told() -> None:
    other = shutil.which("true")  # takes any option, and tells of no plugins
    with pytest.raises(MissingDependencyError, match="built without plugins"):
        plugin.check_plugins(str(other))


@pytest.mark.parametrize("version", plugin.VERSIONS)
def test_it_is_built_for_each_version_of_the_interface(version: int) -> None:
    if (compiler := shutil.which("cc")) is None:
        pytest.skip("cc is not installed")
    library = plugin.build(compiler, version).read_bytes()
    asked = set(re.findall(rb"qemu_plugin_[a-z0-9_]+", library))
    assert (b"qemu_plugin_scoreboard_new" in asked) == (version > 1)
    assert (b"qemu_plugin_register_vcpu_tb_exec_inline" in asked) == (version == 1)


def test_the_version_that_this_qemu_has_is_taken() -> None:
    program, compiler = user_mode.qemu(), shutil.which("cc")
    if program is None or compiler is None:
        pytest.skip("qemu-aarch64 or cc is not installed")
    told = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    major, minor = map(int, re.findall(r"version (\d+)\.(\d+)", told)[0])
    taken = plugin.loaded(program, compiler)
    assert taken == plugin.build(compiler, 3 if (major, minor) >= (9, 1) else 1)


def test_a_qemu_of_another_plugin_interface_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    program, compiler = user_mode.qemu(), shutil.which("cc")
    if program is None or compiler is None:
        pytest.skip("qemu-aarch64 or cc is not installed")
    monkeypatch.setattr(plugin, "VERSIONS", (999,))
    with pytest.raises(MissingDependencyError, match="Could not load plugin") as caught:
        plugin.loaded(program, compiler)
    assert "9.1 and later" in str(caught.value.hint)
