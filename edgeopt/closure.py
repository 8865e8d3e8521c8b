# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The code that a result depends on, as part of a key of the cache.

A result depends on the module that makes it and on all that this imports, wherever in it the import
stands. That is found by Python's parser, not listed by hand, so that no list can have a hole.
Nothing is imported for it. What is imported for types alone does not count. A change outside of the
closure leaves the key as it is.

A lookup by name at run time (``import_module(f"edgeopt.backends.{engine}")``) is seen by no parser:
who calls ``code`` names such a module too.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import hashlib
import json
import os
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

from edgeopt import __version__, cache

PACKAGE = Path(__file__).parent
_NAME = PACKAGE.name

DISTRIBUTIONS = {
    "PIL": ("pillow",),
    "elftools": ("pyelftools",),
    "google": ("protobuf",),
    "onnx": ("onnx", "onnxscript"),  # through which torch writes it
    "sklearn": ("scikit-learn",),
    "sentence_transformers": ("sentence-transformers", "scikit-learn"),  # SetFit's heads
    "tensorflow": ("tensorflow-cpu", "tensorflow", "keras"),
    "transformers": ("transformers", "tokenizers", "safetensors"),
    "tvm": ("apache-tvm", "apache-tvm-ffi"),
}
"""What is installed for an import, if it is called otherwise or does its work through others."""

NO_RESULT = frozenset(
    {"click", "filelock", "huggingface_hub", "paramiko", "cryptography", "rich", "tqdm"}
)
"""Packages that lock, show and fetch: their versions decide no result."""

OWN_NO_RESULT = frozenset(
    {f"{_NAME}.{name}" for name in ("beside", "cache", "closure", "progress", "retention")}
)
"""Modules of edgeopt of the same kind: they keep what was made, and tell of it."""

_LOOKUPS = frozenset({"require", "import_module", "find_spec"})
_MOST_READ = 4096  # files; a checkout has some 200, and each of their versions is one


def code(*modules: str) -> str:
    """Return a hash of ``modules`` ("edgeopt.evaluate.fidelity") with all that they import.

    Counted are the contents of edgeopt's own files, of data files beside them that they name, and
    the versions of installed packages. Once computed it holds for the process. Raises ValueError
    for a module that is not there, and what the cache raises.
    """
    return _code(frozenset(modules))


def files(*modules: str) -> dict[str, str]:
    """Return the files that ``code(*modules)`` counts and their SHA-256, by path in the package."""
    return dict(_closure(frozenset(modules)).files)


def packages(*modules: str) -> dict[str, str | None]:
    """Return the packages that ``code(*modules)`` counts: versions by name, None if absent."""
    imported = _closure(frozenset(modules)).packages - NO_RESULT
    names = {name for top in imported for name in DISTRIBUTIONS.get(top, (top,))}
    return {name: _version(name) for name in sorted(names)}


@functools.cache
def _code(modules: frozenset[str]) -> str:
    return cache.key(edgeopt=__version__, files=files(*modules), packages=packages(*modules))


def _version(distribution: str) -> str | None:
    return _installed().get(re.sub(r"[-_.]+", "_", distribution).lower())


@functools.cache
def _installed() -> dict[str, str]:
    """Return the versions of what is installed, by the names of its folders.

    ``importlib.metadata`` reads and parses a file for each, which takes longer than all the rest.
    """
    found: dict[str, str] = {}
    for place in sys.path:
        for name in _names(Path(place)):
            if name.endswith(".dist-info"):
                distribution, _, version = name.removesuffix(".dist-info").partition("-")
                found.setdefault(re.sub(r"[-_.]+", "_", distribution).lower(), version)
    return found


@dataclass(frozen=True, kw_only=True, slots=True)
class _Closure:
    files: dict[str, str] = field(default_factory=dict)
    packages: set[str] = field(default_factory=set)


@functools.cache
def _closure(modules: frozenset[str]) -> _Closure:
    """Follow the imports of ``modules``, and of the packages that they lie in.

    Of a package on the way to a module (not ``whole``) counts what runs as it is loaded: no
    function of it is called.
    """
    found = _Closure()
    for name in modules:
        if _path(name) is None:
            raise ValueError(f"edgeopt has no module {name}")
    todo = [(name, True) for name in modules]
    seen: set[tuple[str, bool]] = set()
    while todo:
        name, whole = todo.pop()
        if {(name, whole), (name, True)} & seen:
            continue
        seen.add((name, whole))
        if above := name.rpartition(".")[0]:
            todo.append((above, False))
        own = _own(name, whole)
        found.files.update(own.files)
        found.packages.update(own.packages)
        todo += [(module, True) for module in own.modules]
    _index().save()
    return found


@dataclass(frozen=True, kw_only=True, slots=True)
class _Own:
    """A module's file and data, by their hashes, and what it imports itself."""

    files: tuple[tuple[str, str], ...] = ()
    modules: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()


@functools.cache
def _own(name: str, whole: bool) -> _Own:
    path = _path(name)
    # The face of edgeopt imports nothing until it is asked, and its version counts anyway.
    if path is None or name in (_NAME, *OWN_NO_RESULT):
        return _Own()
    read = _index().of(path)
    beside = [path.parent / data for data in read.data if data in _names(path.parent)]
    hashes = {path: read.sha256} | {data: cache.file_sha256(data) for data in beside}
    targets = read.whole if whole else read.loaded
    imported = dict.fromkeys(_resolved(target, name, path) for target in targets)
    return _Own(
        files=tuple((p.relative_to(PACKAGE).as_posix(), sha) for p, sha in hashes.items()),
        modules=tuple(module for module in imported if module.split(".")[0] == _NAME),
        packages=tuple(module for module in imported if module.split(".")[0] != _NAME),
    )


