/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "audio/mel.h"

/* The features of a sound; the code of a failure, if there is one. */
int features_of(uint32_t bins, uint32_t frames, const eo_sound *sound, float *features)
{
    static struct eo_mel mel;

    mel.bins = bins;
    mel.frames = frames;
    eo_mel_open(&mel);
    return eo_mel_run(&mel, sound, features, NULL);
}
