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
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

from edgeopt.backends import Artifact
from edgeopt.bundle import schema_2
from edgeopt.errors import BundleError, InputError
from edgeopt.evaluate.fidelity import Fidelity
from edgeopt.fields import Table, read_json
from edgeopt.model import MAIN, Speech
from edgeopt.model.audio import LogMel
from edgeopt.model.dual_encoder import IMAGE, TEXT, Similarity
from edgeopt.model.image import ImageInput
from edgeopt.model.pooling import Pooling
from edgeopt.model.search import PLAIN, Search
from edgeopt.model.signature import NO_LENGTH, SOURCE, Signature, State, TensorSpec
from edgeopt.model.tasks import (
    GENERATING,
    TOWERS,
    ZERO_SHOT_IMAGE_CLASSIFICATION,
    Result,
    Task,
)
from edgeopt.values import Check, Like, Most, OneOf, Range, outside, read, write

SCHEMA_VERSION = 3
READS = (2, 3)
FILE = "manifest.json"
PROMPTED = (Result.EMBEDDING, Result.SCORES)
"""Results that name no places in the text, which a prompt would move."""

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
"""How the options begin that a bundle may set, as in the runtime's choose.c.

These change how an engine computes. Others have paths in them, or let it write files (OpenVINO's
CACHE_DIR).
"""

_MOST_BYTES = 1 << 26  # EO_MANIFEST_MAX_BYTES of the runtime; and what may be listed in it:
_MOST_FILES, _MOST_ARTIFACTS = 4096, 256
_MOST_FORCED = 16
_BLANKS = re.compile(r'("(?:[^"\\]|\\.)*")|[ \t\r\n]+')


BundlePath = Annotated[str, Check(outside)]
"""A file or folder of the bundle, by its path in it."""

Tokens = Annotated[int, Range(0, 1 << 20, "tokens")]
Id = Annotated[int, Range(0, 2**31 - 1)]


@dataclass(frozen=True, kw_only=True, slots=True)
class FileEntry:
    """Size and hash of one file."""

    bytes: int
    sha256: Annotated[str, Like("[0-9a-f]{64}")]


@dataclass(frozen=True, kw_only=True, slots=True)
class TextEntry:
    """How a text becomes the graphs' input.

    ``pad_id`` fills texts up to the length that is run, and ``token_types`` says whether the
    second text of a pair is told by its token types. ``tokenizer`` are its files, () for none.
    ``prompt`` is put before every text, of a pair before the first; "" if there is none.
    """

    max_seq_len: Annotated[int, Range(1, 1 << 20, "tokens")]
    pad_id: Id
    token_types: bool
    tokenizer: tuple[BundlePath, ...]
    prompt: str = ""

    kind: ClassVar[str] = "text"


@dataclass(frozen=True, kw_only=True, slots=True)
class AudioEntry:
    """How sound becomes the graph's input, and of which tokens the answer's text is."""

    mel: LogMel
    text: TextEntry

    kind: ClassVar[str] = "audio"


@dataclass(frozen=True, kw_only=True, slots=True)
class GraphEntry:
    """One graph of the model: what it takes and gives, and what it keeps from call to call.

    A dual encoder's graphs have each a ``task`` of its own, and ``input``, which is how a text or
    an image becomes what this graph takes; null stands for the manifest's.
    """

    signature: Signature
    states: tuple[State, ...] = ()
    task: Task | None = None
    input: TextEntry | ImageInput | AudioEntry | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ArtifactEntry:
    """One engine's artifact and how near it is to the reference.

    The files of ``artifact`` are bundle paths. ``fidelity`` was taken over real texts (or images)
    at each of its lengths; ``bound`` is the cosine that the recipe demands, on the host and again
    on the board. ``kept`` are the linear modules that stayed in floating point, and ``accuracy``
    (``edgeopt.evaluate.accuracy``) is how it scored on held-out texts, None if that was not asked
    for. ``judged`` (``edgeopt.lower.judged``) has the figures of its final answers against the
    manifest's ``original``, None if none were compared. ``generated``
    (``edgeopt.lower.generation``) is how a decoder's tokens compare with the reference's.
    """

    artifact: Artifact
    engine_version: str
    bytes: int
    fidelity: Fidelity
    bound: Annotated[float, Range(-1, 1)]
    kept: tuple[str, ...] = ()
    accuracy: Mapping[str, Any] | None = None
    judged: Mapping[str, Any] | None = None
    generated: Mapping[str, Any] | None = None

    @property
    def graph(self) -> str:
        """The graph that it is of."""
        return next(iter(self.artifact.graphs))

    @property
    def engine(self) -> str:
        """The engine that runs it."""
        return self.artifact.engine

    @property
    def precision(self) -> str:
        """The precision of its weights and products."""
        return self.artifact.precision

    def check(self, table: Table) -> None:
        """Raise InputError for an option that a bundle, maybe a stranger's, may not set."""
        options = table.table("artifact").table("options")
        known = OPTIONS.get(self.engine)
        for key in options.data:
            if known is not None and not key.startswith(known):
                raise options.wrong(key, "is no option that a bundle may set")


