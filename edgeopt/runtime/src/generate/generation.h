/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* What a manifest says under `generation`, as edgeopt/bundle/manifest.py writes it. */
#ifndef EO_GENERATION_H
#define EO_GENERATION_H

#include "bundle/bundle.h"

#define EO_MAX_STATES 16
#define EO_MAX_LAYERS 256
#define EO_BEAMS_MAX 16
#define EO_NAME_BYTES 128

enum { EO_DIM_PAST = -3, EO_DIM_SOURCE = -4 };

/* A tensor of each layer that is kept from call to call, float32. */
struct eo_state_spec {
    const char *input; /* "{}" stands for the layer, from 0 */
    const char *output;
    uint32_t count; /* of layers */
    uint32_t rank;
    bool of_source;
    int64_t dims[EO_MAX_RANK]; /* sizes, and once EO_DIM_PAST or EO_DIM_SOURCE */
    uint64_t row_bytes;        /* of one token in all layers */
    uint32_t rows;             /* 0: as many as the context */
};

/* The first version of an engine that runs the graph rightly, such as "1.20". */
struct eo_since {
    const char *engine;
    const char *version;
};

#define EO_MAX_SINCE 8
#define EO_MAX_HELD 4

struct eo_ids {
    const int32_t *ids;
    uint32_t count;
};

/* How an answer is searched if the caller does not say; as in eo_sampling. */
struct eo_search {
    uint32_t num_beams, early_stopping, no_repeat_ngram_size, min_tokens;
    double length_penalty;
};

struct eo_generation {
    struct eo_search search;
    struct eo_since since[EO_MAX_SINCE];
    uint32_t since_count;
    const char *held[EO_MAX_HELD]; /* engines whose artifacts have the states inside */
    uint32_t held_count;
    struct eo_state_spec states[EO_MAX_STATES];
    uint32_t state_count;
    struct eo_ids stops; /* tokens that end a text */
    /* Of an encoder-decoder: what its decoder begins with, none for a decoder alone; the tokens that
     * an answer begins with; that of its last place; and those that are never chosen. */
    struct eo_ids start;
    struct eo_ids first;
    struct eo_ids last;
    struct eo_ids never;
    struct eo_ids never_first; /* nor are these for an answer's first */
    uint64_t row_bytes;        /* of one token in all states that have as many rows as the context */
    uint64_t other_bytes;      /* of all other states */
};

/* Reads it; what it points to is in `arena`. */
int eo_generation_read(const struct eo_bundle *bundle, struct eo_arena *arena,
                       struct eo_generation *generation, struct eo_failure *failure);

/* Whether the artifacts for `engine` have the states inside, not as inputs and outputs. */
bool eo_generation_is_held(const struct eo_generation *generation, const char *engine);

/* Writes `pattern` with the layer's number in the place of "{}". */
void eo_generation_name(const char *pattern, uint32_t layer, char name[EO_NAME_BYTES]);

#endif
