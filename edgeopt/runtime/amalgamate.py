# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The runtime library as two files, ``edgeopt_rt.c`` and ``edgeopt_rt.h``, for an app's own build.

The library's C files become one translation unit. What was private to a file gets the file's name
as a prefix (``check`` of ``engine_onnx.c`` becomes ``eo_engine_onnx__check``), what the files share
among each other becomes static, and only the functions of the header are left to be linked. The C
is read token by token, so that no string, comment or member of a struct is taken for a name. It
takes for granted how our sources are written, and refuses what it cannot rename soundly.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edgeopt.engine_names import ENGINES
from edgeopt.errors import CompileError
from edgeopt.runtime.build import HEADER, NOTICES, ROOT, SOURCES, library_sources
from edgeopt.runtime.install import write_files

SOURCE = "edgeopt_rt.c"

_TOKEN = re.compile(
    r"""
    (?P<space>   (?: [ \t\r\n\f\v] | \\\n | //[^\n]* | /\*.*?\*/ )+ )
  | (?P<string>  (?:u8|[uUL])? (?: "(?:[^"\\\n]|\\.)*" | '(?:[^'\\\n]|\\.)*' ) )
  | (?P<number>  \.?[0-9] (?: [eEpP][+-] | [\w.] )* )
  | (?P<name>    [A-Za-z_]\w* )
  | (?P<punct>   \.\.\. | -> | \#\# | <<= | >>= | [-+*/%&|^=!<>]= | && | \|\| | \+\+ | -- | << | >>
               | [][(){}.,;:?~!%^&*+=|/<>\#-] )
    """,
    re.VERBOSE | re.DOTALL,
)
_INCLUDE = re.compile(r'#\s*include\s+"([^"]+)"')
_TAGS = ("struct", "union", "enum")


@dataclass(slots=True)
class _Token:
    """One token; ``line`` of a directive holds the whole of it and ``inner`` its tokens."""

    kind: str  # space, string, number, name, punct, directive
    text: str
    inner: list[_Token] = field(default_factory=list)


@dataclass(slots=True)
class _Item:
    """One declaration or definition at file scope: where its tokens stand, and what it declares.

    ``linkage`` is static, external, typedef or, if it declares types only, type.
    """

    first: int
    linkage: str
    names: list[str]
    is_definition: bool


@dataclass(slots=True)
class _Source:
    """One C file or header; ``names`` and ``tags`` are declared at its file scope."""

    path: Path
    tokens: list[_Token]
    items: list[_Item] = field(default_factory=list)
    tags: set[str] = field(default_factory=set)  # with a body here
    enumerators: set[str] = field(default_factory=set)
    macros: list[str] = field(default_factory=list)

    def named(self, *linkages: str) -> set[str]:
        return {name for item in self.items if item.linkage in linkages for name in item.names}


def export(folder: Path) -> list[Path]:
    """Write the two files, what builds and explains them, and the notices; return their paths.

    ``folder`` may exist and hold an earlier export, but nothing else. Raises InputError if it
    does or cannot be written.
    """
    files: dict[str, bytes | Path] = {
        SOURCE: amalgamate().encode(),
        HEADER: ROOT / "include" / HEADER,
        "CMakeLists.txt": ROOT / "export" / "CMakeLists.txt",
        "README.md": ROOT / "export" / "README.md",
        **{name: ROOT / name for name in ("ABI.md", *NOTICES)},
    }
    return write_files(folder, files)


