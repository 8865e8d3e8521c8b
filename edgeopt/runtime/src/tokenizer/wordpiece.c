/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "tokenizer/tokenizer_model.h"

#include "base/utf8.h"
#include "tokenizer/unicode.h"

/* A word as UTF-8, with the place of each of its characters. */
struct word {
    const struct eo_normalized *from;
    uint32_t first; /* its characters in `from` */
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

static void add_unknown(const struct eo_tokenizer *tokenizer, const struct eo_normalized *from,
                        uint32_t first, uint32_t count, struct eo_sink *sink)
{
    eo_sink_add(sink, tokenizer->wordpiece.unknown, from->begins[first],
                from->ends[first + count - 1]);
}

/* The greedy match of WordPiece; a word with a rest that is no token is unknown as a whole. */
static void add_word(const struct eo_tokenizer *tokenizer, struct word *word, struct eo_sink *sink)
{
    const struct eo_normalized *from = word->from;
    struct eo_sink before = *sink;

    for (uint32_t i = 0, bytes = 0; i < word->count; i++) {
        bytes += eo_utf8_write(from->codes[word->first + i], word->text + bytes);
        word->ends[i] = bytes;
    }
    for (uint32_t at = 0; at < word->count;) {
        uint32_t id = EO_NO_TOKEN;
        uint32_t next = longest_token(tokenizer, word, at, &id);
        if (next == at) {
            *sink = before;
            add_unknown(tokenizer, from, word->first, word->count, sink);
            return;
        }
        eo_sink_add(sink, id, from->begins[word->first + at], from->ends[word->first + next - 1]);
        at = next;
    }
}

/* Splits characters begin..end as BertPreTokenizer does: at white space, and around punctuation. */
static void add_words(const struct eo_tokenizer *tokenizer, const struct eo_normalized *from,
                      uint32_t begin, uint32_t end, struct eo_sink *sink)
{
    struct word word;

    for (uint32_t at = begin; at < end; at = begin) {
        for (begin = at; begin < end; begin++) {
            uint32_t code = from->codes[begin];
            bool single = (eo_unicode_flags(code) & EO_PUNCTUATION) != 0;
            if (single || eo_unicode_is_space(code)) {
                begin += single && begin == at;
                break;
            }
        }
        if (begin == at) {
            begin++; /* white space */
            continue;
        }
        if (begin - at > tokenizer->wordpiece.max_word_chars) {
            add_unknown(tokenizer, from, at, begin - at, sink);
        } else {
            word.from = from;
            word.first = at;
            word.count = begin - at;
            add_word(tokenizer, &word, sink);
        }
        eo_sink_end_word(sink);
    }
}

static struct eo_normalized lay_out(void *scratch, uint32_t text_bytes)
{
    uint32_t *words = scratch;

    return (struct eo_normalized){.codes = words,
                                  .begins = words + text_bytes,
                                  .ends = words + 2 * (size_t)text_bytes,
                                  .reordered = words + 3 * (size_t)text_bytes};
}

uint64_t eo_wordpiece_scratch(uint32_t text_bytes)
{
    return ((uint64_t)text_bytes * 3 + text_bytes / 2 + 1) * sizeof(uint32_t);
}

void eo_wordpiece_encode(const struct eo_tokenizer *tokenizer, const char *text,
                         uint32_t text_bytes, void *scratch, struct eo_sink *sink)
{
    struct eo_normalized normalized = lay_out(scratch, text_bytes);
    struct eo_added_scan scan = eo_added_scan(
        &tokenizer->added, (struct eo_chars){.text = text, .begin = 0, .end = text_bytes});
    struct eo_part part, inner;

    while (eo_added_next(&scan, &part)) {
        struct eo_added_scan inside;
        if (part.id != EO_NO_TOKEN) {
            eo_sink_add_part(sink, &part, part.begin, part.end);
            continue;
        }
        eo_bert_normalize(&tokenizer->wordpiece.normalizer, text, part.begin, part.end,
                          &normalized);
        inside = eo_added_scan(
            &tokenizer->added_normalized,
            (struct eo_chars){.codes = normalized.codes, .begin = 0, .end = normalized.count});
        while (eo_added_next(&inside, &inner)) {
            if (inner.id != EO_NO_TOKEN) {
                eo_sink_add_part(sink, &inner, normalized.begins[inner.begin],
                                 normalized.ends[inner.end - 1]);
            } else {
                add_words(tokenizer, &normalized, inner.begin, inner.end, sink);
            }
        }
    }
}
