# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Trim the vocabulary, WordPiece or byte-level BPE, and the embedding table with it.

Every text still tokenises: all single characters that the vocabulary knows (for BPE all 256
bytes) stay. A text of which all tokens were kept has the same tokens as before: WordPiece takes
the longest piece that there is, which stays the longest; BPE applies its merges in their order,
and with a token all merges that lead to it stay. Tokens keep their order, not their numbers.
"""

from __future__ import annotations

import copy
import json
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgeopt import cache, closure, progress
from edgeopt.compression.technique import Change
from edgeopt.errors import InputError
from edgeopt.evaluate.data import Data
from edgeopt.extras import require
from edgeopt.model import Model, tokenizer
from edgeopt.model.checkpoint import network
from edgeopt.model.network.embeddings import plain_table
from edgeopt.steps import wrong
from edgeopt.steps.vocabulary import Vocabulary
from edgeopt.train.context import ALONE, Context

_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
"""The files of a trimmed tokenizer; any other would still have the old token numbers."""


def check(model: Model, options: Vocabulary) -> None:
    """Raise InputError if ``options`` cannot be done to ``model``."""
    state = _state(model)
    must = _must(model, state, options.first)
    if options.size is not None and options.size < len(must):
        raise wrong(
            options,
            "size",
            f"{options.size} is below the {len(must)} tokens that stay whatever the texts are",
        )


def apply(model: Model, options: Vocabulary, data: Data, context: Context = ALONE) -> Change:
    """Return a model with fewer tokens, and a line on how many; ``model`` stays as it is.

    Raises InputError as ``check`` does.
    """
    del context
    check(model, options)
    state = _state(model)
    kept = _kept(model, state, options, _counts(model, data))
    numbers = {old: new for new, old in enumerate(sorted(kept))}
    module: Any = copy.deepcopy(model.module)
    before = module.network.config.vocab_size
    _slice(module.network, numbers)
    folder = _write(model, state, numbers)
    text = replace(model.text, tokenizer=folder, pad_id=numbers[model.text.pad_id])
    changed = replace(model.with_module(module), input=text)
    return Change(changed, f"{len(kept)} of {before} tokens kept", modified=len(kept) < before)


def _state(model: Model) -> dict[str, Any]:
    """Return tokenizer.json. Raises InputError if it is of a kind that is not trimmed here."""
    if model.text.tokenizer is None:
        raise InputError("has no tokenizer, so its vocabulary cannot be trimmed", where=model.name)
    state: dict[str, Any] = json.loads((model.text.tokenizer / "tokenizer.json").read_text("utf-8"))
    kind = state["model"].get("type")
    if kind == "WordPiece":
        return state
    if kind == "BPE":
        alphabet = _bytes()
        steps = state.get("pre_tokenizer") or {}
        steps = steps.get("pretokenizers", [steps])
        if any(step.get("type") == "ByteLevel" for step in steps):
            if alphabet <= state["model"]["vocab"].keys():
                return state
            kind = "BPE without all 256 bytes"
        else:
            kind = "BPE on characters"
    raise InputError(
        f"has a tokenizer of the kind {kind}, whose vocabulary cannot be trimmed",
        where=model.name,
        hint="Supported: WordPiece, byte-level BPE",
    )


def _bytes() -> set[str]:
    tokenizers = require("tokenizers", "torch")
    return set(tokenizers.pre_tokenizers.ByteLevel.alphabet())


def _all_tokens(state: Mapping[str, Any]) -> dict[str, int]:
    added = {token["content"]: token["id"] for token in state["added_tokens"]}
    return dict(state["model"]["vocab"]) | added


def _must(model: Model, state: Mapping[str, Any], first: int) -> set[int]:
    """Return the numbers of the tokens that stay whatever the texts are."""
    tokens = _all_tokens(state)
    must = {token["id"] for token in state["added_tokens"]}
    special = {n for value in _special(network(model).config).values() for n in value}
    must |= special & set(tokens.values())
    must.add(model.text.pad_id)
    must |= set(_placed(state.get("post_processor") or {}))
    unknown = state["model"].get("unk_token")
    must |= {tokens[unknown]} if unknown in tokens else set()
    # RoBERTa counts positions from its padding's number, so that one must not move.
    table = plain_table(network(model))
    rows = table.num_embeddings
    padding = (network(model).config.pad_token_id, table.padding_idx)
    low = max([first, *(n + 1 for n in padding if n is not None)])
    must |= {n for n in tokens.values() if n < low}
    if max(tokens.values()) >= rows:
        raise InputError(
            f"its tokenizer has the token number {max(tokens.values())}, but its table {rows} rows",
            where=model.name,
        )
    if state["model"]["type"] == "BPE":
        must |= {tokens[byte] for byte in _bytes()}
        return _Tokens(state).closed(must)
    prefix = state["model"].get("continuing_subword_prefix", "##")
    vocabulary = state["model"]["vocab"]
    for token, number in vocabulary.items():
        piece = token.removeprefix(prefix)
        start = "" if piece == token else prefix
        # A character that does not stand alone in the vocabulary is reached by this piece only.
        spelt = ((start if i == 0 else prefix) + c for i, c in enumerate(piece))
        if len(piece) == 1 or any(c not in vocabulary for c in spelt):
            must.add(number)
    return must


def _special(config: Any) -> dict[str, list[int]]:
    """Return the token numbers in a configuration: ``pad_token_id`` and the like."""
    found = {}
    for name, value in config.to_dict().items():
        if name.endswith("_token_id") and value is not None:
            found[name] = list(value) if isinstance(value, list) else [value]
    return found


def _merges(state: Mapping[str, Any]) -> list[tuple[str, str]]:
    merges = state["model"].get("merges", ())
    pairs = (m.split(" ") if isinstance(m, str) else m for m in merges)
    return [(a, b) for a, b in pairs]


class _Tokens:
    """What stays together: with a token of BPE, all that its merges pass through."""

    def __init__(self, state: Mapping[str, Any]) -> None:
        self._numbers: Mapping[str, int] = state["model"]["vocab"]
        self._names = {number: token for token, number in self._numbers.items()}
        self._parts: dict[str, list[str]] = {}
        for a, b in _merges(state):
            self._parts.setdefault(a + b, []).extend((a, b))

    def closed(self, numbers: Iterable[int]) -> set[int]:
        """Return ``numbers`` with all that must stay with them."""
        found: set[int] = set()
        todo = list(numbers)
        while todo:
            number = todo.pop()
            if number not in found:
                found.add(number)
                parts = self._parts.get(self._names.get(number, ""), ())
                todo += [self._numbers[part] for part in parts]
        return found


def _counts(model: Model, data: Data) -> Counter[int]:
    """Return how often each token stands in the texts, without cutting them."""
    assert model.text.tokenizer is not None
    tokens = tokenizer.load(model.text.tokenizer)
    counts: Counter[int] = Counter()
    with progress.step(f"Counting the tokens of {len(data)} texts") as step:
        for start in range(0, len(data), 1000):
            encoded = tokens(list(data.inputs[start : start + 1000]), verbose=False)
            for ids in encoded["input_ids"]:
                counts.update(ids)
            step.update(start, len(data))
    return counts


def _kept(
    model: Model, state: Mapping[str, Any], options: Vocabulary, counts: Counter[int]
) -> set[int]:
    """Return the numbers of the tokens that stay: those that must, then the most frequent."""
    tokens = _Tokens(state)
    kept = _must(model, state, options.first)
    seen = sorted(counts, key=lambda number: (-counts[number], number))
    if options.size is None:
        return tokens.closed(kept.union(seen))
    for number in seen:
        wanted = tokens.closed([number]) - kept
        if len(kept) + len(wanted) <= options.size:
            kept |= wanted
    return kept


def _slice(net: Any, numbers: Mapping[int, int]) -> None:
    """Keep the rows ``numbers`` (old -> new) of the embedding table of ``net``, in place.

    Only networks without a language-modelling head come here, so no other table is tied to it.
    """
    import torch

    table = net.get_input_embeddings()
    kept = torch.tensor(sorted(numbers))
    table.weight = torch.nn.Parameter(table.weight[kept].clone(), requires_grad=False)
    table.num_embeddings = len(kept)
    if table.padding_idx is not None:
        table.padding_idx = numbers[table.padding_idx]
    for name, values in _special(net.config).items():
        new = [numbers.get(value, value) for value in values]
        setattr(net.config, name, new if isinstance(getattr(net.config, name), list) else new[0])
    net.config.vocab_size = len(kept)


def _write(model: Model, state: Mapping[str, Any], numbers: Mapping[int, int]) -> Path:
    """Return a directory with the tokenizer whose tokens have the new ``numbers``."""
    assert model.text.tokenizer is not None
    source = model.text.tokenizer
    new = copy.deepcopy(dict(state))
    vocabulary = {t: numbers[n] for t, n in state["model"]["vocab"].items() if n in numbers}
    new["model"]["vocab"] = vocabulary
    if "merges" in new["model"]:
        new["model"]["merges"] = [
            [a, b] for a, b in _merges(state) if {a, b, a + b} <= vocabulary.keys()
        ]
    for token in new["added_tokens"]:
        token["id"] = numbers[token["id"]]
    if new.get("padding"):
        new["padding"]["pad_id"] = numbers[new["padding"]["pad_id"]]
    _renumber(new.get("post_processor") or {}, numbers)

    def build(directory: Path) -> None:
        for name in _FILES[1:]:
            if (source / name).is_file():
                shutil.copyfile(source / name, directory / name)
        path = directory / "tokenizer_config.json"
        if path.is_file():
            settings = json.loads(path.read_text("utf-8"))
            added = settings.get("added_tokens_decoder")
            if added:
                settings["added_tokens_decoder"] = {
                    str(numbers[int(n)]): token for n, token in added.items()
                }
            path.write_text(json.dumps(settings, indent=2), "utf-8")
        (directory / "tokenizer.json").write_text(json.dumps(new, ensure_ascii=False), "utf-8")

    key = cache.key(
        files=tokenizer.hashes(source), kept=sorted(numbers), code=closure.code(__name__)
    )
    return cache.entry("tokenizer", key, build)


def _placed(processor: Mapping[str, Any]) -> list[int]:
    """Return the numbers of the special tokens that a post-processor puts around a text."""
    found = [n for part in processor.get("processors", ()) for n in _placed(part)]
    for entry in (processor.get("special_tokens") or {}).values():
        found += entry["ids"]
    return found + [
        processor[name][1] for name in ("sep", "cls") if isinstance(processor.get(name), list)
    ]


def _renumber(processor: dict[str, Any], numbers: Mapping[int, int]) -> None:
    """Give the special tokens of a post-processor their new numbers, in place."""
    for part in processor.get("processors", ()):
        _renumber(part, numbers)
    for token in processor.get("special_tokens") or {}:
        entry = processor["special_tokens"][token]
        entry["ids"] = [numbers[n] for n in entry["ids"]]
    for name in ("sep", "cls"):  # of BertProcessing and RobertaProcessing: [token, number]
        if isinstance(processor.get(name), list):
            processor[name][1] = numbers[processor[name][1]]