def amalgamate() -> str:
    """Return the text of ``edgeopt_rt.c``: the same sources give the same text."""
    sources = [_read(path) for path in library_sources()]
    shared: dict[str, _Source] = {}
    for source in sources:
        _collect(source.tokens, shared)
    public = _read(ROOT / "include" / HEADER).named("external")
    _refuse_clashes(sources, shared)
    taken = set().union(*(header.tags for header in shared.values()))
    every = [*shared.values(), *sources]
    words = {t.text for source in every for t in source.tokens if t.kind == "name"}
    licence = _licence()
    parts = [licence, _TOP]
    for header in shared.values():
        text = _print(header, public, {}, {}).replace(licence, "")
        parts += _part(header.path, text)
    for source in sources:
        stem = source.path.stem
        local = source.named("static", "typedef") | source.enumerators | set(source.macros)
        names = {n: f"eo_{stem}__{n}" for n in sorted(local) if not n.startswith("eo_")}
        tags = {
            t: f"eo_{stem}__{t}" for t in sorted(source.tags - taken) if not t.startswith("eo_")
        }
        if clash := words & {*names.values(), *tags.values()}:
            raise _refused(source.path, "a name that renaming would take", clash.pop())
        text = _print(source, public, names, tags).replace(licence, "")
        parts += _part(source.path, text)
        if "FP_CONTRACT OFF" in text:
            parts.append("#ifdef __clang__\n#pragma STDC FP_CONTRACT DEFAULT\n#endif\n")
    return "".join(parts)


def _part(path: Path, text: str) -> list[str]:
    """Return a file's text under its name, to be left out with its engine."""
    without = _without(path)
    name = f"\n/* ---- {path.relative_to(SOURCES).as_posix()} ---- */\n"
    return [name, f"#ifndef {without}\n{text}#endif\n" if without else text]


def _without(path: Path) -> str | None:
    """Return the macro that leaves out a file of one engine: ``engine_NAME.c`` or ``NAME_*``."""
    for engine in ENGINES if path.parent.name == "engines" else ():
        if path.stem == f"engine_{engine}" or path.stem.startswith(f"{engine}_"):
            return f"EO_WITHOUT_{engine.upper()}"
    return None


def _licence() -> str:
    """Return the comment with the SPDX lines, by which every file of ours begins."""
    before, end, _ = (ROOT / "include" / HEADER).read_text().partition("*/\n")
    return before + end


_TOP = f"""\
/* edgeopt_rt, the whole library as one file: written by `edgeopt runtime export`, not to be edited.
 * Compile it as C11 and link with -ldl -lm -pthread; {HEADER} says how it is used. What lacks an
 * engine's code is smaller: -DEO_WITHOUT_{", _".join(engine.upper() for engine in ENGINES)}. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#ifndef _FILE_OFFSET_BITS
#define _FILE_OFFSET_BITS 64
#endif

#include "{HEADER}"

/* Not every choice of engines uses all of the library. */
#define EO_PRIVATE static __attribute__((unused))
"""


# ---- reading ----


def _read(path: Path, text: str | None = None) -> _Source:
    """Read a file; a header without a guard is part of the file that includes it."""
    source = _Source(path, list(_lex(path, path.read_text() if text is None else text)))
    whole: list[_Token] = []
    for token in source.tokens:
        if token.kind == "directive" and (found := _INCLUDE.match(token.text)):
            included = SOURCES / found[1]
            if found[1] != HEADER and not _is_guarded(included):
                whole += [_Token("space", "\n"), *_lex(included, included.read_text())]
                continue
        whole.append(token)
    source.tokens = whole
    for token in whole:
        if token.kind == "directive" and token.inner[0].text == "define":
            if any(t.text in ("#", "##") for t in token.inner):
                raise _refused(path, "a macro that pastes or quotes its arguments", token.text)
            name = token.inner[2].text
            if path.suffix == ".c":
                source.macros.append(name)
    _parse(source)
    return source


def _is_guarded(path: Path) -> bool:
    return re.search(r"^#ifndef (\w+)\n#define \1\n", path.read_text(), re.MULTILINE) is not None


def _lex(path: Path, text: str) -> Iterator[_Token]:
    """Yield the tokens, whose texts together are ``text``; a directive is one token."""
    at, starts_line = 0, True
    while at < len(text):
        if starts_line and text[at] == "#":
            end = _directive_end(text, at)
            inner = list(_lex(path, text[at + 1 : end].lstrip(" \t")))
            yield _Token("directive", text[at:end], inner)
            at, starts_line = end, False
            continue
        found = _TOKEN.match(text, at)
        if found is None or found.lastgroup is None:
            raise _refused(path, "is not C as we write it", text[at : at + 40])
        yield _Token(found.lastgroup, found[0])
        starts_line = found.lastgroup == "space" and (starts_line or "\n" in found[0])
        at = found.end()


