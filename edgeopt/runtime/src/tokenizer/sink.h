/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* Where a model's tokens go. */
#ifndef EO_SINK_H
#define EO_SINK_H

#include "tokenizer/added_tokens.h"
#include "tokenizer/token.h"

/* Takes the tokens of one text in their order. Those before `skip` and what does not fit are
 * counted, not kept. */
struct eo_sink {
    struct eo_token *tokens;
    uint32_t capacity;
    uint32_t skip;
    uint32_t count;
    uint32_t word; /* that the next token belongs to */
};

void eo_sink_add(struct eo_sink *sink, uint32_t id, uint32_t begin, uint32_t end);
void eo_sink_add_part(struct eo_sink *sink, const struct eo_part *added, uint32_t begin,
                      uint32_t end);
void eo_sink_end_word(struct eo_sink *sink);

#endif
