# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What stands beside a network's file or a folder up, and says what the file does not.

Files of all kinds (``.onnx``, ``.tflite``, ``.keras``, ``.pt2``, ...) are read with the config.json
and the tokenizer of a checkpoint.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeopt.errors import InputError
from edgeopt.model import sentence, tokenizer
from edgeopt.model.onnx_outputs import Chosen
from edgeopt.model.pooling import Pooling
from edgeopt.model.sentence import Beside
from edgeopt.model.tasks import FEATURE_EXTRACTION

_DEFAULT_MAX_SEQ_LEN = 512

_FROM_PADDING = ("camembert", "data2vec-text", "esm", "ibert", "longformer", "mpnet", "roberta",
                 "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod")  # fmt: skip
"""Those whose positions count from the padding's id + 1, which so many of the table are for."""


def settings(path: Path) -> tuple[Path, ...]:
    """Return the files that ``path`` is read with and that hold no weights; it is not opened.

    They lie in the folder of ``path``, in the one with config.json, in those of the modules of a
    sentence encoder, and in the one with the tokenizer.
    """
    home = home_of(path)
    folders = {path.parent, home}
    found: set[Path] = set()
    with contextlib.suppress(InputError):  # which the import raises
        body = sentence.body_of(home)
        folders |= {body, tokens_home(path, body)}
        for folder in set(sentence.module_folders(home)) - folders:
            found |= set(folder.glob("*"))  # of a Dense its weights, too
    for folder in folders:
        found |= {p for p in folder.glob("*") if _is_setting(p)}
    return tuple(sorted(p for p in found if p.is_file()))


def _is_setting(path: Path) -> bool:
    names = (*tokenizer.FILES, "modules.json", sentence.HEAD)
    return path.name in names or path.name.endswith("config.json") or "sentence" in path.name


def home_of(path: Path) -> Path:
    """Return the folder with config.json: the file's own, or the one around ``onnx``."""
    above = path.absolute().parent.parent
    own = [path.parent / name for name in ("config.json", "tokenizer.json", "modules.json")]
    if not any(p.is_file() for p in own) and _is_checkpoint(above):
        return path.parent.parent if path.parent.name not in ("", ".", "..") else above
    return path.parent


def _is_checkpoint(folder: Path) -> bool:
    try:
        config = read_config(folder)
    except InputError:
        return False
    return bool({"model_type", "architectures"} & set(config))


def tokens_home(path: Path, home: Path) -> Path:
    """Return the folder with the tokenizer: that of config.json, or the one around it."""
    above = path.absolute().parent.parent
    if _has_tokenizer(home) or not _is_checkpoint(above):
        return home
    return above if _has_tokenizer(above) else home


def _has_tokenizer(folder: Path) -> bool:
    return any((folder / name).is_file() for name in tokenizer.VOCABULARIES)


def limit(config: Mapping[str, Any], tokens: Path, said: Beside) -> int:
    """Return the most tokens that config.json and the tokenizer's settings allow."""
    limits = []
    positions = config.get("max_position_embeddings")
    if positions is not None and _is_size(positions):
        first = 0
        if config.get("model_type") in _FROM_PADDING:
            first = number(config, "pad_token_id") + 1
        limits.append(int(positions) - first)
    value = said.max_seq_len  # sentence-transformers takes it in the place of the tokenizer's
    if value is None:
        value = _json(tokens / "tokenizer_config.json").get("model_max_length")
    if value is not None and _is_size(value):  # 1e30 stands for "no limit"
        limits.append(int(value))
    return max(1, min(limits, default=_DEFAULT_MAX_SEQ_LEN))


def number(config: Mapping[str, Any], key: str) -> int:
    """Return a whole number of config.json, 0 if it has none."""
    value = config.get(key)
    return value if type(value) is int else 0


def _is_size(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1_000_000


def architecture(config: Mapping[str, Any]) -> str:
    """Return the class of transformers that config.json names, "" if none."""
    listed = config.get("architectures")
    return str(listed[0]) if isinstance(listed, list) and listed else ""


def labels_of(config: Mapping[str, Any], home: Path, chosen: Chosen, where: str) -> tuple[str, ...]:
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


def pooling_of(said: Beside, chosen: Chosen, where: str) -> Pooling | None:
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


def read_config(folder: Path) -> dict[str, Any]:
    """Return what config.json says, {} if there is none. Raises InputError if it is no JSON."""
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