@functools.cache
def _path(name: str) -> Path | None:
    """Return the file of a module or of a package's ``__init__``; None if there is none."""
    first, *rest = name.split(".")
    if first != _NAME:
        return None
    place = PACKAGE.joinpath(*rest)
    if rest and f"{rest[-1]}.py" in _names(place.parent):
        return place.with_name(f"{rest[-1]}.py")
    return place / "__init__.py" if "__init__.py" in _names(place) else None


@functools.cache
def _names(folder: Path) -> frozenset[str]:
    try:
        return frozenset(os.listdir(folder))
    except OSError:
        return frozenset()


def _resolved(target: str, importer: str, path: Path) -> str:
    """Return the module of edgeopt, or the package, that an import in ``path`` loads.

    ``target`` is as ``_Reader`` writes it: ``a.b`` for a module, ``a.b:c`` for a name out of it,
    which may be a module itself, with a dot in front for each step of a relative import.
    """
    module, _, attribute = target.partition(":")
    if dots := len(module) - len(module.lstrip(".")):
        own = importer.split(".")
        own = own[: len(own) - dots + (path.name == "__init__.py")]
        module = ".".join([*own, *filter(None, [module[dots:]])])
    first = module.split(".")[0]
    if first != _NAME:
        # Files of a folder that is no package are run beside each other, and import each other so.
        beside = _names(path.parent)
        together = f"{first}.py" in beside and "__init__.py" not in beside
        return f"{importer.rpartition('.')[0]}.{first}" if together else first
    inner = f"{module}.{attribute}"
    return inner if attribute and _path(inner) is not None else module


@dataclass(frozen=True, kw_only=True, slots=True)
class _Read:
    """What one file imports: as it is ``loaded``, and on the ``whole`` with its functions.

    ``data`` are the texts in it that may be names of files.
    """

    sha256: str
    loaded: tuple[str, ...]
    whole: tuple[str, ...]
    data: tuple[str, ...]


class _Reader(ast.NodeVisitor):
    """Collects imports; those under ``if TYPE_CHECKING:`` are left out."""

    def __init__(self) -> None:
        self.loaded: dict[str, None] = {}
        self.whole: dict[str, None] = {}
        self.data: dict[str, None] = {}
        self._depth = 0

    def _add(self, target: str) -> None:
        if target.split(".")[0] in sys.stdlib_module_names:
            return
        self.whole[target] = None
        if not self._depth:
            self.loaded[target] = None

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._add(alias.name)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        module = "." * node.level + (node.module or "")
        if module.split(".")[0] not in sys.stdlib_module_names:
            for alias in node.names:
                self._add(f"{module}:{alias.name}")

    def visit_If(self, node: ast.If) -> None:
        if ast.unparse(node.test) not in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            self.visit(node.test)
            for part in node.body:
                self.visit(part)
        for part in node.orelse:
            self.visit(part)

    def visit_Call(self, node: ast.Call) -> None:
        """Take ``require("nncf", ...)`` and the like for the import that it is."""
        name = getattr(node.func, "attr", None) or getattr(node.func, "id", None)
        first = node.args[0] if node.args else None
        if name in _LOOKUPS and isinstance(first, ast.Constant) and isinstance(first.value, str):
            self._add(first.value)
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        value = node.value
        if isinstance(value, str) and len(value) < 80 and not value.endswith(".py"):
            stem, dot, ending = value.rpartition(".")
            if stem and dot and ending.isalnum() and "/" not in value and " " not in value:
                self.data[value] = None

    def visit(self, node: ast.AST) -> None:
        """Visit ``node``; what stands inside of a function does not run as the file is loaded."""
        inner = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        self._depth += inner
        super().visit(node)
        self._depth -= inner


class _Index:
    """What was read of files, by their content: parsing all takes half a second, this takes none.

    It is kept in the cache, for each version of this module by itself. Of two processes that write
    it at once the last one stays: what the other one read is read again.
    """

    def __init__(self) -> None:
        own = cache.key(reader=cache.file_sha256(Path(__file__)), python=sys.version)
        self._path = cache.entry("imports", own, lambda directory: None) / "index.json"
        self._known: dict[str, dict[str, list[str]]] = {}
        with contextlib.suppress(OSError, ValueError):
            self._known = json.loads(self._path.read_bytes())
        self._is_changed = False

    def of(self, path: Path) -> _Read:
        """Return what ``path`` imports."""
        content = path.read_bytes()
        sha256 = hashlib.sha256(content).hexdigest()
        if sha256 not in self._known:
            reader = _Reader()
            reader.visit(ast.parse(content))
            self._known[sha256] = {
                name: list(getattr(reader, name)) for name in ("loaded", "whole", "data")
            }
            self._is_changed = True
        return _Read(sha256=sha256, **{k: tuple(v) for k, v in self._known[sha256].items()})

    def save(self) -> None:
        """Keep what was added."""
        if not self._is_changed:
            return
        newest = dict(list(self._known.items())[-_MOST_READ:])
        part = self._path.with_name(f".{os.getpid()}.json")
        try:
            part.write_text(json.dumps(newest))
            part.replace(self._path)
        except OSError:  # a full disk, or one that can only be read: parsed again next time
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
        self._is_changed = False


@functools.cache
def _index() -> _Index:
    return _Index()
