"""``manifest.json``: what a bundle holds, where it came from, and how near it is to the original.

The manifest names every other file of the bundle with its size and SHA-256, and carries a digest
of itself (``digest``: SHA-256 over its canonical JSON without that key), so that any changed byte
anywhere in the bundle is found. Paths are relative to the bundle, with forward slashes.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from edgeopt.errors import BundleError, InputError
from edgeopt.fields import Table
from edgeopt.model.image import ImageSpec
from edgeopt.model.signature import Signature, TensorSpec

SCHEMA_VERSION = 2
FILE = "manifest.json"


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
    on held-out texts, None where that was not asked for.
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
    ``activation`` makes scores of logits, ``pad_id`` fills texts up to the length that is run, and
    ``token_types`` says whether the second text of a pair is told by its token types; the runtime
    on the device reads them."""

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


def dump(manifest: Manifest) -> bytes:
    """Return the bytes of ``manifest.json`` with its digest filled in."""
    document = {"schema_version": SCHEMA_VERSION} | asdict(manifest)
    document["digest"] = _digest(document)
    return (json.dumps(document, indent=1, allow_nan=False) + "\n").encode()


def _digest(document: Mapping[str, Any]) -> str:
    rest = {key: value for key, value in document.items() if key != "digest"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def load(bundle: Path) -> Manifest:
    """Read and check ``bundle/manifest.json``. Raises BundleError with the reason."""
    path = bundle / FILE
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError as exc:
        raise BundleError(
            f"is not a bundle: it has no {FILE}",
            where=str(bundle),
            hint="Make one with: edgeopt compile MODEL --target TARGET -o DIRECTORY",
        ) from exc
    except (OSError, ValueError) as exc:
        raise BundleError(f"cannot be read: {exc}", where=str(path)) from exc
    version = document.get("schema_version") if isinstance(document, dict) else None
    if version != SCHEMA_VERSION:
        raise BundleError(
            f"schema version {version!r}; this edgeopt reads version {SCHEMA_VERSION}",
            where=str(path),
            hint="Compile the model again with this version of edgeopt.",
        )
    if document.get("digest") != _digest(document):
        raise BundleError("was changed: its digest does not match its content", where=str(path))
    try:
        return _parse(Table(document, file=str(path)))
    except InputError as exc:
        raise BundleError(exc.message, where=exc.where) from exc


def _parse(table: Table) -> Manifest:
    table.integer("schema_version")
    manifest = Manifest(
        name=table.get("name", str),
        digest=table.get("digest", str),
        inputs=table.get("inputs", str),
        task=table.get("task", str),
        labels=table.array("labels", str),
        activation=table.choice("activation", ("none", "softmax", "sigmoid")),
        pooling=table.get("pooling", dict) if table.data.get("pooling") is not None else None,
        max_seq_len=table.integer("max_seq_len", low=0),
        pad_id=table.integer("pad_id", low=0),
        token_types=table.get("token_types", bool),
        signature=_signature(table.table("signature")),
        tokenizer=tuple(_inside(table, "tokenizer", p) for p in table.array("tokenizer", str)),
        target=_target(table.table("target")),
        recipe=table.get("recipe", dict),
        reference=table.get("reference", str),
        origin=table.get("origin", dict),
        tools=table.table("tools").strings(),
        artifacts=tuple(_artifact(t) for t in table.tables("artifacts")),
        skipped=tuple(Skipped(**t.strings()) for t in table.tables("skipped")),
        golden=tuple(
            Golden(
                directory=_inside(t, "directory", t.get("directory", str)),
                seq_len=t.integer("seq_len", low=0),
                tokens=t.integer("tokens", low=0),
            )
            for t in table.tables("golden")
        ),
        image=_image(table.table("image")) if table.data.get("image") is not None else None,
        files={
            _inside(table, "files", name): FileEntry(
                bytes=entry.integer("bytes", low=0), sha256=_sha256(entry)
            )
            for name, entry in table.table("files").items()
        },
    )
    for entry in manifest.artifacts:
        for name in entry.files:
            if name not in manifest.files:
                raise table.wrong("artifacts", f"{name!r} is not among the files")
    return manifest


def _image(table: Table) -> ImageSpec:
    return ImageSpec(
        height=table.integer("height"),
        width=table.integer("width"),
        resize_height=table.integer("resize_height"),
        resize_width=table.integer("resize_width"),
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
        threads=table.integer("threads"),
        cpus=None if table.data.get("cpus") is None else table.get("cpus", str),
        warmup=table.integer("warmup", low=0),
        runs=table.integer("runs"),
    )


def _artifact(table: Table) -> ArtifactEntry:
    same = table.data.get("same_top1")
    return ArtifactEntry(
        engine=table.get("engine", str),
        engine_version=table.get("engine_version", str),
        precision=table.get("precision", str),
        files=table.array("files", str),
        bytes=table.integer("bytes"),
        signature=_signature(table.table("signature")),
        seq_lens=table.array("seq_lens", int),
        route=table.get("route", str),
        options=table.table("options").strings(),
        tools=table.table("tools").strings(),
        cosine_min=table.number("cosine_min", low=-1.001, high=1.001),
        cosine_mean=table.number("cosine_mean", low=-1.001, high=1.001),
        max_abs_error=table.number("max_abs_error", low=0, high=1e30),
        same_top1=None if same is None else table.number("same_top1", low=0, high=1),
        calls=table.integer("calls"),
        bound=table.number("bound", low=-1, high=1),
        kept=table.array("kept", str, ()),
        accuracy=table.get("accuracy", dict) if table.data.get("accuracy") else None,
    )


def _signature(table: Table) -> Signature:
    def specs(key: str) -> tuple[TensorSpec, ...]:
        return tuple(
            TensorSpec(
                name=t.get("name", str), dtype=t.get("dtype", str), dims=tuple(t.get("dims", list))
            )
            for t in table.tables(key)
        )

    return Signature(inputs=specs("inputs"), outputs=specs("outputs"))


def _inside(table: Table, key: str, name: str) -> str:
    """Return ``name`` if it is a clean relative path; a bundle must not reach outside itself."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or str(path) != name or "\\" in name:
        raise table.wrong(key, f"{name!r} does not lie inside the bundle")
    return name


def _sha256(table: Table) -> str:
    value = table.get("sha256", str)
    if not re.fullmatch(r"[0-9a-f]{64}", value):
        raise table.wrong("sha256", f"expected 64 hex digits, found {value!r}")
    return value