@dataclass(frozen=True, kw_only=True, slots=True)
class Skipped:
    """An artifact that was not made or not shipped, and why; ``graph`` is the one it is of."""

    engine: str
    precision: str
    reason: str
    graph: str = MAIN


@dataclass(frozen=True, kw_only=True, slots=True)
class Golden:
    """One input with the reference's output: ``in.NAME.npy`` and ``out.NAME.npy``.

    ``tokens`` are those of ``seq_len`` that are not padding; both are 0 if nothing runs along a
    sequence (an image). ``graph`` is the one that it is a call of.
    """

    directory: BundlePath
    seq_len: Tokens
    tokens: Tokens
    graph: str = MAIN


@dataclass(frozen=True, kw_only=True, slots=True)
class Generation:
    """How a decoder is called again and again: what it keeps meanwhile, and when it ends.

    ``states`` are the graph's besides its signature, with room for the input's ``max_seq_len``
    tokens. They are inputs and outputs of an artifact, but for the engines of ``held``: those keep
    them inside. ``stops`` are the tokens that end a text, () for none. ``since`` has by engine the
    first version that runs the graph rightly: older ones may open it and be wrong. Of an
    encoder-decoder ``start``, ``first``, ``last``, ``never`` and ``never_first`` are the tokens
    that are not chosen (``edgeopt.model.Forced``), and ``speech`` is which languages one hears.
    ``search`` is how an answer is found unless the runtime is told otherwise.
    """

    states: Annotated[tuple[State, ...], Most(16)]
    stops: Annotated[tuple[Id, ...], Most(256)] = ()
    since: Mapping[str, Annotated[str, Like(r"\d{1,4}\.\d{1,4}")]] = field(default_factory=dict)
    held: Annotated[tuple[str, ...], Most(4)] = ()
    start: Annotated[tuple[Id, ...], Most(_MOST_FORCED)] = ()
    first: Annotated[tuple[Id, ...], Most(_MOST_FORCED)] = ()
    last: Annotated[tuple[Id, ...], Most(1)] = ()
    never: Annotated[tuple[Id, ...], Most(256)] = ()
    never_first: Annotated[tuple[Id, ...], Most(256)] = ()
    speech: Speech | None = None
    search: Search = PLAIN

    def check(self, table: Table) -> None:
        """Raise InputError if nothing is kept, or what a source needs is not there."""
        if not self.states:
            raise table.wrong("states", "expected at least one")
        if any(SOURCE in state.dims for state in self.states) != bool(self.start):
            raise table.wrong("start", "expected with states of a source, and only then")


