# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Real texts to check and calibrate on, and how they become a model's inputs."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import numpy as np

from edgeopt import progress
from edgeopt.errors import InputError
from edgeopt.model import Model, OnnxSource, onnx_read, tokenizer

_SEED = 0
_FEWEST = 2  # ids that any table has


def read_texts(path: Path | None, limit: int) -> tuple[str, ...]:
    """Return at most ``limit`` texts of ``path``, or of those shipped with edgeopt for None.

    A ``.jsonl`` file has an object with ``text`` on each line; any other file has one text on
    each line; either may be packed (``.gz``). Blank lines do not count. Raises InputError, with
    the line, if it is not so.
    """
    if path is None:
        shipped = resources.files("edgeopt.model").joinpath("texts.jsonl")
        return _parse(shipped.read_text(encoding="utf-8"), "texts.jsonl", limit, jsonl=True)
    return _parse(_read(path), str(path), limit, jsonl=is_jsonl(path))


def read_labelled(path: Path) -> tuple[tuple[str, ...], tuple[str | int, ...] | None]:
    """Return all texts of ``path`` and their labels, None if no line has any.

    As ``read_texts``, but the objects of a ``.jsonl`` file may have a ``label`` besides: a name,
    or an index from 0. Raises InputError if only some lines have one.
    """
    content, jsonl = _read(path), is_jsonl(path)
    texts = _parse(content, str(path), None, jsonl=jsonl)
    if not jsonl:
        return texts, None
    labels: list[str | int] = []
    without = 0
    for number, line in enumerate(content.split("\n"), start=1):
        if not line.strip():
            continue
        label = json.loads(line).get("label")
        if label is None:
            without = without or number
        elif type(label) not in (str, int):
            raise InputError(
                f'expected a "label" that is a name or an index, found {label!r}',
                where=f"{path}: line {number}",
            )
        else:
            labels.append(label)
    if labels and without:
        raise InputError('has no "label", which other lines have', where=f"{path}: line {without}")
    return texts, tuple(labels) or None


def lines(path: Path) -> list[str]:
    """Return the lines of ``path``, unpacked."""
    return _read(path).split("\n")


def is_jsonl(path: Path) -> bool:
    """Tell by the name whether ``path`` has a JSON object on each line."""
    return path.name.removesuffix(".gz").endswith(".jsonl")


def _read(path: Path) -> str:
    try:
        content = path.read_bytes()
        return (gzip.decompress(content) if path.suffix == ".gz" else content).decode("utf-8")
    except (zlib.error, EOFError, gzip.BadGzipFile) as exc:
        raise InputError("is damaged, or not packed by gzip", where=str(path)) from exc
    except OSError as exc:
        raise InputError(f"cannot be read ({exc.strerror})", where=str(path)) from exc
    except UnicodeDecodeError as exc:
        raise InputError(f"is not UTF-8 text ({exc.reason})", where=str(path)) from exc


def _parse(content: str, where: str, limit: int | None, *, jsonl: bool) -> tuple[str, ...]:
    texts: list[str] = []
    for number, line in enumerate(content.split("\n"), start=1):
        if len(texts) == limit:
            break
        if not line.strip():
            continue
        texts.append(_text(line, f"{where}: line {number}") if jsonl else line.strip())
    if not texts:
        raise InputError("has no texts", where=where)
    return tuple(texts)


def _text(line: str, where: str) -> str:
    try:
        row = json.loads(line)
    except ValueError as exc:
        raise InputError(f"is not JSON ({exc})", where=where) from exc
    text = row.get("text") if isinstance(row, dict) else None
    if not isinstance(text, str) or not text.strip():
        raise InputError('expected an object with a "text" that is a string', where=where)
    return text


def tokenize(model: Model, texts: Sequence[str], seq_len: int) -> list[dict[str, np.ndarray]]:
    """Return one call per text: the model's inputs by name, int64, (1, seq_len).

    The model's prompt stands before each. Longer texts are cut, shorter ones padded. For a model
    without a tokenizer the ids are random (seeded; as many as the text has words) and a note says
    so. Raises InputError if what the tokenizer adds to a text is longer than ``seq_len``.
    """
    if model.text.tokenizer is None:
        progress.note(f"{model.name} has no tokenizer: random token ids stand for the texts")
        return _random(model, texts, seq_len)
    tokens = tokenizer.load(model.text.tokenizer)
    if (added := tokens.num_special_tokens_to_add()) > seq_len:
        raise InputError(
            f"takes {seq_len} tokens of a text at most, and its tokenizer adds {added} to each",
            where=model.name,
            hint="model_max_length in tokenizer_config.json may be wrong.",
        )
    names = [spec.name for spec in model.main.signature.inputs]
    calls = []
    for text in texts:
        encoded = tokens(
            model.text.prompt + text,
            truncation=True,
            max_length=seq_len,
            return_token_type_ids=True,
            return_attention_mask=True,
        )
        fills = {"input_ids": model.text.pad_id}  # the tokenizer itself may name no such token
        call = {name: np.full((1, seq_len), fills.get(name, 0), dtype=np.int64) for name in names}
        for name in names:
            call[name][0, : len(encoded[name])] = encoded[name]
        calls.append(call)
    return calls


def _random(model: Model, texts: Sequence[str], seq_len: int) -> list[dict[str, np.ndarray]]:
    generator = np.random.default_rng(_SEED)
    vocabulary = vocabulary_size(model)
    calls = []
    for text in texts:
        words = min(len(text.split()) + 2, seq_len)
        ids = np.zeros((1, seq_len), dtype=np.int64)
        ids[0, :words] = generator.integers(0, vocabulary, words)
        mask = np.zeros((1, seq_len), dtype=np.int64)
        mask[0, :words] = 1
        values = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        calls.append({spec.name: values[spec.name] for spec in model.main.signature.inputs})
    return calls


def vocabulary_size(model: Model) -> int:
    """Return how many token ids the model's largest embedding table takes."""
    source = model.main.source
    if isinstance(source, OnnxSource):
        import onnx

        return onnx_read.vocabulary(onnx.load(str(source.path)), "input_ids") or _FEWEST
    known = model.main.signature.inputs[0].limit
    if known is not None or not model.main.is_torch:
        return known or _FEWEST
    # Of torch.nn.Embedding, and of a packed table.
    sizes = [getattr(module, "num_embeddings", 0) for module in model.module.modules()]
    return max(*sizes, _FEWEST)
