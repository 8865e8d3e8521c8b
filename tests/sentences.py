# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Tiny folders as sentence-transformers and SetFit save them, and what they themselves answer."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgeopt.quiet import quiet
from tests import checkpoints

TEXTS = (
    "a library for python",
    "the tool, and the data of a text",
    "text",
    "data in the text of a tool for the library, and " * 6,
)
PAIRS = tuple((a, b) for a in TEXTS[:3] for b in TEXTS[:3])


def write(folder: Path, *modules: Any, body: Path | None = None, **options: Any) -> Path:
    """Save a SentenceTransformer: a transformer with ``modules`` (by default the mean) behind."""
    with quiet():
        import sentence_transformers as library
        from sentence_transformers.sentence_transformer import modules as kinds

        base = checkpoints.write(folder.parent / f"{folder.name}-body", "BertModel")
        parts = [kinds.Transformer(str(body or base)), *(modules or (kinds.Pooling(32),))]
        made = library.SentenceTransformer(modules=parts, device="cpu", **options)
        made.save(str(folder), create_model_card=False)
    return folder


def edit(path: Path, **changes: Any) -> None:
    """Change keys of a JSON object, or make one."""
    old = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps(old | changes))


def encode(folder: Path, texts: Sequence[str] = TEXTS, **options: Any) -> np.ndarray:
    """Return the embeddings as sentence-transformers gives them, one text at a time."""
    with quiet():
        import sentence_transformers as library

        model = library.SentenceTransformer(str(folder), device="cpu")
        return np.stack([model.encode(text, **options) for text in texts])


def predict(folder: Path, pairs: Sequence[tuple[str, str]] = PAIRS) -> np.ndarray:
    """Return the scores as a CrossEncoder gives them, float32 (pairs, labels)."""
    with quiet():
        import sentence_transformers as library

        model = library.CrossEncoder(str(folder), device="cpu")
        return np.stack([np.atleast_1d(model.predict([pair])[0]) for pair in pairs])


def flags(folder: Path, *modes: str) -> None:
    """Say the pooling as sentence-transformers before 5.4 did: a flag for each mode."""
    names = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens")
    names += ("weightedmean_tokens", "lasttoken")
    found = {f"pooling_mode_{name}": name in modes for name in names}
    document = {"word_embedding_dimension": 32, "include_prompt": True} | found
    (folder / "1_Pooling/config.json").write_text(json.dumps(document))
    types = json.loads((folder / "modules.json").read_text())
    for entry in types:
        entry["type"] = "sentence_transformers.models." + entry["type"].rsplit(".", 1)[-1]
    (folder / "modules.json").write_text(json.dumps(types))
    settings = {"max_seq_length": 38, "do_lower_case": False}
    (folder / "sentence_bert_config.json").write_text(json.dumps(settings))


def apart(folder: Path) -> None:
    """Put the transformer into a folder of its own, as the first versions did."""
    (folder / "0_Transformer").mkdir()
    for path in [p for p in folder.iterdir() if p.is_file()]:
        if path.name not in ("modules.json", "config_sentence_transformers.json"):
            shutil.move(path, folder / "0_Transformer" / path.name)
    listed = json.loads((folder / "modules.json").read_text())
    listed[0]["path"] = "0_Transformer"
    (folder / "modules.json").write_text(json.dumps(listed))


def reranker(folder: Path, labels: int, activation: Any) -> Path:
    """Save a CrossEncoder of ``labels`` scores with this activation."""
    body = checkpoints.write(
        folder.parent / "body",
        id2label={i: f"LABEL_{i}" for i in range(labels)},
        label2id={f"LABEL_{i}": i for i in range(labels)},
    )
    with quiet():
        from sentence_transformers import CrossEncoder

        made = CrossEncoder(str(body), device="cpu", activation_fn=activation)
        made.save_pretrained(str(folder), create_model_card=False)
    return folder


def head(folder: Path, classes: Any, config: dict[str, Any], kind: str = "one") -> Any:
    """Train scikit-learn's classifier on the embeddings, as SetFit does, and save both."""
    import joblib
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.multioutput import MultiOutputClassifier

    made: Any = LogisticRegression()
    made = {"one": made, "rest": OneVsRestClassifier(made), "many": MultiOutputClassifier(made)}[
        kind
    ]
    normalize = bool(config.get("normalize_embeddings"))
    rows = encode(folder, normalize_embeddings=normalize)
    made.fit(np.concatenate([rows, rows + 0.1]), [*classes, *classes])
    joblib.dump(made, folder / "model_head.pkl")
    (folder / "config_setfit.json").write_text(json.dumps(config))
    return made.predict_proba(rows)
