# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Import an ``.onnx`` file of a transformer, with what stands beside it or a folder up.

Nothing that the file says of itself is believed: it is run in onnxruntime, as it came, on made-up
texts of several lengths, and what it answers decides. That run is the reference as well.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeopt import cache, closure, progress
from edgeopt.errors import CompileError, InputError
from edgeopt.extras import require
from edgeopt.model import (
    MAIN,
    Graph,
    Model,
    OnnxSource,
    TextInput,
    file_settings,
    name_of,
    onnx_adapt,
    onnx_batch,
    onnx_call,
    onnx_outputs,
    onnx_read,
    sentence,
    tokenizer,
)
from edgeopt.model.onnx_call import POSITIONS, Feed, OnnxFile
from edgeopt.model.onnx_outputs import Chosen, plain
from edgeopt.model.onnx_versions import lowered, opset_of
from edgeopt.model.sentence import Beside
from edgeopt.model.signature import Signature, TensorSpec
from edgeopt.model.tasks import (
    INPUTS,
    PIXELS,
    QUESTION_ANSWERING,
    SEQUENCE_CLASSIFICATION,
    activation,
)

_SHORT, _LONG = 8, 11  # tokens of the made-up texts; no size of a network is 11
_LONGEST = 1 << 16  # tokens; attention over more takes gigabytes a head
_PROBED = 1024  # up to so many tokens the longest text is tried: attention grows with the square
_SAME = 1e-3  # of the largest value: what padding may change, a hundred times float32 rounding
_BATCH = 256  # texts of a fixed batch; each is run
_OLDEST = 17  # the opset that a file too new for this onnxruntime is rewritten in

_NO_CODE = ("Could not find an implementation", "during initialization", "not supported")
"""What onnxruntime says of a sound file with an operator that it has no code for."""

_IMAGES = "A model of images is imported from its checkpoint, not from an .onnx file."

SYNONYMS = {
    "ids": "input_ids",
    "input": "input_ids",
    "tokens": "input_ids",
    "token_ids": "input_ids",
    "input_word_ids": "input_ids",
    "mask": "attention_mask",
    "masks": "attention_mask",
    "input_mask": "attention_mask",
    "segment_ids": "token_type_ids",
    "token_types": "token_type_ids",
    "input_type_ids": "token_type_ids",
}
"""What other exporters call the inputs (Google's BERT, TensorFlow Hub, sentence encoders)."""

_DTYPES = {
    "input_ids": ("int64", "int32"),
    "attention_mask": ("int64", "int32", "float32", "float16", "bool"),
    "token_type_ids": ("int64", "int32"),
    POSITIONS: ("int64", "int32"),
}

_FROM_ZERO = ("albert", "bert", "big_bird", "convbert", "deberta", "deberta-v2", "distilbert",
              "electra", "ernie", "funnel", "layoutlm", "mobilebert", "nomic_bert",
              "roformer", "squeezebert")  # fmt: skip
"""Values of config.json's model_type whose positions count from 0 and stop for no padding."""