@dataclass(frozen=True, kw_only=True, slots=True)
class TargetEntry:
    """The target as it was when the bundle was made.

    ``memory_mib`` is what its budget lets a process take at its peak; None for no limit.
    """

    name: str
    device: str
    arch: str
    libc: str
    libc_version: str | None
    threads: Annotated[int, Range(1, 1024)]
    cpus: str | None
    warmup: int
    runs: Annotated[int, Range(1, 2**53)]
    memory_mib: Annotated[float, Range(0.001, 2.0**24, "MiB")] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """All of ``manifest.json``.

    ``files`` leaves out the manifest itself; ``inputs`` is a hash of all that the bundle was made
    of. ``input`` is how a text or an image becomes what the ``graphs`` take, ``activation`` makes
    scores of logits, and ``pooling`` an embedding of hidden states; the runtime on the device
    reads them. ``reference`` computed the tensors that artifacts are held against, and
    ``original`` is the user's own tool that final answers were compared with, "" for none.

    A dual encoder has the graphs ``text`` and ``image``, and each artifact is of one of them;
    ``similarity`` makes logits of an image's embedding with those of some texts. ``generation`` is
    what a model that generates text has besides.
    """

    name: str
    digest: str
    inputs: str
    task: Task
    input: TextEntry | ImageInput | AudioEntry
    graphs: Mapping[str, GraphEntry]
    labels: tuple[str, ...]
    activation: Annotated[str, OneOf("none", "softmax", "sigmoid")]
    pooling: Pooling | None
    target: TargetEntry
    recipe: Mapping[str, Any]
    reference: str
    origin: Mapping[str, Any]
    tools: Mapping[str, str]
    artifacts: Annotated[tuple[ArtifactEntry, ...], Most(_MOST_ARTIFACTS)]
    skipped: tuple[Skipped, ...]
    golden: Annotated[tuple[Golden, ...], Most(_MOST_FILES)]
    files: Annotated[Mapping[str, FileEntry], Most(_MOST_FILES), Check(outside)]
    original: str = ""
    similarity: Similarity | None = None
    generation: Generation | None = None

    @property
    def main(self) -> GraphEntry:
        """The one graph. Raises BundleError for a bundle that has others, or keeps states."""
        self.check_not_generating()
        found = self.graphs.get(MAIN)
        if found is None or len(self.graphs) > 1 or found.states:
            raise BundleError(
                f"has the graphs {', '.join(self.graphs)}; here one is run, without states",
                where=self.name,
                hint="Name the graph, if there is a choice; or use a newer version of edgeopt.",
            )
        return found

    def check_not_generating(self) -> None:
        """Raise BundleError for a bundle that generates text, which is run in a way of its own."""
        if self.generation is not None:
            raise BundleError(
                "generates text, which works with 'edgeopt run' and 'edgeopt profile', and in an "
                "app with the runtime's generator",
                where=self.name,
            )

    @property
    def is_dual(self) -> bool:
        """True for a dual encoder's, which has two graphs that are run by themselves."""
        return self.task == ZERO_SHOT_IMAGE_CLASSIFICATION

    def of_graph(self, name: str) -> Manifest:
        """Return what this says of a dual encoder's graph ``name``, as of a model of that one.

        Raises BundleError if there is no such graph.
        """
        graph = self.graphs.get(name)
        if graph is None:
            raise BundleError(
                f"has no graph {name}", where=self.name, hint=f"It has {', '.join(self.graphs)}."
            )
        return replace(
            self,
            task=graph.task or self.task,
            input=graph.input or self.input,
            graphs={MAIN: replace(graph, task=None, input=None)},
            activation="none",
            artifacts=tuple(
                replace(entry, artifact=replace(entry.artifact, graphs={MAIN: found}))
                for entry in self.artifacts
                if (found := entry.artifact.graphs.get(name)) is not None
            ),
            skipped=tuple(replace(s, graph=MAIN) for s in self.skipped if s.graph == name),
            golden=tuple(replace(g, graph=MAIN) for g in self.golden if g.graph == name),
            similarity=None,
        )

    @property
    def tokenizer(self) -> tuple[str, ...]:
        """The tokenizer's files, () for none."""
        inputs = (self.text, *(graph.input for graph in self.graphs.values()))
        return next((i.tokenizer for i in inputs if isinstance(i, TextEntry)), ())

    @property
    def max_seq_len(self) -> int:
        """The most tokens that the model reads, ``NO_LENGTH`` for one of images."""
        return NO_LENGTH if self.text is None else self.text.max_seq_len

    @property
    def text(self) -> TextEntry | None:
        """How texts are made of tokens, of an input or of what is heard; None for images."""
        if isinstance(self.input, AudioEntry):
            return self.input.text
        return self.input if isinstance(self.input, TextEntry) else None

    def check(self, table: Table) -> None:
        """Raise InputError if fields contradict each other."""
        if self.is_dual:
            self._check_towers(table)
        if (self.task in GENERATING) != (self.generation is not None):
            known = " or ".join(map(str, GENERATING))
            raise table.wrong("generation", f"expected it with {known}, and only then")
        if self.input.kind != self.task.input:
            raise table.wrong("input", f"is of {self.input.kind}, but {self.task} is not")
        prompt = self.input.prompt if isinstance(self.input, TextEntry) else ""
        if prompt and self.task.result not in PROMPTED:
            raise table.table("input").wrong("prompt", "expected none for this task")
        for key, names in (
            *(("artifacts", entry.artifact.files) for entry in self.artifacts),
            ("input", self.tokenizer),
        ):
            for name in names:
                if name not in self.files:
                    raise table.wrong(key, f"{name!r} is not among the files")
        for entry in self.artifacts:
            self._check_graphs(entry.artifact, table)

    def _check_towers(self, table: Table) -> None:
        """Raise InputError unless there are two graphs, each with its kind's task and input."""
        if set(self.graphs) != {TEXT, IMAGE} or self.similarity is None:
            raise table.wrong("graphs", f"expected {TEXT} and {IMAGE}, with a similarity")
        for task in TOWERS:
            graph = self.graphs[task.input]
            if graph.task != task or (graph.input or self.input).kind != task.input:
                raise table.wrong("graphs", f"{task.input} is not of {task} and its input")

    def _check_graphs(self, artifact: Artifact, table: Table) -> None:
        same = set(artifact.graphs) == set(self.graphs)
        if self.is_dual:
            same = len(artifact.graphs) == 1 and set(artifact.graphs) < set(self.graphs)
        if not same:
            raise table.wrong("artifacts", "one has other graphs than the model")
        for name, graph in artifact.graphs.items():
            if not graph.files:
                raise table.wrong("artifacts", f"the graph {name} of one has no files")
            given = self.graphs[name].input or self.input
            most = given.max_seq_len if isinstance(given, TextEntry) else NO_LENGTH
            if graph.seq_lens and graph.seq_lens[-1] > most:
                raise table.wrong("artifacts", f"a length over {most}, the model's most")
            model = self.graphs[name].signature
            for own, wanted in zip(_sides(graph.signature), _sides(model), strict=True):
                if len(own) != len(wanted):
                    raise table.wrong(
                        "artifacts", f"{len(own)} tensors, the model has {len(wanted)}"
                    )


