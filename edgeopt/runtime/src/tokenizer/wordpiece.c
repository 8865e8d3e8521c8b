/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "tokenizer/tokenizer_model.h"

#include "base/utf8.h"

/* A word as UTF-8, with the place of each of its characters. */
struct word {
    uint32_t count;
    char text[EO_MAX_WORD_CHARS * 4];
    uint32_t ends[EO_MAX_WORD_CHARS]; /* bytes up to and with each character */
};

/* The longest token that starts with character `first`; returns where the next one starts, `first`
 * itself if there is none. */
static uint32_t longest_token(const struct eo_tokenizer *tokenizer, const struct word *word,
                              uint32_t first, uint32_t *id)
{
    const struct eo_wordpiece *model = &tokenizer->wordpiece;
    const char *prefix = first == 0 ? "" : model->prefix;
    uint32_t prefix_bytes = first == 0 ? 0 : model->prefix_bytes;
    uint32_t hash = first == 0 ? EO_HASH_START : model->prefix_hash;
    uint32_t begin = first == 0 ? 0 : word->ends[first - 1];
    uint32_t longest = first;

    for (uint32_t i = first, at = begin; i < word->count; at = word->ends[i++]) {
        uint32_t found;
        if (word->ends[i] - begin + prefix_bytes > tokenizer->vocabulary.longest) {
            break;
        }
        hash = eo_hash(hash, word->text + at, word->ends[i] - at);
        found = eo_vocabulary_find_joined(&tokenizer->vocabulary, hash, prefix, prefix_bytes,
                                          word->text + begin, word->ends[i] - begin);
        if (found < tokenizer->model_count) {
            *id = found;
            longest = i + 1;
        }
    }
    return longest;
}

static void add_unknown(const struct eo_tokenizer *tokenizer, const struct eo_word *from,
                        struct eo_sink *sink)
{
    eo_sink_add(sink, tokenizer->unknown, from->begins[0], from->ends[from->count - 1]);
}

/* The greedy match of WordPiece; a word with a rest that is no token is unknown as a whole. */
void eo_wordpiece_encode(const struct eo_tokenizer *tokenizer, const struct eo_word *from,
                         struct eo_sink *sink)
{
    struct eo_sink before = *sink;
    struct word word;
    uint32_t bytes = 0;

    if (from->count > tokenizer->wordpiece.max_word_chars) {
        add_unknown(tokenizer, from, sink);
        return;
    }
    word.count = from->count;
    for (uint32_t i = 0; i < from->count; i++) {
        bytes += eo_utf8_write(from->codes[i], word.text + bytes);
        word.ends[i] = bytes;
    }
    for (uint32_t at = 0; at < from->count;) {
        uint32_t id = EO_NO_TOKEN;
        uint32_t next = longest_token(tokenizer, &word, at, &id);
        if (next == at) {
            *sink = before;
            add_unknown(tokenizer, from, sink);
            return;
        }
        eo_sink_add(sink, id, from->begins[at], from->ends[next - 1]);
        at = next;
    }
}
