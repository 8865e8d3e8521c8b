# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The tokenizer's files: which ones belong to it, and a directory of their own."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeopt import cache, closure
from edgeopt.errors import InputError
from edgeopt.extras import require
from edgeopt.model import siglip_tokenizer
from edgeopt.quiet import quiet

FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "bpe.codes",
    "spiece.model",
    "spm.model",
    "tokenizer.model",
    "sentencepiece.bpe.model",
)
"""Names that transformers gives a tokenizer's files."""

VOCABULARIES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "spiece.model",
    "spm.model",
    "tokenizer.model",
    "sentencepiece.bpe.model",
)
_UNKNOWN = "\uffff"
"""No character, and in no vocabulary."""

_NAMES = (
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
)


def collect(folder: Path, *, lower: bool = False) -> Path | None:
    """Return a directory with the tokenizer of ``folder`` as transformers loads it, or None.

    It has a ``tokenizer.json`` with all that transformers follows beside the user's own
    (``do_lower_case``, added tokens, the kind of model in config.json) already done, and a
    ``tokenizer_config.json`` that changes none of it, so that the runtime, which reads
    ``tokenizer.json`` alone, gives the same ids. A Unigram model's has the key ``exact_scores``:
    the runtime takes the nearest number to each score, as transformers does when it loads them into
    a model by itself. ``lower`` has it make texts lower case first.
    None if ``folder`` has no tokenizer's files. Raises InputError if there is no vocabulary among
    them, if they are damaged, or are of a tokenizer that is no such file.
    """
    if not any((folder / name).is_file() for name in VOCABULARIES):
        if others := [name for name in FILES if os.path.lexists(folder / name)]:
            raise InputError(
                f"has {others[0]}, but no vocabulary: none of {', '.join(VOCABULARIES)} is a file",
                where=str(folder),
                hint="Copy the file that is missing; or, for a model without a tokenizer, remove "
                f"{' and '.join(others)}.",
            )
        return None
    config = folder / "config.json"

    def build(directory: Path) -> None:
        _write(load(folder), directory, folder, lower)

    key = cache.key(
        files=hashes(folder),
        config=cache.file_sha256(config) if config.is_file() else None,
        code=closure.code(__name__),
        lower=lower,
    )
    return cache.entry("tokenizer", key, build)


def of_library(tokenizer: Any) -> Any | None:
    """Return a transformers tokenizer as one of the tokenizers library, None if it cannot be."""
    if tokenizer.is_fast:
        return getattr(tokenizer, "backend_tokenizer", None)
    return siglip_tokenizer.converted(tokenizer)


