/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "generate/evaluate.h"

#include <math.h>
#include <string.h>

bool eo_has_encoder(const struct eo_generator *generator)
{
    return generator->generation.start.count > 0;
}

uint32_t eo_decoded(const struct eo_generator *generator)
{
    return generator->generation.start.count + generator->count - generator->source_count;
}

int32_t eo_decoded_token(const struct eo_generator *generator, uint32_t index)
{
    const struct eo_ids *start = &generator->generation.start;

    return index < start->count ? start->ids[index]
                                : generator->tokens[generator->source_count + index - start->count];
}

static int run(struct eo_generator *generator, uint32_t binding, uint32_t total,
               struct eo_failure *failure)
{
    if (atomic_load(&generator->cancelled)) {
        return eo_fail(failure, EO_ECANCELLED, "generator", "was cancelled");
    }
    generator->total[0] = (int32_t)total;
    generator->held = UINT32_MAX;
    if (generator->session.engine->run(generator->bindings[binding], failure) != 0) {
        return EO_EENGINE;
    }
    generator->held = total;
    return EO_OK;
}

/* Empties the engine's own cache, if it has more than is to be kept. */
static int forget(struct eo_generator *generator, struct eo_failure *failure)
{
    const struct eo_session *session = &generator->session;

    if (generator->holds && generator->held > generator->cached) {
        if (session->engine->forget(session->model, failure) != 0) {
            return EO_EENGINE;
        }
        generator->held = 0;
    }
    return EO_OK;
}

void eo_set_source(struct eo_generator *generator)
{
    uint32_t at = 0;

    while (generator->lengths[at] < generator->source_count) {
        at++; /* the last is the context, which no source is longer than */
    }
    for (uint32_t i = 0; generator->mel == NULL && i < generator->lengths[at]; i++) {
        generator->source_ids[i] = i < generator->source_count ? generator->tokens[i] : 0;
    }
    generator->source_length[0] = (int32_t)generator->source_count;
    generator->source_at = at;
}

/* The encoder reads its source: a run without tokens of an answer. */
static int read_source(struct eo_generator *generator, struct eo_failure *failure)
{
    int result;

    eo_set_source(generator);
    result = run(generator, generator->source_at, 0, failure);
    generator->source_read = result == EO_OK;
    return result;
}

int eo_evaluate(struct eo_generator *generator, struct eo_failure *failure)
{
    int result = forget(generator, failure);

    if (result == EO_OK && eo_has_encoder(generator) && !generator->source_read) {
        result = read_source(generator, failure);
    }
    while (result == EO_OK && generator->cached < eo_decoded(generator)) {
        uint32_t left = eo_decoded(generator) - generator->cached;
        uint32_t at = generator->source_at, length = 1;
        if (!eo_has_encoder(generator)) {
            at = generator->length_count - 1;
            while (generator->lengths[at] > left) {
                at--;
            }
            length = generator->lengths[at];
        }
        for (uint32_t i = 0; i < length; i++) {
            generator->ids[i] = eo_decoded_token(generator, generator->cached + i);
        }
        result = run(generator, at, generator->cached + length, failure);
        generator->cached += result == EO_OK ? length : 0;
    }
    return result;
}

/* ---- what may be chosen ---- */

bool eo_is_stop(const struct eo_generator *generator, int32_t id)
{
    const struct eo_ids *stops = &generator->generation.stops;

    for (uint32_t i = 0; i < stops->count; i++) {
        if (stops->ids[i] == id) {
            return true;
        }
    }
    return false;
}

void eo_see(struct eo_generator *generator)
{
    memset(generator->sampler.seen, 0, (size_t)generator->vocabulary / 8 + 1);
    for (uint32_t i = 0; i < eo_decoded(generator); i++) {
        eo_sampler_saw(&generator->sampler, eo_decoded_token(generator, i));
    }
}

uint32_t eo_room(const struct eo_generator *generator)
{
    uint32_t room = generator->context - eo_decoded(generator);
    uint32_t most = generator->sampler.how.max_tokens;

    return most > 0 && most - generator->answered < room ? most - generator->answered : room;
}

int32_t eo_forced(const struct eo_generator *generator)
{
    const struct eo_generation *generation = &generator->generation;

    if (eo_room(generator) == 1 && generation->last.count > 0) {
        return generation->last.ids[0];
    }
    return generator->answered < generation->first.count
               ? generation->first.ids[generator->answered]
               : -1;
}

/* Tokens after which the last ones would be a group of `size` that the decoder already has. */
static void ban_repeats(struct eo_generator *generator, uint32_t size)
{
    uint32_t count = eo_decoded(generator);

    for (uint32_t i = 0; size > 0 && i + size <= count; i++) {
        uint32_t same = 0;
        while (same + 1 < size && eo_decoded_token(generator, i + same) ==
                                      eo_decoded_token(generator, count + 1 - size + same)) {
            same++;
        }
        if (same + 1 == size) {
            generator->logits[eo_decoded_token(generator, i + same)] = -INFINITY;
        }
    }
}

static void ban(struct eo_generator *generator, const struct eo_ids *never)
{
    for (uint32_t i = 0; i < never->count; i++) {
        generator->logits[never->ids[i]] = -INFINITY;
    }
}

void eo_ban(struct eo_generator *generator)
{
    const struct eo_generation *generation = &generator->generation;
    const struct eo_ids *stops = &generation->stops;

    ban_repeats(generator, generator->sampler.how.no_repeat_ngram_size);
    ban(generator, &generation->never);
    if (generator->answered == 0) {
        ban(generator, &generation->never_first);
    }
    for (uint32_t i = 0; generator->answered < generator->sampler.how.min_tokens && i < stops->count;
         i++) {
        if ((uint32_t)stops->ids[i] < generator->vocabulary) {
            generator->logits[stops->ids[i]] = -INFINITY;
        }
    }
}
