# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""``manifest.json``: what a bundle holds, where it came from, and how near it is to the original.

The manifest names every other file of the bundle with its size and SHA-256, and carries a digest
of itself (``digest``: SHA-256 over its canonical JSON without that key), so that any changed byte
anywhere in the bundle is found. Paths are relative to the bundle, with forward slashes.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from edgeopt.errors import BundleError, InputError
from edgeopt.fields import Table, read_json
from edgeopt.model import TASKS
from edgeopt.model.image import ImageSpec
from edgeopt.model.signature import Signature, TensorSpec

SCHEMA_VERSION = 2
FILE = "manifest.json"
PROMPTED = ("feature-extraction", "sequence-classification")
"""Tasks whose results name no places in the text, which a prompt would move."""

OPTIONS: Mapping[str, tuple[str, ...]] = {
    "onnx": ("graph_optimization", "optimization.", "mlas.", "session.x64quantprecision"),
    "tflite": (),
    "openvino": (
        "INFERENCE_PRECISION_HINT",
        "EXECUTION_MODE_HINT",
        "DYNAMIC_QUANTIZATION_GROUP_SIZE",
        "KV_CACHE_PRECISION",
    ),
    "tvm": ("",),
}
"""How the options begin that a bundle may set, as in the runtime's choose.c: what changes how an
engine computes. Others have paths in them, or let it write files (OpenVINO's CACHE_DIR)."""

_MOST_BYTES = 1 << 26  # EO_MANIFEST_MAX_BYTES of the runtime; and what may be listed in it:
_MOST_FILES, _MOST_ARTIFACTS = 4096, 256
_MOST_TENSORS, _MOST_DIMS = 16, 8
_MOST_PATH = 1000  # bytes; the runtime's most in a packed file are 1,023
_MOST_PIXELS = 4096  # of a side of an image
_DTYPES = ("float32", "int32", "int64")
_BLANKS = re.compile(r'("(?:[^"\\]|\\.)*")|[ \t\r\n]+')


@dataclass(frozen=True, kw_only=True, slots=True)
class FileEntry:
    """Size and hash of one file."""

    bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ArtifactEntry:
    """One engine's artifact and how near it is to the reference.

    ``files`` are bundle paths, the one that the engine opens first. ``cosine_min`` and the rest
    were taken over ``calls`` real texts at each of the artifact's lengths; ``bound`` is the
    cosine that the recipe demands, on the host and again on the board. ``kept`` are the linear
    modules that stayed in floating point, and ``accuracy`` (``edgeopt.accuracy``) is how it scored
    on held-out texts, None where that was not asked for. ``judged`` (``edgeopt.answers``) has the
    figures of its final answers against the manifest's ``original``, None where none were compared.
    """

    engine: str
    engine_version: str
    precision: str
    files: tuple[str, ...]
    bytes: int
    signature: Signature
    seq_lens: tuple[int, ...]
    route: str
    options: Mapping[str, str]
    tools: Mapping[str, str]
    cosine_min: float
    cosine_mean: float
    max_abs_error: float
    same_top1: float | None
    calls: int
    bound: float
    kept: tuple[str, ...] = ()
    accuracy: Mapping[str, Any] | None = None
    judged: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Skipped:
    """An artifact that was not made or not shipped, and why."""

    engine: str
    precision: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Golden:
    """One input with the reference's output: ``in.NAME.npy`` and ``out.NAME.npy``.

    ``seq_len`` and ``tokens`` are 0 where nothing runs along a sequence (an image).
    """

    directory: str
    seq_len: int
    tokens: int  # of seq_len, not padding