def _directive_end(text: str, at: int) -> int:
    """Return where the directive at ``at`` ends: before its newline; a comment may span lines."""
    skip = re.compile(r'\\\n|/\*.*?\*/|//[^\n]*|"(?:[^"\\\n]|\\.)*"|[^\n]', re.DOTALL)
    while at < len(text) and text[at] != "\n":
        found = skip.match(text, at)
        at = found.end() if found else at + 1
    return at


def _parse(source: _Source) -> None:
    """Find what stands at file scope."""
    tokens = source.tokens
    code = [i for i, t in enumerate(tokens) if t.kind not in ("space", "directive")]
    at = 0
    while at < len(code):
        if [tokens[i].text for i in code[at : at + 3]][:2] == ["extern", '"C"']:
            at += 3
            continue
        if tokens[code[at]].text == "}":  # of extern "C"
            at += 1
            continue
        at = _item(source, code, at)


def _item(source: _Source, code: list[int], at: int) -> int:
    """Read the declaration or definition at ``code[at]``; return where the next begins."""
    tokens = source.tokens
    first = code[at]
    names: list[str] = []
    words: list[str] = []
    last: str | None = None  # the name that a declarator may turn out to declare
    function = initialised = False
    while at < len(code):
        text, kind = tokens[code[at]].text, tokens[code[at]].kind
        if text == "__attribute__":
            at = _closing(source, code, at + 1)
        elif text in _TAGS:
            at = _tag(source, code, at)
            words.append(text)
            continue
        elif initialised and text in "([{":
            at = _closing(source, code, at)
        elif text == "{":  # of a function
            names.append(last or "")
            _declared(source, first, words, names, is_definition=True)
            return _closing(source, code, at) + 1
        elif text == "(" and not function and tokens[code[at + 1]].text == "*":
            last, function = tokens[code[at + 2]].text, True  # a pointer to a function
            at = _closing(source, code, at)
        elif text == "(":
            function = True
            at = _closing(source, code, at)
        elif text == "[":
            at = _closing(source, code, at)
        elif text == "=":
            initialised = True
        elif text in (",", ";"):
            if last is not None:
                names.append(last)
            if text == ";":
                _declared(source, first, words, names, is_definition=initialised)
                return at + 1
            last, function, initialised = None, False, False
        elif kind == "name" and not function and not initialised:
            words.append(text)
            last = last if text in _SPECIFIERS else text
        at += 1
    raise _refused(source.path, "ends within a declaration", "".join(words))


_SPECIFIERS = {"static", "extern", "const", "typedef", "inline", "_Noreturn", "_Thread_local"}
_SPECIFIERS |= {"void", "int", "char", "float", "double", "unsigned", "signed", "long", "short"}
_SPECIFIERS |= {"volatile", "bool", "_Bool"}


def _declared(
    source: _Source, first: int, words: Sequence[str], names: list[str], *, is_definition: bool
) -> None:
    if "static" in words:
        linkage = "static"
    elif names == ["_Static_assert"]:
        linkage = "type"
    elif "typedef" in words:
        linkage = "typedef"
    else:
        linkage = "external" if names else "type"
    source.items.append(_Item(first, linkage, names, is_definition))


def _tag(source: _Source, code: list[int], at: int) -> int:
    """Read ``struct name {...}`` and the like; return what follows it."""
    tokens = source.tokens
    is_enum = tokens[code[at]].text == "enum"
    at += 1
    tag = None
    if tokens[code[at]].kind == "name":
        tag = tokens[code[at]].text
        at += 1
    if tokens[code[at]].text != "{":
        return at
    if tag is not None:
        source.tags.add(tag)
    end = _closing(source, code, at)
    if is_enum:
        before = "{"
        for i in code[at + 1 : end]:
            if before in "{,":
                source.enumerators.add(tokens[i].text)
            before = tokens[i].text
    return end + 1


