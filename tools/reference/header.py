# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The page on the runtime's C interface, from the comments of its header."""

from __future__ import annotations

import re
from pathlib import Path

import edgeopt.runtime
from tools.reference.markdown import code

HEADER = Path(edgeopt.runtime.__file__).parent / "include" / "edgeopt_rt.h"
_SECTION = re.compile(r"/\* ---- (.+) ---- \*/")
_COMMENT = re.compile(r"/\*.*?\*/\s*", re.DOTALL)
_PREPROCESSOR = ("#include", "#ifdef", "#ifndef", "#if ", "#else", "#endif", 'extern "C"', "}\n")


def pages() -> dict[str, str]:
    """Return the page ``c-api.md``."""
    text = HEADER.read_text(encoding="utf-8")
    opening = text.index("*/\n/* ") + len("*/\n")
    first, rest = _split(text[opening:])
    program, prose = _opening(first)
    parts = [
        "# The runtime's C interface",
        "`edgeopt_rt.h`, as its comments have it. What is promised across versions is in "
        "[Promises](abi.md); programs that use it are in `edgeopt/runtime/examples`.",
        program,
        prose,
    ]
    body = rest.split("#define EDGEOPT_RT_H", 1)[1].rsplit("#ifdef __cplusplus", 1)[0]
    for block in re.split(r"\n\s*\n", body):
        parts += _block(block.strip("\n"))
    return {"c-api.md": "\n\n".join(part for part in parts if part) + "\n"}


def functions() -> list[str]:
    """Return the names of the header's functions."""
    return re.findall(r"EO_API [^;(]*?(eo_\w+)\(", HEADER.read_text(encoding="utf-8"))


def _split(text: str) -> tuple[str, str]:
    """Return the comment at the start of ``text``, and what follows it."""
    found = _COMMENT.match(text)
    if found is None:
        return "", text
    return _plain(found.group()), text[found.end() :]


def _plain(comment: str) -> str:
    inner = comment.strip().removeprefix("/*").removesuffix("*/")
    return "\n".join(re.sub(r"^ \* ?", "", line) for line in inner.strip().splitlines())


def _opening(comment: str) -> tuple[str, str]:
    """Return the program in the first comment as code, and the words after it."""
    lines = comment.splitlines()
    program = [line for line in lines if line.startswith("    ")]
    last = max(i for i, line in enumerate(lines) if line.startswith("    "))
    words = " ".join(line.strip() for line in lines[last + 1 :])
    return code("\n".join(line[4:] for line in program), "c"), words.strip()


def _block(block: str) -> list[str]:
    """Return the Markdown of what stands between two empty lines."""
    if section := _SECTION.match(block):
        name = section.group(1)
        return [f"## {name[0].upper()}{name[1:]}", *_block(block[section.end() :].strip("\n"))]
    if not block or block.startswith(_PREPROCESSOR) or block.strip() == "}":
        return []
    parts: list[str] = []
    # A comment that begins a line speaks of what follows; one at the end of a line stays there.
    for piece in re.split(r"\n(?=/\*)", block):
        words, declared = _split(piece)
        parts += [" ".join(words.split()), code(declared, "c") if declared.strip() else ""]
    return parts
