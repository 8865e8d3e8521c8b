/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* From texts and images to a session's inputs, and from its outputs to results. */
#ifndef EO_READING_H
#define EO_READING_H

#include "session/session.h"
#include "tasks/class_map.h"
#include "tokenizer/tokenizer.h"

#define EO_NO_INPUT UINT32_MAX

/* Everything is sized for the session's largest batch and length when it is opened. */
struct eo_reading {
    const struct eo_tokenizer *tokenizer; /* the bundle's; NULL: `why_not` says why */
    struct eo_failure why_not;
    uint32_t ids, mask, types; /* index of these inputs, or EO_NO_INPUT */
    void *scratch;             /* the tokenizer's */
    size_t scratch_bytes;
    char *prompted;      /* the manifest's prompt and room for a text behind it; NULL: no prompt */
    size_t prompt_bytes; /* of the prompt */
    struct eo_image_scratch image_scratch;
    struct eo_token *tokens;   /* (max_batch, max_seq_len) */
    uint32_t *token_counts;    /* (max_batch) */
    struct eo_item *items;     /* (max_batch, item_max) */
    uint32_t item_max;
    struct eo_box *boxes; /* (max_batch, item_max), of a detector's items */
    struct eo_class_scratch class_scratch;
    float *vectors; /* (max_batch, vector_count) */
    uint32_t vector_count;
    struct eo_result *results; /* (max_batch) */
    uint32_t result_count;     /* of the last run */
};

/* Allocates all that eo_session_run_texts and eo_session_run_images need. A tokenizer that this
 * library does not read is no failure here: the texts then are. */
int eo_reading_open(struct eo_session *session, struct eo_failure *failure);
void eo_reading_close(struct eo_session *session);

/* Selects the shape for `count` rows of up to `longest` tokens and fills its inputs with the rows'
 * tokens. */
int eo_reading_fill(struct eo_session *session, uint32_t count, uint32_t longest,
                    struct eo_failure *failure);

/* The data of output `index` for one row; of the selected shape, after a run. */
const float *eo_reading_output(const struct eo_session *session, uint32_t index, uint32_t row);

#endif
