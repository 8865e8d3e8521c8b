/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "tokenizer/encode.h"

/* The most characters that a text of `text_bytes` has while words are made of it. */
static uint64_t most_chars(const struct eo_tokenizer *tokenizer, uint32_t text_bytes)
{
    uint64_t normalized =
        (uint64_t)text_bytes * tokenizer->normalizer.growth + tokenizer->normalizer.extra;

    return normalized * tokenizer->pre_tokenizer.growth + tokenizer->pre_tokenizer.extra;
}

static uint64_t model_scratch(const struct eo_tokenizer *tokenizer, uint64_t chars)
{
    switch (tokenizer->kind) {
    case EO_BPE:
        return eo_bpe_scratch(chars);
    case EO_UNIGRAM:
        return eo_unigram_scratch(chars);
    case EO_WORD_LEVEL:
        return eo_word_level_scratch(chars);
    default:
        return 0;
    }
}

uint64_t eo_encode_scratch(const struct eo_tokenizer *tokenizer, uint32_t text_bytes)
{
    uint64_t chars = most_chars(tokenizer, text_bytes);

    return chars > UINT32_MAX / 4 ? UINT64_MAX
                                  : chars * 3 * sizeof(uint32_t) + sizeof(uint64_t) +
                                        model_scratch(tokenizer, chars);
}

static void encode_word(const struct eo_tokenizer *tokenizer, const struct eo_word *word,
                        void *scratch, struct eo_sink *sink)
{
    switch (tokenizer->kind) {
    case EO_BPE:
        eo_bpe_encode(tokenizer, word, scratch, sink);
        break;
    case EO_UNIGRAM:
        eo_unigram_encode(tokenizer, word, scratch, sink);
        break;
    case EO_WORD_LEVEL:
        eo_word_level_encode(tokenizer, word, scratch, sink);
        break;
    default:
        eo_wordpiece_encode(tokenizer, word, sink);
    }
    eo_sink_end_word(sink);
}

/* Splits characters begin..end into words and encodes each. What is before them is written over. */
static void encode_words(const struct eo_tokenizer *tokenizer, struct eo_normalized *all,
                         uint32_t begin, uint32_t end, void *scratch, struct eo_sink *sink)
{
    struct eo_normalized text = *all;

    text.first = begin;
    text.count = end - begin;
    text.room = end;
    eo_pre_tokenize(&tokenizer->pre_tokenizer, &text);
    all->full |= text.full;
    end = text.first + text.count;
    for (uint32_t at = text.first, next; at < end; at = next) {
        struct eo_word word = {text.codes + at, text.begins + at, text.ends + at, 0};
        text.codes[at] &= EO_CODE;
        for (next = at + 1; next < end && (text.codes[next] & EO_STARTS_WORD) == 0;) {
            next++;
        }
        word.count = next - at;
        encode_word(tokenizer, &word, scratch, sink);
    }
}

/* Encodes a part that has no added token which is looked for in the text as it is. */
static void encode_part(const struct eo_tokenizer *tokenizer, const char *bytes,
                        const struct eo_part *part, struct eo_normalized *text, void *scratch,
                        struct eo_sink *sink)
{
    struct eo_rewriter rewriter;
    struct eo_added_scan scan;
    struct eo_part inner;

    eo_normalize(&tokenizer->normalizer, bytes, part->begin, part->end, text);
    rewriter = eo_rewrite(text, true); /* to the end of the arrays */
    scan = eo_added_scan(&tokenizer->added_normalized, (struct eo_chars){.codes = text->codes,
                                                                         .begin = rewriter.at,
                                                                         .end = rewriter.end});
    while (eo_added_next(&scan, &inner)) {
        if (inner.id != EO_NO_TOKEN) {
            eo_sink_add_part(sink, &inner, text->begins[inner.begin], text->ends[inner.end - 1]);
        } else {
            encode_words(tokenizer, text, inner.begin, inner.end, scratch, sink);
        }
    }
}

bool eo_encode(const struct eo_tokenizer *tokenizer, const char *text, uint32_t text_bytes,
               void *scratch, struct eo_sink *sink)
{
    uint64_t chars = most_chars(tokenizer, text_bytes);
    uint64_t model_bytes = model_scratch(tokenizer, chars);
    uint32_t *words = (uint32_t *)((char *)scratch + (model_bytes + 7) / 8 * 8);
    struct eo_normalized normalized = {.codes = words,
                                       .begins = words + chars,
                                       .ends = words + 2 * chars,
                                       .room = (uint32_t)chars};
    struct eo_added_scan scan = eo_added_scan(
        &tokenizer->added, (struct eo_chars){.text = text, .begin = 0, .end = text_bytes});
    struct eo_part part;

    while (eo_added_next(&scan, &part)) {
        if (part.id != EO_NO_TOKEN) {
            eo_sink_add_part(sink, &part, part.begin, part.end);
        } else {
            encode_part(tokenizer, text, &part, &normalized, scratch, sink);
        }
    }
    return !normalized.full;
}