def _closing(source: _Source, code: list[int], at: int) -> int:
    """Return where the bracket at ``code[at]`` is closed."""
    depth = 0
    for i in range(at, len(code)):
        text = source.tokens[code[i]].text
        depth += (text in ("(", "[", "{")) - (text in (")", "]", "}"))
        if depth == 0:
            return i
    raise _refused(source.path, "has a bracket that is never closed", "")


# ---- putting together ----


def _collect(tokens: list[_Token], shared: dict[str, _Source]) -> None:
    """Add the guarded headers that a file includes to ``shared``, each after its own."""
    for token in tokens:
        if token.kind == "directive" and (found := _INCLUDE.match(token.text)):
            name = found[1]
            if name == HEADER or name in shared or not _is_guarded(SOURCES / name):
                continue
            header = _read(SOURCES / name)
            _collect(header.tokens, shared)
            shared[name] = header


def _refuse_clashes(sources: list[_Source], shared: dict[str, _Source]) -> None:
    """Raise CompileError if two files define one name that keeps its spelling."""
    owner: dict[str, str] = {}
    for source in [*shared.values(), *sources]:
        names = source.enumerators | source.named("static", "typedef")
        tags = source.tags
        if source.path.suffix == ".c":  # the others get the file's name
            names = {name for name in names if name.startswith("eo_")}
            tags = {name for name in tags if name.startswith("eo_")}
            defined = (i for i in source.items if i.linkage == "external" and i.is_definition)
            names |= {name for item in defined for name in item.names}
        for name in sorted(names) + [f"struct {tag}" for tag in sorted(tags)]:
            if name in owner:
                raise _refused(source.path, f"defines what {owner[name]} defines", name)
            owner[name] = source.path.name


def _print(
    source: _Source,
    public: set[str],
    names: dict[str, str],
    tags: dict[str, str],
) -> str:
    """Return the file's text with its names changed, includes of ours left out, and what it shares
    with other files made static."""
    private = {
        item.first
        for item in source.items
        if item.linkage == "external" and not set(item.names) & public
    }
    kinds = source.named("typedef") | set(source.macros)  # what a struct's body may use
    types = {name: names[name] for name in names if name in kinds}
    out: list[str] = []
    braces: list[str] = []  # "members" of a struct's body, "code" of any other
    before = before2 = ""
    square = offset_of = 0
    for i, token in enumerate(source.tokens):
        if token.kind == "space":
            out.append(token.text)
            continue
        if token.kind == "directive":
            if _INCLUDE.match(token.text):
                continue
            out.append(_rename_directive(token, names, tags))
            continue
        if i in private:
            if token.text == "extern":
                out.append("EO_PRIVATE")
                continue
            out.append("EO_PRIVATE ")
        text = token.text
        if text == "{":
            is_body = before in ("struct", "union") or before2 in ("struct", "union")
            braces.append("members" if is_body else "code")
        elif text == "}":
            braces.pop()
        elif text in "[]":
            square += 1 if text == "[" else -1
        elif text in "()" and offset_of > 0:
            offset_of += 1 if text == "(" else -1
            offset_of -= offset_of == 1
        elif text == "offsetof":
            offset_of = 1  # with each open bracket one more
        elif token.kind == "name":
            in_members = bool(braces) and braces[-1] == "members" and square == 0
            in_members = in_members or offset_of > 0
            if before in _TAGS:
                text = tags.get(text, text)
            elif before not in (".", "->"):
                text = (types if in_members else names).get(text, text)
        out.append(text)
        before2, before = before, token.text
    return re.sub(r"\n{3,}", "\n\n", "".join(out)).strip("\n") + "\n"


def _rename_directive(token: _Token, names: dict[str, str], tags: dict[str, str]) -> str:
    if token.inner[0].text in ("include", "pragma", "error"):
        return token.text
    out, before = ["#"], ""
    for inner in token.inner:
        text = inner.text
        if inner.kind == "name":
            if before in _TAGS:
                text = tags.get(text, text)
            elif before not in (".", "->"):
                text = names.get(text, text)
        out.append(text)
        before = inner.text if inner.kind != "space" else before
    return "".join(out)


def _refused(path: Path, what: str, text: str) -> CompileError:
    return CompileError(f"{what}: {text!r} cannot be put into one file", where=path.name)
