# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""How near an artifact's answers are to those of the user's own tool, and what is too far."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edgeopt.errors import CompileError
from edgeopt.lower import neighbours, places
from edgeopt.lower.asking import Expected
from edgeopt.model.answer import (
    Answer,
    Decision,
    Sample,
    in_order,
)
from edgeopt.recipe import Limits


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """Figures of one artifact against the tool, None if a figure says nothing of the task.

    ``error`` is the largest difference of an answer: of scores (of those beyond 1 relative), of
    vectors the length of the difference by the vector's, of objects and maps of labels what
    ``lower.places`` says. ``decisions`` is the share of the same labels (of tokens, best answers,
    objects, pixels) among those whose margin, the tool's own, is beyond the bound's ``margin``.
    ``order`` is the rank correlation over samples of each label's score, or of the similarities
    between embeddings. ``neighbours`` is the share of embeddings with the same nearest neighbour,
    of those whose second one is clearly behind. ``context`` is the largest change of an answer by
    padding and by others in a batch. ``worst`` says of the worst sample what was expected and got.
    """

    samples: int
    error: float
    decisions: float | None
    order: float | None
    neighbours: float | None
    context: float | None
    worst: str
    differing: str

    def figures(self) -> dict[str, Any]:
        """Return the figures as plain values, for a manifest."""
        found = asdict(self)
        found["error"] = min(found["error"], 1e30)  # JSON has no infinity
        return {name: found[name] for name in found if name not in ("worst", "differing")}


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Got:
    """What an artifact made of each sample; None for one that it did not read whole.

    ``changed`` has other answers to some of them, by number: padded, and in a batch.
    """

    answers: tuple[Answer | None, ...]
    changed: tuple[tuple[int, Answer], ...]


def compare(expected: Expected, got: Got, margin: float) -> Judged:
    """Return the figures; see ``Judged``. Raises CompileError if nothing could be compared."""
    labels = expected.labels
    pairs = [
        (i, in_order(want, labels, labels), have)
        for i, (want, have) in enumerate(zip(expected.answers, got.answers, strict=True))
        if want is not None and have is not None
    ]
    if not pairs:
        raise CompileError(f"none of {len(expected.samples)} samples could be compared")
    plain = [(want, have) for i, want, have in pairs if expected.plain[i]]
    errors = [difference(want, have) for _, want, have in pairs]
    at = int(np.argmax(errors))
    alone = {i: have for i, _, have in pairs}
    flips = [(i, _decide(want, have, margin)) for i, want, have in pairs]
    same, decided = (sum(found[part] for _, found in flips) for part in (0, 1))
    first = next((i for i, (same, decided) in flips if same < decided), None)
    moved = [difference(alone[i], other) for i, other in got.changed if i in alone]
    return Judged(
        samples=len(pairs),
        error=errors[at],
        decisions=same / decided if decided else None,
        order=neighbours.order(plain),
        neighbours=neighbours.nearest(plain),
        context=max(moved, default=None),
        worst=_tell(expected.samples[pairs[at][0]], pairs[at][1], pairs[at][2]),
        differing=""
        if first is None
        else _tell(expected.samples[first], *next((w, h) for i, w, h in pairs if i == first)),
    )


def difference(want: Answer, have: Answer) -> float:
    """Return how far two answers are from each other (``Judged.error``).

    That is infinity if one is no answer of the kind. Entities and answers that are not the same are
    told by decisions.
    """
    if want.vector is not None:
        if have.vector is None or have.vector.shape != want.vector.shape:
            return math.inf
        length = float(np.linalg.norm(want.vector))
        found = float(np.linalg.norm(have.vector - want.vector))
        return _finite(found / length if length else found)
    if want.objects is not None:
        return places.objects_error(want, have)
    if want.classes is not None:
        return places.map_error(want, have)
    if want.spans is not None:
        scores = {(s.label, s.begin, s.end): s.score for s in have.spans or ()}
        # An answer's score is a product of two shares of many tokens, and so is seen by its size.
        unit = max((s.score for s in want.spans), default=1.0) if not want.decisions else 1.0
        shared = [
            abs(s.score - scores[s.label, s.begin, s.end]) / (unit or 1.0)
            for s in want.spans
            if (s.label, s.begin, s.end) in scores
        ]
        return _finite(max(shared, default=0.0))
    if len(want.scores) != len(have.scores):
        return math.inf
    a, b = np.asarray(want.scores), np.asarray(have.scores)
    return _finite(
        float(np.abs(a - b).max(initial=0.0)) / max(1.0, float(np.abs(a).max(initial=0)))
    )


