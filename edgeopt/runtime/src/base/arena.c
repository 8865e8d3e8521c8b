/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "base/arena.h"

#include <stdint.h>
#include <stdlib.h>

enum { CHUNK_BYTES = 16384 };

struct eo_chunk {
    struct eo_chunk *older;
    size_t used;
    size_t bytes;
    _Alignas(max_align_t) char data[];
};

void *eo_arena_take(struct eo_arena *arena, size_t count, size_t bytes)
{
    const size_t unit = _Alignof(max_align_t);
    struct eo_chunk *chunk = arena->newest;
    size_t wanted;

    if (bytes != 0 && count > (SIZE_MAX / 4) / bytes) {
        return NULL;
    }
    wanted = (count * bytes + unit - 1) / unit * unit;
    if (chunk == NULL || chunk->bytes - chunk->used < wanted) {
        size_t size = wanted > CHUNK_BYTES ? wanted : CHUNK_BYTES;
        chunk = calloc(1, sizeof *chunk + size);
        if (chunk == NULL) {
            return NULL;
        }
        chunk->older = arena->newest;
        chunk->bytes = size;
        arena->newest = chunk;
    }
    chunk->used += wanted;
    return chunk->data + chunk->used - wanted;
}

void eo_arena_free(struct eo_arena *arena)
{
    while (arena->newest != NULL) {
        struct eo_chunk *older = arena->newest->older;
        free(arena->newest);
        arena->newest = older;
    }
}
