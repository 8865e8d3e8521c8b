# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The user's texts or images, with labels: read, checked against the model, split, batched."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from edgeopt import cache, progress
from edgeopt.errors import InputError
from edgeopt.evaluate import rows
from edgeopt.evaluate.rows import folders, pictures
from edgeopt.fields import nearest
from edgeopt.model import Model, images, texts, tokenizer
from edgeopt.model.image import ImageInput
from edgeopt.model.tasks import Task

if TYPE_CHECKING:
    import torch

HELD_OUT = 0.2
MIN_TEXTS = 100
"""With fewer, the held-out fifth has under 20: one text would be over 5 % of the accuracy."""

MIN_CHECKED = 20
"""Of texts that are held out: that fifth."""

SEQ_LEN = 128
_BATCH = 32
_KEPT_BYTES = 1 << 30  # of prepared images; others are read again for every batch
_SEED = 0


LABELS = ("label", "labels", "gold_label", "is_duplicate", "class", "category", "score")
"""Columns of labels that are found by convention, the first one that there is."""


class Named(Protocol):
    """What labels are checked against: a Model, or the manifest of a bundle."""

    @property
    def name(self) -> str:
        """What messages call it."""

    @property
    def task(self) -> Task:
        """What it is for."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Names by index."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Data:
    """Texts, or image files, with the index of each one's label, or with none."""

    inputs: tuple[str, ...] | tuple[Path, ...]
    labels: tuple[int, ...] | None = None

    def __len__(self) -> int:
        return len(self.inputs)

    def take(self, indices: Sequence[int]) -> Data:
        """Return those of ``indices``, in their order."""
        return Data(
            inputs=tuple(self.inputs[i] for i in indices),  # type: ignore[arg-type]
            labels=None if self.labels is None else tuple(self.labels[i] for i in indices),
        )

    def first(self, count: int) -> Data:
        """Return ``count`` of them, or all if there are fewer."""
        return self.take(range(min(count, len(self))))

    def digest(self) -> str:
        """Return the SHA-256 of the texts, or of the images' files, and the labels."""
        return cache.key(
            texts=[cache.file_sha256(x) if isinstance(x, Path) else x for x in self.inputs],
            labels=self.labels and list(self.labels),
        )

    @property
    def noun(self) -> str:
        """What the inputs are called."""
        return "images" if isinstance(self.inputs[0], Path) else "texts"


def divide(path: Path, held_out: Path | None, model: Model) -> tuple[Data, Data]:
    """Return the inputs to learn from, and those that every step is checked on.

    Those are the ones of ``held_out``, or without them a fifth of those of ``path``. Raises
    InputError as ``read`` does, and if only one of the two has labels.
    """
    if held_out is None:
        return split(read(path, model))
    learning, checked = read(path, model), read(held_out, model, MIN_CHECKED)
    if (learning.labels is None) != (checked.labels is None):
        raise InputError(
            f"has {'no ' if checked.labels is None else ''}labels, unlike {path}",
            where=str(held_out),
        )
    if both := set(learning.inputs) & set(checked.inputs):
        progress.note(
            f"{held_out}: {len(both)} of its {checked.noun} are also in {path}, so that losses "
            "look smaller"
        )
    return learning, checked


def read(path: Path, model: Named, least: int = MIN_TEXTS) -> Data:
    """Return the texts of ``path`` (``.jsonl[.gz]`` or lines), shuffled with a fixed seed.

    For a model of images it is a folder with a folder for each label, a folder of images, or a
    table with a column of image files. Raises InputError if there are too few, or if labels are
    not those of ``model``.
    """
    found: Any
    names: tuple[str | int, ...] | None
    noun = f"{model.task.input}s"
    if model.task.input == "image":
        found, names = _images(path)
    elif path.is_dir():
        raise InputError(
            f"is a folder, but {model.name} is for {model.task} and takes a file of texts",
            where=str(path),
        )
    else:
        found, names = texts.read_labelled(path)
    if len(found) < least:
        why = "a fifth of them is held out, to check each step"
        raise InputError(
            f"has {len(found)} {noun}, but {least} are needed"
            + (f": {why}" if least == MIN_TEXTS else ""),
            where=str(path),
        )
    labels = None
    if names is not None and model.labels:
        labels = tuple(
            index_of(name, model.labels, str(path), f"{noun[:-1]} {i} ")
            for i, name in enumerate(names, start=1)
        )
    elif names is not None:
        progress.note(f"{model.name} is for {model.task}: the labels are not used")
    data = Data(inputs=found, labels=labels)
    return data.take(_order(len(data)))