def import_onnx(
    path: str | Path,
    *,
    tokenizer_folder: str | Path | None = None,
    task: str | None = None,
    prompt: str | None = None,
) -> Model:
    """Return the Model of an ONNX file in FP32 or FP16.

    Inputs are token ids, and maybe the attention mask, token types and positions, (batch, seq),
    under any usual name, int64 or narrower. Outputs are those of a task; what else there is, is
    left out. Without a ``task`` names, shapes and config.json tell it. The tokenizer and
    config.json (labels, lengths) are looked for beside the file, then a folder up. What the graph
    lacks of the form that the backends take is made (``onnx_adapt``), and a note says so. Of a
    sentence encoder's folder the prompt (``prompt`` names another than the default), the pooling
    and the length hold as well.

    Raises InputError if the file is damaged, is not such a graph, is quantised already,
    disagrees with config.json, or gives other answers for a padded text.
    """
    path = Path(path)
    where = str(path)
    proto, parts = onnx_read.read(path)
    onnx_read.check(proto, where)
    home = file_settings.home_of(path)
    said = sentence.read(home, prompt)
    config = file_settings.read_config(said.body)
    if home != path.parent:
        progress.note(f"{where}: its config.json and tokenizer are those of {home}")
    opened = _open(proto, path, whole=bool(parts))
    feeds, batch, fixed = _feeds(opened, config, where)
    if batch is not None and batch > 1:
        opened = _of_one_text(opened, feeds, batch, fixed, where)
        batch = 1
    proto = opened.proto
    folder = (
        Path(tokenizer_folder) if tokenizer_folder else file_settings.tokens_home(path, said.body)
    )
    tokens = tokenizer.collect(folder, lower=said.lower)
    if tokens is None:
        progress.note(f"{path.name} has no tokenizer: it is checked on made-up token ids")
    rows = onnx_read.vocabulary(proto, feeds[0].name) or file_settings.number(config, "vocab_size")
    if tokens is not None and rows:
        tokenizer.check_ids(tokens, rows, where)
    pad_id = tokenizer.padding(tokens, rows or 1 << 31, config.get("pad_token_id"))
    probe = _Probe(session=opened.session, feeds=feeds, rows=rows or 2, pad_id=pad_id, where=where)
    limit = fixed or file_settings.limit(config, folder, said)
    tried = (fixed,) if fixed else (min(_SHORT, limit), min(_LONG, limit))
    runs = [(n, probe.run(n)) for n in tried]
    probe.check_same(*runs[0])
    chosen = onnx_outputs.choose(
        runs,
        architecture=file_settings.architecture(config),
        vocabulary=probe.rows,
        task=task,
        where=where,
    )
    if any(not np.isfinite(found[n]).all() for _, found in runs for n in chosen.given):
        raise InputError(
            f"{' or '.join(chosen.given)} is not finite for an ordinary text",
            where=where,
            hint="A weight is NaN or infinite, or the training diverged.",
        )
    if batch is None and not probe.takes_two(tried[0], chosen):
        batch = 1
    if not fixed:
        probe.check_padding(tried[0], tried[-1], chosen)
        limit = probe.longest(limit)
    halves = onnx_adapt.has_halves(proto)
    file = OnnxFile(
        path=opened.path,
        feeds=feeds,
        outputs=chosen.given,
        precision="FP16" if halves else "FP32",
        column=chosen.column,
    )
    if halves:
        progress.note(f"{where}: is in FP16; its weights are made FP32, and checked against it")
    signature = _signature(feeds, chosen, batch)
    graph = _adapted(proto, file, signature, opened.path)
    labels = file_settings.labels_of(config, said.body, chosen, where)
    weights = {p.name: cache.file_sha256(p) for p in (path, *parts)}
    return Model(
        name=name_of(path),
        task=chosen.task,
        input=TextInput(
            tokenizer=tokens,
            max_seq_len=limit,
            pad_id=pad_id,
            seq_lens=(fixed,) if fixed else (),
            prompt=said.prompt,
        ),
        graphs={MAIN: Graph(source=OnnxSource(path=graph, given=file), signature=signature)},
        source=path,
        labels=labels,
        activation=_activation(proto, chosen, labels, config, said, where),
        pooling=file_settings.pooling_of(said, chosen, where),
        origin={"kind": "onnx", "source": path.name, "weights_sha256": weights},
        digest=cache.key(
            weights=weights,
            task=chosen.task.name,
            graph=cache.file_sha256(graph),
            outputs=list(chosen.given),
            tokenizer=tokenizer.hashes(tokens) if tokens else {},
            pad_id=pad_id,
            beside=dict(said.files),
            prompt=said.prompt,
            labels=list(labels),
            limit=limit,
            code=closure.code(__name__),
        ),
    )


def beside(path: Path) -> tuple[Path, ...]:
    """Return the files besides ``path`` that its import reads: weights, settings, tokenizer."""
    return tuple(sorted({*file_settings.settings(path), *onnx_read.external_files(path)} - {path}))


