# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What a generator writes, beside what people wrote: translations, summaries, answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import compress, zip_longest
from typing import Any, Self

import numpy as np

from edgeopt.evaluate.measured import Measured, Scored, finite, mean, share
from edgeopt.extras import require
from edgeopt.model.answer import Answer

_ROUGE = {"rouge_1": "rouge1", "rouge_2": "rouge2", "rouge_l": "rougeL"}


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Written:
    """Prompts, and for each the texts that are ``expected``, at least one.

    BLEU and chrF (0 to 100) are sacrebleu's, of all texts together, and ROUGE (0 to 1) is
    rouge-score's F1 with stemming, the mean over the texts. Blanks at both ends do not count.
    """

    inputs: tuple[str, ...]
    places: tuple[str, ...]
    expected: tuple[tuple[str, ...], ...]
    noun: str = "prompts"
    main: str = "chrf"

    names = ("bleu", "chrf", *_ROUGE, "exact_match")
    labels = None

    def __len__(self) -> int:
        return len(self.inputs)

    def unit(self, i: int) -> tuple[str, str, str]:
        """Return where a prompt stands, the prompt, and the first text that is expected."""
        return self.places[i], self.inputs[i], self.expected[i][0]

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

    def score(self, answers: Sequence[Answer]) -> Scored:
        """Score by sacrebleu and rouge-score; how wrong a text is is told by its chrF."""
        metrics = require("sacrebleu.metrics", "evaluate")
        rouge = require("rouge_score.rouge_scorer", "evaluate")
        got = tuple((a.written or "").strip() for a in answers)
        wanted = [tuple(text.strip() for text in texts) for texts in self.expected]
        scorer = rouge.RougeScorer(list(_ROUGE.values()), use_stemmer=True)
        by_text = [scorer.score_multi(w, g) for w, g in zip(wanted, got, strict=True)]
        hits = np.array([g in w for w, g in zip(wanted, got, strict=True)])
        chrf, each = _by_sacrebleu(metrics.CHRF(), got, wanted)
        return Scored(
            figures={
                "bleu": _by_sacrebleu(metrics.BLEU(), got, wanted)[0],
                "chrf": chrf,
                **{
                    name: mean(np.array([one[theirs].fmeasure for one in by_text]))
                    for name, theirs in _ROUGE.items()
                },
                "exact_match": share(hits),
            },
            got=got,
            loss=np.where(hits, 0.0, 100.0 - each),
        )


def _by_sacrebleu(
    metric: Any, got: Sequence[str], wanted: Sequence[Sequence[str]]
) -> tuple[Measured, np.ndarray]:
    """Return a figure of all texts together, and of each one, float64 (units,).

    It comes from counts that add up; sacrebleu has no public name for them.
    """
    references = [list(column) for column in zip_longest(*wanted)]  # None where a text has fewer
    counts = np.array(metric._extract_corpus_statistics(got, references), np.float64)
    of_counts: Callable[[list[int]], Any] = metric._compute_score_from_stats

    def figures(rows: np.ndarray) -> np.ndarray:
        return np.array([of_counts(row.round().astype(int).tolist()).score for row in rows])

    def at(draws: np.ndarray) -> np.ndarray:
        return figures(draws @ counts)

    value = float(metric.corpus_score(got, references).score)
    return Measured(value=finite(value), at=at), figures(counts)