@dataclass(frozen=True, kw_only=True, slots=True)
class TargetEntry:
    """The target as it was when the bundle was made."""

    name: str
    device: str
    arch: str
    libc: str
    libc_version: str | None
    threads: int
    cpus: str | None
    warmup: int
    runs: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """All of ``manifest.json``. ``files`` leaves out the manifest itself; ``inputs`` is a hash of
    all that the bundle was made of. ``image`` is how an image becomes the network's input, None
    for a model of texts; a model of images has no tokenizer, and 0 for ``max_seq_len``.
    ``prompt`` is put before every text, of a pair before the first; "" where there is none.
    ``activation`` makes scores of logits, ``pad_id`` fills texts up to the length that is run, and
    ``token_types`` says whether the second text of a pair is told by its token types; the runtime
    on the device reads them. ``limits`` are the least values that are too large for an input, by
    its name (the rows of the table in which an id is looked up). ``reference`` computed the
    tensors that artifacts are held against, and ``original`` is the user's own tool that final
    answers were compared with, "" for none."""

    name: str
    digest: str
    inputs: str
    task: str
    labels: tuple[str, ...]
    activation: str
    pooling: Mapping[str, Any] | None
    max_seq_len: int
    pad_id: int
    token_types: bool
    signature: Signature
    tokenizer: tuple[str, ...]
    target: TargetEntry
    recipe: Mapping[str, Any]
    reference: str
    origin: Mapping[str, Any]
    tools: Mapping[str, str]
    artifacts: tuple[ArtifactEntry, ...]
    skipped: tuple[Skipped, ...]
    golden: tuple[Golden, ...]
    image: ImageSpec | None
    files: Mapping[str, FileEntry]
    prompt: str = ""
    original: str = ""
    limits: Mapping[str, int] = field(default_factory=dict)


def dump(manifest: Manifest) -> bytes:
    """Return the bytes of ``manifest.json`` with its digest filled in."""
    document = {"schema_version": SCHEMA_VERSION} | asdict(manifest)
    document["digest"] = _digest(document)
    return (json.dumps(document, indent=1, allow_nan=False) + "\n").encode()


def _digest(document: Mapping[str, Any]) -> str:
    rest = {key: value for key, value in document.items() if key != "digest"}
    return hashlib.sha256(_compact(_sorted(rest)).encode()).hexdigest()


def _compact(document: Any) -> str:
    return json.dumps(document, separators=(",", ":"), allow_nan=False)


def _sorted(value: Any) -> Any:
    """Return ``value`` with its keys in the order of their JSON, in which the runtime sorts."""
    if isinstance(value, Mapping):
        return {key: _sorted(value[key]) for key in sorted(value, key=lambda k: _compact(k)[1:-1])}
    return [_sorted(item) for item in value] if isinstance(value, list | tuple) else value


def load(bundle: Path) -> Manifest:
    """Read and check ``bundle/manifest.json``. Raises BundleError with the reason.

    A bundle that is replaced while this reads is the old one or the new one, whole.
    """
    path = bundle / FILE
    text, document = _read(bundle)
    version = document.get("schema_version")
    if version != SCHEMA_VERSION:
        raise BundleError(
            f"schema version {version!r}; this edgeopt reads version {SCHEMA_VERSION}",
            where=str(path),
            hint="Compile the model again with this version of edgeopt.",
        )
    _check_digest(path, text, document)
    try:
        return _parse(Table(document, file=str(path)))
    except InputError as exc:
        raise BundleError(exc.message, where=exc.where) from exc


def listed(bundle: Path) -> set[str]:
    """Return the names of the bundle's files, by a manifest of any schema; raises BundleError."""
    text, document = _read(bundle)
    _check_digest(bundle / FILE, text, document)
    files = document.get("files")
    if not isinstance(document.get("schema_version"), int) or not isinstance(files, dict):
        raise BundleError("is no bundle's manifest", where=str(bundle / FILE))
    return set(files)


def _read(bundle: Path) -> tuple[str, dict[str, Any]]:
    path = bundle / FILE
    try:
        text, document = _text_and_json(bundle)
    except FileNotFoundError as exc:
        raise BundleError(
            f"is not a bundle: it has no {FILE}",
            where=str(bundle),
            hint="Make one with: edgeopt compile MODEL --target TARGET -o DIRECTORY",
        ) from exc
    except InputError as exc:
        raise BundleError(f"cannot be read: {exc.message}", where=str(path)) from exc
    except OSError as exc:
        raise BundleError(f"cannot be read ({exc.strerror})", where=str(path)) from exc
    if not isinstance(document, dict):
        raise BundleError("cannot be read: expected a JSON object", where=str(path))
    return text, document


def _text_and_json(bundle: Path) -> tuple[str, Any]:
    """Read the manifest; again if the directory found was replaced, and emptied, meanwhile."""
    while True:
        before = bundle.stat()
        try:
            return read_json(bundle / FILE, _MOST_BYTES)
        except FileNotFoundError:
            if os.path.samestat(before, bundle.stat()):
                raise