@dataclass(frozen=True, kw_only=True, slots=True)
class _Opened:
    session: Any
    proto: Any
    path: Path


def _open(proto: Any, path: Path, *, whole: bool) -> _Opened:
    """Open the file in onnxruntime; one of several parts as one, a too new one rewritten."""
    where = str(path)
    if not whole:
        try:
            return _Opened(session=onnx_call.open_session(where), proto=proto, path=path)
        # onnxruntime's exceptions have no common base.
        except Exception as exc:
            if "Unsupported model IR version" not in str(exc) and "opset" not in str(exc).lower():
                raise _unopened(where, exc) from exc
    newest = _newest(proto, where)
    copy = _kept(newest, "whole")
    try:
        return _Opened(session=onnx_call.open_session(str(copy)), proto=newest, path=copy)
    except Exception as exc:
        raise _unopened(where, exc) from exc


def _unopened(where: str, exc: Exception) -> InputError:
    """Return the error for a file that onnxruntime does not open."""
    if not any(text in str(exc) for text in _NO_CODE):
        return onnx_read.damaged(where, _reason(exc))
    return InputError(
        f"onnxruntime does not run it ({_reason(exc)})",
        where=where,
        hint="Export it in FP32 or FP16, without this operator or this form of it.",
    )


def _of_one_text(
    opened: _Opened, feeds: tuple[Feed, ...], batch: int, fixed: int | None, where: str
) -> _Opened:
    """Return a file that takes ``batch`` texts as one that takes one, with the same answers.

    Raises InputError if it cannot be had.
    """
    refused = InputError(
        f"takes a fixed batch of {batch} texts; a device reads one at a time",
        where=where,
        hint="Export it again with a free batch, or a batch of 1.",
    )
    if batch > _BATCH:
        raise refused
    copy = _kept(onnx_batch.of_one(opened.proto, batch), "one text")
    try:
        session = onnx_call.open_session(str(copy))
    except Exception as exc:
        raise refused from exc
    tokens = fixed or _SHORT
    rows = onnx_read.vocabulary(opened.proto, feeds[0].name) or 2
    ids = (np.arange(batch * tokens, dtype=np.int64).reshape(batch, tokens) * 7 + 5) % rows
    mask = (np.arange(tokens) < tokens - np.arange(batch)[:, None] % tokens).astype(np.int64)
    texts = {"input_ids": ids, "attention_mask": mask, "token_type_ids": ids * 0}
    try:
        together = opened.session.run(None, onnx_call.feed(feeds, texts))
        for row in range(batch):
            alone = session.run(
                None, onnx_call.feed(feeds, {n: t[row : row + 1] for n, t in texts.items()})
            )
            if not all(
                all_.shape[:1] == (batch,) and _near(one, all_[row : row + 1])
                for one, all_ in zip(alone, together, strict=True)
            ):
                raise refused
    except InputError:
        raise
    except Exception as exc:
        raise refused from exc
    progress.note(f"{where}: takes {batch} texts at once, and is rewritten for one")
    proto = require("onnx", "onnx").load(str(copy))
    return _Opened(session=session, proto=proto, path=copy)


def _newest(proto: Any, where: str) -> Any:
    """Return ``proto``, rewritten if it is newer than onnxruntime here reads."""
    from edgeopt.engines.releases import releases

    require("onnxruntime", "onnx")
    import onnxruntime

    known = [r for r in releases() if r.engine == "onnx" and r.opset and r.ir_version]
    here = next((r for r in known if r.version == onnxruntime.__version__), known[0])
    opset, ir_version = int(here.opset or 0), int(here.ir_version or 0)
    if opset_of(proto) <= opset and proto.ir_version <= ir_version:
        return proto
    said = f"opset {opset_of(proto)}, IR version {proto.ir_version}"
    wanted = _OLDEST if opset_of(proto) > opset else opset
    try:
        made = lowered(proto, wanted, ir_version, where)
    except CompileError as exc:
        raise InputError(
            f"is newer than onnxruntime {onnxruntime.__version__} reads: {exc.message}",
            where=where,
            hint=exc.hint,
        ) from exc
    progress.note(
        f"{where}: {said} is newer than onnxruntime {onnxruntime.__version__} reads; it is "
        f"rewritten as opset {opset_of(made)}, IR version {made.ir_version}"
    )
    return made


