# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What a model is checked and calibrated on: texts for one of texts, images for one of images.

This is where the two kinds of model part. Behind it a call is a mapping of arrays, and a model
without a sequence has the one length ``NO_LENGTH``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgeopt import cache
from edgeopt.errors import InputError
from edgeopt.model import AudioInput, Model, images, ladder, sounds, texts
from edgeopt.model.image import CHANNELS, ImageInput
from edgeopt.model.signature import NO_LENGTH

Samples = tuple[str, ...] | tuple[images.Image, ...] | tuple[Path, ...]
"""Texts; or images or sounds, as arrays or as files."""


SHORTEST = ("", "a", "1", "?", "no", "ok", "Hi", "the end")


def read(path: Path, limit: int) -> Samples:
    """Return at most ``limit`` of the user's own: a folder has sounds or images, a file texts.

    Raises InputError, with file and line, if it is not so.
    """
    if path.is_dir() and (found := sounds.list_sounds(path, limit)):
        return found
    return images.list_images(path, limit) if path.is_dir() else texts.read_texts(path, limit)


def shipped(model: Model, limit: int) -> Samples:
    """Return those that edgeopt brings along for ``model``."""
    if isinstance(model.input, ImageInput):
        return images.make_images(limit)
    if isinstance(model.input, AudioInput):
        return sounds.make_sounds(limit)
    return texts.read_texts(None, limit)


def calibrating(model: Model, samples: Samples) -> Samples:
    """Return ``samples`` with the shortest texts beside them.

    Of two or three tokens, all are first or last ones, whose activations are the largest: ranges
    that were found without such texts cut them off.
    """
    if isinstance(model.input, ImageInput):
        return samples
    return (*(str(text) for text in samples), *SHORTEST)


def check(model: Model, samples: Samples, where: str) -> None:
    """Raise InputError if ``samples``, which were read from ``where``, are of the other kind."""
    if isinstance(model.input, AudioInput):
        if not isinstance(samples[0], Path) or samples[0].suffix.lower() != sounds.SUFFIX:
            raise InputError(
                f"is no folder of {sounds.SUFFIX} files, which {model.name} takes", where=where
            )
        return
    takes_images = isinstance(model.input, ImageInput)
    is_sound = isinstance(samples[0], Path) and samples[0].suffix.lower() == sounds.SUFFIX
    if isinstance(samples[0], str) == takes_images or is_sound:
        raise InputError(
            f"is a {'file of texts' if takes_images else 'folder'}, but {model.name} is for "
            f"{model.task} and takes {'a folder of images' if takes_images else 'a file of texts'}",
            where=where,
        )


def lengths(model: Model, seq_lens: Sequence[int]) -> tuple[int, ...]:
    """Return the lengths of ``model`` if shapes are static, () if it has no sequence.

    They are those of ``seq_lens`` (ascending) that it takes, and its own longest if that is below
    the last of them: what the model would read to its end is not cut before. A model of fixed
    lengths has those.
    """
    if isinstance(model.input, ImageInput):
        return ()
    if model.text.seq_lens:
        return model.text.seq_lens
    most = model.text.max_seq_len
    taken = [n for n in seq_lens if n <= most]
    if most < seq_lens[-1] and most not in taken:
        taken.append(most)
    return tuple(taken)


def calls(model: Model, samples: Samples, seq_len: int) -> list[dict[str, np.ndarray]]:
    """Return one call per sample: the model's inputs by name, batch 1.

    ``seq_len`` is the length of a text, ``NO_LENGTH`` for images.
    """
    if not isinstance(model.input, ImageInput):
        return texts.tokenize(model, [str(text) for text in samples], seq_len)
    if seq_len != NO_LENGTH:
        raise ValueError(f"images have no length, asked for {seq_len}")
    (pixels,) = model.main.signature.inputs
    files_or_arrays = [sample for sample in samples if not isinstance(sample, str)]
    return images.calls(
        files_or_arrays, model.input, pixels.name, channels_last=pixels.dims[1] != CHANNELS
    )


def about(model: Model, samples: Samples, seq_len: int) -> tuple[str, ...]:
    """Return texts, those that are about as long as ``seq_len`` first, if tokens can be counted."""
    found = [str(text) for text in samples]
    if model.text.tokenizer is None:
        return tuple(found)
    counts = dict(zip(found, ladder.token_counts(model, found), strict=True))
    return tuple(sorted(found, key=lambda text: abs(counts[text] - seq_len)))


def name(model: Model) -> str:
    """Return what the samples are called, for the reader."""
    return f"{model.input.kind}s"


def digest(samples: Samples) -> str:
    """Return the SHA-256 of all samples: of the texts, the pixels, or the files' bytes."""
    found = hashlib.sha256()
    items: Sequence[str | Path | images.Image] = samples
    for i, sample in enumerate(items):
        if isinstance(sample, str):
            found.update((b"\0" if i else b"") + sample.encode())
        elif isinstance(sample, Path):
            found.update(cache.file_sha256(sample).encode())
        else:
            found.update(f"{sample.shape}\n".encode() + np.ascontiguousarray(sample).tobytes())
    return found.hexdigest()
