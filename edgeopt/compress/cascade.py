"""Early exit as a cascade: a small classifier answers where it is sure, else the large one does.

Engines for small devices run graphs without branches, so an exit is a model of its own: any
shallower checkpoint of the same labels, as the steps ``layers`` and ``distil`` make it. Each of
the two is compiled as usual, and whoever runs them asks ``Cascade.sure`` in between. The first
model's layers are not shared: a text that goes on costs both models (``Cascade.cost``).

Confidence is the highest probability after temperature scaling (Guo et al. 2017, "On Calibration
of Modern Neural Networks", section 4.2). The threshold is the lowest for which it is shown, at the
level ``doubt``, that the share of texts spoilt (answered early and wrong, where the large model is
right) is at most ``max_drop``: thresholds are tested from the highest on, until the first that
fails (fixed-sequence testing with the binomial's p-value; Angelopoulos et al. 2021, "Learn then
Test", section 2). Accuracy can then fall by ``max_drop`` at most.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from edgeopt.compress import score
from edgeopt.compress.data import Data
from edgeopt.errors import InputError
from edgeopt.fields import Table
from edgeopt.model import Model

_TEMPERATURES = np.geomspace(0.05, 20, 241)  # steps of 2.5 %
_STEPS = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class Cascade:
    """When the first model's answer stands, and what was measured on ``texts`` other texts.

    ``early`` is the share of texts that only the first model sees; ``accuracy`` is the cascade's,
    beside those of the two models alone (without labels: the share with the second one's label).
    """

    temperature: float
    threshold: float  # above 1 where nothing could be shown: no text leaves early
    max_drop: float
    doubt: float
    early: float
    accuracy: float
    accuracy_first: float
    accuracy_second: float
    texts: int

    def sure(self, logits: np.ndarray) -> np.ndarray:
        """Return bool (texts,): where the first model's ``logits`` (texts, labels) stand."""
        result: np.ndarray = confidence(logits, self.temperature) >= self.threshold
        return result

    def cost(self, first: float, second: float) -> float:
        """Return the mean cost of a text, where the models alone cost ``first`` and ``second``."""
        return first + (1 - self.early) * second

    def save(self, path: Path) -> None:
        """Write it to ``path`` as JSON."""
        path.write_text(json.dumps(asdict(self), indent=2))


def load(path: Path) -> Cascade:
    """Read what ``save`` wrote. Raises InputError where it is damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise InputError(f"cannot be read as JSON ({exc})", where=str(path)) from exc
    if not isinstance(found, dict):
        raise InputError("expected a JSON object", where=str(path))
    table = Table(found, file=str(path))
    values = {f.name: table.number(f.name, low=0.0, high=1e9) for f in fields(Cascade)}
    table.close()
    return Cascade(**values | {"texts": int(values["texts"])})  # type: ignore[arg-type]


def calibrate(
    first: Model, second: Model, data: Data, *, max_drop: float = 0.01, doubt: float = 0.1
) -> Cascade:
    """Return when the answer of ``first`` stands in the place of that of ``second``.

    ``data`` are texts that neither model learnt from: one half chooses, the other measures. Raises
    InputError unless both are classifiers of the same labels.
    """
    for model in (first, second):
        score.check(model)
        if model.task != "sequence-classification":
            raise InputError(f"is for {model.task}, not a classifier of texts", where=model.name)
    if first.labels != second.labels:
        raise InputError("has other labels than the second model", where=first.name)
    small = score.answers(first, data, f"Running the first model, {first.name}")
    large = score.answers(second, data, f"Running the second model, {second.name}")
    labels = None if data.labels is None else np.array(data.labels)
    return choose(small, large, labels, max_drop=max_drop, doubt=doubt)


def choose(
    first: np.ndarray,
    second: np.ndarray,
    labels: np.ndarray | None,
    *,
    max_drop: float,
    doubt: float = 0.1,
) -> Cascade:
    """Return the Cascade of two models' logits (texts, labels) on the same texts, shuffled.

    Without ``labels`` (texts,) the second model's stand for them.
    """
    if labels is None:
        labels = second.argmax(1)
    right = [logits.argmax(1) == labels for logits in (first, second)]
    half = len(labels) // 2
    temperature = fit_temperature(first[:half], labels[:half])
    sure = confidence(first, temperature)
    spoilt = ~right[0] & right[1]
    threshold = _threshold(sure[:half], spoilt[:half], max_drop, doubt)
    early = sure[half:] >= threshold
    return Cascade(
        temperature=temperature,
        threshold=threshold,
        max_drop=max_drop,
        doubt=doubt,
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


def _threshold(sure: np.ndarray, spoilt: np.ndarray, max_drop: float, doubt: float) -> float:
    """Return the lowest threshold that passes the test, with all above it; 2 where none does."""
    found = 2.0
    # A hundred quantiles: tested one after the other, so that their number costs no power.
    for share in np.arange(1, _STEPS + 1) / _STEPS:
        threshold = float(np.quantile(sure, 1 - share))
        count = int((spoilt & (sure >= threshold)).sum())
        if _at_most(count, len(sure), max_drop) > doubt:
            break
        found = threshold
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
