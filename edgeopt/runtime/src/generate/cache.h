/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* What a generator's cache has of one token. */
#ifndef EO_CACHE_H
#define EO_CACHE_H

#include "generate/generator.h"

/* Of one layer of `state` in a cache of `context` tokens, with what aligns the next one. */
uint64_t eo_cache_layer_bytes(const struct eo_state_spec *state, uint32_t context);

/* Of one token in all states of the source, or in all others. */
uint64_t eo_cache_row_bytes(const struct eo_generation *generation, bool of_source);

/* Copies what the cache has of the token at `place` to `row`, of as many bytes; or from there. */
void eo_cache_copy(const struct eo_generator *generator, bool of_source, uint32_t place, char *row,
                   bool to_cache);

#endif
