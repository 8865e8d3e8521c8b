/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* Filters and their scale are those of Slaney's Auditory Toolbox (1998), as librosa and transformers
 * have them: linear up to 1 kHz, then 27 steps for each factor of 6.4; each filter of area 1. */
#include "audio/mel.h"

#include <math.h>
#include <string.h>

enum { REACH = EO_MEL_WINDOW / 2, SIDE = EO_MEL_SIDE };

static const double top = 45.245640471924965; /* 8 kHz: 15 + 27 * log(8) / log(6.4) */
static const double two_pi = 6.283185307179586;

static double hertz(double mel)
{
    return mel < 15 ? mel * 200 / 3 : 1000 * exp((mel - 15) * 0.06875177742094912);
}

void eo_mel_open(struct eo_mel *mel)
{
    double step = top / (mel->bins + 1);
    uint32_t filter = 0;

    for (uint32_t i = 0; i < EO_MEL_WINDOW; i++) {
        mel->turns[i].re = cos(two_pi * i / EO_MEL_WINDOW);
        mel->turns[i].im = sin(two_pi * i / EO_MEL_WINDOW);
    }
    for (uint32_t i = 0; i < EO_MEL_FREQUENCIES; i++) {
        double at = (double)i * EO_MEL_RATE / EO_MEL_WINDOW, edges[4];
        while (filter < mel->bins && hertz((filter + 1) * step) <= at) {
            filter++;
        }
        for (uint32_t edge = 0; edge < 4; edge++) {
            edges[edge] = hertz(((double)(filter + edge) - 1) * step);
        }
        at = (at - edges[1]) / (edges[2] - edges[1]);
        mel->shares[i].filter = filter;
        mel->shares[i].rising = 2 * at / (edges[3] - edges[1]);
        mel->shares[i].falling = 2 * (1 - at) / (edges[2] - edges[0]);
    }
}

static double sample(const eo_sound *sound, uint32_t at)
{
    return sound->format == EO_PCM_16 ? ((const int16_t *)sound->samples)[at] / 32768.0
                                      : (double)((const float *)sound->samples)[at];
}

static int check(const struct eo_mel *mel, const eo_sound *sound, struct eo_failure *failure)
{
    uint32_t most = mel->frames * EO_MEL_HOP;

    if (sound->rate != EO_MEL_RATE) {
        return eo_fail(failure, EO_EINPUT, "sound", "has %u samples a second, expected %d: resample it",
                       (unsigned)sound->rate, EO_MEL_RATE);
    }
    if (sound->count == 0 || sound->count > most) {
        return eo_fail(failure, EO_EINPUT, "sound", "has %u samples, expected 1 to %u: cut it",
                       (unsigned)sound->count, (unsigned)most);
    }
    for (uint32_t i = 0; i < sound->count; i++) {
        if (!isfinite(sample(sound, i))) {
            return eo_fail(failure, EO_EINPUT, "sound", "sample %u is not a number", (unsigned)i);
        }
    }
    return EO_OK;
}

/* One value of a Fourier transform of 20: of each `in`, `stride` apart, turned `step` further. */
static struct eo_wave transformed(const struct eo_mel *mel, const struct eo_wave *in, uint32_t stride,
                                  uint32_t step)
{
    struct eo_wave sum = {0, 0};

    for (uint32_t i = 0, at = 0; i < SIDE; i++, in += stride) {
        const struct eo_wave *turn = &mel->turns[at];
        sum.re += in->re * turn->re + in->im * turn->im;
        sum.im += in->im * turn->re - in->re * turn->im;
        at += step;
        at -= at >= EO_MEL_WINDOW ? EO_MEL_WINDOW : 0;
    }
    return sum;
}

/* The energy in each filter of the window around sample `middle`; beyond both ends sound is mirrored.
 * The transform of 400 is one of 20 by 20 (Cooley and Tukey, 1965). */
static void run_window(struct eo_mel *mel, const eo_sound *sound, uint32_t middle)
{
    int32_t last = (int32_t)(mel->frames * EO_MEL_HOP) - 1;

    for (int32_t i = 0; i < EO_MEL_WINDOW; i++) {
        int32_t at = (int32_t)middle + i - REACH;
        at = at < 0 ? -at : at > last ? 2 * last - at : at;
        mel->given[i].re = (uint32_t)at < sound->count
                               ? sample(sound, (uint32_t)at) * (0.5 - 0.5 * mel->turns[i].re)
                               : 0;
    }
    for (uint32_t i = 0; i < EO_MEL_WINDOW; i++) {
        uint32_t turns = i % SIDE; /* more than half are as many in the other direction */
        if (turns > SIDE / 2) {
            mel->columns[i] = mel->columns[i + SIDE - 2 * turns];
            mel->columns[i].im = -mel->columns[i].im;
            continue;
        }
        mel->columns[i] = transformed(mel, mel->given + i / SIDE, SIDE, turns * SIDE);
    }
    memset(mel->sums, 0, sizeof mel->sums);
    for (uint32_t i = 0; i < EO_MEL_FREQUENCIES; i++) {
        struct eo_wave wave = transformed(mel, mel->columns + i % SIDE, SIDE, i);
        const struct eo_mel_share *share = &mel->shares[i];
        double power = wave.re * wave.re + wave.im * wave.im;
        mel->sums[share->filter] += share->falling * power;
        mel->sums[share->filter + 1] += share->rising * power;
    }
}

int eo_mel_run(struct eo_mel *mel, const eo_sound *sound, float *features,
               struct eo_failure *failure)
{
    uint32_t frames = mel->frames;
    float most = -10;
    int result = check(mel, sound, failure);

    if (result != EO_OK) {
        return result;
    }
    memset(mel->sums, 0, sizeof mel->sums);
    for (uint32_t frame = 0; frame < frames; frame++) {
        /* Behind the sound there is nothing, in no filter. */
        if (frame * EO_MEL_HOP < sound->count + REACH + EO_MEL_HOP) {
            run_window(mel, sound, frame * EO_MEL_HOP);
        }
        for (uint32_t bin = 0; bin < mel->bins; bin++) {
            float *found = &features[bin * frames + frame];
            *found = (float)log10(fmax(mel->sums[bin + 1], 1e-10));
            most = fmaxf(most, *found);
        }
    }
    for (uint32_t i = 0; i < mel->bins * frames; i++) {
        features[i] = (fmaxf(features[i], most - 8) + 4) / 4;
    }
    return EO_OK;
}
