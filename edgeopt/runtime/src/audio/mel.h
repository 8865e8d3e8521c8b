/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* Sound to log-mel features, as WhisperFeatureExtractor of transformers makes them. */
#ifndef EO_MEL_H
#define EO_MEL_H

#include "base/failure.h"

/* Samples a second, of a window, and from one window to the next: Whisper's alone. */
enum { EO_MEL_RATE = 16000, EO_MEL_WINDOW = 400, EO_MEL_HOP = 160, EO_MEL_BINS_MAX = 128 };

enum { EO_MEL_SIDE = 20, EO_MEL_FREQUENCIES = EO_MEL_WINDOW / 2 + 1 };

struct eo_wave {
    double re, im;
};

/* A frequency stands on the rising side of one filter and on the falling one of the filter before. */
struct eo_mel_share {
    uint32_t filter;
    double rising, falling;
};

/* What is made when it is opened, and where a window is worked on. */
struct eo_mel {
    uint32_t bins;   /* 1 to EO_MEL_BINS_MAX */
    uint32_t frames; /* of the longest sound */
    struct eo_wave turns[EO_MEL_WINDOW]; /* cosine and sine of each part of a circle */
    struct eo_mel_share shares[EO_MEL_FREQUENCIES];
    struct eo_wave given[EO_MEL_WINDOW];
    struct eo_wave columns[EO_MEL_WINDOW];
    double sums[EO_MEL_BINS_MAX + 3]; /* one more before the first filter, two behind the last */
};

/* Makes the tables for `bins` and `frames`, which are set. */
void eo_mel_open(struct eo_mel *mel);

/* Writes the features (bins, frames) of `sound`, which has up to frames * EO_MEL_HOP samples.
 * Returns EO_EINPUT for one that it does not take; `features` is as it was then. */
int eo_mel_run(struct eo_mel *mel, const eo_sound *sound, float *features,
               struct eo_failure *failure);

#endif