def _kept(proto: Any, kind: str) -> Path:
    """Return the place in the cache that ``proto`` is written to."""
    onnx = require("onnx", "onnx")
    content = proto.SerializeToString(deterministic=True)

    def build(directory: Path) -> None:
        onnx.save(proto, str(directory / "model.onnx"))

    key = cache.key(kind=kind, content=hashlib.sha256(content).hexdigest())
    return cache.entry("onnx", key, build) / "model.onnx"


def _adapted(proto: Any, file: OnnxFile, signature: Signature, as_it_came: Path) -> Path:
    where = str(as_it_came)
    try:
        made = onnx_adapt.adapted(proto, file, signature)
        if made is None:
            return as_it_came
        graph = _kept(made, "adapted")
        onnx_call.open_session(str(graph))
    except InputError:
        raise
    # onnx's inliner and onnxruntime raise kinds without a common base.
    except Exception as exc:
        raise InputError(
            f"cannot be brought into the form that the engines take ({_reason(exc)})",
            where=where,
            hint="Export it with inputs input_ids, attention_mask and maybe token_type_ids, int64, "
            "and the task's outputs alone.",
        ) from exc
    return graph


def _reason(exc: Exception) -> str:
    lines = str(exc).strip().splitlines() or [type(exc).__name__]
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", lines[0])
    return onnx_call.FOLDERS.sub("", text)[:240]


def _feeds(
    opened: _Opened, config: Mapping[str, Any], where: str
) -> tuple[tuple[Feed, ...], int | None, int | None]:
    """Return the inputs in our order, and batch and length if they are fixed."""
    proto = opened.proto
    used = onnx_adapt.used_inputs(proto)
    stored = {t.name for t in proto.graph.initializer}
    names = [v.name for v in proto.graph.input if v.name not in stored]
    shaped = {v.name for v in proto.graph.input if v.type.tensor_type.HasField("shape")}
    ports = {port.name: port for port in opened.session.get_inputs()}
    feeds: list[Feed] = []
    batches: set[int] = set()
    lengths: set[int] = set()
    for name in names:
        ours = SYNONYMS.get(plain(name), plain(name))
        if len(names) == 1 and ours not in INPUTS and ours != PIXELS:
            ours = "input_ids"
        if ours not in (*INPUTS, POSITIONS) or ours in {f.ours for f in feeds}:
            raise InputError(
                f"inputs are {', '.join(names)}; expected input_ids, attention_mask and "
                "maybe token_type_ids",
                where=where,
                hint=_IMAGES if names == [PIXELS] else "Export it again with these input names.",
            )
        kind = re.sub(r"^tensor\((.*)\)$", r"\1", ports[name].type)
        kind = {"float": "float32", "double": "float64"}.get(kind, kind)
        dims = ports[name].shape if name in shaped else [None, None]
        if kind not in _DTYPES[ours] or len(dims) != 2:
            raise InputError(
                f"input {name} is {kind} with {len(dims)} dimensions; expected int64 (batch, seq)",
                where=where,
                hint="Export the network alone: the tokenizer stands beside it in its own files."
                if kind == "string"
                else _IMAGES
                if len(dims) == 4
                else None,
            )
        batches |= {dims[0]} if isinstance(dims[0], int) and dims[0] > 0 else set()
        lengths |= {dims[1]} if isinstance(dims[1], int) and dims[1] > 0 else set()
        feeds.append(Feed(name=name, ours=ours, dtype=kind, used=name in used))
    check_feeds(feeds, names, batches, lengths, config, where)
    changed = [f.name for f in feeds if f.name != f.ours]
    if changed:
        taken = ", ".join(f.ours for f in feeds if f.name != f.ours)
        progress.note(f"{where}: input {', '.join(changed)} is taken as {taken}")
    if unused := [f.name for f in feeds if not f.used]:
        progress.note(f"{where}: nothing depends on its input {', '.join(unused)}")
    if any(f.ours == POSITIONS and f.used for f in feeds):
        progress.note(f"{where}: {POSITIONS} are made inside the graph, 0, 1, 2, ...")
    order = (*INPUTS, POSITIONS)
    ordered = sorted(feeds, key=lambda f: order.index(f.ours))
    return tuple(ordered), next(iter(batches), None), next(iter(lengths), None)


