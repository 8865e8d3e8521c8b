/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* Memory that is given out piece by piece and freed at once. */
#ifndef EO_ARENA_H
#define EO_ARENA_H

#include <stddef.h>

struct eo_chunk;

struct eo_arena {
    struct eo_chunk *newest;
};

/* Zeroed, aligned for any type; NULL if there is no memory, or count * bytes is absurd. */
void *eo_arena_take(struct eo_arena *arena, size_t count, size_t bytes);
void eo_arena_free(struct eo_arena *arena);

#endif
