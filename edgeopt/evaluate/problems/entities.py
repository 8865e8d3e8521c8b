# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Entities in texts: one is right if its type, its beginning and its end are.

That is what conlleval counts (Tjong Kim Sang and De Meulder, CoNLL-2003), and seqeval in its
default mode; seqeval itself has not been kept since 2020.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from typing import Self

import numpy as np

from edgeopt.evaluate.interval import At
from edgeopt.evaluate.measured import Measured, Scored, ratio
from edgeopt.evaluate.problems.shown import shown
from edgeopt.model.answer import Answer, Span
from edgeopt.model.original import entity_of

Entity = tuple[str, int, int]
"""Type, begin and end: of words (the end is behind the last one), or of characters."""

_PREFIXES = ("B-", "I-", "E-", "S-")


def entities(tags: Sequence[str]) -> list[Entity]:
    """Return the entities of a sentence's tags, by words; the end is behind the last word.

    A tag "I-" behind "O" or behind another type begins one, as in IOB1. A type without "B-" or
    "I-" goes on as long as it is the same.
    """
    found: list[Entity] = []
    kind, begin, before = "", 0, "O"
    for i, tag in enumerate([*tags, "O"]):
        prefix = tag[0] if tag.startswith(_PREFIXES) else ("O" if tag == "O" else "I")
        own = tag[2:] if tag.startswith(_PREFIXES) else tag
        begins = prefix in "BS" or before in "OES" or own != kind
        if before != "O" and (prefix == "O" or begins):
            found.append((kind, begin, i))
        if prefix != "O" and begins:
            kind, begin = own, i
        before = prefix
    return found


def by_words(spans: Iterable[Span], words: Sequence[tuple[int, int]]) -> list[Entity]:
    """Return findings in characters as entities by words: those whose first character is inside.

    ``words`` are where each begins and ends. A finding that begins inside of a word has not it.
    """
    found = []
    for span in spans:
        inside = [i for i, (begin, _) in enumerate(words) if span.begin <= begin < span.end]
        if inside:
            found.append((entity_of(span.label), inside[0], inside[-1] + 1))
    return found


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Entities:
    """A unit is a text. ``expected`` are its entities, and ``words`` where its words are.

    If a text has no ``words``, its entities are in characters.
    """

    inputs: tuple[str, ...]
    places: tuple[str, ...]
    expected: tuple[tuple[Entity, ...], ...]
    words: tuple[tuple[tuple[int, int], ...] | None, ...]
    noun: str = "texts"
    main: str = "f1"

    names = ("f1", "precision", "recall")
    labels = None

    def __len__(self) -> int:
        return len(self.inputs)

    def unit(self, i: int) -> tuple[str, str, str]:
        """Return where a text stands, the text, and its entities."""
        return self.places[i], shown(self.inputs[i]), self._told(i, self.expected[i])

    def _told(self, i: int, found: Iterable[Entity]) -> str:
        text, words = self.inputs[i], self.words[i]
        parts = []
        for kind, begin, end in sorted(found, key=lambda entity: entity[1:]):
            if words is not None:
                begin, end = words[begin][0], words[end - 1][1]
            parts.append(f"{kind} {text[begin:end]!r}")
        return ", ".join(parts) or "nothing"

    def lengths(self, of_inputs: np.ndarray) -> np.ndarray:
        """Return them: each unit is an input."""
        return of_inputs

    def answered(self, inputs: np.ndarray) -> Self:
        """Return it with those units alone."""
        return replace(
            self,
            inputs=tuple(compress(self.inputs, inputs)),
            places=tuple(compress(self.places, inputs)),
            expected=tuple(compress(self.expected, inputs)),
            words=tuple(compress(self.words, inputs)),
        )

    def score(self, answers: Sequence[Answer]) -> Scored:
        """Count entities: of all types together (the micro average), and by type."""
        got: list[set[Entity]] = []
        for answer, words in zip(answers, self.words, strict=True):
            spans = answer.spans or ()
            plain = [(entity_of(span.label), span.begin, span.end) for span in spans]
            got.append(set(plain if words is None else by_words(spans, words)))
        expected = [set(found) for found in self.expected]
        types = sorted({entity[0] for found in (*expected, *got) for entity in found})
        sums = np.zeros((3, len(types), len(expected)))
        for i, (want, have) in enumerate(zip(expected, got, strict=True)):
            for row, found in enumerate((want, have, want & have)):
                for entity in found:
                    sums[row, types.index(entity[0]), i] += 1
        wrong = [len(want ^ have) for want, have in zip(expected, got, strict=True)]
        return Scored(
            figures={name: _measured(sums.sum(1), name) for name in self.names},
            got=tuple(self._told(i, found) for i, found in enumerate(got)),
            loss=np.array(wrong, np.float64),
            by_label={
                kind: (
                    int(sums[0, i].sum()),
                    {name: _measured(sums[:, i], name) for name in self.names},
                )
                for i, kind in enumerate(types)
            },
        )


def _measured(sums: np.ndarray, name: str) -> Measured:
    at = _at(sums, name)
    return Measured(value=float(at(np.ones((1, sums.shape[1])))[0]), at=at)


def _at(sums: np.ndarray, name: str) -> At:
    """Return a figure of ``sums`` (3, units): entities expected, got, and both."""

    def at(counts: np.ndarray) -> np.ndarray:
        expected, got, both = (counts @ row for row in sums)
        below = {"precision": got, "recall": expected, "f1": (expected + got) / 2}
        return ratio(both, below[name])

    return at