def _order(count: int) -> list[int]:
    import numpy as np

    return [int(i) for i in np.random.default_rng(_SEED).permutation(count)]


def all_inputs(path: Path) -> tuple[str, ...] | tuple[Path, ...]:
    """Return all texts of a file as they stand there, or all images of a folder.

    Images that are in a folder for each label come shuffled with a fixed seed, so that the first
    ones are of all labels. Raises InputError if there are none.
    """
    if not path.is_dir():
        return texts.read_labelled(path)[0]
    found, names = _images(path)
    return found if names is None else tuple(found[i] for i in _order(len(found)))


def content_digest(path: Path) -> str:
    """Return a hash of a file, or of all files of a folder with their places in it."""
    if not path.is_dir():
        return cache.file_sha256(path)
    files = sorted(one for one in path.rglob("*") if one.is_file())
    return cache.key(files=[(str(one.relative_to(path)), cache.file_sha256(one)) for one in files])


def _images(path: Path) -> tuple[tuple[Path, ...], tuple[str | int, ...] | None]:
    """Return image files, and their labels if the folder or the table says them."""
    if path.is_dir() and folders.is_flat(path):
        return images.list_images(path, sys.maxsize), None
    table = pictures.resolved(rows.read(path))
    files = tuple(row.values[pictures.IMAGE] for row in table.rows)
    column = next((name for name in LABELS if table.has(name)), None)
    if column is None:
        return files, None
    named = table.names.get(column)
    labels: list[str | int] = []
    for row in table.rows:
        value = row.values.get(column)
        if type(value) is int and named is not None and 0 <= value < len(named):
            value = named[value]
        if isinstance(value, str) and value.isdecimal():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise InputError(f"expected a label in {column!r}, found {value!r}", where=row.where)
        labels.append(value)
    return files, tuple(labels)


def index_of(name: str | int, labels: tuple[str, ...], where: str, what: str = "") -> int:
    """Return the index of the label ``name`` (or itself) among the model's ``labels``.

    Raises InputError, with ``where`` and ``what`` it is of ("text 7 "), where it is none of them.
    """
    if isinstance(name, int) and 0 <= name < len(labels):
        return name
    if name in labels:
        return labels.index(str(name))
    shown = ", ".join(labels[:8]) + (", ..." if len(labels) > 8 else "")
    raise InputError(
        f"{what}has the label {name!r}, which is not one of the model's {len(labels)}"
        f" ({shown}){nearest(str(name), labels)}",
        where=where,
    )


def split(data: Data) -> tuple[Data, Data]:
    """Return what techniques learn from, and the fifth that every step is checked on."""
    held_out = math.ceil(len(data) * HELD_OUT)
    return data.take(range(held_out, len(data))), data.take(range(held_out))


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Batch:
    """``inputs`` are the module's: int64 (batch, seq), or float32 (batch, 3, height, width).

    ``rows`` are their places in Data.
    """

    inputs: tuple[torch.Tensor, ...]
    mask: torch.Tensor | None  # (batch, seq), int64: 1 where there is a token; None if everywhere
    rows: list[int]
    labels: torch.Tensor | None  # (batch,), int64

    def to(self, device: torch.device) -> Batch:
        """Return it with its tensors on ``device``."""
        return Batch(
            inputs=tuple(tensor.to(device) for tensor in self.inputs),
            mask=None if self.mask is None else self.mask.to(device),
            rows=self.rows,
            labels=None if self.labels is None else self.labels.to(device),
        )


