# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Answers to questions, found in a context: exact match and F1 of SQuAD.

As the official scripts define them (Rajpurkar et al., EMNLP 2016 and ACL 2018): answers are
compared without case, punctuation, articles and repeated blanks, with the best of the expected
ones. A question that has no answer is right if none is given.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from typing import Self

import numpy as np

from edgeopt.evaluate.measured import Scored, mean, share
from edgeopt.evaluate.problems.shown import shown
from edgeopt.model.answer import Answer

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normal(answer: str) -> str:
    """Return ``answer`` as it is compared."""
    return " ".join(_ARTICLES.sub(" ", answer.lower().translate(_PUNCTUATION)).split())


def exact(expected: str, got: str) -> float:
    """Return 1 if both are the same answer, else 0."""
    return float(normal(expected) == normal(got))


def overlap(expected: str, got: str) -> float:
    """Return the F1 of the words of two answers; of none it is whether both are none."""
    want, have = normal(expected).split(), normal(got).split()
    if not want or not have:
        return float(want == have)
    same = sum((Counter(want) & Counter(have)).values())
    return 2 * same / (len(want) + len(have))


def best(of: Callable[[str, str], float], expected: Sequence[str], got: str) -> float:
    """Return the best score of ``got``; without ``expected`` there is no answer, which is ""."""
    wanted = [answer for answer in expected if normal(answer)] or [""]
    return max(of(answer, got) for answer in wanted)


def threshold(scores: np.ndarray, answered: np.ndarray, unanswered: np.ndarray) -> float:
    """Return the score below which no answer is best, 0 if each is to be given.

    ``answered`` and ``unanswered`` are the F1 of each question, (units,), if the answer of that
    score is given and if none is. As the official script of SQuAD 2.0 finds it: on these very
    questions.
    """
    order = np.argsort(-scores, kind="stable")
    # Given are the first i, surest first; thresholds lie between scores that differ.
    gain = np.concatenate([[0.0], np.cumsum((answered - unanswered)[order])])
    ordered = scores[order]
    possible = np.concatenate([[True], ordered[1:] < ordered[:-1], [True]])
    at = int(np.argmax(np.where(possible, gain, -np.inf)))
    if at == len(scores):
        return 0.0
    above = ordered[at - 1] if at else max(1.0, float(ordered[0])) + 1
    return float((above + ordered[at]) / 2)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Answers:
    """A unit is a question with its context. ``expected`` are its answers, () if it has none.

    An answer whose score is below ``no_answer_below`` is none. If that is None, it is 0 if all
    questions have an answer; else each system gets its own, as ``threshold`` finds it.
    """

    inputs: tuple[tuple[str, str], ...]
    places: tuple[str, ...]
    expected: tuple[tuple[str, ...], ...]
    no_answer_below: float | None = None
    noun: str = "questions"
    main: str = "f1"

    names = ("f1", "exact_match")

    @property
    def labels(self) -> tuple[str, ...] | None:
        """Whether a question has an answer, None if all have one."""
        if all(self.expected):
            return None
        return tuple("has an answer" if found else "has none" for found in self.expected)

    def __len__(self) -> int:
        return len(self.inputs)

    def unit(self, i: int) -> tuple[str, str, str]:
        """Return where a question stands, the question, and its answers."""
        told = " or ".join(repr(answer) for answer in dict.fromkeys(self.expected[i]))
        return self.places[i], shown(self.inputs[i][0]), told or "no answer"

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
        )

    def below(self, answers: Sequence[Answer]) -> float:
        """Return the score below which an answer of these is none."""
        if self.no_answer_below is not None:
            return self.no_answer_below
        if all(self.expected):
            return 0.0
        given = [
            best(overlap, want, text) if want else float(not text)
            for want, text in zip(self.expected, self._texts(answers), strict=True)
        ]
        none = [float(not want) for want in self.expected]
        return threshold(_scores(answers), np.array(given), np.array(none))

    def _texts(self, answers: Sequence[Answer]) -> list[str]:
        """Return the best answers, "" for none."""
        return [
            context[answer.spans[0].begin : answer.spans[0].end] if answer.spans else ""
            for answer, (_, context) in zip(answers, self.inputs, strict=True)
        ]

    def score(self, answers: Sequence[Answer]) -> Scored:
        """Score as the official scripts do."""
        scores, below = _scores(answers), self.below(answers)
        figures: dict[str, list[float]] = {"f1": [], "exact_match": []}
        got = []
        for want, text, score in zip(self.expected, self._texts(answers), scores, strict=True):
            given = score >= below
            for name, of in (("f1", overlap), ("exact_match", exact)):
                figures[name].append(best(of, want, text) if given else float(not want))
            got.append(f"{text!r} {score:.3f}" if given and text else "no answer")
        near = np.array(figures["f1"])
        second = [a.spans[1].score if a.spans and len(a.spans) > 1 else 0.0 for a in answers]
        return Scored(
            figures={"f1": mean(near), "exact_match": share(np.array(figures["exact_match"]))},
            got=tuple(got),
            # Among those that are wrong alike, the surest is the worst.
            loss=np.where(near < 1, 1 - near + 1e-3 * np.minimum(scores, 1), 0),
            margin=scores - np.array(second),
            note="" if not below else f"an answer below {below:.3g} is none",
        )


def _scores(answers: Sequence[Answer]) -> np.ndarray:
    return np.array([answer.spans[0].score if answer.spans else 0.0 for answer in answers])
