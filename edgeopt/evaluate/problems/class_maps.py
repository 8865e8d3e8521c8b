# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""A label for each pixel of an image: mean IoU, and shares of pixels.

The figures are those of Long, Shelhamer and Darrell (CVPR 2015, sec. 5), of all pixels of all
images together; a label that is neither expected anywhere nor given has none, as in Hugging Face's
``mean_iou``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import compress
from pathlib import Path
from typing import Self

import numpy as np

from edgeopt.errors import InputError
from edgeopt.evaluate.measured import Measured, Scored, finite, ratio
from edgeopt.evaluate.problems.shown import shown
from edgeopt.model.answer import Answer
from edgeopt.model.images import read_mask

IGNORED = 255
"""Of a mask: pixels that do not count, as transformers' ``semantic_loss_ignore_index`` has it."""

_SHOWN = 3
_NAMES = ("mean_iou", "mean_accuracy", "pixel_accuracy")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ClassMaps:
    """A unit is an image. ``masks`` are files whose pixels are numbers of ``classes``, or 255.

    With ``reduced`` 0 is no label and 1 the first one, as of transformers' ``do_reduce_labels``.
    Maps are counted one by one (``tallied``), as all of them would not fit into memory.
    """

    inputs: tuple[Path, ...]
    places: tuple[str, ...]
    masks: tuple[Path, ...]
    classes: tuple[str, ...]
    reduced: bool = False
    noun: str = "images"
    main: str = "mean_iou"

    names = _NAMES
    labels = None

    def __len__(self) -> int:
        return len(self.inputs)

    def unit(self, i: int) -> tuple[str, str, str]:
        """Return where an image stands, its file's name, and the labels that it has most of."""
        expected = self._read(i)
        counts = np.bincount(expected[expected >= 0], minlength=len(self.classes))
        return self.places[i], shown(self.inputs[i]), self._told(counts)

    def lengths(self, of_inputs: np.ndarray) -> np.ndarray:
        """Return them: each unit is an input."""
        return of_inputs

    def answered(self, inputs: np.ndarray) -> Self:
        """Return it with those units alone."""
        return replace(
            self,
            inputs=tuple(compress(self.inputs, inputs)),
            places=tuple(compress(self.places, inputs)),
            masks=tuple(compress(self.masks, inputs)),
        )

    def check(self) -> Self:
        """Return it. Raises InputError, with the file, for a mask that has what is no label."""
        for i in range(len(self)):
            self._read(i)
        return self

    def digest(self) -> str:
        """Return what tells these masks from others."""
        whole = hashlib.sha256(str(self.reduced).encode())
        for mask in self.masks:
            whole.update(hashlib.sha256(mask.read_bytes()).digest())
        return whole.hexdigest()

    def _read(self, i: int) -> np.ndarray:
        """Return a mask's labels, int64 (height, width), -1 for what does not count.

        Raises InputError for a number that is no label.
        """
        raw = read_mask(self.masks[i]).astype(np.int64)
        labels = raw - self.reduced
        labels[raw == IGNORED] = -1
        beyond = labels[labels >= len(self.classes)]
        if beyond.size:
            first = int(beyond[0]) + self.reduced
            raise InputError(
                f"has pixels of label {first}, and the model has {len(self.classes)} labels, "
                f"{int(self.reduced)} to {len(self.classes) - 1 + self.reduced} (255 is ignored)",
                where=str(self.masks[i]),
                hint="If 0 is no label and 1 the first one, give --reduce-labels."
                if first == len(self.classes)
                else "",
            )
        return labels

    def tallied(self, i: int, classes: np.ndarray) -> Answer:
        """Return what is kept of a system's map of image ``i``, (height, width): ``Answer.tally``.

        Raises InputError for a mask of another size.
        """
        expected = self._read(i)
        if classes.shape != expected.shape:
            height, width = expected.shape
            raise InputError(
                f"has {width} x {height} pixels, and its image {classes.shape[1]} x "
                f"{classes.shape[0]}",
                where=str(self.masks[i]),
            )
        kept = expected >= 0
        width = len(self.classes)
        got, wanted = classes[kept].astype(np.int64), expected[kept]
        sides = (wanted, got, wanted[wanted == got])
        return Answer(tally=np.stack([np.bincount(side, minlength=width) for side in sides]))

    def score(self, answers: Sequence[Answer]) -> Scored:
        """Sum what was tallied."""
        tallies = np.stack([answer.tally for answer in answers if answer.tally is not None])
        return Scored(
            figures={name: _measured(tallies, name) for name in _NAMES},
            got=tuple(self._told(tally[1]) for tally in tallies),
            loss=1 - np.nan_to_num(_figure(tallies, "mean_iou"), nan=1.0),
            by_label={
                label: (
                    int(np.count_nonzero(tallies[:, 0, i])),
                    {name: _measured(tallies[:, :, i : i + 1], name) for name in _NAMES},
                )
                for i, label in enumerate(self.classes)
            },
        )

    def _told(self, counts: np.ndarray) -> str:
        best = np.argsort(-counts, kind="stable")[:_SHOWN]
        total = max(1, int(counts.sum()))
        told = [f"{self.classes[i]} {counts[i] / total:.3f}" for i in best if counts[i]]
        return ", ".join(told) or "nothing"


def _measured(tallies: np.ndarray, name: str) -> Measured:
    flat = tallies.reshape(len(tallies), -1).astype(np.float64)

    def at(counts: np.ndarray) -> np.ndarray:
        return _figure((counts @ flat).reshape(len(counts), *tallies.shape[1:]), name)

    return Measured(value=finite(float(at(np.ones((1, len(tallies))))[0])), at=at)


def _figure(sums: np.ndarray, name: str) -> np.ndarray:
    """Return a figure of ``sums`` (draws, 3, labels); NaN if no pixel counts."""
    expected, got, both = (sums[:, i] for i in range(3))
    if name == "pixel_accuracy":
        return ratio(both.sum(1), expected.sum(1), np.nan)
    below = expected + got - both if name == "mean_iou" else expected
    return ratio(ratio(both, below).sum(1), (below > 0).sum(1), np.nan)
