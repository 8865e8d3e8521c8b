# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Import an ``.onnx`` file of a transformer, with what stands beside it or a folder up.

Nothing that the file says of itself is believed: it is run in onnxruntime, as it came, on made-up
texts of several lengths, and what it answers decides. That run is the reference as well.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
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
from edgeopt.model.pooling import Pooling
from edgeopt.model.sentence import Beside
from edgeopt.model.signature import Signature, TensorSpec
from edgeopt.model.tasks import (
    FEATURE_EXTRACTION,
    INPUTS,
    PIXELS,
    QUESTION_ANSWERING,
    SEQUENCE_CLASSIFICATION,
    activation,
)

_DEFAULT_MAX_SEQ_LEN = 512
_SHORT, _LONG = 8, 11  # tokens of the made-up texts; no size of a network is 11
_LONGEST = 1 << 16  # tokens; attention over more takes gigabytes a head
_PROBED = 1024  # up to so many tokens the longest text is tried: attention grows with the square
_SAME = 1e-3  # of the largest value: what padding may change, a hundred times float32 rounding
_BATCH = 256  # texts of a fixed batch; each is run
_OLDEST = 17  # the opset that a file too new for this onnxruntime is rewritten in

_NO_CODE = ("Could not find an implementation", "during initialization", "not supported")
"""What onnxruntime says of a sound file with an operator that it has no code for."""

_IMAGES = "A model of images is imported from its checkpoint, not from an .onnx file."

