/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "tokenizer/sink.h"

static void add(struct eo_sink *sink, struct eo_token token)
{
    if (sink->count >= sink->skip && sink->count - sink->skip < sink->capacity) {
        token.word = sink->word;
        sink->tokens[sink->count - sink->skip] = token;
    }
    sink->count++;
}

void eo_sink_add(struct eo_sink *sink, uint32_t id, uint32_t begin, uint32_t end)
{
    add(sink, (struct eo_token){.id = (int32_t)id, .begin = begin, .end = end});
}

void eo_sink_add_part(struct eo_sink *sink, const struct eo_part *added, uint32_t begin,
                      uint32_t end)
{
    add(sink,
        (struct eo_token){.id = (int32_t)added->id, .begin = begin, .end = end, .added = 1});
    sink->word++;
}

void eo_sink_end_word(struct eo_sink *sink)
{
    sink->word++;
}
