# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Write edgeopt/model/texts.jsonl from the sentences in tools/texts, which were written for it.

Prose is cut into texts of one sentence to twenty that follow one another; everything else is taken
as it stands. The file has three parts: the texts that artifacts are checked on, those that they
are calibrated on, and the rest. Each has its share of each kind, short and long by turns, and no
part has a sentence of another. There is no chance in it: the same sentences give the same file.

    python tools/make-texts.py [FILE]
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

SOURCES = Path(__file__).parent / "texts"
OUTPUT = Path(__file__).parents[1] / "edgeopt" / "model" / "texts.jsonl"

PARTS = (32, 128, 96)
"""Texts of each part: FIDELITY_SAMPLES, the default recipe's calibration_texts, more."""
TOPICS = ((3,), (0, 2, 4, 6), (1, 5))
"""Which of seven topics are each part's."""
SENTENCES = 8
"""Of each topic."""
CUTS = (
    ((1, 3, 4), (8,), (2, 1, 5), (3, 1, 4), (2, 6)),
    ((1, 3, 4), (2, 6), (3, 1, 4), (8,), (2, 1, 4, 1)),
    ((2, 1, 4, 1), (1, 3, 1, 3), (1, 2, 5), (4, 1, 2, 1)),
)
"""How many sentences of a topic go into each text, by turns."""
LONG = ((12, 20), (10, 14, 16, 20), (14, 16))
"""Sentences of the long texts, which go on from one topic to the next."""


def prose() -> list[list[str]]:
    """Return each part's texts: short ones with each sentence once, and the long ones."""
    topics = [topic.splitlines() for topic in _source("prose").split("\n\n")]
    for number, topic in enumerate(topics, start=1):
        if len(topic) != SENTENCES:
            raise ValueError(f"prose.txt: topic {number} has {len(topic)} sentences")
    parts = []
    for own, cuts, long in zip(TOPICS, CUTS, LONG, strict=True):
        mine = [topic for i, topic in enumerate(topics) if i % 7 in own]
        texts = []
        for i, topic in enumerate(mine):
            begin = 0
            for count in cuts[i % len(cuts)]:
                texts.append(" ".join(topic[begin : begin + count]))
                begin += count
        sentences = [sentence for topic in mine for sentence in topic]
        last = len(sentences) - max(long)
        begins = [last * i // (len(long) - 1) for i in range(len(long))]
        texts += [
            " ".join(sentences[begin:][:count]) for begin, count in zip(begins, long, strict=True)
        ]
        parts.append(texts)
    return parts


def languages() -> tuple[list[str], list[str]]:
    """Return the texts in Latin script, and those in others, the scripts by turns."""
    scripts: dict[str, list[str]] = {}
    for line in _source("languages").splitlines():
        script, text = line.split("\t")
        scripts.setdefault(script, []).append(text)
    latin = scripts.pop("Latin")
    most = max(map(len, scripts.values()))
    return latin, [texts[i] for i in range(most) for texts in scripts.values() if i < len(texts)]


def spread(texts: Iterable[str]) -> list[str]:
    """Return ``texts`` with short and long ones by turns."""
    ranked = enumerate(sorted(texts, key=len))
    return [text for _, text in sorted((_reversed_bits(i), text) for i, text in ranked)]


def mixed(kinds: Sequence[Sequence[str]]) -> list[str]:
    """Return the texts of all kinds, each kind evenly over the whole, in its own order."""
    places = [
        ((i + _reversed_bits(number)) / len(kind), text)
        for number, kind in enumerate(kinds)
        for i, text in enumerate(kind)
    ]
    return [text for _, text in sorted(places)]


def _reversed_bits(number: int) -> float:
    """Return 0, 1/2, 1/4, 3/4, 1/8 ... (van der Corput's sequence)."""
    value, share = 0.0, 0.5
    while number:
        value += share * (number & 1)
        number, share = number >> 1, share / 2
    return value


def _source(name: str) -> str:
    return (SOURCES / f"{name}.txt").read_text(encoding="utf-8").strip("\n")


def main(output: Path) -> None:
    """Write the file."""
    latin, others = languages()
    kinds = [
        spread(_source("questions").splitlines()),
        spread(_source("reviews").splitlines()),
        spread(_source("odd").splitlines()),
        spread(_source("code").split("\n---\n")),
        spread(latin),
        others,
    ]
    rest = mixed(kinds)
    lines: list[str] = []
    for size, texts in zip(PARTS, prose(), strict=True):
        count = size - len(texts)
        part = mixed([spread(texts), rest[:count]])
        if len(part) != size:
            raise ValueError(f"a part has {len(part)} texts, not {size}")
        lines += [json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in part]
        rest = rest[count:]
    if rest:
        raise ValueError(f"{len(rest)} texts are left over, the first {rest[0]!r}")
    output.write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else OUTPUT)