def check_feeds(
    feeds: Sequence[Feed],
    names: Sequence[str],
    batches: set[int],
    lengths: set[int],
    config: Mapping[str, Any],
    where: str,
) -> None:
    """Raise InputError if inputs are not a text's, or their free sizes do not go together."""
    if "input_ids" not in {f.ours for f in feeds if f.used}:
        raise InputError(
            f"inputs are {', '.join(names) or 'none'}; expected input_ids, attention_mask and "
            "maybe token_type_ids",
            where=where,
            hint="Export it again with these input names.",
        )
    if len(batches) > 1:
        raise InputError(
            f"its inputs are of different batches: {', '.join(map(str, sorted(batches)))}",
            where=where,
        )
    if max(lengths, default=0) > _LONGEST:
        raise InputError(
            f"takes texts of {max(lengths)} tokens, and {_LONGEST} is the most", where=where
        )
    if len(lengths) > 1:
        raise InputError(
            f"its inputs are of different lengths: {', '.join(map(str, sorted(lengths)))}",
            where=where,
        )
    kind = str(config.get("model_type", ""))
    if any(f.ours == POSITIONS and f.used for f in feeds) and kind not in _FROM_ZERO:
        raise InputError(
            f"takes {POSITIONS}, and whether {kind or 'this network'} counts them from 0 is not "
            "known",
            where=where,
            hint="Export it again without this input: the network then makes them itself.",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Probe:
    """Runs the file on made-up texts."""

    session: Any
    feeds: tuple[Feed, ...]
    rows: int
    pad_id: int
    where: str

    def run(
        self, tokens: int, *, padded: int = 0, texts: int = 1, tries: bool = False
    ) -> dict[str, np.ndarray]:
        """Return all outputs by the file's names; ``padded`` is the length with padding.

        The texts are ids from all over the table, none of them the padding's.
        """
        names = [output.name for output in self.session.get_outputs()]
        length = padded or tokens
        ids = (np.arange(texts * length, dtype=np.int64) * 7 + 5) % self.rows
        ids[ids == self.pad_id] = (self.pad_id + 1) % self.rows
        rows, mask = ids.reshape(texts, length), np.ones((texts, length), np.int64)
        rows[:, tokens:], mask[:, tokens:] = self.pad_id, 0
        batch = {"input_ids": rows, "attention_mask": mask, "token_type_ids": np.zeros_like(rows)}
        try:
            values = self.session.run(names, onnx_call.feed(self.feeds, batch))
        # onnxruntime's exceptions have no common base.
        except Exception as exc:
            if tries:
                raise _NotTakenError from exc
            raise InputError(
                f"onnxruntime cannot run it on {texts} text of {length} tokens ({_reason(exc)})",
                where=self.where,
                hint="Export it again; dimensions declared free must be free inside as well.",
            ) from exc
        found = {n: v for n, v in zip(names, values, strict=True) if isinstance(v, np.ndarray)}
        if strange := [n for n in names if n not in found]:
            progress.note(f"{self.where}: output {', '.join(strange)} is no tensor")
        return found

    def check_same(self, tokens: int, first: Mapping[str, np.ndarray]) -> None:
        """Raise InputError if the same text gives other answers a second time."""
        again = self.run(tokens)
        if any(not np.array_equal(first[n], again[n], equal_nan=True) for n in first):
            raise InputError(
                "gives other answers when the same text is read again",
                where=self.where,
                hint="Export it in eval mode (model.eval()).",
            )

    def takes_two(self, tokens: int, chosen: Chosen) -> bool:
        """Tell whether two texts at once give what each gives alone."""
        try:
            two = self.run(tokens, texts=2, tries=True)
        except _NotTakenError:
            return False
        one = self.run(tokens)
        return all(two[n].shape[:1] == (2,) and _near(two[n][:1], one[n]) for n in chosen.given)

    def check_padding(self, tokens: int, padded: int, chosen: Chosen) -> None:
        """Raise InputError if padding, which a device adds, changes the answer."""
        plain_, more = self.run(tokens), self.run(tokens, padded=padded)
        by_token = chosen.task == QUESTION_ANSWERING or plain_[chosen.given[0]].ndim == 3
        for name in chosen.given:
            found = more[name][:, :tokens] if by_token else more[name]
            if not _near(found, plain_[name]):
                masked = any(f.ours == "attention_mask" and f.used for f in self.feeds)
                raise InputError(
                    "gives another answer for a padded text"
                    + ("" if masked else ": it uses no attention_mask"),
                    where=self.where,
                    hint="A device pads texts to a few lengths. Export it again with an "
                    "attention_mask that leaves padding out.",
                )

    def longest(self, limit: int) -> int:
        """Return the most tokens up to ``limit`` that a text may have."""
        if limit > _PROBED or self._runs(limit):
            return limit
        low, high = min(_SHORT, limit), limit  # the first runs, the second does not
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._runs(middle) else (low, middle)
        progress.note(f"{self.where}: takes at most {low} tokens")
        return low

    def _runs(self, tokens: int) -> bool:
        try:
            self.run(tokens, tries=True)
        except _NotTakenError:
            return False
        return True


class _NotTakenError(Exception):
    """onnxruntime could not run a call that was tried."""


def _near(found: np.ndarray, expected: np.ndarray) -> bool:
    if found.shape != expected.shape:
        return False
    scale = max(float(np.abs(expected).max(initial=0.0)), 1e-6)
    return bool(np.abs(found - expected).max(initial=0.0) <= _SAME * scale)


def _signature(feeds: Sequence[Feed], chosen: Chosen, batch: int | None) -> Signature:
    first: int | str = batch or "batch"
    dims: tuple[int | str, ...] = (chosen.width,)
    if chosen.ours == chosen.task.outputs:  # no embedding in their place
        dims = tuple(chosen.width if dim == "width" else dim for dim in chosen.task.dims[1:])
    ours = [f.ours for f in feeds if f.used and f.ours != POSITIONS]
    return Signature(
        inputs=tuple(TensorSpec(name=n, dtype="int64", dims=(first, "seq")) for n in ours),
        outputs=tuple(
            TensorSpec(name=n, dtype="float32", dims=(first, *dims)) for n in chosen.ours
        ),
    )


def _activation(
    proto: Any,
    chosen: Chosen,
    labels: Sequence[str],
    config: Mapping[str, Any],
    said: Beside,
    where: str,
) -> str:
    made = {name: node for node in proto.graph.node for name in node.output}
    node = made.get(chosen.given[0])
    while node is not None and node.op_type in ("Identity", "Cast", "Squeeze", "Reshape"):
        node = made.get(node.input[0])
    scores = node is not None and node.op_type in ("Softmax", "Sigmoid")
    if chosen.task.labelled and scores:
        progress.note(f"{where}: {chosen.given[0]} are scores already, which nothing is done to")
        return "none"
    if chosen.task == SEQUENCE_CLASSIFICATION and said.tool == "CrossEncoder":
        function = said.activation or ("Sigmoid" if len(labels) == 1 else "Identity")
        known = {"Sigmoid": "sigmoid", "Softmax": "softmax", "Identity": "none"}
        if function not in known:
            raise InputError(
                f"its scores are made by {function}, which is not in the graph",
                where=where,
                hint="Import the checkpoint itself.",
            )
        return known[function]
    return activation(chosen.task, len(labels), config.get("problem_type"))
