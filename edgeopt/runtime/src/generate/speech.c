/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* Prompts of sound: an encoder reads their features, and the answer writes down what is said. */
#include "generate/generator.h"

#include <string.h>

static int check_start(const struct eo_generator *generator, const struct eo_ids *start,
                       struct eo_failure *failure)
{
    if (start->count == 0 || start->count >= generator->context) {
        return eo_fail(failure, EO_EINPUT, "start", "has %u tokens, expected 1 to %u",
                       (unsigned)start->count, (unsigned)generator->context - 1);
    }
    for (uint32_t i = 0; i < start->count; i++) {
        if (start->ids[i] < 0 || (uint32_t)start->ids[i] >= generator->vocabulary) {
            return eo_fail(failure, EO_EINPUT, "start", "holds %d at %u, expected 0 to %u",
                           (int)start->ids[i], (unsigned)i, (unsigned)generator->vocabulary - 1);
        }
    }
    return EO_OK;
}

int eo_generator_prompt_audio(eo_generator *generator, const eo_sound *given,
                              const eo_sampling *sampling, eo_failure *failure)
{
    eo_sound sound = EO_SOUND;
    eo_sampling how = EO_SAMPLING;
    struct eo_ids start;
    int result = EO_EUNSUPPORTED;

    if (EO_GENERATES) {
        result = eo_generator_take_sampling(generator, true, sampling, &how, failure);
    }
    if (result == EO_OK) {
        result = eo_take_struct(given, "EO_SOUND", "sound", &sound, (uint32_t)sizeof sound, failure);
    }
    if (!EO_GENERATES || result != EO_OK) {
        return result;
    }
    start = generator->own_start;
    if (sound.start != NULL) {
        start = (struct eo_ids){.ids = sound.start, .count = sound.start_count};
    }
    result = check_start(generator, &start, failure);
    if (result == EO_OK && sound.samples != NULL) {
        result = eo_mel_run(generator->mel, &sound, generator->features, failure);
    } else if (result == EO_OK && !generator->source_read) {
        result = eo_fail(failure, EO_EINPUT, "sound", "has no samples, and none were read before");
    }
    if (result != EO_OK) {
        return result;
    }
    memmove(generator->start, start.ids, start.count * sizeof *start.ids);
    generator->generation.start = (struct eo_ids){.ids = generator->start, .count = start.count};
    generator->source_read = sound.samples == NULL;
    generator->cached = 0;
    return eo_generator_start(generator, generator->tokens, 0, &how, failure);
}
