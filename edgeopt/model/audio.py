# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""How sound becomes a network's input: what a checkpoint's preprocessor_config.json says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from edgeopt.errors import InputError
from edgeopt.fields import read_json
from edgeopt.values import Range

FILE = "preprocessor_config.json"
WHOLE = "processor_config.json"
"""What transformers 5 saves of a processor; ``FILE`` is a part of it, ``feature_extractor``."""

RATE, WINDOW, HOP = 16000, 400, 160
"""Samples a second, of a window, and from one to the next, as in the runtime (``audio/mel.h``)."""

FEATURES = "input_features"
"""The input of a model of sound: float32 (batch, bins, frames)."""

_PLAIN = {
    "feature_extractor_type": "WhisperFeatureExtractor",
    "sampling_rate": RATE,
    "n_fft": WINDOW,
    "hop_length": HOP,
    "padding_value": 0.0,
    "dither": 0.0,
    "do_normalize": False,
    "padding_side": "right",
}
"""What the runtime does; a file that does not say so means the same."""

_BINS, _SECONDS = 80, 30
_MOST_BYTES = 1 << 24


@dataclass(frozen=True, kw_only=True, slots=True)
class LogMel:
    """Log-mel features as transformers' WhisperFeatureExtractor makes them.

    Sound of one channel, ``sample_rate`` a second, is padded with silence to ``samples``. Windows
    of ``window`` samples, ``hop`` apart, become ``bins`` features each: logarithms of the energy in
    filters on Slaney's scale, down to 8 decades below the largest, (x + 4) / 4.
    """

    bins: Annotated[int, Range(1, 128)]
    samples: Annotated[int, Range(2 * HOP, 1 << 24)]
    sample_rate: Annotated[int, Range(RATE, RATE)]
    window: Annotated[int, Range(WINDOW, WINDOW)]
    hop: Annotated[int, Range(HOP, HOP)]

    @property
    def frames(self) -> int:
        """How many windows there are."""
        return self.samples // self.hop

    @property
    def seconds(self) -> float:
        """How long the longest sound is."""
        return self.samples / self.sample_rate


def read(folder: Path) -> LogMel:
    """Return what the files of ``folder`` say.

    Raises InputError if they are missing or damaged, or ask for what the runtime has not.
    """
    path, document = _opened(folder)
    for key, plain in _PLAIN.items():
        given = document.get(key, plain)
        if given != plain:
            raise InputError(
                f"{key} is {given!r}, expected {plain!r}: other features are not made on a device",
                where=str(path),
            )
    bins, seconds = document.get("feature_size", _BINS), document.get("chunk_length", _SECONDS)
    if type(bins) is not int or not 1 <= bins <= 128:
        raise InputError(f"feature_size is {bins!r}, expected 1 to 128", where=str(path))
    if type(seconds) is not int or not 1 <= seconds <= 600:
        raise InputError(f"chunk_length is {seconds!r}, expected 1 to 600 s", where=str(path))
    return LogMel(bins=bins, samples=seconds * RATE, sample_rate=RATE, window=WINDOW, hop=HOP)


def _opened(folder: Path) -> tuple[Path, dict[str, Any]]:
    for path in (folder / FILE, folder / WHOLE):
        if path.is_file():
            _, document = read_json(path, _MOST_BYTES)
            if path.name == WHOLE and isinstance(document, dict):
                document = document.get("feature_extractor")
            if not isinstance(document, dict):
                raise InputError("describes no feature extractor", where=str(path))
            return path, document
    raise InputError(
        f"has no {FILE}, which says how sound becomes the network's input",
        where=str(folder),
        hint="Save it beside the weights with WhisperProcessor.save_pretrained().",
    )
