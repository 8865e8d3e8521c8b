# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Log-mel features of the runtime, against WhisperFeatureExtractor of transformers."""

from __future__ import annotations

import ctypes
import functools
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeopt import cache
from edgeopt.model import sounds
from edgeopt.runtime.build import SOURCES
from edgeopt.runtime.python import edgeopt_rt
from tests.programs import SANITIZED, compiled

pytest.importorskip("transformers", reason="needs edgeopt[torch]")

pytestmark = pytest.mark.heavy

RATE = 16000


@functools.cache
def library() -> Any:
    driver = Path(__file__).with_name("mel_driver.c")
    sources = (driver, SOURCES / "audio/mel.c", SOURCES / "base/failure.c")
    return ctypes.CDLL(str(compiled("mel.so", "-O2", "-fPIC", "-shared", *sources, "-lm")))


def made(sound: np.ndarray, seconds: int, bins: int = 80) -> np.ndarray:
    """Return the runtime's features, (bins, frames)."""
    found = np.full((bins, seconds * 100), np.nan, np.float32)
    given = edgeopt_rt._Sound(
        rate=RATE,
        samples=sound.ctypes.data,
        count=len(sound),
        format=int(sound.dtype == np.int16),
    )
    place = found.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
    assert library().features_of(bins, found.shape[1], ctypes.byref(given), place) == 0
    return found


@functools.cache
def extractor(seconds: int, bins: int) -> Any:
    import transformers

    return transformers.WhisperFeatureExtractor(feature_size=bins, chunk_length=seconds)


def wanted(sound: np.ndarray, seconds: int, bins: int = 80) -> np.ndarray:
    scaled = sound.astype(np.float32) / (32768 if sound.dtype == np.int16 else 1)
    made = extractor(seconds, bins)(scaled, sampling_rate=RATE, return_tensors="np")
    found: np.ndarray = made.input_features[0]
    return found


def cases() -> dict[str, np.ndarray]:
    """Sounds of up to two seconds, of which some are hard: ends that are mirrored, and silence."""
    rng = np.random.default_rng(3)
    time = np.arange(2 * RATE) / RATE
    glide = np.sin(2 * np.pi * (100 + 1900 * time) * time)
    return {
        "tone": (0.5 * np.sin(2 * np.pi * 440 * time)).astype(np.float32),
        "glide to the end": glide.astype(np.float32),
        "noise": rng.normal(0, 0.1, 2 * RATE).astype(np.float32),
        "almost whole": rng.normal(0, 0.1, 2 * RATE - 30).astype(np.float32),
        "short": rng.normal(0, 0.1, 77).astype(np.float32),
        "one sample": np.array([1.0], np.float32),
        "silence": np.zeros(RATE, np.float32),
        "low": np.rint(rng.normal(0, 3, RATE)).astype(np.int16),
        **{f"made {i}": sound for i, sound in enumerate(sounds.make_sounds(2))},
    }


@pytest.mark.parametrize("bins", [80, 128])
def test_features_are_those_of_transformers(bins: int) -> None:
    for name, sound in cases().items():
        found, theirs = made(sound, 2, bins), wanted(sound, 2, bins)
        # Ours are computed in double precision, theirs in single (by torch). An amplitude's error
        # is some 1e-7 of the largest one; of one 4 decades below, the least that counts, it is
        # 1e-3, and that of (log10(energy) + 4) / 4 is 2e-4.
        np.testing.assert_allclose(found, theirs, atol=2e-4, err_msg=name)
        exact = extractor(2, bins)._np_extract_fbank_features(_padded(sound)[None], "cpu")[0]
        np.testing.assert_allclose(found, exact, atol=5e-7, err_msg=name)


def _padded(sound: np.ndarray) -> np.ndarray:
    scaled = sound / (32768 if sound.dtype == np.int16 else 1)
    return np.pad(scaled, (0, 2 * RATE - len(sound)))


def test_windows_at_both_ends_stay_within_the_sound() -> None:
    """Under the sanitizers, at the smallest sizes too."""
    text = Path(__file__).with_name("mel_driver.c").read_text() + _MAIN

    def build(folder: Path) -> None:
        (folder / "mel.c").write_text(text)

    found = cache.entry("test-source", cache.key(text=text), build)
    sources = (found / "mel.c", SOURCES / "audio/mel.c", SOURCES / "base/failure.c")
    done = subprocess.run(
        [compiled("mel", *SANITIZED, *sources, "-lm")], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "0 0 0 0 1 1 1 1 "


_MAIN = """
#include <math.h>
#include <stdio.h>

int main(void)
{
    static float samples[3200], features[128 * 20];
    const struct {
        uint32_t bins, frames, count, rate;
        float last;
    } cases[] = {{1, 2, 1, 16000, 0},      {128, 2, 320, 16000, 0},   {3, 20, 3199, 16000, 0},
                 {80, 20, 3200, 16000, 0}, {80, 20, 0, 16000, 0},     {80, 20, 3201, 16000, 0},
                 {80, 20, 3200, 8000, 0},  {80, 20, 3200, 16000, NAN}};

    for (int i = 0; i < 8; i++) {
        eo_sound sound = {.samples = samples, .rate = cases[i].rate, .count = cases[i].count};
        samples[3199] = cases[i].last;
        printf("%d ", features_of(cases[i].bins, cases[i].frames, &sound, features));
    }
    return 0;
}
"""
