"""The tokenizer's files: which ones belong to it, and a directory of their own."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from edgeopt import cache
from edgeopt.errors import InputError
from edgeopt.extras import require
from edgeopt.quiet import quiet

FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
)
"""Names that transformers gives a tokenizer's files; nothing else is copied."""

_VOCABULARIES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "spiece.model",
    "sentencepiece.bpe.model",
)


def collect(folder: Path) -> Path | None:
    """Return a directory with the tokenizer's files of ``folder`` alone, or None if it has none.

    ``tokenizer.json`` is made where only a vocabulary is there: the runtime reads nothing else.
    Raises InputError where the files are damaged.
    """
    present = [folder / name for name in FILES if (folder / name).is_file()]
    if not any((folder / name).is_file() for name in _VOCABULARIES):
        return None
    load(folder)  # damaged files are refused before anything is kept

    def build(directory: Path) -> None:
        for path in present:
            shutil.copy(path, directory / path.name)
        if not (directory / "tokenizer.json").is_file():
            tokenizer = load(folder)
            if not tokenizer.is_fast:
                raise InputError(
                    "the tokenizer has no tokenizer.json and none can be made of its vocabulary",
                    where=str(folder),
                    hint="Save it with transformers' AutoTokenizer (use_fast=True) first.",
                )
            tokenizer.backend_tokenizer.save(str(directory / "tokenizer.json"))

    return cache.entry("tokenizer", cache.key(files=hashes(folder)), build)


def hashes(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each tokenizer file in ``folder``, by name."""
    return {n: cache.file_sha256(folder / n) for n in FILES if (folder / n).is_file()}


def load(folder: Path) -> Any:
    """Return the transformers tokenizer of ``folder``, without padding or truncation set.

    Raises InputError where its files are damaged.
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


def pad_id(folder: Path) -> int:
    """Return the id that fills texts up to a length; 0 where the tokenizer names none."""
    value = load(folder).pad_token_id
    return 0 if value is None else int(value)


def has_token_types(folder: Path) -> bool:
    """Tell whether the tokenizer gives token types; where not, the model sees zeros for a pair."""
    return "token_type_ids" in load(folder).model_input_names


def _first_line(exc: Exception) -> str:
    lines = str(exc).strip().splitlines()
    return lines[0] if lines else type(exc).__name__