_SYNONYMS = {
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

_FROM_PADDING = ("camembert", "data2vec-text", "esm", "ibert", "longformer", "mpnet", "roberta",
                 "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod")  # fmt: skip
"""Those whose positions count from the padding's id + 1, which so many of the table are for."""


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
    home = _home(path)
    said = sentence.read(home, prompt)
    config = _config(said.body)
    if home != path.parent:
        progress.note(f"{where}: its config.json and tokenizer are those of {home}")
    opened = _open(proto, path, whole=bool(parts))
    feeds, batch, fixed = _feeds(opened, config, where)
    if batch is not None and batch > 1:
        opened = _of_one_text(opened, feeds, batch, fixed, where)
        batch = 1
    proto = opened.proto
    folder = Path(tokenizer_folder) if tokenizer_folder else _tokens_home(path, said.body)
    tokens = tokenizer.collect(folder, lower=said.lower)
    if tokens is None:
        progress.note(f"{path.name} has no tokenizer: it is checked on made-up token ids")
    rows = onnx_read.vocabulary(proto, feeds[0].name) or _number(config, "vocab_size")
    if tokens is not None and rows:
        tokenizer.check_ids(tokens, rows, where)
    pad_id = tokenizer.padding(tokens, rows or 1 << 31, config.get("pad_token_id"))
    probe = _Probe(session=opened.session, feeds=feeds, rows=rows or 2, pad_id=pad_id, where=where)
    limit = fixed or _limit(config, folder, said)
    tried = (fixed,) if fixed else (min(_SHORT, limit), min(_LONG, limit))
    runs = [(n, probe.run(n)) for n in tried]
    probe.check_same(*runs[0])
    chosen = onnx_outputs.choose(
        runs,
        architecture=_architecture(config),
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
    labels = _labels(config, said.body, chosen, where)
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
        pooling=_pooling(said, chosen, where),
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
    return tuple(sorted({*settings(path), *onnx_read.external_files(path)} - {path}))


def settings(path: Path) -> tuple[Path, ...]:
    """Return those of ``beside`` that hold no weights; the file itself is not opened.

    They lie in the folder of ``path``, in the one with config.json, in those of the modules of a
    sentence encoder, and in the one with the tokenizer.
    """
    home = _home(path)
    folders = {path.parent, home}
    found: set[Path] = set()
    with contextlib.suppress(InputError):  # which the import raises
        body = sentence.body_of(home)
        folders |= {body, _tokens_home(path, body)}
        for folder in set(sentence.module_folders(home)) - folders:
            found |= set(folder.glob("*"))  # of a Dense its weights, too
    for folder in folders:
        found |= {p for p in folder.glob("*") if _is_setting(p)}
    return tuple(sorted(p for p in found if p.is_file()))


def _is_setting(path: Path) -> bool:
    names = (*tokenizer.FILES, "modules.json", sentence.HEAD)
    return path.name in names or path.name.endswith("config.json") or "sentence" in path.name


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
        ours = _SYNONYMS.get(plain(name), plain(name))
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
    _check_feeds(feeds, names, batches, lengths, config, where)
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


def _check_feeds(
    feeds: Sequence[Feed],
    names: Sequence[str],
    batches: set[int],
    lengths: set[int],
    config: Mapping[str, Any],
    where: str,
) -> None:
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


def _home(path: Path) -> Path:
    """Return the folder with config.json: the file's own, or the one around ``onnx``."""
    above = path.absolute().parent.parent
    own = [path.parent / name for name in ("config.json", "tokenizer.json", "modules.json")]
    if not any(p.is_file() for p in own) and _is_checkpoint(above):
        return path.parent.parent if path.parent.name not in ("", ".", "..") else above
    return path.parent


def _is_checkpoint(folder: Path) -> bool:
    try:
        config = _config(folder)
    except InputError:
        return False
    return bool({"model_type", "architectures"} & set(config))


def _tokens_home(path: Path, home: Path) -> Path:
    """Return the folder with the tokenizer: that of config.json, or the one around it."""
    above = path.absolute().parent.parent
    if _has_tokenizer(home) or not _is_checkpoint(above):
        return home
    return above if _has_tokenizer(above) else home


def _has_tokenizer(folder: Path) -> bool:
    return any((folder / name).is_file() for name in tokenizer.VOCABULARIES)


def _limit(config: Mapping[str, Any], tokens: Path, said: Beside) -> int:
    """Return the most tokens that config.json and the tokenizer's settings allow."""
    limits = []
    positions = config.get("max_position_embeddings")
    if positions is not None and _is_size(positions):
        first = 0
        if config.get("model_type") in _FROM_PADDING:
            first = _number(config, "pad_token_id") + 1
        limits.append(int(positions) - first)
    value = said.max_seq_len  # sentence-transformers takes it in the place of the tokenizer's
    if value is None:
        value = _json(tokens / "tokenizer_config.json").get("model_max_length")
    if value is not None and _is_size(value):  # 1e30 stands for "no limit"
        limits.append(int(value))
    return max(1, min(limits, default=_DEFAULT_MAX_SEQ_LEN))


def _number(config: Mapping[str, Any], key: str) -> int:
    value = config.get(key)
    return value if type(value) is int else 0


def _is_size(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1_000_000


def _architecture(config: Mapping[str, Any]) -> str:
    listed = config.get("architectures")
    return str(listed[0]) if isinstance(listed, list) and listed else ""


def _labels(config: Mapping[str, Any], home: Path, chosen: Chosen, where: str) -> tuple[str, ...]:
    """Return a label for each logit: config.json's, which must be as many, or LABEL_0, ..."""
    if not chosen.task.labelled:
        return ()
    named = config.get("id2label")
    if named is None:
        return tuple(f"LABEL_{i}" for i in range(chosen.width))
    wrong = f"names labels {named!r}"[:200]
    try:
        by_index = {int(key): str(value) for key, value in named.items()}
    except (AttributeError, TypeError, ValueError):
        by_index = {}
    if sorted(by_index) != list(range(chosen.width)):
        raise InputError(
            f"{wrong}, but {chosen.given[0]} of {Path(where).name} has {chosen.width} values: "
            f"expected the labels 0 to {chosen.width - 1}",
            where=f"{home / 'config.json'}: id2label",
            hint="Put the config.json beside it that it was exported with.",
        )
    return tuple(by_index[i] for i in range(chosen.width))


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


def _pooling(said: Beside, chosen: Chosen, where: str) -> Pooling | None:
    """Return how an embedding is made of the tokens', if a sentence encoder's folder says so.

    Raises InputError for what stands beside the file and would have to be inside the graph.
    """
    tokens_alone = chosen.ours == ("last_hidden_state",)
    lost = [module.kind for module in said.modules] if tokens_alone else []
    lost += ["the head of SetFit"] * (said.head is not None)
    lost += [f"truncate_dim {said.dims}"] * (said.dims is not None)
    kept_out = any(m.options.get("include_prompt") is False for m in said.modules)
    lost += ["a prompt that is not pooled"] * bool(said.prompt and kept_out)
    if lost and chosen.task == FEATURE_EXTRACTION:
        raise InputError(
            f"gives {chosen.given[0]}, and its folder goes on from there with {', '.join(lost)}",
            where=where,
            hint="Import the folder itself, or export the whole.",
        )
    return said.pooling if tokens_alone else None


def _config(folder: Path) -> dict[str, Any]:
    return _json(folder / "config.json")


def _json(path: Path) -> dict[str, Any]:
    """Return the object in a file, an empty one if there is none."""
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as exc:
        raise InputError(f"is not JSON ({exc})", where=str(path)) from exc
    return found if isinstance(found, dict) else {}
