# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Sound: the user's own files, and some that is made here for a model to be checked on."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np

from edgeopt.errors import InputError
from edgeopt.model.audio import RATE

SUFFIX = ".wav"
"""How files of sound end."""

_SEED = 0
_SECONDS = 2.0
_WIDTH = 2  # bytes of a sample


def make_sounds(count: int) -> tuple[np.ndarray, ...]:
    """Return ``count`` sounds of up to two seconds: glides, pulses and noise, int16 (samples,).

    They are the same each time, and no speech.
    """
    generator = np.random.default_rng(_SEED)
    return tuple(_make(generator) for _ in range(count))


def _make(generator: np.random.Generator) -> np.ndarray:
    count = int(RATE * generator.uniform(0.3, 1.0) * _SECONDS)
    time = np.arange(count) / RATE
    sound = np.zeros(count)
    for _ in range(generator.integers(1, 4)):
        first, last = 2.0 ** generator.uniform(6, 12, 2)  # Hz
        phase = 2 * np.pi * np.cumsum(np.linspace(first, last, count)) / RATE
        tone = np.sin(phase) * generator.uniform(0.2, 1.0)
        beat = 0.5 + 0.5 * np.sin(2 * np.pi * generator.uniform(1, 8) * time)
        sound += tone * (beat if generator.integers(2) else beat > 0.5)
    sound += generator.normal(size=count) * 2.0 ** generator.uniform(-10, -1)
    sound *= generator.uniform(0.05, 0.9) / np.abs(sound).max()
    made: np.ndarray = np.rint(sound * 32767).astype(np.int16)
    return made


def list_sounds(folder: Path, limit: int) -> tuple[Path, ...]:
    """Return the first ``limit`` files of sound in ``folder``, by name."""
    return tuple(sorted(p for p in folder.iterdir() if p.suffix.lower() == SUFFIX))[:limit]


def read_wav(path: str | Path, most_seconds: float) -> np.ndarray:
    """Return the samples of a WAV file, int16 (samples,), of one channel at 16 kHz.

    Raises InputError for a file that is damaged, of another rate, width or number of channels, or
    longer than ``most_seconds``. Nothing is resampled or mixed.
    """
    where = str(path)
    try:
        with wave.open(where, "rb") as file:
            channels, width, rate, count = file.getparams()[:4]
            data = file.readframes(min(count, int(most_seconds * rate) + 1))
    except (wave.Error, EOFError) as exc:
        raise InputError(
            f"is no WAV file that is read here ({exc or 'it ends too early'})",
            where=where,
            hint=_hint(path),
        ) from exc
    except OSError as exc:
        raise InputError(f"cannot be read ({exc.strerror})", where=where) from exc
    if (channels, width, rate) != (1, _WIDTH, RATE):
        raise InputError(
            f"has {channels} channels of {8 * width} bits at {rate} Hz, expected one of "
            f"{8 * _WIDTH} bits at {RATE} Hz",
            where=where,
            hint=_hint(path),
        )
    samples = np.frombuffer(data, "<i2")
    if not samples.size:
        raise InputError("has no samples", where=where)
    if samples.size > most_seconds * rate:
        raise InputError(
            f"has {count / rate:.1f} s, expected up to {most_seconds:g} s",
            where=where,
            hint="Cut it where nobody speaks, and give the parts.",
        )
    return samples


def _hint(path: str | Path) -> str:
    whole = Path(path)
    return f"Make one with: ffmpeg -i {whole} -ac 1 -ar {RATE} -sample_fmt s16 {whole.stem}-16k.wav"