def _check_digest(path: Path, text: str, document: Mapping[str, Any]) -> None:
    """Raise BundleError if the document is not as edgeopt wrote it, white space apart.

    The runtime hashes what stands there, so that with another spelling it would not open it.
    """
    if document.get("digest") != _digest(document):
        raise BundleError("was changed: its digest does not match its content", where=str(path))
    if _compact(document) != _BLANKS.sub(r"\1", text):
        raise BundleError(
            "was changed: a number or a text is not spelt as edgeopt writes it", where=str(path)
        )


def _parse(table: Table) -> Manifest:
    table.integer("schema_version")
    manifest = Manifest(
        name=_text(table, "name"),
        digest=table.get("digest", str),
        inputs=table.get("inputs", str),
        task=table.choice("task", TASKS),
        labels=_texts(table, "labels"),
        activation=table.choice("activation", ("none", "softmax", "sigmoid")),
        pooling=_pooling(table),
        max_seq_len=table.integer("max_seq_len", low=0, high=1 << 20),
        pad_id=table.integer("pad_id", low=0, high=2**31 - 1),
        token_types=table.get("token_types", bool),
        signature=_signature(table.table("signature")),
        tokenizer=tuple(_inside(table, "tokenizer", p) for p in table.array("tokenizer", str)),
        target=_target(table.table("target")),
        recipe=table.get("recipe", dict),
        reference=table.get("reference", str),
        original=table.get("original", str, ""),
        origin=table.get("origin", dict),
        tools=table.table("tools").strings(),
        artifacts=tuple(_artifact(t) for t in table.tables("artifacts")),
        skipped=tuple(Skipped(**t.strings()) for t in table.tables("skipped")),
        golden=tuple(
            Golden(
                directory=_inside(t, "directory", t.get("directory", str)),
                seq_len=t.integer("seq_len", low=0, high=2**31 - 1),
                tokens=t.integer("tokens", low=0),
            )
            for t in table.tables("golden")
        ),
        prompt=table.get("prompt", str, ""),
        limits=_limits(table),
        image=_image(table.table("image")) if table.data.get("image") is not None else None,
        files={
            _inside(table, "files", name): FileEntry(
                bytes=entry.integer("bytes", low=0), sha256=_sha256(entry)
            )
            for name, entry in table.table("files").items()
        },
    )
    if manifest.prompt and manifest.task not in PROMPTED:
        raise table.wrong("prompt", "expected none for this task")
    for key, count, most in (
        ("files", len(manifest.files), _MOST_FILES),
        ("golden", len(manifest.golden), _MOST_FILES),
        ("artifacts", len(manifest.artifacts), _MOST_ARTIFACTS),
    ):
        if count > most:
            raise table.wrong(key, f"{count} of them, expected up to {most}")
    for key, names in (
        *(("artifacts", entry.files) for entry in manifest.artifacts),
        ("tokenizer", manifest.tokenizer),
    ):
        for name in names:
            if name not in manifest.files:
                raise table.wrong(key, f"{name!r} is not among the files")
    for entry in manifest.artifacts:
        if entry.seq_lens and entry.seq_lens[-1] > manifest.max_seq_len:
            raise table.wrong(
                "artifacts", f"a length over {manifest.max_seq_len}, the model's most"
            )
        for one, other in zip(_sides(entry.signature), _sides(manifest.signature), strict=True):
            if len(one) != len(other):
                raise table.wrong("artifacts", f"{len(one)} tensors, the model has {len(other)}")
    return manifest


def _pooling(table: Table) -> Mapping[str, Any] | None:
    if table.data.get("pooling") is None:
        return None
    pooling = table.table("pooling")
    pooling.choice("mode", ("mean", "cls", "max"))
    pooling.get("normalize", bool)
    return pooling.data


def _limits(table: Table) -> Mapping[str, int]:
    if "limits" not in table:  # of a bundle from before they were written
        return {}
    found = table.table("limits")
    return {name: found.integer(name, low=1, high=2**31 - 1) for name in found.data}


def _image(table: Table) -> ImageSpec:
    return ImageSpec(
        height=table.integer("height", high=_MOST_PIXELS),
        width=table.integer("width", high=_MOST_PIXELS),
        resize_height=table.integer("resize_height", high=_MOST_PIXELS),
        resize_width=table.integer("resize_width", high=_MOST_PIXELS),
        resample=table.integer("resample", low=0),
        mean=table.array("mean", float),
        std=table.array("std", float),
        rescale_factor=table.number("rescale_factor", low=0, high=1e30),
    )


