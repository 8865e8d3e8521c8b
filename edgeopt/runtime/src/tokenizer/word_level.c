/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* WordLevel: a word is a token, or unknown. */
#include "tokenizer/tokenizer_model.h"

#include "base/utf8.h"

uint64_t eo_word_level_scratch(uint64_t chars)
{
    return chars * 4;
}

void eo_word_level_encode(const struct eo_tokenizer *tokenizer, const struct eo_word *word,
                          void *scratch, struct eo_sink *sink)
{
    char *text = scratch;
    uint32_t bytes = 0, id;

    for (uint32_t i = 0; i < word->count; i++) {
        bytes += eo_utf8_write(word->codes[i], text + bytes);
    }
    id = eo_model_token(tokenizer, eo_hash(EO_HASH_START, text, bytes), text, bytes);
    eo_sink_add(sink, id == EO_NO_TOKEN ? tokenizer->unknown : id, word->begins[0],
                word->ends[word->count - 1]);
}
