# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What ABI.md promises, against the header, the built libraries and the Python binding.

``abi.txt`` is what was promised. If a test says that it differs, the promise changed: see ABI.md
for what to do, and write the new one with ``python -m tests.runtime.test_abi``.
"""

from __future__ import annotations

import ctypes
import importlib.util
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile

from edgeopt._version import __version__
from edgeopt.engines.elf import read_needs, version_key
from edgeopt.runtime.build import PLATFORMS, ROOT, SMALL, build_for_host, build_runtime
from edgeopt.runtime.python import edgeopt_rt
from tests.programs import compiled

PROMISED = Path(__file__).with_name("abi.txt")
HEADER = ROOT / "include" / "edgeopt_rt.h"
BOUND = {
    "eo_failure": edgeopt_rt._Failure,
    "eo_tensor": edgeopt_rt._Tensor,
    "eo_artifact": edgeopt_rt._Artifact,
    "eo_option": edgeopt_rt._Option,
    "eo_session_options": edgeopt_rt._Options,
    "eo_text": edgeopt_rt._Text,
    "eo_image": edgeopt_rt._Image,
    "eo_item": edgeopt_rt._Item,
    "eo_result": edgeopt_rt._Result,
    "eo_box": edgeopt_rt._Box,
    "eo_generator_options": edgeopt_rt._GeneratorOptions,
    "eo_sampling": edgeopt_rt._Sampling,
    "eo_sound": edgeopt_rt._Sound,
    "eo_piece": edgeopt_rt._Piece,
}
SYSTEM_LIBRARIES = {"libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "libc.so"}
SYSTEM_LIBRARIES |= {"ld-linux-aarch64.so.1", "ld-linux-armhf.so.3", "ld-linux-x86-64.so.2"}
SMALL_BYTES = 136 * 1024  # of the library for aarch64 without an engine's code

needs_zig = pytest.mark.skipif(
    importlib.util.find_spec("ziglang") is None, reason="ziglang is not installed"
)


def header() -> str:
    """The header without comments and preprocessor lines."""
    text = re.sub(r"/\*.*?\*/", "", HEADER.read_text(), flags=re.DOTALL)
    return re.sub(r"^#.*$", "", text, flags=re.MULTILINE)


def functions() -> list[str]:
    found = re.findall(r"EO_API\s+([^;]+?\([^;]*\));", header())
    return sorted(re.sub(r"\s+", " ", f) for f in found)


def structs() -> dict[str, list[str]]:
    found = re.findall(r"typedef struct (\w+) \{(.*?)\} \1;", header(), re.DOTALL)
    member = re.compile(r"(\w+)(?:\[\w+\])?;")
    return {name: member.findall(body) for name, body in found}


def constants() -> list[str]:
    defined = re.findall(r"^#define (EO_MAX\w+|EO_ABI\w+) ", HEADER.read_text(), re.MULTILINE)
    return [*defined, *re.findall(r"(EO_\w+) = \d", header())]


def layout_program() -> str:
    lines = ['#include "edgeopt_rt.h"', "#include <stddef.h>", "#include <stdio.h>"]
    lines += ["int main(void)", "{"]

    def line(name: str, first: str, second: str) -> str:
        return f'    printf("{name} %u %u\\n", (unsigned)({first}), (unsigned)({second}));'

    for name in constants():
        lines.append(line(name, name, "0"))
    for struct, members in structs().items():
        lines.append(line(struct, f"sizeof({struct})", f"_Alignof({struct})"))
        for m in members:
            lines.append(
                line(f"{struct}.{m}", f"offsetof({struct}, {m})", f"sizeof((({struct} *)0)->{m})")
            )
    return "\n".join([*lines, "    return 0;", "}", ""])


def layout(folder: Path, triple: str) -> list[str]:
    """Lines of name, offset (or size, or value) and size (or alignment), told by a C program."""
    source = folder / "layout.c"
    source.write_text(layout_program())
    program = compiled(
        "layout", "-std=c11", *(["-static", *SMALL] if triple else []), source, triple=triple
    )
    runner = ["qemu-arm"] if triple else []
    done = subprocess.run([*runner, str(program)], check=True, capture_output=True, text=True)
    return done.stdout.splitlines()


def bound_layout(bits: int) -> Iterator[str]:
    """The same lines of the binding's structs, as a machine of ``bits`` lays them out."""
    for name, bound in BOUND.items():
        body = re.findall(rf"struct {name} \{{(.*?)\}}", header(), re.DOTALL)[0]
        # On 64 bits ctypes has one type for size_t and uint64_t; the header tells them apart.
        sizes = set(re.findall(r"size_t (\w+);", body))
        fields = [(field, _sized(kind, bits, field in sizes)) for field, kind in bound._fields_]
        twin: Any = type(name, (ctypes.Structure,), {"_fields_": fields})
        yield f"{name} {ctypes.sizeof(twin)} {ctypes.alignment(twin)}"
        for field, _ in fields:
            place = getattr(twin, field)
            yield f"{name}.{field} {place.offset} {place.size}"


