# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Queries that should find their documents in a corpus, or images, by the cosine of embeddings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from typing import Self

import numpy as np

from edgeopt.errors import InputError
from edgeopt.evaluate.measured import Scored, mean
from edgeopt.evaluate.problems.correlation import unit_vectors
from edgeopt.evaluate.problems.shown import shown
from edgeopt.extras import require
from edgeopt.model.answer import Answer, Sample

AT, FAR = 10, 100
"""nDCG@10 is the main figure of BEIR (Thakur et al., NeurIPS 2021), recall@100 the other one."""

_SHOWN = 3
_BLOCK = 256  # queries that are ranked at a time


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Retrieval:
    """A unit is a query. ``inputs`` are the ``documents`` first ones, and behind them the queries.

    ``relevant`` has for each query the gain of documents that were judged to be above 0, by their
    places. ``ids`` are the names of documents. A document that was not judged has no gain. As in
    trec_eval, gains count as they are, not as powers of 2, and a query whose own document is in the
    corpus may find itself. ``recalls`` are among how many documents recall is taken.
    """

    inputs: tuple[Sample, ...]
    places: tuple[str, ...]
    documents: int
    ids: tuple[str, ...]
    relevant: tuple[Mapping[int, float], ...]
    noun: str = "queries"
    main: str = "ndcg_at_10"
    recalls: tuple[int, ...] = (AT, FAR)

    labels = None

    @property
    def names(self) -> tuple[str, ...]:
        """The figures; recall@100 says nothing of so small a corpus."""
        recalls = (f"recall_at_{k}" for k in self.recalls if k <= AT or self.documents > k)
        return (f"ndcg_at_{AT}", f"mrr_at_{AT}", "map", *recalls)

    def __len__(self) -> int:
        return len(self.relevant)

    def unit(self, i: int) -> tuple[str, str, str]:
        """Return where a query stands, the query, and the documents that it should find."""
        at = self.documents + i
        best = sorted(self.relevant[i], key=lambda place: -self.relevant[i][place])
        return self.places[at], shown(self.inputs[at]), self._named(best)

    def _named(self, places: Sequence[int]) -> str:
        more = f" and {len(places) - _SHOWN} more" if len(places) > _SHOWN else ""
        return ", ".join(self.ids[place] for place in places[:_SHOWN]) + more

    def lengths(self, of_inputs: np.ndarray) -> np.ndarray:
        """Return those of the queries."""
        return of_inputs[self.documents :]

    def answered(self, inputs: np.ndarray) -> Self:
        """Return it with those queries alone. Raises InputError for a document that is not there.

        Without it others would be found in its place.
        """
        if not inputs[: self.documents].all():
            at = int(np.argmin(inputs[: self.documents]))
            raise InputError("the original's tool does not take it", where=self.places[at])
        return replace(
            self,
            inputs=tuple(compress(self.inputs, inputs)),
            places=tuple(compress(self.places, inputs)),
            relevant=tuple(compress(self.relevant, inputs[self.documents :])),
        )

    def score(self, answers: Sequence[Answer]) -> Scored:
        """Rank all documents for each query; nDCG and average precision are scikit-learn's."""
        metrics = require("sklearn.metrics", "evaluate")
        even = unit_vectors(answers)
        corpus, queries = even[: self.documents], even[self.documents :]
        figures: dict[str, list[float]] = {name: [] for name in self.names}
        got, margins = [], []
        for start in range(0, len(queries), _BLOCK):
            for i, near in enumerate(queries[start : start + _BLOCK] @ corpus.T, start):
                gains = np.zeros(self.documents)
                gains[list(self.relevant[i])] = list(self.relevant[i].values())
                order = np.argsort(-near, kind="stable")
                found = gains[order] > 0
                first = int(found.argmax())
                values = {
                    # Scores fall from place to place: nothing is left to how ties are taken.
                    f"ndcg_at_{AT}": float(
                        metrics.ndcg_score([gains[order]], [-np.arange(self.documents)], k=AT)
                    ),
                    f"mrr_at_{AT}": 1 / (first + 1) if found.any() and first < AT else 0.0,
                    "map": float(metrics.average_precision_score(found, -np.arange(len(found)))),
                } | {f"recall_at_{k}": found[:k].sum() / found.sum() for k in self.recalls}
                for name in self.names:
                    figures[name].append(values[name])
                got.append(self._named(order[:_SHOWN].tolist()))
                margins.append(near[order[0]] - near[order[1]] if len(order) > 1 else 0.0)
        return Scored(
            figures={name: mean(np.array(values)) for name, values in figures.items()},
            got=tuple(got),
            loss=1 - np.array(figures[f"ndcg_at_{AT}"]),
            margin=np.array(margins),
        )