def _write(tokenizer: Any, directory: Path, where: Path, lower: bool) -> None:
    """Write ``tokenizer`` as the two files that ``collect`` tells of."""
    backend = of_library(tokenizer)
    if backend is None:
        raise InputError(
            f"its tokenizer ({type(tokenizer).__name__}) has no tokenizer.json, and transformers "
            "makes none of its vocabulary",
            where=str(where),
            hint="Only tokenizers of the tokenizers library run on a device.",
        )
    most = tokenizer.model_max_length
    if isinstance(most, bool) or not isinstance(most, int | float):
        raise InputError(
            f"model_max_length: expected a number, found {most!r}",
            where=str(where / "tokenizer_config.json"),
        )
    if tokenizer.truncation_side != "right":
        raise InputError(
            f"its tokenizer cuts long texts at the {tokenizer.truncation_side} (truncation_side); "
            "the runtime cuts them at the right",
            where=str(where),
            hint='Write "truncation_side": "right" into tokenizer_config.json if that is as good.',
        )
    try:
        backend.encode(_UNKNOWN)
    except Exception as exc:  # tokenizers raises plain Exception
        raise InputError(
            f"its tokenizer cannot read a text ({_first_line(exc)})",
            where=str(where),
            hint="Look at the vocabulary: it lacks what every text may need, or is another file.",
        ) from exc
    document = json.loads(backend.to_str())
    document |= {"truncation": None, "padding": None}  # for the caller to say
    if lower:
        document["normalizer"] = _lower(document.get("normalizer"))
    if document["model"].get("type") == "WordPiece":
        _trim_nothing(document.get("post_processor") or {})
    if document["model"].get("type") == "Unigram":
        # tokenizers 0.23 reads JSON with serde_json, which takes a fifth of sentencepiece's scores
        # for a number beside the nearest. It does not know the key and leaves it alone.
        document["model"]["exact_scores"] = True
    text = json.dumps(document, ensure_ascii=False)
    (directory / "tokenizer.json").write_text(text, encoding="utf-8")
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": tokenizer.model_max_length,
        "model_input_names": list(tokenizer.model_input_names),
        "padding_side": "right",  # as the runtime pads; no text alone is padded
        "clean_up_tokenization_spaces": bool(tokenizer.clean_up_tokenization_spaces),
    }
    for name in _NAMES:
        if (token := getattr(tokenizer, name)) is not None:
            settings[name] = str(token)
    (directory / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")
    again = json.loads(load(directory).backend_tokenizer.to_str())
    if document["model"].pop("exact_scores", False):
        for piece, other in zip(document["model"]["vocab"], again["model"]["vocab"], strict=False):
            if math.isclose(piece[1], other[1], rel_tol=1e-15):
                other[1] = piece[1]
    if changed := [key for key, value in document.items() if again.get(key) != value]:
        raise InputError(
            f"its tokenizer ({type(tokenizer).__name__}, a {document['model'].get('type')} model) "
            f"does not load again as it was saved: {', '.join(changed)} of tokenizer.json",
            where=str(where),
            hint="Save the tokenizer again with transformers' save_pretrained(); its "
            "tokenizer.json is what the device reads.",
        )


def _lower(normalizer: Any) -> Any:
    """Return a normalizer that makes texts lower case first, as sentence-transformers has it done.

    If there is a BertNormalizer, its own flag does so: accents stay what they were.
    """
    parts = normalizer.get("normalizers", [normalizer]) if normalizer else []
    if any(part["type"] == "Lowercase" for part in parts):
        return normalizer
    if len(parts) == 1 and parts[0]["type"] == "BertNormalizer":
        accents = parts[0]["strip_accents"]
        accents = parts[0]["lowercase"] if accents is None else accents
        return parts[0] | {"lowercase": True, "strip_accents": accents}
    first = {"type": "Lowercase"}
    return {"type": "Sequence", "normalizers": [first, *parts]} if parts else first


def _trim_nothing(processor: dict[str, Any]) -> None:
    """Take out, in place, the trimming of spaces that no token of WordPiece has (MPNet's)."""
    for part in processor.get("processors", ()):
        _trim_nothing(part)
    if processor.get("trim_offsets"):
        processor["trim_offsets"] = False


def hashes(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each tokenizer file in ``folder``, by name."""
    return {n: cache.file_sha256(folder / n) for n in FILES if (folder / n).is_file()}


def load(folder: Path) -> Any:
    """Return the transformers tokenizer of ``folder``, without padding or truncation set.

    Raises InputError if its files are damaged.
    """
    transformers = require("transformers", "torch")
    try:
        with quiet():
            tokenizer = transformers.AutoTokenizer.from_pretrained(
                str(folder), local_files_only=True, trust_remote_code=False
            )
    # tokenizers raises plain Exception for damaged JSON, transformers whatever it meets first.
    except Exception as exc:
        raise InputError(
            f"the tokenizer cannot be read ({_first_line(exc)})",
            where=str(folder),
            hint="Save it again with tokenizer.save_pretrained().",
        ) from exc
    return tokenizer


def padding(folder: Path | None, rows: int, networks: int | None = None) -> int:
    """Return the id that fills texts up to a length, one of ``rows`` of the embedding table.

    It is what the network takes for padding, ``networks``, if it names one; else the
    tokenizer's; else 0, since the attention mask hides it.
    """
    for value in (networks, load(folder).pad_token_id if folder else None):
        if isinstance(value, int) and 0 <= value < rows:
            return value
    return 0


def check_ids(folder: Path, rows: int, where: str) -> None:
    """Raise InputError if a token has an id that an embedding table of ``rows`` has not.

    The padding token may have one: ``padding`` gives another, and no text is meant to have it.
    """
    tokenizers = require("tokenizers", "torch")
    ids: Mapping[str, int] = tokenizers.Tokenizer.from_file(
        str(folder / "tokenizer.json")
    ).get_vocab()
    pad = json.loads((folder / "tokenizer_config.json").read_text()).get("pad_token")
    beyond = sorted((i, token) for token, i in ids.items() if i >= rows and token != pad)
    if beyond:
        shown = ", ".join(f"{token!r} ({i})" for i, token in beyond[:3])
        more = f" and {len(beyond) - 3} more" if len(beyond) > 3 else ""
        raise InputError(
            f"the embedding table has {rows} rows, but the tokenizer has ids beyond: {shown}{more}",
            where=where,
            hint="Call model.resize_token_embeddings(len(tokenizer)) and train them, or take the "
            "tokens out of the tokenizer's files.",
        )


def has_token_types(folder: Path) -> bool:
    """Tell whether the tokenizer gives token types; if not, the model sees zeros for a pair."""
    return "token_type_ids" in load(folder).model_input_names


def _first_line(exc: Exception) -> str:
    lines = str(exc).strip().splitlines()
    return lines[0] if lines else type(exc).__name__