def _sized(kind: Any, bits: int, is_size: bool) -> Any:
    is_pointer = kind in (ctypes.c_char_p, ctypes.c_void_p) or hasattr(kind, "contents")
    return ctypes.c_uint32 if bits == 32 and (is_pointer or is_size) else kind


def exported(path: Path) -> set[str]:
    with path.open("rb") as file:
        symbols = ELFFile(file).get_section_by_name(".dynsym")
        return {
            s.name
            for s in symbols.iter_symbols()
            if s.entry.st_shndx != "SHN_UNDEF" and s.entry.st_info.bind != "STB_LOCAL"
        }


def current(folder: Path) -> str:
    wide, narrow = layout(folder, ""), layout(folder, "arm-linux-musleabihf")
    text = "# Written by: python -m tests.runtime.test_abi; what it means is in ABI.md.\n"
    text += "".join(f"{function};\n" for function in functions())
    text += "# constant, value and 0; struct, size and alignment; member, offset and size: on\n"
    text += "# 64 bits | on 32-bit ARM\n"
    for a, b in zip(wide, narrow, strict=True):
        assert a.split()[0] == b.split()[0]
        text += f"{a} | {b.split(' ', 1)[1]}\n"
    return text


@needs_zig
def test_header_and_layouts_are_the_promised_ones(tmp_path: Path) -> None:
    for tool in ("gcc", "qemu-arm"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    assert current(tmp_path) == PROMISED.read_text()


@pytest.mark.parametrize("bits", [64, 32])
def test_the_binding_has_the_same_layouts(bits: int) -> None:
    promised = [line for line in PROMISED.read_text().splitlines() if " | " in line]
    lines = []
    for line in promised:
        wide, narrow = line.split(" | ")
        lines.append(wide if bits == 64 else f"{wide.split()[0]} {narrow}")
    structs = [line for line in lines if line.startswith("eo_")]
    assert list(bound_layout(bits)) == structs


def test_the_binding_knows_every_function_and_code() -> None:
    known = {re.findall(r"(eo_\w+)\(", f)[0] for f in functions()}
    assert set(edgeopt_rt._SIGNATURES) | {"eo_bundle_file"} == known
    text = PROMISED.read_text()
    assert f"EO_ABI_VERSION {edgeopt_rt.ABI_VERSION} 0" in text
    for name in ("INPUT", "BUNDLE", "ENGINE", "UNSUPPORTED", "CANCELLED"):
        assert f"EO_E{name} {getattr(edgeopt_rt, name)} 0" in text
    assert f"EO_ENOMEM {edgeopt_rt.MEMORY} 0" in text
    assert f"EO_EIO {edgeopt_rt.FILE} 0" in text


@needs_zig
@pytest.mark.parametrize(("arch", "libc"), PLATFORMS)
def test_a_built_library_exports_these_and_needs_little(arch: str, libc: str) -> None:
    library = build_runtime(arch, libc).library
    promised = re.findall(r"(eo_\w+)\([^;]*;$", PROMISED.read_text(), re.MULTILINE)
    assert exported(library) == set(promised)
    assert len(promised) == len(set(promised))
    needs = read_needs(library)
    assert needs.arch == arch
    assert needs.glibcxx is None
    assert set(needs.libraries) <= SYSTEM_LIBRARIES
    if libc == "glibc":
        assert needs.glibc is not None
        assert version_key(needs.glibc) <= (2, 17)
    else:
        assert needs.glibc is None


@needs_zig
def test_the_library_without_engines_is_small() -> None:
    build = build_runtime("aarch64", engines=())
    assert build.library.stat().st_size <= SMALL_BYTES


@needs_zig
def test_options_of_a_newer_header_must_be_unset() -> None:
    library = ctypes.CDLL(str(build_for_host().library))
    size = ctypes.sizeof(edgeopt_rt._Options) + 8
    failure, handle = edgeopt_rt._Failure(), ctypes.c_void_p()
    bundle = ctypes.create_string_buffer(4096)  # never looked at: the options are read first
    given = (ctypes.c_char * size)()
    given[:4] = size.to_bytes(4, "little")
    given[size - 1] = b"\1"
    found = library.eo_session_open(bundle, given, ctypes.byref(handle), ctypes.byref(failure))
    assert found == edgeopt_rt.UNSUPPORTED
    assert failure.where == b"options"
    assert failure.message == f"sets an option that this version ({__version__}) has not".encode()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        PROMISED.write_text(current(Path(scratch)))