class EncodedTexts:
    """Texts as token numbers, of which any can be made a batch. ``lengths`` are in tokens."""

    def __init__(self, model: Model, data: Data, seq_len: int = SEQ_LEN) -> None:
        if model.text.tokenizer is None:
            raise InputError(
                "has no tokenizer, so nothing can be learnt of texts", where=model.name
            )
        self._model, self._labels = model, data.labels
        self._tokens = tokenizer.load(model.text.tokenizer)
        self._encoded: Any = self._tokens(
            [model.text.prompt + str(text) for text in data.inputs],
            truncation=True,
            max_length=min(seq_len, model.text.max_seq_len),
            return_token_type_ids=True,
            return_attention_mask=True,
        )
        self.lengths = [len(ids) for ids in self._encoded["input_ids"]]

    def tokens(self, row: int) -> list[str]:
        """Return the tokens of a text as strings."""
        found: list[str] = self._tokens.convert_ids_to_tokens(self._encoded["input_ids"][row])
        return found

    def batch(self, rows: list[int]) -> Batch:
        """Return the texts ``rows``, padded to the longest of them."""
        import torch

        longest = max(self.lengths[i] for i in rows)
        padded = {}
        for name in self._encoded:
            fill = self._model.text.pad_id if name == "input_ids" else 0
            values = torch.full((len(rows), longest), fill)
            for at, i in enumerate(rows):
                values[at, : self.lengths[i]] = torch.tensor(self._encoded[name][i])
            padded[name] = values
        labels = self._labels
        return Batch(
            inputs=tuple(padded[spec.name] for spec in self._model.main.signature.inputs),
            mask=padded["attention_mask"],
            rows=rows,
            labels=None if labels is None else torch.tensor([labels[i] for i in rows]),
        )


class EncodedImages:
    """Images as they are prepared for the network, of which any can be made a batch.

    ``lengths`` are all 1. As many as fit into a gigabyte are kept.
    """

    def __init__(self, model: Model, data: Data) -> None:
        assert isinstance(model.input, ImageInput)
        self._spec, self._inputs, self._labels = model.input, data.inputs, data.labels
        self._kept: dict[int, Any] = {}
        each = 4 * images.CHANNELS * model.input.height * model.input.width
        self._most = _KEPT_BYTES // each
        self.lengths = [1] * len(data)

    def batch(self, rows: list[int]) -> Batch:
        """Return the images ``rows``."""
        import torch

        pixels = torch.cat([self._pixels(i) for i in rows])
        labels = self._labels
        return Batch(
            inputs=(pixels,),
            mask=None,
            rows=rows,
            labels=None if labels is None else torch.tensor([labels[i] for i in rows]),
        )

    def _pixels(self, row: int) -> Any:
        import torch

        if row in self._kept:
            return self._kept[row]
        image = images.read_image(Path(self._inputs[row]))
        found = torch.from_numpy(images.prepare(image, self._spec))
        if len(self._kept) < self._most:
            self._kept[row] = found
        return found


Encoded = EncodedTexts | EncodedImages


def encode(model: Model, data: Data, seq_len: int = SEQ_LEN) -> Encoded:
    """Return ``data`` as the network of ``model`` takes it, texts with ``seq_len`` tokens at most.

    Raises InputError for a model of texts without a tokenizer.
    """
    if isinstance(model.input, ImageInput):
        return EncodedImages(model, data)
    return EncodedTexts(model, data, seq_len)


def batches(
    model: Model, data: Data, seq_len: int = SEQ_LEN, size: int = _BATCH
) -> Iterator[Batch]:
    """Yield ``data`` as batches: of texts of like lengths, at most ``seq_len`` tokens each."""
    encoded = encode(model, data, seq_len)
    order = sorted(range(len(data)), key=lambda i: encoded.lengths[i])
    for start in range(0, len(order), size):
        yield encoded.batch(order[start : start + size])