def _finite(value: float) -> float:
    return value if math.isfinite(value) else math.inf


def _decide(want: Answer, have: Answer, margin: float) -> tuple[int, int]:
    """Return how many decisions are the same, of those whose margin in ``want`` is wide enough."""
    if want.objects is not None:
        return places.objects_decided(want, have, margin)
    if want.classes is not None:
        return places.map_decided(want, have, margin)
    if want.decisions:
        wide = [d for d in want.decisions if d.margin > margin]
        return sum(_label_at(have, d) == d.label for d in wide), len(wide)
    if want.spans is not None:
        best = [*sorted((s.score for s in want.spans), reverse=True), 0.0, 0.0]
        if not want.spans or best[0] - best[1] <= margin * best[0]:
            return 0, 0
        first, found = want.spans[0], (have.spans or (None,))[0]
        same = found is not None and (found.begin, found.end) == (first.begin, first.end)
        return int(same), 1
    scores = np.asarray(want.scores)
    if scores.size < 2 or len(have.scores) != scores.size:
        return 0, 0
    ahead = np.sort(scores)[-1] - np.sort(scores)[-2]
    if ahead <= margin * max(1.0, float(np.abs(scores).max())):
        return 0, 0
    return int(int(scores.argmax()) == int(np.argmax(have.scores))), 1


def _label_at(answer: Answer, token: Decision) -> str:
    """Return the entity that ``token`` lies in, "O" for none."""
    for span in answer.spans or ():
        if span.begin <= token.begin and token.end <= span.end:
            return span.label
    return "O"


def _tell(sample: Sample, want: Answer, have: Answer) -> str:
    shown = sample if isinstance(sample, str | tuple) else "an image"
    text = repr(shown)
    text = text if len(text) <= 60 else text[:57] + "..."
    return f"{text}: expected {_brief(want)}, got {_brief(have)}"


def _brief(answer: Answer) -> str:
    if answer.objects is not None:
        shown = [
            f"{o.label} {o.score:.4f} at {', '.join(f'{v:.1f}' for v in o.box)}"
            for o in answer.objects[:2]
        ]
        return "; ".join(shown) or "nothing"
    if answer.classes is not None:
        numbers, counts = np.unique(answer.classes, return_counts=True)
        order = np.argsort(-counts)[:3]
        shares = counts[order] / answer.classes.size
        told = [f"label {n} {s:.4f}" for n, s in zip(numbers[order], shares, strict=True)]
        return ", ".join(told)
    if answer.spans is not None:
        told = [f"{s.label or 'answer'} {s.begin}-{s.end} {s.score:.4f}" for s in answer.spans[:2]]
        return ", ".join(told) or "nothing"
    if answer.vector is not None:
        head = ", ".join(f"{x:.4f}" for x in answer.vector.ravel()[:3])
        return f"[{head}, ...] ({'x'.join(map(str, answer.vector.shape))})"
    return "[" + ", ".join(f"{x:.4f}" for x in answer.scores[:4]) + "]"


def beyond(found: Judged, limits: Limits, tool: str) -> str:
    """Return what of ``found`` is beyond the recipe's limits, "" for nothing."""
    if found.error > limits.error_max:
        return (
            f"answers differ from those of {tool} by {found.error:.2g}, more than error_max "
            f"{limits.error_max:g} ({found.worst})"
        )
    shares = (
        ("decisions", "the share of the same decisions", f" ({found.differing})"),
        ("order", "the rank correlation", ""),
        ("neighbours", "the share of the same nearest neighbours", ""),
    )
    for name, what, why in shares:
        value, least = getattr(found, name), getattr(limits, f"{name}_min")
        if value is not None and value < least:
            return (
                f"{what} with {tool} is {value:.3f} over {found.samples} samples, below "
                f"{name}_min {least:g}{why}"
            )
    if found.context is not None and found.context > limits.context_max:
        return (
            f"padding, or others in a batch, change an answer by {found.context:.2g}, more than "
            f"context_max {limits.context_max:g}"
        )
    return ""