def _target(table: Table) -> TargetEntry:
    has_version = table.data.get("libc_version") is not None
    return TargetEntry(
        name=table.get("name", str),
        device=table.get("device", str),
        arch=table.get("arch", str),
        libc=table.get("libc", str),
        libc_version=table.get("libc_version", str) if has_version else None,
        threads=table.integer("threads", high=1024),
        cpus=None if table.data.get("cpus") is None else table.get("cpus", str),
        warmup=table.integer("warmup", low=0),
        runs=table.integer("runs"),
    )


def _artifact(table: Table) -> ArtifactEntry:
    same = table.data.get("same_top1")
    return ArtifactEntry(
        engine=_text(table, "engine"),
        engine_version=_text(table, "engine_version"),
        precision=_text(table, "precision"),
        files=table.words("files"),
        bytes=table.integer("bytes"),
        signature=_signature(table.table("signature")),
        seq_lens=_seq_lens(table),
        route=table.get("route", str),
        options=_options(table),
        tools=table.table("tools").strings(),
        cosine_min=table.number("cosine_min", low=-1.001, high=1.001),
        cosine_mean=table.number("cosine_mean", low=-1.001, high=1.001),
        max_abs_error=table.number("max_abs_error", low=0, high=1e30),
        same_top1=None if same is None else table.number("same_top1", low=0, high=1),
        calls=table.integer("calls"),
        bound=table.number("bound", low=-1, high=1),
        kept=table.array("kept", str, ()),
        accuracy=table.get("accuracy", dict) if table.data.get("accuracy") else None,
        judged=table.get("judged", dict) if table.data.get("judged") else None,
    )


def _sides(signature: Signature) -> tuple[Sequence[TensorSpec], ...]:
    return signature.inputs, signature.outputs


def _options(table: Table) -> dict[str, str]:
    """Return the engine's options, of which a bundle, maybe a stranger's, may set some only."""
    options = table.table("options")
    known = OPTIONS.get(_text(table, "engine"))
    for key in options.data:
        if known is not None and not key.startswith(known):
            raise options.wrong(key, "is no option that a bundle may set")
    return {key: _text(options, key) for key in options.data}


def _seq_lens(table: Table) -> tuple[int, ...]:
    return table.ascending("seq_lens", low=1, high=1 << 20) if table.get("seq_lens", list) else ()


def _signature(table: Table) -> Signature:
    def specs(key: str) -> tuple[TensorSpec, ...]:
        found = table.tables(key)
        if len(found) > _MOST_TENSORS:
            raise table.wrong(key, f"{len(found)} of them, expected up to {_MOST_TENSORS}")
        return tuple(
            TensorSpec(name=_text(t, "name"), dtype=t.choice("dtype", _DTYPES), dims=_dims(t))
            for t in found
        )

    return Signature(inputs=specs("inputs"), outputs=specs("outputs"))


def _dims(table: Table) -> tuple[int | str, ...]:
    dims = tuple(table.get("dims", list))
    if len(dims) > _MOST_DIMS:
        raise table.wrong("dims", f"{len(dims)} of them, expected up to {_MOST_DIMS}")
    for dim in dims:
        if dim not in ("batch", "seq") and not (type(dim) is int and 1 <= dim < 2**31):
            raise table.wrong("dims", f'expected sizes, "batch" or "seq", found {dim!r}')
    return dims


def _text(table: Table, key: str) -> str:
    return _without_nul(table, key, table.get(key, str))


def _texts(table: Table, key: str) -> tuple[str, ...]:
    return tuple(_without_nul(table, key, text) for text in table.array(key, str))


def _without_nul(table: Table, key: str, text: str) -> str:
    if "\0" in text:
        raise table.wrong(key, f"expected a string without NUL, found {text!r}")
    return text


def _inside(table: Table, key: str, name: str) -> str:
    """Return ``name`` if it is a clean relative path; a bundle must not reach outside itself."""
    path = PurePosixPath(name)
    wrong = path.is_absolute() or ".." in path.parts or str(path) != name or not path.parts
    if wrong or "\\" in name or "\0" in name:
        raise table.wrong(key, f"{name!r} does not lie inside the bundle")
    if len(name.encode()) > _MOST_PATH or any(len(p.encode()) > 255 for p in path.parts):
        raise table.wrong(key, f"'{name[:40]}...' is too long for a file's name")
    return name


def _sha256(table: Table) -> str:
    value = table.get("sha256", str)
    if not re.fullmatch(r"[0-9a-f]{64}", value):
        raise table.wrong("sha256", f"expected 64 hex digits, found {value!r}")
    return value
