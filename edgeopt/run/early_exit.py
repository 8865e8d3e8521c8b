# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Early exit as a cascade: a small classifier answers if it is sure, else the large one does.

Engines for small devices run graphs without branches, so an exit is a model of its own: any
shallower checkpoint of the same labels, as the steps ``layers`` and ``distil`` make it. Each of
the two is compiled as usual, and whoever runs them asks ``Cascade.sure`` in between. The first
model's layers are not shared: a text that goes on costs both models (``Cascade.cost``).
Logits come from the compiled bundles (``edgeopt.run.cascade``): those of INT8 are not FP32's.

Confidence is the highest probability after temperature scaling (Guo et al. 2017, "On Calibration
of Modern Neural Networks", section 4.2). The threshold is the lowest for which it is shown, at the
level ``doubt``, that the share of texts spoilt (answered early and wrong, though the large model is
right) is at most ``max_drop``: thresholds are tested from the highest on, until the first that
fails (fixed-sequence testing with the binomial's p-value; Angelopoulos et al. 2021, "Learn then
Test", section 2). Accuracy can then fall by ``max_drop`` at most.
"""

from __future__ import annotations

import json
import math
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np

from edgeopt import place, values
from edgeopt.errors import InputError
from edgeopt.fields import Table, read_json
from edgeopt.values import Like, OneOf, Range

SCHEMA_VERSION = 1
MEASURES = ("accuracy", "same label")

_TEMPERATURES = np.geomspace(0.05, 20, 241)  # steps of 2.5 %
_STEPS = 100
_MOST_BYTES = 16384  # the runtime reads no more
_MOST_TEXTS = 100_000  # beyond, the search takes seconds and the number helps nobody


Share = Annotated[float, Range(0, 1)]
Text = Annotated[str, Like(r"(?s).*\S.*")]


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """The bundle (``digest`` is its manifest's) and the artifact that a Cascade was found for."""

    name: Text
    digest: Text
    engine: Text
    precision: Text


@dataclass(frozen=True, kw_only=True, slots=True)
class Cascade:
    """When the first model's answer stands, and what was measured on ``texts`` other texts.

    ``early`` is the share of texts that only the first model sees; ``accuracy`` is the cascade's,
    beside those of the two models alone. Without labels (``measure`` is "same label") the second
    model's stand for them. ``spoilt`` of the ``chosen_on`` texts that chose the threshold left
    early and wrong, though the second model is right.
    """

    first: Part
    second: Part
    temperature: Annotated[float, Range(1e-9, 1e9)]
    threshold: Annotated[float, Range(0, 2)]  # above 1 if nothing could be shown: none leaves early
    max_drop: Share
    doubt: Share
    chosen_on: Annotated[int, Range(1, 2**53)]
    spoilt: int
    measure: Annotated[str, OneOf(*MEASURES)]
    early: Share
    accuracy: Share
    accuracy_first: Share
    accuracy_second: Share
    texts: Annotated[int, Range(1, 2**53)]

    @property
    def shown(self) -> bool:
        """Whether any text may leave early."""
        return self.threshold <= 1

    def sure(self, logits: np.ndarray) -> np.ndarray:
        """Return bool (texts,): whether the first model's ``logits`` (texts, labels) stand."""
        result: np.ndarray = confidence(logits, self.temperature) >= self.threshold
        return result

    def cost(self, first: float, second: float) -> float:
        """Return the mean cost of a text, if the models alone cost ``first`` and ``second``."""
        return first + (1 - self.early) * second

    def needed(self) -> int | None:
        """Return about how many texts in all would show that the surest of them may leave early.

        It takes the share that was spoilt as it was found. None if no number would do, or only one
        beyond 200,000.
        """
        share = self.spoilt / self.chosen_on if self.chosen_on else 0.0
        if share >= self.max_drop:
            return None
        count = least(self.max_drop, self.doubt)
        while _at_most(math.ceil(share * count), count, self.max_drop) > self.doubt:
            count += math.ceil(count / 50)
            if count > _MOST_TEXTS:
                return None
        return 2 * count

    def save(self, path: Path) -> None:
        """Write it to ``path`` as JSON, whole or not at all. Raises InputError if it cannot."""
        text = json.dumps({"schema_version": SCHEMA_VERSION} | values.write(self), indent=2) + "\n"
        check_writable(path)
        with tempfile.NamedTemporaryFile(
            "w", dir=path.parent, prefix=f".{path.name}.", delete=False, encoding="utf-8"
        ) as file:
            work = Path(file.name)
            try:
                file.write(text)
                file.flush()
                work.chmod(0o644)
                work.replace(path)
            except BaseException:
                work.unlink(missing_ok=True)
                raise


def check_writable(path: Path) -> None:
    """Raise InputError if ``save`` could not write the file ``path``, or it is another's."""
    place.check_file(path, "cascade", _is_cascade)


def _is_cascade(path: Path) -> bool:
    try:
        load(path)
    except InputError:
        return False
    return True


def load(path: Path) -> Cascade:
    """Read what ``save`` wrote. Raises InputError if it is damaged."""
    try:
        _, found = read_json(path, _MOST_BYTES)
    except OSError as exc:
        raise InputError(
            f"cannot be read ({exc.strerror})",
            where=str(path),
            hint="Make one with: edgeopt cascade SMALL LARGE --data FILE",
        ) from exc
    if not isinstance(found, dict):
        raise InputError("expected a JSON object", where=str(path))
    table = Table(found, file=str(path), strict=True)
    table.integer("schema_version", high=SCHEMA_VERSION)
    return values.read(Cascade, table)


def least(max_drop: float, doubt: float) -> int:
    """Return how many texts have to choose: enough to show the bound if none of them is spoilt."""
    return math.ceil(math.log(doubt) / math.log1p(-max_drop))  # (1 - max_drop)^texts <= doubt


def choose(
    first: np.ndarray,
    second: np.ndarray,
    labels: np.ndarray | None,
    *,
    parts: tuple[Part, Part],
    max_drop: float,
    doubt: float = 0.1,
) -> Cascade:
    """Return the Cascade of two models' logits (texts, labels) on the same texts, shuffled.

    One half chooses, the other measures. Without ``labels`` (texts,) the second model's stand for
    them. ``parts`` are what gave the logits.
    """
    measure = MEASURES[labels is None]
    if labels is None:
        labels = second.argmax(1)
    right = [logits.argmax(1) == labels for logits in (first, second)]
    half = len(labels) // 2
    temperature = fit_temperature(first[:half], labels[:half])
    sure = confidence(first, temperature)
    spoilt = ~right[0] & right[1]
    threshold, count = _threshold(sure[:half], spoilt[:half], max_drop, doubt)
    early = sure[half:] >= threshold
    return Cascade(
        first=parts[0],
        second=parts[1],
        temperature=temperature,
        threshold=threshold,
        max_drop=max_drop,
        doubt=doubt,
        chosen_on=half,
        spoilt=count,
        measure=measure,
        early=float(early.mean()),
        accuracy=float(np.where(early, right[0][half:], right[1][half:]).mean()),
        accuracy_first=float(right[0][half:].mean()),
        accuracy_second=float(right[1][half:].mean()),
        texts=len(labels) - half,
    )


def confidence(logits: np.ndarray, temperature: float) -> np.ndarray:
    """Return float64 (texts,): the highest probability of ``logits`` (texts, labels)."""
    scaled = logits.astype(np.float64) / temperature
    result: np.ndarray = 1 / np.exp(scaled - scaled.max(1, keepdims=True)).sum(1)
    return result


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the temperature with the least cross-entropy of ``labels``, of a grid of 2.5 %."""

    def loss(temperature: float) -> float:
        scaled = logits.astype(np.float64) / temperature
        scaled = scaled - scaled.max(1, keepdims=True)
        own = np.take_along_axis(scaled, labels[:, None], 1)[:, 0]
        return float((np.log(np.exp(scaled).sum(1)) - own).mean())

    return float(min(_TEMPERATURES, key=loss))


def _threshold(
    sure: np.ndarray, spoilt: np.ndarray, max_drop: float, doubt: float
) -> tuple[float, int]:
    """Return the lowest threshold that passes the test, with all above it, and how many texts it
    spoils; 2 if none does, and how many the highest spoils."""
    found = None
    # A hundred quantiles: tested one after the other, so that their number costs no power.
    for share in np.arange(1, _STEPS + 1) / _STEPS:
        threshold = float(np.quantile(sure, 1 - share))
        count = int((spoilt & (sure >= threshold)).sum())
        if _at_most(count, len(sure), max_drop) > doubt:
            return found or (2.0, count)
        found = threshold, count
    assert found is not None
    return found


def _at_most(count: int, texts: int, share: float) -> float:
    """Return the probability of at most ``count`` of ``texts``, each with probability ``share``."""
    if not 0 < share < 1:  # nothing shows a share of 0, and a share of 1 needs no showing
        return float(share <= 0)
    logs = [
        math.lgamma(texts + 1)
        - math.lgamma(k + 1)
        - math.lgamma(texts - k + 1)
        + k * math.log(share)
        + (texts - k) * math.log1p(-share)
        for k in range(count + 1)
    ]
    return math.fsum(math.exp(value) for value in logs)