def _sides(signature: Signature) -> tuple[Sequence[TensorSpec], ...]:
    return signature.inputs, signature.outputs


def dump(manifest: Manifest) -> bytes:
    """Return the bytes of ``manifest.json`` with its digest filled in."""
    document = {"schema_version": SCHEMA_VERSION} | write(manifest)
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
    text, document = _opened(bundle)
    version = document.get("schema_version")
    if version not in READS:
        raise BundleError(
            f"schema version {version!r}; this edgeopt reads {' and '.join(map(str, READS))}",
            where=str(path),
            hint="Compile the model again with this version of edgeopt.",
        )
    _check_digest(path, text, document)
    try:
        if version == 2:
            document = schema_2.upgraded(document)
        return read(Manifest, Table(document, file=str(path)))
    except InputError as exc:
        raise BundleError(exc.message, where=exc.where) from exc


def listed(bundle: Path) -> set[str]:
    """Return the names of the bundle's files, by a manifest of any schema; raises BundleError."""
    text, document = _opened(bundle)
    _check_digest(bundle / FILE, text, document)
    files = document.get("files")
    if not isinstance(document.get("schema_version"), int) or not isinstance(files, dict):
        raise BundleError("is no bundle's manifest", where=str(bundle / FILE))
    return set(files)


def _opened(bundle: Path) -> tuple[str, dict[str, Any]]:
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
