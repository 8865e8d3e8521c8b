/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "generate/cache.h"

#include <string.h>

uint64_t eo_cache_layer_bytes(const struct eo_state_spec *state, uint32_t context)
{
    uint64_t rows = state->rows == 0 ? context : state->rows;
    uint64_t bytes = state->row_bytes / state->count * rows;

    return (bytes + EO_ALIGNMENT - 1) / EO_ALIGNMENT * EO_ALIGNMENT;
}

uint64_t eo_cache_row_bytes(const struct eo_generation *generation, bool of_source)
{
    uint64_t bytes = 0;

    for (uint32_t i = 0; i < generation->state_count; i++) {
        const struct eo_state_spec *state = &generation->states[i];
        bytes += state->of_source == of_source ? state->row_bytes : 0;
    }
    return bytes;
}

/* The bytes of a token that lie together: the sizes behind the one that grows. */
static size_t together(const struct eo_state_spec *state)
{
    size_t bytes = sizeof(float);

    for (uint32_t i = state->rank; state->dims[--i] > 0;) {
        bytes *= (size_t)state->dims[i];
    }
    return bytes;
}

void eo_cache_copy(const struct eo_generator *generator, bool of_source, uint32_t place, char *row,
                   bool to_cache)
{
    size_t length = of_source ? generator->lengths[generator->source_at] : generator->context;
    char *layer = generator->cache;

    for (uint32_t i = 0; i < generator->generation.state_count; i++) {
        const struct eo_state_spec *state = &generator->generation.states[i];
        const size_t bytes = together(state), parts = (size_t)state->row_bytes / state->count / bytes;
        for (uint32_t n = 0; n < state->count; n++) {
            for (size_t part = 0; state->of_source == of_source && part < parts; part++) {
                char *kept = layer + (part * length + place) * bytes;
                memcpy(to_cache ? kept : row, to_cache ? row : kept, bytes);
                row += bytes;
            }
            layer += eo_cache_layer_bytes(state, generator->context);
        }
    }
}
